package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// ChecksText returns checks as databases keep them: as JSON, and nothing for none.
func ChecksText(checks []restart.Check) (string, error) {
	if len(checks) == 0 {
		return "", nil
	}
	text, err := json.Marshal(checks)
	if err != nil {
		return "", fmt.Errorf("cannot encode checks: %w", err)
	}
	return string(text), nil
}

// Checks scan what ChecksText returned, or null.
type Checks []restart.Check

// Scan implements sql.Scanner. It shares nothing with what was scanned before.
func (c *Checks) Scan(src any) error {
	var checks []restart.Check
	switch text := src.(type) {
	case nil:
	case string:
		if err := json.Unmarshal([]byte(text), &checks); err != nil {
			return fmt.Errorf("cannot decode checks: %w", err)
		}
	default:
		return fmt.Errorf("checks are stored as a %T", src)
	}
	*c = checks
	return nil
}

// A Span scans microseconds, or null for zero.
type Span restart.Duration

// Scan implements sql.Scanner.
func (s *Span) Scan(src any) error {
	switch us := src.(type) {
	case nil:
		*s = 0
	case int64:
		*s = Span(time.Duration(us) * time.Microsecond)
	default:
		return fmt.Errorf("span is stored as a %T", src)
	}
	return nil
}
