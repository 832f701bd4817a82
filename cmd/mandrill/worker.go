package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
)

func (a *app) workerCommand() *cobra.Command {
	var adoptStore bool
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Pull requests and restart hosts until stopped",
		Long: `Pull requests, save each to the database and restart its host, and acknowledge it once both are done.

Without --nats it runs a server of its own on loopback, in the data folder, where 'mandrill publish' finds it.
On SIGINT, SIGTERM or SIGHUP it stops pulling, hands back what it has not triggered, waits for the rest for as long as
--grace, and exits with 0, or with 3 if something was triggered and could not be verified in time. A second signal ends
it at once, with 130: nothing is lost by that either.`,
		Example: `  mandrill worker
  mandrill worker --group web --group batch --max-in-flight 500
  mandrill worker --nats nats://nats-1.example.org --creds worker.creds`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := a.loadConfig(cmd, nil)
			if err != nil {
				return err
			}
			cfg := loaded.Config
			log := a.newLogger(cfg.Log)
			specs, err := loaded.Specs()
			if err != nil {
				return err
			}
			s, err := a.openService(cmd.Context(), cfg, serviceOptions{log: log, messages: log, checks: specs, adoptStore: adoptStore})
			if err != nil {
				return err
			}
			defer runtime.KeepAlive(newHeapFloor())
			return s.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&adoptStore, "adopt-store", false,
		"make this database the groups' own, in place of another that is gone for good")
	config.AddFlags(cmd.Flags())
	return cmd
}
