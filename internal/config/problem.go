package config

import "strings"

// A UsageError says that what was asked or configured cannot be used, and that nothing was started. The process ends
// with exit code 2 for it.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong: of Load, every Problem, joined.
func (e *UsageError) Unwrap() error { return e.Err }

// A Problem is one thing that is wrong with the configuration.
type Problem struct {
	Key    string // of the setting; empty if it is about none
	Origin string // where it came from, such as "file mandrill.yaml:3:5"
	Text   string // what is wrong, without the value of what may hold a secret
}

func (p *Problem) Error() string {
	if p.Key == "" {
		return p.Origin + ": " + p.Text
	}
	return p.Origin + ": " + p.Key + ": " + p.Text
}

// A quotingError is why a value is none, in a text that quotes parts of it. The brief one does not: it is for a value of
// which a variable is part.
type quotingError struct{ brief, text string }

func (e *quotingError) Error() string { return e.text }

// guess returns a hint that names the known name nearest to a wrong one, or nothing if none is near.
func guess(wrong string, known []string) string {
	best, least := "", max(2, len(wrong)/4)+1
	for _, name := range known {
		if d := distance(strings.ToLower(wrong), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance counts the bytes to insert, delete or replace to turn one text into the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
