package config

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A Database says where requests and outcomes are: a URL of PostgreSQL, or a SQLite file by URL or path. What may be a
// password in it prints as ****; string(d) is the text itself.
type Database string

const sqliteScheme = "sqlite://"

// Postgres reports whether it is a URL of PostgreSQL.
func (d Database) Postgres() bool {
	return strings.HasPrefix(string(d), "postgres://") || strings.HasPrefix(string(d), "postgresql://")
}

// Path returns the path of a SQLite file; empty if no database was named.
func (d Database) Path() string {
	path, isURL := strings.CutPrefix(string(d), sqliteScheme)
	if !isURL {
		return path
	}
	if unescaped, err := url.PathUnescape(path); err == nil {
		return unescaped
	}
	return path // unreachable: it was checked
}

// passwords are the parameters of a PostgreSQL URL that hold one.
var passwords = []string{"password", "sslpassword"}

func (d Database) String() string {
	if !d.Postgres() {
		return string(d)
	}
	u, err := url.Parse(string(d))
	if err != nil {
		return mask // unreachable: it was checked
	}
	userinfo := ""
	if u.User != nil {
		userinfo = url.User(u.User.Username()).String()
		if _, has := u.User.Password(); has {
			userinfo += ":" + mask
		}
		userinfo += "@"
	}
	shown := u.Scheme + "://" + userinfo + u.Host + u.EscapedPath()
	if u.RawQuery != "" {
		shown += "?" + maskedQuery(u.RawQuery)
	}
	return shown
}

func maskedQuery(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if name, _, _ := strings.Cut(part, "="); slices.Contains(passwords, strings.ToLower(name)) {
			parts[i] = name + "=" + mask
		}
	}
	return strings.Join(parts, "&")
}

// GoString implements fmt.GoStringer.
func (d Database) GoString() string { return d.String() }

// MarshalText implements encoding.TextMarshaler.
func (d Database) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// keywords is how else PostgreSQL is told where to connect. Taken for a path, it would make a file that is called like a
// password.
var keywords = regexp.MustCompile(`(?i)\b(host|dbname|user|password)\s*=`)

func checkDatabase(text string) error {
	switch {
	case Database(text).Postgres():
		u, err := url.Parse(text)
		switch {
		case err != nil: // It quotes the URL, and with it the password.
			return errors.New("is not a URL such as postgres://user@host:5432/name; special characters of a password are written as %XX")
		case u.Fragment != "":
			return errors.New("has a #, which a password writes as %23")
		case strings.Contains(u.EscapedPath()+u.RawQuery, "@"):
			return errors.New("has an @ after the host; special characters of a password are written as %XX")
		case strings.Trim(u.Path, "/") == "":
			return errors.New("names no database: write postgres://user@host:5432/name")
		}
		if _, err := url.ParseQuery(u.RawQuery); err != nil {
			return errors.New("has parameters that cannot be read; special characters are written as %XX")
		}
		return nil
	case strings.HasPrefix(text, sqliteScheme):
		path := strings.TrimPrefix(text, sqliteScheme)
		if _, err := url.PathUnescape(path); err != nil || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") {
			return errors.New("is not a URL such as sqlite:///path/of/file.db; special characters of the path are written as %XX")
		}
		return nil
	case strings.Contains(text, "://"):
		return errors.New("is a URL whose scheme is none of sqlite, postgres, postgresql")
	case keywords.MatchString(text):
		return errors.New("is neither a URL nor a path: write postgres://user@host:5432/name")
	}
	return checkPath(text)
}
