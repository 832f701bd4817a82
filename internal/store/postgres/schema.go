package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/store/schema"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. Of workers that start together one does it, and the others wait for it.
func migrate(ctx context.Context, pool *pgxpool.Pool, log zerolog.Logger) error {
	return withSchema(pool, log, func(s schema.Schema) error { return s.Migrate(ctx) })
}

// checkSchema refuses a schema that is not this program's.
func checkSchema(ctx context.Context, pool *pgxpool.Pool, log zerolog.Logger) error {
	return withSchema(pool, log, func(s schema.Schema) error { return s.Check(ctx) })
}

func withSchema(pool *pgxpool.Pool, log zerolog.Logger, do func(schema.Schema) error) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	const seconds, tries = 1, 300 // between two tries to get the lock, and how many there are
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(seconds, tries))
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(pool)
	return errors.Join(do(schema.Schema{
		Dialect: goose.DialectPostgres, DB: db, Migrations: dir, Locker: locker, Logger: log,
	}), db.Close())
}

// identify returns the identity of the database, which the first to ask makes.
func identify(ctx context.Context, pool *pgxpool.Pool) (uuid.UUID, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return uuid.Nil, fmt.Errorf("cannot make an identity: %w", err)
	}
	if _, err := pool.Exec(ctx, "INSERT INTO identity (id) VALUES ($1) ON CONFLICT DO NOTHING", [16]byte(id)); err != nil {
		return uuid.Nil, fmt.Errorf("cannot write identity: %w", err)
	}
	return readIdentity(ctx, pool)
}

func readIdentity(ctx context.Context, pool *pgxpool.Pool) (id uuid.UUID, err error) {
	err = pool.QueryRow(ctx, "SELECT id FROM identity").Scan((*[16]byte)(&id))
	if errors.Is(err, pgx.ErrNoRows) {
		err = errors.New("it has none yet; start a worker on it")
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("cannot read identity: %w", err)
	}
	return id, nil
}
