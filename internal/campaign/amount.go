package campaign

import (
	"fmt"
	"strconv"
	"strings"
)

// maxCount bounds a number of hosts, far above what a campaign can hold.
const maxCount = 1_000_000

// An Amount is a number of hosts, or a share of all of them. The zero Amount says nothing.
type Amount struct {
	Count   int // zero if it is a share
	Percent int // 1 to 100, or zero
}

// ParseAmount returns the amount that is written as "5" or "5%".
func ParseAmount(s string) (Amount, error) {
	digits, share := strings.CutSuffix(s, "%")
	unit, most := "hosts", maxCount
	if share {
		unit, most = "percent", 100
	}
	n, err := strconv.Atoi(digits)
	switch {
	case s == "":
		return Amount{}, fmt.Errorf("is empty; write a number of hosts, as in 5, or a share of them, as in 5%%")
	case err != nil || strings.HasPrefix(s, "+"):
		return Amount{}, fmt.Errorf("%.40q is not a whole number of hosts, as in 5, nor a share of them, as in 5%%", s)
	case n < 0:
		return Amount{}, fmt.Errorf("%q is negative", s)
	case n == 0:
		return Amount{}, fmt.Errorf("%q is nothing", s)
	case n > most:
		return Amount{}, fmt.Errorf("%q is more than %d %s", s, most, unit)
	case share:
		return Amount{Percent: n}, nil
	}
	return Amount{Count: n}, nil
}

func (a Amount) String() string {
	if a.Percent > 0 {
		return strconv.Itoa(a.Percent) + "%"
	}
	return strconv.Itoa(a.Count)
}

// IsZero reports whether it says nothing.
func (a Amount) IsZero() bool { return a == Amount{} }

// MarshalText implements encoding.TextMarshaler.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Amount) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAmount(string(text))
	return err
}

// atLeast returns how many of so many hosts it is, a share being rounded up.
func (a Amount) atLeast(total int) int {
	if a.Percent > 0 {
		return max(1, (total*a.Percent+99)/100)
	}
	return a.Count
}

// atMost is atLeast with a share rounded down, but not to nothing.
func (a Amount) atMost(total int) int {
	if a.Percent > 0 {
		return max(1, total*a.Percent/100)
	}
	return a.Count
}

// ParseBatches returns the sizes of batches that are written as "1" or "1,5%,25%": each is for one batch, and the
// last for all that follow. The error names the place of the one that is wrong.
func ParseBatches(s string) ([]Amount, error) {
	var sizes []Amount
	for i, text := range strings.Split(s, ",") {
		size, err := ParseAmount(strings.TrimSpace(text))
		if err != nil && strings.Contains(s, ",") {
			return nil, fmt.Errorf("batch %d: %w", i+1, err)
		} else if err != nil {
			return nil, err
		}
		if i > 0 {
			if before := sizes[i-1]; size.Count > 0 && size.Count < before.Count || size.Percent > 0 && size.Percent < before.Percent {
				return nil, fmt.Errorf("batch %d: %s is less than the %s before it", i+1, size, before)
			}
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}
