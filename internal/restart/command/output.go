package command

import (
	"bytes"
	"fmt"
)

const maxExcerpt = 200 // bytes of a program's output in an error

// An output keeps the end of what is written to it. It never blocks and never grows, so that a program may print
// without end.
type output struct {
	max  int
	kept []byte
	cut  bool // whether there was more
}

func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	if n > o.max {
		p, o.cut = p[n-o.max:], true
	}
	if over := len(o.kept) + len(p) - o.max; over > 0 {
		o.kept, o.cut = append(o.kept[:0], o.kept[over:]...), true
	}
	o.kept = append(o.kept, p...)
	return n, nil
}

// said returns the last line with something on it, for the end of an error. A carriage return ends a line too, as
// programs that show their progress use it.
func (o *output) said() string {
	kept := bytes.TrimSpace(o.kept)
	if len(kept) == 0 {
		return ""
	}
	return ": " + excerpt(string(kept[bytes.LastIndexAny(kept, "\r\n")+1:]))
}

// excerpt quotes, so that what a program prints can neither forge lines of a log nor reach a terminal as it is.
func excerpt(s string) string {
	if len(s) > maxExcerpt {
		return fmt.Sprintf("%q and more", s[:maxExcerpt])
	}
	return fmt.Sprintf("%q", s)
}
