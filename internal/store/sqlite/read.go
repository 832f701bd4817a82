package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"

	"github.com/rs/zerolog"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// openReader opens a database for one who only reads.
func openReader(ctx context.Context, file string) (*sql.DB, error) {
	if err := mustExist(file); err != nil {
		return nil, err
	}
	db, err := openToRead(ctx, file)
	if !isNoRoomBeside(err) {
		return db, err
	}
	// Readers and writers of a write-ahead log meet in a file beside it, which cannot be made here. Where it is not,
	// nobody has the database open, and its files may be read as they lie.
	if exists(file+"-shm") && exists(file+"-wal") {
		return nil, err
	}
	if exists(file + "-wal") {
		return openToRead(ctx, file, "vfs=unix-none", "_pragma=locking_mode(EXCLUSIVE)")
	}
	return openToRead(ctx, file, "immutable=1")
}

// openToRead returns a pool for a database that has the tables of this program.
func openToRead(ctx context.Context, file string, params ...string) (*sql.DB, error) {
	db, err := openPool(file, maxReaders, append(params, "mode=ro", "_query_only=1")...)
	if err != nil {
		return nil, err
	}
	schema, err := schemaOf(db, zerolog.Nop())
	if err == nil {
		err = schema.Check(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// isNoRoomBeside reports whether an error is what SQLite says when it must make a file beside a database and may not.
func isNoRoomBeside(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff // without the extension
	return code == sqlite3.SQLITE_CANTOPEN || code == sqlite3.SQLITE_READONLY
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, fs.ErrNotExist)
}
