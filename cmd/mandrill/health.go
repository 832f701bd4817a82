package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/ops"
)

func (a *app) healthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health [ADDRESS]",
		Short: "Ask a worker on this machine whether it is live and ready",
		Long: `Ask a worker whether it is live and ready, at the address, which is host:port or a URL, or else where ops.listen says that
it serves. Exit code 0: it is both; 1: it is not, or does not answer.`,
		Example: `  mandrill health --ops-listen :9108
  mandrill health 127.0.0.1:9108`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("health: takes one address, and got %d", len(args))
			}
			return nil
		},
	}
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), "ops.listen")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		address := loaded.Config.Ops.Listen
		if len(args) == 1 {
			address = args[0]
		}
		if address == "" {
			return usagef("health: say an address, or set ops.listen")
		}
		if address[0] == ':' {
			address = "127.0.0.1" + address
		}
		r, err := ops.Ask(cmd.Context(), address)
		if err != nil {
			return err
		}
		if *out == outputJSON {
			err = a.printJSON(r)
		} else {
			err = a.printHealth(r)
		}
		if err == nil && (!r.Live || !r.Ready) {
			err = errors.New("it is not both live and ready")
		}
		return err
	}
	return cmd
}

func (a *app) printHealth(r ops.Report) error {
	fmt.Fprintf(a.stdout, "live %t\nready %t\n", r.Live, r.Ready)
	for _, p := range r.Problems {
		fmt.Fprintf(a.stdout, "%s\t%s\n", p.Name, plain(p.Detail))
	}
	return nil
}
