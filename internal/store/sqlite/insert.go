package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/mayhem-mandrill/mandrill/internal/store/groupcommit"
)

// An insertion is the write of one row, which is left alone if one with its key is there.
type insertion struct {
	into *table
	row  []driver.Value // of types that the driver takes as they are

	// compare is called when the row may not have been inserted, to find out what is there. If it is nil, that is no
	// matter.
	compare func(ctx context.Context, stmt *statements) error
}

// A table is where rows are inserted.
type table struct {
	name, columns, key string
}

// insert returns the statement that inserts some rows, and how many arguments it has. OR FAIL is for what is wrong with
// a row besides its key: a failure leaves the rows before it, which is what spares SQLite a copy of every page that the
// statement touches.
func (t *table) insert(rows int) (query string, args int) {
	columns := 1 + strings.Count(t.columns, ",")
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + ")"
	return fmt.Sprintf("INSERT OR FAIL INTO %s (%s) VALUES %s ON CONFLICT (%s) DO NOTHING", t.name, t.columns,
		strings.TrimSuffix(strings.Repeat(row+", ", rows), ", "), t.key), rows * columns
}

// chunks are how many rows one statement can insert: half of what a row costs alone is not its own but its statement's.
var chunks = [...]int{128, 16, 4, 1}

// An inserter inserts the rows of one table. It talks to the driver directly, because what database/sql does to each
// argument costs as much again.
type inserter struct {
	conn  *sql.Conn
	stmts [len(chunks)]driver.Stmt
	args  [len(chunks)][]driver.NamedValue // of stmts, used again and again
	ops   []*groupcommit.Op[write]         // to be inserted next
}

func (in *inserter) prepare(ctx context.Context, conn *sql.Conn, t *table) error {
	in.conn = conn
	return conn.Raw(func(c any) error {
		for i, rows := range chunks {
			query, args := t.insert(rows)
			stmt, err := c.(driver.ConnPrepareContext).PrepareContext(ctx, query)
			if err != nil {
				return fmt.Errorf("cannot prepare insertion into %s: %w", t.name, err)
			}
			in.stmts[i], in.args[i] = stmt, make([]driver.NamedValue, args)
			for j := range in.args[i] {
				in.args[i][j].Ordinal = j + 1
			}
		}
		return nil
	})
}

// close gives up what prepare took, as far as it came.
func (in *inserter) close() error {
	var errs []error
	for _, stmt := range in.stmts {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// letGo forgets what was to be inserted.
func (in *inserter) letGo() {
	clear(in.ops)
	in.ops = in.ops[:0]
	for _, args := range in.args {
		for i := range args {
			args[i].Value = nil
		}
	}
}

// insert does the insertions that were added, within a transaction. It sets the errors that are of one row alone, and
// returns one that is of all.
func (in *inserter) insert(ctx context.Context, stmt *statements) error {
	left := in.ops
	for size, rows := range chunks {
		for ; len(left) >= rows; left = left[rows:] {
			if err := in.insertChunk(ctx, size, left[:rows], stmt); err != nil {
				return err
			}
		}
	}
	return nil
}

func (in *inserter) insertChunk(ctx context.Context, size int, ops []*groupcommit.Op[write], stmt *statements) error {
	inserted, err := in.exec(ctx, size, ops)
	switch {
	case err == nil && inserted == len(ops):
		return nil
	case err == nil:
		return compare(ctx, ops, stmt)
	case !isOwn(err):
		return err
	case len(ops) == 1:
		ops[0].Err = err
		return nil
	}
	// One of them cannot be done, and it is not known which. Those that were inserted before it are found to be there.
	for i := range ops {
		if err := in.insertChunk(ctx, len(chunks)-1, ops[i:i+1], stmt); err != nil {
			return err
		}
	}
	return nil
}

// exec returns how many of the rows were inserted.
func (in *inserter) exec(ctx context.Context, size int, ops []*groupcommit.Op[write]) (inserted int, err error) {
	args := in.args[size]
	next := args
	for _, op := range ops {
		for _, v := range op.Write.(*insertion).row {
			next[0].Value, next = v, next[1:]
		}
	}
	err = in.conn.Raw(func(any) error {
		result, err := in.stmts[size].(driver.StmtExecContext).ExecContext(ctx, args)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		inserted = int(n)
		return err
	})
	return inserted, err
}

// compare asks for each row what is there.
func compare(ctx context.Context, ops []*groupcommit.Op[write], stmt *statements) error {
	for _, op := range ops {
		find := op.Write.(*insertion).compare
		if find == nil {
			continue
		}
		if op.Err = find(ctx, stmt); op.Err != nil && !isOwn(op.Err) {
			return op.Err
		}
	}
	return nil
}
