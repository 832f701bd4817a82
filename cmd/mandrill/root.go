package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayhem-mandrill/mandrill/internal/config"
)

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mandrill",
		Short: "Restart hosts because a message asked for it: each request once, whatever dies",
		Long: `Mandrill restarts hosts because a message asked for it. Every accepted request ends in exactly one recorded
outcome, and no host is restarted twice for one request, whichever worker, NATS node, database or link dies on the way.`,
		Example: `  mandrill demo
  mandrill worker
  mandrill publish cattle-a1b2 --reason "kernel update"`,
		Args:          knownVerb,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &config.UsageError{Err: err} })
	root.PersistentFlags().String("config", "", "configuration file (also "+config.FileVariable+")")
	root.SetHelpCommand(a.helpCommand())
	root.AddCommand(
		a.demoCommand(), a.workerCommand(), a.publishCommand(), a.historyCommand(), a.replayCommand(), a.deadCommand(),
		a.rollCommand(), a.campaignCommand(), a.scheduleCommand(),
		a.statusCommand(), a.monitorCommand(), a.healthCommand(), a.explainCommand(), a.budgetCommand(), a.pauseCommand(), a.resumeCommand(), a.cancelCommand(),
		a.serverCommand(), a.benchCommand(), a.configCommand(), a.completionCommand(), a.manCommand(), a.versionCommand(),
	)
	return root
}

// knownVerb is asked when no verb matches.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown verb %q, did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return usagef("unknown verb %q", args[0])
}

func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [VERB...]",
		Short:   "Show what a verb does",
		Example: "  mandrill help publish",
		RunE: func(cmd *cobra.Command, args []string) error {
			verb, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("help: there is no verb %q", strings.Join(args, " "))
			}
			verb.InitDefaultHelpFlag()
			return verb.Help()
		},
	}
}

// noArgs is the check of a verb that takes flags only.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s: takes no arguments, and got %q", cmd.Name(), args[0])
	}
	return nil
}

func usagef(format string, args ...any) error {
	return &config.UsageError{Err: fmt.Errorf(format, args...)}
}

// loadConfig returns what is in effect for a verb. extra is what the verb sets by itself, as flags; a flag that was
// given wins over it.
func (a *app) loadConfig(cmd *cobra.Command, extra map[string]string) (*config.Loaded, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	if file == "" {
		file = a.getenv(config.FileVariable)
	}
	flags := config.ChangedFlags(cmd.Flags())
	for key, value := range extra {
		if _, given := flags[key]; !given {
			flags[key] = []string{value}
		}
	}
	return config.Load(config.Sources{File: file, Environ: a.environ, Flags: flags})
}

func (a *app) getenv(name string) string {
	for i := len(a.environ) - 1; i >= 0; i-- {
		if key, value, ok := strings.Cut(a.environ[i], "="); ok && key == name {
			return value
		}
	}
	return ""
}

// output is the value of --output.
type output string

const (
	outputText output = "text"
	outputJSON output = "json"
	outputCSV  output = "csv"
)

// outputFlag is --output, of a verb that can print so.
type outputFlag struct {
	value   output
	allowed []output
}

var _ pflag.Value = (*outputFlag)(nil)

func (o *outputFlag) String() string { return string(o.value) }
func (o *outputFlag) Type() string   { return o.names("|") }

func (o *outputFlag) Set(s string) error {
	if !slices.Contains(o.allowed, output(s)) {
		return errors.New("must be " + o.names(" or "))
	}
	o.value = output(s)
	return nil
}

func (o *outputFlag) names(between string) string {
	names := make([]string, len(o.allowed))
	for i, allowed := range o.allowed {
		names[i] = string(allowed)
	}
	return strings.Join(names, between)
}

// addOutput adds --output for text, JSON and what else the verb can print.
func addOutput(cmd *cobra.Command, more ...output) *output {
	o := &outputFlag{value: outputText, allowed: append([]output{outputText, outputJSON}, more...)}
	cmd.Flags().Var(o, "output", "how the result is printed to standard output")
	return &o.value
}
