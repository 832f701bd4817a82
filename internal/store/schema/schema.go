// Package schema brings a database's tables to the version that this program knows, or checks that they have it.
package schema

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/rs/zerolog"
)

// A Schema is a database and what its tables should be.
type Schema struct {
	Dialect    goose.Dialect // DialectPostgres or DialectSQLite3
	DB         *sql.DB
	Migrations fs.FS              // goose's files, at its root
	Locker     lock.SessionLocker // keeps others from migrating at the same time; nil: nobody else can
	Logger     zerolog.Logger     // the zero value is silent
}

// Migrate brings the tables up to date, each version in a transaction of its own. It refuses those that are newer than
// this program.
func (s Schema) Migrate(ctx context.Context) error {
	p, err := s.provider()
	if err != nil {
		return err
	}
	want := newest(p)
	have, err := s.version(ctx)
	if err != nil {
		return err
	}
	if have < want {
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("cannot migrate schema from version %d to %d: %w", have, want, err)
		}
		s.Logger.Info().Int64("from", have).Int64("to", want).Msg("database schema migrated")
		// Somebody else may have migrated meanwhile, and further.
		if have, err = s.version(ctx); err != nil {
			return err
		}
	}
	if have > want {
		return newer(have, want)
	}
	return nil
}

// Check refuses tables that have not the version of this program. It changes nothing.
func (s Schema) Check(ctx context.Context) error {
	p, err := s.provider()
	if err != nil {
		return err
	}
	want := newest(p)
	have, err := s.version(ctx)
	switch {
	case err != nil:
		return err
	case have > want:
		return newer(have, want)
	case have < want:
		return fmt.Errorf("its schema has version %d, this program needs version %d; start a worker of this program on it, which migrates it",
			have, want)
	}
	return nil
}

func newer(have, want int64) error {
	return fmt.Errorf("its schema has version %d, this program knows only version %d; use a newer program", have, want)
}

func (s Schema) provider() (*goose.Provider, error) {
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.Locker != nil {
		options = append(options, goose.WithSessionLocker(s.Locker))
	}
	p, err := goose.NewProvider(s.Dialect, s.DB, s.Migrations, options...)
	if err != nil {
		return nil, fmt.Errorf("cannot read migrations: %w", err)
	}
	return p, nil
}

func newest(p *goose.Provider) int64 {
	sources := p.ListSources() // in order, and never empty
	return sources[len(sources)-1].Version
}

// lookups say, in each dialect, whether the table is there in which goose keeps versions.
var lookups = map[goose.Dialect]string{
	goose.DialectPostgres: "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = '" + goose.DefaultTablename + "'",
	goose.DialectSQLite3:  "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '" + goose.DefaultTablename + "'",
}

// version returns the version of the tables, 0 if there are none. The provider's own way would make goose's table where
// there is none: without the lock, and even for one who only reads.
func (s Schema) version(ctx context.Context) (int64, error) {
	var tables int
	if err := s.DB.QueryRowContext(ctx, lookups[s.Dialect]).Scan(&tables); err != nil {
		return 0, fmt.Errorf("cannot read schema version: %w", err)
	}
	if tables == 0 {
		return 0, nil
	}
	var version sql.NullInt64 // null: a table just made
	if err := s.DB.QueryRowContext(ctx, "SELECT max(version_id) FROM "+goose.DefaultTablename).Scan(&version); err != nil {
		return 0, fmt.Errorf("cannot read schema version: %w", err)
	}
	return version.Int64, nil
}
