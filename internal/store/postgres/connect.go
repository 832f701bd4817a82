package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// parse returns how to connect. No error of it tells a password: where the parts of what is no URL begin and end is
// anybody's guess, so that it is not quoted.
func parse(text string) (*pgxpool.Config, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Fragment != "" ||
		strings.Contains(u.EscapedPath()+u.RawQuery, "@") {
		return nil, errors.New("its URL is not like postgres://user@host:5432/name; special characters of a password are written as %XX")
	}
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, unreadable(u)
	}
	if !u.Query().Has("pool_max_conns") {
		config.MaxConns = maxReaders
	}
	if params := config.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "mandrill"
	}
	return config, nil
}

// unreadable returns why a URL cannot be used, as pgx says it of the same URL without its secrets.
func unreadable(u *url.URL) error {
	bare := *u
	if u.User != nil {
		bare.User = url.User(u.User.Username())
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Del(name)
		}
	}
	bare.RawQuery = query.Encode()
	if _, err := pgxpool.ParseConfig(bare.String()); err != nil {
		return err
	}
	return errors.New("the password in its URL cannot be used")
}

func nameOf(config *pgxpool.Config) string {
	c := config.ConnConfig
	return fmt.Sprintf("database %q on %s", c.Database, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))))
}

// plain returns an error in one line, without saying where, which its callers do. pgx tells of every address that it
// tried, with and without TLS, on a line of its own, though mostly the server gave one answer.
func plain(err error) error {
	var refused *pgconn.ConnectError
	if !errors.As(err, &refused) {
		return err
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer
	}
	return oneLine{refused.Unwrap()}
}

type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }

func (e oneLine) Unwrap() error { return e.error }

// checkDurable refuses a server that takes no writes, or that would not keep what it has confirmed. It is asked on every
// connection: roles, databases and URLs have settings, and behind one address another server may stand tomorrow.
func checkDurable(ctx context.Context, conn *pgx.Conn) error {
	var fsync, synchronousCommit, readOnly string
	var standby bool
	err := conn.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit'),
		current_setting('transaction_read_only'), pg_is_in_recovery()`).Scan(&fsync, &synchronousCommit, &readOnly, &standby)
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the server's settings: %w", err)
	case standby:
		return errors.New("the server is a standby, which takes no writes: name the primary in the URL, or all servers and target_session_attrs=read-write")
	case readOnly != "off":
		return errors.New("default_transaction_read_only is on: set it to off for this user and database")
	case fsync != "on":
		return errors.New("fsync is off, so that the server may forget what it has confirmed: set it to on")
	case synchronousCommit != "on" && synchronousCommit != "remote_apply":
		return fmt.Errorf("synchronous_commit is %s, so that the server may forget what it has confirmed: set it to on, or to remote_apply, for this user and database",
			synchronousCommit)
	}
	return nil
}
