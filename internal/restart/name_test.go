package restart_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// badHosts are what a shell, a path, a subject or a resolver would take for something else.
var badHosts = map[string]string{
	"empty":               "",
	"space":               "cattle a1b2",
	"leading space":       " cattle",
	"newline":             "cattle\n",
	"tab":                 "cattle\tb",
	"NUL":                 "cattle\x00",
	"command":             "cattle;reboot",
	"substitution":        "$(reboot)",
	"backquotes":          "`reboot`",
	"pipe":                "a|b",
	"ampersand":           "a&b",
	"redirection":         "a>b",
	"quotes":              `"cattle"`,
	"backslash":           `a\b`,
	"tilde":               "~root",
	"path":                "../etc/passwd",
	"slash":               "a/b",
	"user":                "root@cattle",
	"port":                "cattle:22",
	"address":             "[::1]",
	"wildcard of subject": "a.*.b",
	"rest of subject":     "a.>",
	"parent":              "..",
	"dot":                 ".",
	"empty label":         "a..b",
	"leading dot":         ".a",
	"option":              "-rf",
	"final dot":           "a.example.net.",
	"letters with marks":  "kühe.example.net",
	"letters that look alike": "с" + // Cyrillic
		"attle",
	"wide digits":       "cattle１",
	"invalid UTF-8":     "cattle\xff",
	"a byte order mark": "\ufeffcattle",
	"254 bytes":         strings.Repeat("a", 254),
}

func TestParseHost_RefusesWhatIsMoreThanAName(t *testing.T) {
	for name, s := range badHosts {
		t.Run(name, func(t *testing.T) {
			got, err := restart.ParseHost(s)
			if got != "" {
				t.Errorf("got host %q, want none", got)
			}
			wantField(t, err, "host")
		})
	}
}

// The last door before a command line, for a host that came in by another one.
func TestHost_CheckRefusesForGoodWhatParseHostRefuses(t *testing.T) {
	bad := map[string]string{"upper case": "Cattle"}
	maps.Copy(bad, badHosts)
	for name, s := range bad {
		t.Run(name, func(t *testing.T) {
			if err := restart.Host(s).Check(); !errors.Is(err, restart.ErrPermanent) {
				t.Errorf("Check: got %v, want it refused for good", err)
			}
		})
	}
	if err := restart.Host("cattle-a1b2.example.net").Check(); err != nil {
		t.Errorf("Check: got %v, want nil", err)
	}
}

func TestParseHost_TakesNamesInLowerCase(t *testing.T) {
	for s, want := range map[string]restart.Host{
		"a":                      "a",
		"0":                      "0",
		"cattle-a1b2":            "cattle-a1b2",
		"Cattle_A1.Example.NET":  "cattle_a1.example.net",
		"10.0.0.1":               "10.0.0.1",
		"a.b-c_d.e":              "a.b-c_d.e",
		strings.Repeat("A", 253): restart.Host(strings.Repeat("a", 253)),
	} {
		got, err := restart.ParseHost(s)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", s, got, err, want)
		}
	}
}

func TestHostOf(t *testing.T) {
	for _, tt := range []struct {
		instance, domain string
		want             restart.Host // empty: an error
	}{
		{"cattle-a1b2", "example.net", "cattle-a1b2.example.net"},
		{"Cattle-A1B2", "Example.NET", "cattle-a1b2.example.net"},
		{"cattle.other.org", "example.net", "cattle.other.org"},
		{"", "example.net", ""},
		{"cattle", "", ""},
		{"cattle", ".net", ""},
		{"cattle", "net.", ""},
		{"cattle.", "example.net", ""},
		{".cattle", "example.net", ""},
		{"cat tle", "example.net", ""},
		{"cattle", "exam ple.net", ""},
		{strings.Repeat("a", 241), "example.net", restart.Host(strings.Repeat("a", 241) + ".example.net")},
		{strings.Repeat("a", 242), "example.net", ""},
	} {
		got, err := restart.HostOf(tt.instance, tt.domain)
		if got != tt.want {
			t.Errorf("%q in %q: got %q, want %q", tt.instance, tt.domain, got, tt.want)
		}
		if tt.want == "" {
			wantField(t, err, "instance")
		} else if err != nil {
			t.Errorf("%q in %q: %v", tt.instance, tt.domain, err)
		}
	}
}

func TestParseGroup(t *testing.T) {
	for _, s := range []string{"default", "a", "A-1", "0", "-", strings.Repeat("g", 63)} {
		if got, err := restart.ParseGroup(s); err != nil || string(got) != s {
			t.Errorf("%q: got %q, %v", s, got, err)
		}
	}
	for name, s := range map[string]string{
		"empty": "", "two tokens": "a.b", "wildcard": "*", "rest": ">", "space": "a b", "underscore": "_all",
		"mark": "ü", "NUL": "\x00", "newline": "a\n", "slash": "a/b", "64 bytes": strings.Repeat("g", 64),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := restart.ParseGroup(s)
			if got != "" {
				t.Errorf("got group %q, want none", got)
			}
			wantField(t, err, "group")
		})
	}
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	fe, ok := errors.AsType[*restart.FieldError](err)
	if !ok || fe.Field != field || !strings.HasPrefix(err.Error(), field+": ") {
		t.Errorf("got %v, want an error for field %q", err, field)
	}
}
