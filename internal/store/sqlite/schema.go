package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	"github.com/rs/zerolog"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date, each version in a transaction of its own.
func migrate(ctx context.Context, db *sql.DB, log zerolog.Logger) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("cannot read migrations: %w", err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("cannot read schema version: %w", err)
	}
	if have > want {
		return fmt.Errorf("its schema has version %d, this program knows only version %d; use a newer program", have, want)
	}
	if have == want {
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("cannot migrate schema from version %d to %d: %w", have, want, err)
	}
	log.Info().Int64("from", have).Int64("to", want).Msg("database schema migrated")
	return nil
}

// identify returns the identity of the database, which the first to ask makes. It writes in any case, and so finds a
// file that cannot be written, which SQLite silently opens for reading, before the first request does.
func identify(ctx context.Context, db *sql.DB) (uuid.UUID, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return uuid.Nil, fmt.Errorf("cannot make an identity: %w", err)
	}
	const insert = "INSERT INTO identity (only, id) VALUES (1, ?) ON CONFLICT DO NOTHING"
	if _, err := db.ExecContext(ctx, insert, id); err != nil {
		return uuid.Nil, fmt.Errorf("cannot write identity: %w", err)
	}
	if err := db.QueryRowContext(ctx, "SELECT id FROM identity").Scan(&id); err != nil {
		return uuid.Nil, fmt.Errorf("cannot read identity: %w", err)
	}
	return id, nil
}
