package deploytest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// Whoever is woken by an alert must not have to find out what it means.
func TestAlerts_EachHasASectionOfTheManualAndLeadsThere(t *testing.T) {
	const page = "https://github.com/mayhem-mandrill/mandrill/blob/main/docs/alerts.md#"
	rules, err := os.ReadFile(filepath.Join(deploy, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(rules, &file); err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split("\n"+string(manual), "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		sections[name] = text
	}
	alerts := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			alerts++
			text := sections[rule.Alert]
			for _, part := range []string{"**What it means.** ", "**Look at:**\n\n- ", "**Do:**\n\n- "} {
				if !strings.Contains(text, part) {
					t.Errorf("%s: its section has no %q", rule.Alert, strings.TrimSpace(part))
				}
			}
			if got, want := rule.Annotations["runbook_url"], page+strings.ToLower(rule.Alert); got != want {
				t.Errorf("%s: got runbook_url %q, want %q", rule.Alert, got, want)
			}
			delete(sections, rule.Alert)
		}
	}
	if alerts == 0 {
		t.Error("there is no alert, so the test is wrong")
	}
	for name := range sections {
		t.Errorf("section %s is of no alert", name)
	}
}
