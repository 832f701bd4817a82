package main

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// newLogger returns the log that goes to standard error: for people where it is a terminal, JSON otherwise.
func (a *app) newLogger(cfg config.Log) zerolog.Logger {
	level, err := zerolog.ParseLevel(cfg.Level)
	if err != nil {
		level = zerolog.InfoLevel // unreachable: the configuration was checked
	}
	var w io.Writer = a.stderr
	if cfg.Format == "console" || cfg.Format == "auto" && isTerminal(a.stderr) {
		w = zerolog.ConsoleWriter{
			Out: a.stderr, TimeFormat: "15:04:05.000", NoColor: !isTerminal(a.stderr) || a.getenv("NO_COLOR") != "",
			FieldsOrder: []string{"instance", "id"}, FormatPrepare: forPeople,
		}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// forPeople leaves of a message's fields what tells it from others on a screen: the end of its id, since a UUIDv7 begins
// with the time, which is the same for many; and its instance, where host and group say nothing more.
func forPeople(event map[string]any) error {
	if id, ok := event["id"].(string); ok && len(id) > 8 {
		event["id"] = id[len(id)-8:]
	}
	if instance, ok := event["instance"].(string); ok && instance != "" {
		delete(event, "host")
	}
	if event["group"] == string(restart.DefaultGroup) {
		delete(event, "group")
	}
	return nil
}

func isTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// setLogFormat makes timestamps precise enough to be compared between machines. The library keeps this for the whole
// process, so only the binary sets it.
func setLogFormat() { zerolog.TimeFieldFormat = time.RFC3339Nano }
