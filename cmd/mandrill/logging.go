package main

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/mayhem-mandrill/mandrill/internal/config"
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
			FormatPrepare: shortenID,
		}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// shortenID leaves of an id what tells it from others: the time that a UUIDv7 begins with is the same for many.
func shortenID(event map[string]any) error {
	if id, ok := event["id"].(string); ok && len(id) > 8 {
		event["id"] = id[len(id)-8:]
	}
	return nil
}

func isTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// setLogFormat makes timestamps precise enough to be compared between machines. The library keeps this for the whole
// process, so only the binary sets it.
func setLogFormat() { zerolog.TimeFieldFormat = time.RFC3339Nano }
