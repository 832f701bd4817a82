package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check or show the configuration that is in effect",
		Example: "  mandrill config check --config mandrill.yaml",
		Args:    cobra.ArbitraryArgs,
		RunE:    func(*cobra.Command, []string) error { return usagef("config: say check or show") },
	}
	cmd.AddCommand(a.configCheckCommand(), a.configShowCommand())
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Say whether the configuration is valid, and everything that is wrong with it",
		Example: "  mandrill config check --config mandrill.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := a.loadConfig(cmd, nil)
			if err != nil {
				return err
			}
			if _, err := loaded.Specs(); err != nil {
				return err
			}
			if err := a.checkGroups(loaded.Config); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "the configuration is valid")
			return nil
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// checkGroups makes what the groups have of their own, which dials nothing, and lets go of it again.
func (a *app) checkGroups(cfg config.Config) error {
	var problems []error
	for _, name := range cfg.Groups {
		g, err := a.newServed(cfg.For(name), name, zerolog.Nop())
		if err == nil {
			err = closeDriver(g.driver)
		}
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return &config.UsageError{Err: err}
	}
	return nil
}

func (a *app) configShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show every setting, its value and where it came from",
		Example: `  mandrill config show
  mandrill config show --config mandrill.yaml --output json`,
		Args: noArgs,
	}
	out := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		if *out == outputJSON {
			return a.printSettingsJSON(loaded.Settings())
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SETTING\tVALUE\tFROM")
		for _, s := range loaded.Settings() {
			fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, s.Value, s.Origin)
		}
		return w.Flush()
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

func (a *app) printSettingsJSON(settings []config.Setting) error {
	type setting struct {
		Value string `json:"value"`
		From  string `json:"from"`
	}
	all := make(map[string]setting, len(settings))
	for _, s := range settings {
		all[s.Key] = setting{s.Value, s.Origin}
	}
	return a.printJSON(all)
}

// printJSON prints one JSON object to standard output.
func (a *app) printJSON(v any) error {
	return json.NewEncoder(a.stdout).Encode(v)
}
