package config_test

import (
	"fmt"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/config"
)

// A database's URL is printed in logs, in errors and by 'config show': never with what opens it.
func TestDatabase_PrintsNoPassword(t *testing.T) {
	for in, want := range map[config.Database]string{
		"": "", "/var/lib/mandrill.db": "/var/lib/mandrill.db", "sqlite:///a.db": "sqlite:///a.db",
		"postgres://db/mandrill":                            "postgres://db/mandrill",
		"postgres://ann@db:5432/mandrill":                   "postgres://ann@db:5432/mandrill",
		"postgres://ann:hunter2@db/mandrill":                "postgres://ann:****@db/mandrill",
		"postgresql://ann:hunter%402@a,b/m?sslmode=require": "postgresql://ann:****@a,b/m?sslmode=require",
		"postgres://db/m?user=ann&password=hunter2":         "postgres://db/m?user=ann&password=****",
		"postgres://db/m?PassWord=hunter2&sslpassword=x":    "postgres://db/m?PassWord=****&sslpassword=****",
	} {
		if got := in.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := fmt.Sprintf("%v %#v %s", in, in, in); got != want+" "+want+" "+want {
			t.Errorf("formatted: got %q, want %q", got, want)
		}
	}
}

func TestDatabase_PathOfAURLIsUnescaped(t *testing.T) {
	for in, want := range map[config.Database]string{
		"": "", "a b.db": "a b.db", "/a%20b.db": "/a%20b.db", "sqlite:///a%20b.db": "/a b.db", "sqlite:////a": "//a",
	} {
		if got := in.Path(); got != want || in.Postgres() {
			t.Errorf("%q: got path %q, PostgreSQL %t, want %q", string(in), got, in.Postgres(), want)
		}
	}
}
