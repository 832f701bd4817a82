package main

import (
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// A verb without a page is one that a package does not seem to have.
func TestMan_EveryVerbHasAPageWithAllItsFlags(t *testing.T) {
	t.Parallel()
	root := newApp().rootCommand()
	pages := manPages(root)
	left := maps.Clone(pages)
	for _, verb := range allVerbs(root) {
		if verb.Hidden {
			continue
		}
		page := pages[manName(verb)+".1"]
		for _, section := range []string{".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH EXIT STATUS"} {
			if !strings.Contains(page, section) {
				t.Errorf("%s: its page has no %s", verb.CommandPath(), section)
			}
		}
		if verb.Example != "" && !strings.Contains(page, ".SH EXAMPLES") {
			t.Errorf("%s: its page has no example", verb.CommandPath())
		}
		verb.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(page, roff("--"+f.Name)+`\fR`) {
				t.Errorf("%s: its page has no flag --%s", verb.CommandPath(), f.Name)
			}
		})
		delete(left, manName(verb)+".1")
	}
	for name := range left {
		t.Errorf("page %s is of no verb", name)
	}
}

func TestMan_TheFormatterHasNothingToComplainOf(t *testing.T) {
	t.Parallel()
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("groff is not installed; the pages are only looked at")
		return
	}
	pages := manPages(newApp().rootCommand())
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		format := exec.Command(groff, "-k", "-man", // in UTF-8, as man does it
			"-Tutf8", "-ww", "-z")
		format.Stdin = strings.NewReader(pages[name])
		if out, err := format.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: got %v\n%s", name, err, out)
		}
	}
}

// A line of text that begins with a dot is an order to the formatter, and vanishes.
func TestRoff_TextIsNotTakenForOrders(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain":            "plain",
		"--flag":           `\-\-flag`,
		".so /etc/passwd":  `\&.so /etc/passwd`,
		"one\n.two\n'tis":  "one\n\\&.two\n\\&'tis",
		`a\b`:              `a\eb`,
		"  indented .dots": "  indented .dots",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
