package webhook_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/webhook"
)

func valid() webhook.Config {
	return webhook.Config{
		Group: group, ProbeURL: "http://x/{host}", RestartURL: "http://x/{host}", MaxDelay: time.Minute,
	}
}

func TestNew_NamesTheFieldThatIsWrong(t *testing.T) {
	noCertificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCertificate, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		change func(*webhook.Config)
		want   string
	}{
		{func(c *webhook.Config) { c.Group = "" }, "group: is empty"},
		{func(c *webhook.Config) { c.Group = "a/b" }, "group: "},
		{func(c *webhook.Config) { c.ProbeURL = "" }, "probe_url: is missing"},
		{func(c *webhook.Config) { c.RestartURL = "" }, "restart_url: is missing"},
		{func(c *webhook.Config) { c.ProbeURL = "http://x/probe" }, "probe_url: has no {host}"},
		{func(c *webhook.Config) { c.MaxDelay = 0 }, "max_delay: is missing"},
		{func(c *webhook.Config) { c.MaxDelay = -time.Second }, "max_delay: -1s is negative"},
		{func(c *webhook.Config) { c.CA = filepath.Join(t.TempDir(), "none.pem") }, "ca: cannot be read: "},
		{func(c *webhook.Config) { c.CA = noCertificate }, "ca: "},
	} {
		cfg := valid()
		tt.change(&cfg)
		if d, err := webhook.New(cfg); err == nil || d != nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("New: got %v, want an error that begins with %q", err, tt.want)
		}
	}
}

func TestNew_RefusesURLsInWhichAHostCouldMeanAnythingElse(t *testing.T) {
	for url, why := range map[string]string{
		"x/{host}":                          "full URL",
		"/{host}":                           "full URL",
		"//x/{host}":                        "full URL",
		"http:x/{host}":                     "full URL",
		"http:///{host}":                    "full URL",
		"ftp://x/{host}":                    "full URL",
		"file:///{host}":                    "full URL",
		"http://x:pw/{host}":                "full URL",
		"http://x/\n{host}":                 "full URL",
		"http://u@x/{host}":                 "credentials",
		"http://u:hunter2@x/{host}":         "credentials",
		"http://u:hunter2@x y/{host}":       "full URL",
		"http://x/{host}#top":               "fragment",
		"http://x/{host}#":                  "fragment",
		"http://x/#{host}":                  "fragment",
		"http://{host}/{host}":              "full URL",
		"http://{group}.x/{host}":           "full URL",
		"http://[fe80::1%25{group}]/{host}": "full URL",
		"http://x:{host}/{host}":            "full URL",
		"http://x/{host}.json":              "braces",
		"http://x/host-{host}":              "braces",
		"http://x/{host}{group}":            "braces",
		"http://x/{host}/{name}":            "braces",
		"http://x/{host}/{":                 "braces",
		"http://x/{host}/}":                 "braces",
		"http://x/{{host}}":                 "braces",
		"http://x/{HOST}":                   "braces",
		"http://x/?{host}":                  "braces",
		"http://x/?{host}=1":                "braces",
		"http://x/?host={host}.json":        "braces",
		"http://x/?host=1,{host}":           "braces",
		"http://x/?host={host}?":            "braces",
		"http://x/?host={host};a=b":         "braces",
		"http://x/?host={host}&a={b}":       "braces",
		"http://x/?host={host}={host}":      "braces",
	} {
		for _, field := range []string{"probe_url", "restart_url"} {
			cfg := valid()
			if field == "probe_url" {
				cfg.ProbeURL = url
			} else {
				cfg.RestartURL = url
			}
			_, err := webhook.New(cfg)
			if err == nil || !strings.HasPrefix(err.Error(), field+": ") || !strings.Contains(err.Error(), why) {
				t.Errorf("%q as %s: got %v, want an error that says %q", url, field, err, why)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q as %s: the error tells the password: %v", url, field, err)
			}
		}
	}
}

func TestNew_TakesAWholeSegmentOrAWholeValue(t *testing.T) {
	for template, want := range map[string]string{
		"/{host}":                            "/h.x",
		"/{host}/":                           "/h.x/",
		"/{group}/{host}":                    "/Web-1/h.x",
		"/a%20b/{host}?c=%7B":                "/a%20b/h.x?c=%7B",
		"/?host={host}":                      "/?host=h.x",
		"?host={host}&group={group}&a":       "/?host=h.x&group=Web-1&a",
		"/{host}?next=http://y/&host={host}": "/h.x?next=http://y/&host=h.x",
	} {
		uri := make(chan string, 2)
		s := serveURL(t, func(w http.ResponseWriter, r *http.Request) {
			uri <- r.RequestURI
			_, _ = io.WriteString(w, `{"epoch":"1"}`)
		})
		d := newDriver(t, s, func(c *webhook.Config) { c.ProbeURL, c.RestartURL = s+template, s+template })
		if _, err := d.Probe(t.Context(), "h.x"); err != nil {
			t.Fatal(err)
		}
		asked := trigger()
		asked.Host = "h.x"
		if err := d.Restart(t.Context(), asked); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{want, want}, []string{<-uri, <-uri}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", template, diff)
		}
	}
}

func TestDriver_PromisesACompareAtAcceptanceAndTheDelayThatItWasTold(t *testing.T) {
	d, err := webhook.New(valid())
	if err != nil {
		t.Fatal(err)
	}
	want := restart.Traits{Compare: restart.CompareAtAcceptance, MaxDelay: time.Minute}
	if got := d.Traits(); got != want {
		t.Errorf("Traits: got %+v, want %+v", got, want)
	}
}
