package main

import (
	"cmp"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

const (
	// firstPage is how many rows a table looks at for the widths of its columns.
	firstPage = 100

	// widestColumn is how wide a column can get. What is longer moves only what comes after it in its own row.
	widestColumn = 48
)

// A table prints rows for people. Its columns are as wide as those of the first page, so it never holds more than that.
type table struct {
	w       io.Writer
	page    [][]string // not yet printed
	widths  []int
	printed bool
	line    []byte
}

func newTable(w io.Writer, header ...string) *table {
	t := &table{w: w, widths: make([]int, len(header))}
	t.page = append(t.page, header)
	return t
}

// row adds a row. Its texts may be anybody's.
func (t *table) row(cells ...string) error {
	for i, text := range cells {
		cells[i] = plain(text)
	}
	if t.printed {
		return t.print(cells)
	}
	if t.page = append(t.page, cells); len(t.page) > firstPage {
		return t.flush()
	}
	return nil
}

// end prints what was not printed yet; a table without rows is nothing.
func (t *table) end() error {
	if !t.printed && len(t.page) > 1 {
		return t.flush()
	}
	return nil
}

func (t *table) flush() error {
	for _, cells := range t.page {
		for i, text := range cells {
			t.widths[i] = max(t.widths[i], min(widestColumn, utf8.RuneCountInString(text)))
		}
	}
	for _, cells := range t.page {
		if err := t.print(cells); err != nil {
			return err
		}
	}
	t.printed, t.page = true, nil
	return nil
}

func (t *table) print(cells []string) error {
	line := t.line[:0]
	for i, text := range cells {
		line = append(line, text...)
		if i == len(cells)-1 {
			break
		}
		for range max(0, t.widths[i]-utf8.RuneCountInString(text)) + 2 {
			line = append(line, ' ')
		}
	}
	t.line = append(line, '\n')
	_, err := t.w.Write(t.line)
	return err
}

// plain returns a text as it can be shown on a terminal: quoted if any of it would do something there instead of being
// seen, and "-" if there is nothing to see.
func plain(text string) string {
	if strings.TrimSpace(text) == "" {
		text = ""
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return cmp.Or(text, "-")
}

// secondsTime is how people are told a time, and preciseTime how it is kept.
const (
	secondsTime = "2006-01-02T15:04:05Z"
	preciseTime = "2006-01-02T15:04:05.000000Z"
)

// timeText returns a time in UTC, or nothing for none.
func timeText(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(layout)
}

// spanText returns a span, or nothing for none.
func spanText(d restart.Duration) string {
	if d == 0 {
		return ""
	}
	return time.Duration(d).String()
}

// secondsTaken returns the seconds from a request to its outcome, or nothing where one of them is not known.
func secondsTaken(e store.Entry, decimals int) string {
	if e.Outcome.Kind == "" || e.Request.RequestedAt.IsZero() {
		return ""
	}
	return strconv.FormatFloat(e.Outcome.At.Sub(e.Request.RequestedAt).Seconds(), 'f', decimals, 64)
}

// historyTable prints requests for people.
type historyTable struct{ table *table }

func newHistoryTable(w io.Writer) historyTable {
	return historyTable{newTable(w, "REQUESTED", "HOST", "GROUP", "OUTCOME", "REASON", "SECONDS", "REQUESTED BY", "ID")}
}

func (t historyTable) add(e store.Entry) error {
	r, o := e.Request, e.Outcome
	return t.table.row(timeText(r.RequestedAt, secondsTime), string(r.Host), string(r.Group), string(o.Kind), string(o.Reason),
		secondsTaken(e, 1), r.RequestedBy, r.ID.String())
}

func (t historyTable) end() error { return t.table.end() }
