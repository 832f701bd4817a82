package policy_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A pattern with a slip in it must not stand on a deny list and protect nothing.
func TestParsePatterns_NamesWhatNoHostCanMatch(t *testing.T) {
	for _, text := range []string{
		"", " ", "db 1", "db-[12]", `db-\*`, "db-{1,2}", "db-1,db-2", "!db-1", "^db-1$", "/db/", "kühe-*", "db-1\n", "db-1\x00",
		".example.net", ".*", "db-1.", "*.", "db..net", "-db", "-*", strings.Repeat("a", 254), "\xff",
	} {
		got, err := policy.ParsePatterns([]string{"db-*", text})
		if err == nil || got != nil {
			t.Errorf("%q: got %q, want an error", text, got)
			continue
		}
		if !strings.HasSuffix(err.Error(), ": is not a pattern of host names: letters, digits, '-', '_', '.', '*' and '?', "+
			"no '-' at its beginning, no empty label, 253 bytes at most") || strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
			t.Errorf("%q: got %v", text, err)
		}
	}
	_, err := policy.ParsePatterns([]string{"a b", "c", "d e"})
	if err == nil || !strings.Contains(err.Error(), `"a b": `) || !strings.Contains(err.Error(), `"d e": `) {
		t.Errorf("got %v, want an error that names both", err)
	}
}

func TestParsePatterns_TakesThemInLowerCase(t *testing.T) {
	got, err := policy.ParsePatterns([]string{"DB-*", "?", "*.*", "a_b.Example.net", strings.Repeat("?", 253)})
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Patterns{"db-*", "?", "*.*", "a_b.example.net", strings.Repeat("?", 253)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("patterns (-want +got):\n%s", diff)
	}
	if none, err := policy.ParsePatterns(nil); none != nil || err != nil {
		t.Errorf("got %q, %v of nothing", none, err)
	}
}

// What is denied or not listed is never let through, whatever stands beside it on the lists.
func TestPatterns_MatchLikeExpressions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		host := restart.Host(rapid.StringMatching(`[ab]{1,3}(\.[ab]{1,3}){0,2}`).Draw(rt, "host"))
		var texts []string
		matched, maybe := false, false
		for range rapid.IntRange(1, 3).Draw(rt, "patterns") {
			text := rapid.StringMatching(`[ab*?]{1,4}(\.[ab*?]{1,3}){0,2}`).Draw(rt, "pattern")
			texts = append(texts, text)
			matched = matched || expression(text).MatchString(string(host))
			patternLabel, _, patternFull := strings.Cut(text, ".")
			hostLabel, _, hostFull := strings.Cut(string(host), ".")
			maybe = maybe || (!patternFull || !hostFull) && expression(patternLabel).MatchString(hostLabel)
		}
		patterns, err := policy.ParsePatterns(texts)
		if err != nil {
			rt.Fatal(err)
		}
		a := ask()
		a.Request.Host = host
		if went := (policy.Rules{Only: patterns}).Ask(a).Verdict == policy.Go; went != matched {
			rt.Fatalf("only %s, and %s goes: %t", patterns, host, went)
		}
		if went := (policy.Rules{Deny: patterns}).Ask(a).Verdict == policy.Go; went != !(matched || maybe) {
			rt.Fatalf("deny %s, and %s goes: %t", patterns, host, went)
		}
	})
}

func expression(pattern string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.NewReplacer(".", `\.`, "*", ".*", "?", ".").Replace(pattern) + "$")
}

// Whatever an operator writes must be refused, or mean what is shown to him.
func FuzzParsePatterns(f *testing.F) {
	for _, seed := range []string{"db-*", "DB-?.example.net", "*", "-*", ".*", "a..b", "[a]", `\`, "a b", "\xff", "K", "é", strings.Repeat("*", 253)} {
		f.Add(seed, "db-1.example.net")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		patterns, err := policy.ParsePatterns([]string{text, "web-*"})
		if err != nil {
			if patterns != nil || len(err.Error()) > 1200 {
				t.Fatalf("got %q beside an error of %d bytes", patterns, len(err.Error()))
			}
			return
		}
		again, err := policy.ParsePatterns(strings.Split(patterns.String(), ", "))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(patterns, again); diff != "" {
			t.Fatalf("patterns printed back (-want +got):\n%s", diff)
		}
		host, err := restart.ParseHost(name)
		if err != nil {
			return
		}
		a := ask()
		a.Request.Host = host
		listed := (policy.Rules{Only: patterns}).Ask(a).Verdict == policy.Go
		if denied := (policy.Rules{Deny: patterns}).Ask(a).Verdict == policy.Never; listed && !denied {
			t.Fatalf("%s is listed by %s, and not denied", host, patterns)
		}
		if want := expression(patterns[0]).MatchString(string(host)) || strings.HasPrefix(string(host), "web-"); listed != want {
			t.Fatalf("%s is listed by %s: %t", host, patterns, listed)
		}
	})
}

func mustPatterns(t testing.TB, texts string) policy.Patterns {
	t.Helper()
	patterns, err := policy.ParsePatterns(split(texts))
	if err != nil {
		t.Fatal(err)
	}
	return patterns
}
