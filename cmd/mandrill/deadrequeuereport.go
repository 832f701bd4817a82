package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// A requeueReport prints what became of each letter, as it becomes known, or as one JSON object in the end.
type requeueReport struct {
	app        *app
	out        output
	dryRun     bool
	unreadable int // letters that were reported already, because they cannot be read

	mu     sync.Mutex
	lines  []requeueLine // of JSON
	counts map[requeueStatus]int
}

// add may be called from many goroutines at once.
func (r *requeueReport) add(l requeueLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[requeueStatus]int{}
	}
	r.counts[l.Status]++
	if r.out == outputJSON {
		r.lines = append(r.lines, l)
		return
	}
	text := fmt.Sprintf("%s\t%s\t%s\t%s", plain(string(l.Host)), l.Status, l.RequeuedFrom, plain(idText(l.ID)))
	if l.Why != "" {
		text += "\t" + plain(l.Why)
	}
	fmt.Fprintln(r.app.stdout, text)
}

// told are the counts that are printed, in their order.
func (r *requeueReport) told() []requeueStatus {
	if r.dryRun {
		return []requeueStatus{requeuePlanned, requeueAlreadyDone, requeueAlreadyQueued, requeueRefused}
	}
	return []requeueStatus{requeueDone, requeueAlreadyDone, requeueAlreadyQueued, requeueRefused, requeueFailed}
}

// end prints the counts, and returns what the exit code tells; stopped is why the requeue did not come to its end.
func (r *requeueReport) end(stopped error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.print(), r.result(stopped))
}

func (r *requeueReport) print() error {
	if r.out == outputJSON {
		object := map[string]any{"dry_run": r.dryRun, "letters": append([]requeueLine{}, r.lines...)}
		for _, status := range r.told() {
			object[string(status)] = r.counts[status]
		}
		return r.app.printJSON(object)
	}
	var counts []string
	for _, status := range r.told() {
		counts = append(counts, fmt.Sprintf("%s %d", strings.ReplaceAll(string(status), "_", " "), r.counts[status]))
	}
	_, err := fmt.Fprintln(r.app.stdout, strings.Join(counts, ", "))
	return err
}

func (r *requeueReport) result(stopped error) error {
	done := r.counts[requeueDone] + r.counts[requeueAlreadyDone] + r.counts[requeueAlreadyQueued]
	not := r.counts[requeueRefused] + r.counts[requeueFailed] + r.unreadable
	switch {
	case r.dryRun:
		return nil
	case stopped != nil && done == 0:
		return stopped
	case stopped != nil:
		return fmt.Errorf("%w: %v; run it again for the rest", errPartly, stopped)
	case not > 0 && done == 0:
		return errors.New("nothing was requeued")
	case not > 0:
		return fmt.Errorf("%w: %d of %d dead letters were not requeued", errPartly, not, not+done)
	}
	return nil
}
