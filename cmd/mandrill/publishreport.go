package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// A publishReport prints what became of each request, as it becomes known, or as one JSON object in the end.
type publishReport struct {
	app    *app
	out    output
	follow *follower // nil without --wait
	// warning is why requests wait; empty if they do not, or nobody has looked.
	warning string

	mu      sync.Mutex
	lines   []publishLine
	byID    map[uuid.UUID]int // the index in lines
	started []restart.Request // those that were published
	counts  map[publisher.Status]int
	unwell  int // outcomes other than restarted or skipped, and those not heard
}

// A publishLine is what is printed of one request.
type publishLine struct {
	Host        restart.Host     `json:"host"`
	ID          uuid.UUID        `json:"id"`
	Status      publisher.Status `json:"status"`
	QueuedID    *uuid.UUID       `json:"queued_id,omitempty"`
	QueuedPhase publisher.Phase  `json:"queued_phase,omitempty"`
	Error       string           `json:"error,omitempty"`
	Outcome     *restart.Outcome `json:"outcome,omitempty"`
}

func (r *publishReport) add(result publisher.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts, r.byID = make(map[publisher.Status]int), make(map[uuid.UUID]int)
	}
	r.counts[result.Status]++
	line := publishLine{Host: result.Request.Host, ID: result.Request.ID, Status: result.Status}
	text := fmt.Sprintf("%s\t%s\t%s", line.Host, line.Status, line.ID)
	switch result.Status {
	case publisher.Confirmed:
		r.started = append(r.started, result.Request)
	case publisher.AlreadyQueued:
		line.QueuedID, line.QueuedPhase = &result.QueuedID, result.QueuedPhase
		text = fmt.Sprintf("%s\t%s\t%s is %s", line.Host, line.Status, result.QueuedID, result.QueuedPhase)
	case publisher.Failed:
		line.Error = result.Err.Error()
		text = fmt.Sprintf("%s\t%s\t%v", line.Host, line.Status, result.Err)
	}
	r.byID[line.ID] = len(r.lines)
	r.lines = append(r.lines, line)
	if r.out == outputText {
		fmt.Fprintln(r.app.stdout, text)
	}
}

// awaitOutcomes follows what was published until ctx ends.
func (r *publishReport) awaitOutcomes(ctx context.Context) {
	bar := r.app.newProgress("restarting", len(r.started))
	defer bar.stop()
	r.follow.await(ctx, r.started, func(id uuid.UUID, o restart.Outcome, err error) {
		bar.add()
		line := &r.lines[r.byID[id]]
		text := fmt.Sprintf("%s\t%s\t%s\t%s", line.Host, o.Kind, o.Reason, o.Detail)
		if err != nil {
			line.Error = err.Error()
			text = fmt.Sprintf("%s\tunknown\t%v", line.Host, err)
		} else {
			line.Outcome = &o
		}
		if o.Kind != restart.Restarted && o.Kind != restart.Skipped {
			r.unwell++
		}
		if r.out == outputText {
			fmt.Fprintln(r.app.stdout, text)
		}
	})
}

// accepted returns how many of the hosts have a request queued now.
func (r *publishReport) accepted() int {
	return r.counts[publisher.Confirmed] + r.counts[publisher.AlreadyQueued]
}

// end prints the whole, where that was not done line by line, and returns what the exit code tells.
func (r *publishReport) end() error {
	published, queued, failed := r.counts[publisher.Confirmed], r.counts[publisher.AlreadyQueued], r.counts[publisher.Failed]
	var err error
	if r.out == outputJSON {
		slices.SortFunc(r.lines, func(a, b publishLine) int { return cmp.Compare(a.Host, b.Host) })
		result := map[string]any{
			"published": published, "already_queued": queued, "failed": failed, "requests": r.lines,
		}
		if r.warning != "" {
			result["warning"] = r.warning
		}
		err = r.app.printJSON(result)
	}
	switch {
	case failed > 0 && published+queued == 0:
		return errors.Join(err, errors.New("nothing was published"))
	case failed > 0:
		return errors.Join(err, fmt.Errorf("%w: %d of %d publishes failed", errPartly, failed, failed+published+queued))
	case r.unwell > 0:
		return errors.Join(err, fmt.Errorf("%w: %d requests ended otherwise than restarted or skipped", errPartly, r.unwell))
	}
	return err
}
