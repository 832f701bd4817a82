package ops_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayhem-mandrill/mandrill/internal/ops"
)

const (
	alertsFile    = "../../deploy/alerts.yaml"
	dashboardFile = "../../deploy/dashboard.json"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// alerts returns the expressions of the alert rules, by name.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(read(t, alertsFile), &file); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			found[rule.Alert] = rule.Expr
		}
	}
	return found
}

// panels returns the expressions of the dashboard's panels, by title and number.
func panels(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal(read(t, dashboardFile), &file); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for i, panel := range file.Panels {
		for j, target := range panel.Targets {
			found[fmt.Sprintf("%s, %d.%d", panel.Title, i, j)] = target.Expr
		}
	}
	for _, variable := range file.Templating.List {
		if query, ok := strings.CutPrefix(variable.Query, "label_values("); ok {
			found["variable "+variable.Name], _, _ = strings.Cut(query, ",")
		}
	}
	return found
}

var (
	metricName = regexp.MustCompile(`\b(?:mandrill|go|process)_\w+`)
	selector   = regexp.MustCompile(`\b((?:mandrill|go|process)_\w+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
)

// A rule on a metric that does not exist is silent, which is what a rule is when all is well.
func TestDeploy_AlertsAndDashboardUseMetricsThatExist(t *testing.T) {
	reg, _ := everything(t)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{} // of each metric that can be queried
	for _, family := range families {
		own := []string{"job", "instance"}
		for _, label := range family.GetMetric()[0].GetLabel() {
			own = append(own, label.GetName())
		}
		if family.GetType().String() != "HISTOGRAM" {
			labels[family.GetName()] = own
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			labels[family.GetName()+suffix] = append(own, "le")
		}
	}
	used := 0
	for where, exprs := range map[string]map[string]string{alertsFile: alerts(t), dashboardFile: panels(t)} {
		for name, expr := range exprs {
			for _, metric := range metricName.FindAllString(expr, -1) {
				used++
				if labels[metric] == nil {
					t.Errorf("%s, %s: there is no metric %s", where, name, metric)
				}
			}
			for _, s := range selector.FindAllStringSubmatch(expr, -1) {
				for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
					if !slices.Contains(labels[s[1]], m[1]) {
						t.Errorf("%s, %s: %s has no label %s", where, name, s[1], m[1])
					}
				}
			}
		}
	}
	if used < 50 {
		t.Errorf("found %d uses of metrics, so the pattern is wrong", used)
	}
}

// A metric that nobody can see is one that nobody needed.
func TestDeploy_TheDashboardShowsEveryMetric(t *testing.T) {
	reg, _ := everything(t)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	for _, expr := range panels(t) {
		shown.WriteString(expr + "\n")
	}
	for _, family := range families {
		if name := family.GetName(); strings.HasPrefix(name, "mandrill_") && !strings.Contains(shown.String(), name) {
			t.Errorf("%s is on no panel", name)
		}
	}
}

func TestDeploy_PromtoolAcceptsTheRules(t *testing.T) {
	if out, err := promtool(t, "check", "rules", alertsFile).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDeploy_EveryAlertFiresWhenItShouldAndOnlyThen(t *testing.T) {
	tests := string(read(t, "testdata/alerts_test.yaml"))
	for name := range alerts(t) {
		if !strings.Contains(tests, name) {
			t.Errorf("alert %s has no test", name)
		}
	}
	if out, err := promtool(t, "test", "rules", "testdata/alerts_test.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Grafana shows a panel whose query is wrong as one without data.
func TestDeploy_PromtoolAcceptsTheDashboardsQueries(t *testing.T) {
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for _, expr := range panels(t) {
		expr = strings.NewReplacer("$__rate_interval", "5m", "$job", "mandrill", "$group", "web").Replace(expr)
		rules = append(rules, rule{fmt.Sprintf("panel:%d", len(rules)), expr})
	}
	data, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestServer_PromtoolAcceptsWhatItExports(t *testing.T) {
	command := promtool(t, "check", "metrics")
	reg := prometheus.NewPedanticRegistry()
	use(ops.NewMetrics(reg), "web", "cattle-a1b2.example.net")
	url := serve(t, ops.Config{Registry: reg})
	code, _, body := do(t, http.MethodGet, url+"/metrics", "")
	if code != http.StatusOK {
		t.Fatalf("got %d, want 200", code)
	}
	command.Stdin = strings.NewReader(body)
	if out, err := command.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("got %v\n%s", err, out)
	}
}
