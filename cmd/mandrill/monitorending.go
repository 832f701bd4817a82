package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/commandcheck"
)

// A monitorReport is how the monitors of a process have ended, for people and for the command that is run then.
type monitorReport struct {
	Reason        monitor.Reason   `json:"reason"`
	LastedSeconds float64          `json:"lasted_seconds"`
	Cause         *monitorFailure  `json:"cause,omitempty"`
	Failed        []monitorFailure `json:"failed"`
	Strays        []string         `json:"strays,omitempty"`
}

// A monitorFailure is the check by which a monitor has failed.
type monitorFailure struct {
	Monitor       string           `json:"monitor"`
	OffsetSeconds float64          `json:"offset_seconds"` // from the start of the run
	At            time.Time        `json:"at"`
	Seen          string           `json:"seen"`
	TookSeconds   float64          `json:"took_seconds"`
	Facts         map[string]int64 `json:"facts,omitempty"`
}

func reportOf(e monitor.Ending) monitorReport {
	r := monitorReport{Reason: e.Reason, LastedSeconds: e.Lasted.Seconds(), Failed: []monitorFailure{}, Strays: e.Strays}
	for _, o := range e.Failed {
		r.Failed = append(r.Failed, failureOf(o))
	}
	if e.Cause != nil {
		cause := failureOf(*e.Cause)
		r.Cause = &cause
	}
	return r
}

func failureOf(o monitor.Observation) monitorFailure {
	f := monitorFailure{
		Monitor: o.Name, OffsetSeconds: o.Offset.Seconds(), At: o.At.UTC(), Seen: o.Result.Seen, TookSeconds: o.Result.Took.Seconds(),
	}
	for _, fact := range o.Result.Facts {
		if f.Facts == nil {
			f.Facts = map[string]int64{}
		}
		f.Facts[fact.Name] = fact.Value
	}
	return f
}

// ended reports whether monitors were what ended the run.
func (r monitorReport) ended() bool {
	return r.Reason == monitor.ReasonFailure || r.Reason == monitor.ReasonAllFailed
}

func (r monitorReport) String() string {
	if r.Cause == nil {
		return fmt.Sprintf("monitors ended after %.1fs: %s", r.LastedSeconds, r.Reason)
	}
	return fmt.Sprintf("monitors ended after %.1fs: %s of %s: %s", r.LastedSeconds, r.Reason, r.Cause.Monitor, r.Cause.Seen)
}

func (a *app) printMonitorReport(r monitorReport) error {
	fmt.Fprintf(a.stdout, "ended after %.1fs: %s\n", r.LastedSeconds, r.Reason)
	if len(r.Strays) > 0 {
		fmt.Fprintf(a.stdout, "checks that ignore their end: %s\n", strings.Join(r.Strays, ", "))
	}
	if len(r.Failed) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "FAILED\tAFTER\tSEEN\n")
	for _, f := range r.Failed {
		fmt.Fprintf(w, "%s\t%.1fs\t%s\n", f.Monitor, f.OffsetSeconds, plain(f.Seen))
	}
	return w.Flush()
}

// A monitorsError ends a process because its monitors have ended, with the exit code that is configured for that.
type monitorsError struct {
	report monitorReport
	code   int
}

func (e *monitorsError) Error() string { return e.report.String() }

// act does what is configured for monitors that have failed, with the report for it to read. All checks have returned by
// now.
func (r monitorReport) act(ctx context.Context, cfg config.Monitor, log zerolog.Logger) error {
	if !r.ended() {
		return nil
	}
	if len(cfg.Command) > 0 {
		input, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("cannot report how the monitors ended: %w", err)
		}
		command, err := commandcheck.New(commandcheck.Config{Command: cfg.Command, Input: input})
		if err != nil {
			return fmt.Errorf("cannot run what follows the monitors' end: %w", err)
		}
		// A stop must not take away what is done about a failure.
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.CommandTimeout)
		defer cancel()
		result := command.Check(bounded)
		log.WithLevel(levelOf(result.Verdict)).Str("program", cfg.Command[0]).Str("seen", result.Seen).Msg("ran what follows the monitors' end")
	}
	return &monitorsError{report: r, code: cfg.ExitCode}
}

func levelOf(v monitor.Verdict) zerolog.Level {
	if v == monitor.Good {
		return zerolog.InfoLevel
	}
	return zerolog.ErrorLevel
}
