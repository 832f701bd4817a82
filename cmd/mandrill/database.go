package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres"
	"github.com/mayhem-mandrill/mandrill/internal/store/sqlite"
)

// openDatabase opens the database that the configuration names, or else the one in the data folder.
func openDatabase(ctx context.Context, cfg config.Config, access store.Access, log zerolog.Logger) (store.Store, error) {
	if cfg.Database.Postgres() {
		return postgres.Open(ctx, postgres.Config{
			URL: string(cfg.Database), Access: access, Timeout: cfg.SaveTimeout, Logger: log,
		})
	}
	if cfg.Database == "" && access == store.Worker {
		if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
			return nil, fmt.Errorf("cannot create data folder %q, choose another with --data: %w", cfg.Data, err)
		}
	}
	return sqlite.Open(ctx, sqlite.Config{Path: sqlitePath(cfg), Access: access, Logger: log})
}

func sqlitePath(cfg config.Config) string {
	if cfg.Database == "" {
		return filepath.Join(cfg.Data, databaseFile)
	}
	return cfg.Database.Path()
}

// describeDatabase says to people of other machines which database the configuration means.
func describeDatabase(cfg config.Config) string {
	if cfg.Database.Postgres() {
		return cfg.Database.String()
	}
	path := sqlitePath(cfg)
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	host, err := os.Hostname()
	if err != nil {
		return "file " + path
	}
	return fmt.Sprintf("file %s on %s", path, host)
}
