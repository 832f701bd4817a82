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

	"github.com/mayhem-mandrill/mandrill/internal/store/schema"
)

//go:embed migrations/*.sql
var migrations embed.FS

func schemaOf(db *sql.DB, log zerolog.Logger) (schema.Schema, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return schema.Schema{}, err
	}
	return schema.Schema{Dialect: goose.DialectSQLite3, DB: db, Migrations: dir, Logger: log}, nil
}

// writeIdentity gives the database an identity if it has none. It writes in any case, and so finds a file that cannot
// be written, which SQLite silently opens for reading, before the first request does.
func writeIdentity(ctx context.Context, db *sql.DB) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("cannot make an identity: %w", err)
	}
	const insert = "INSERT INTO identity (only, id) VALUES (1, ?) ON CONFLICT DO NOTHING"
	if _, err := db.ExecContext(ctx, insert, id); err != nil {
		return fmt.Errorf("cannot write identity: %w", err)
	}
	return nil
}

func readIdentity(ctx context.Context, db *sql.DB) (id uuid.UUID, err error) {
	if err := db.QueryRowContext(ctx, "SELECT id FROM identity").Scan(&id); err != nil {
		return uuid.Nil, fmt.Errorf("cannot read identity: %w", err)
	}
	return id, nil
}
