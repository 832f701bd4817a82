package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// A replayLine is what is printed of one stored request.
type replayLine struct {
	Host        restart.Host    `json:"host"`
	Group       restart.Group   `json:"group"`
	Status      replayStatus    `json:"status"`
	ReplayOf    uuid.UUID       `json:"replay_of"`
	ID          uuid.UUID       `json:"id"`
	RequestedAt time.Time       `json:"requested_at,omitzero"` // of the old request
	QueuedID    *uuid.UUID      `json:"queued_id,omitempty"`
	QueuedPhase publisher.Phase `json:"queued_phase,omitempty"`
	Why         string          `json:"why,omitempty"`
}

func newReplayLine(s replayStep) replayLine {
	return replayLine{
		Host: s.Old.Host, Group: s.Old.Group, Status: s.Status, ReplayOf: s.Old.ID, ID: s.ID,
		RequestedAt: s.Old.RequestedAt, Why: s.Why,
	}
}

func (l replayLine) failed(err error) replayLine {
	l.Status, l.Why = replayFailed, err.Error()
	return l
}

func (l replayLine) alreadyQueued(id uuid.UUID, phase publisher.Phase) replayLine {
	l.Status, l.QueuedID, l.QueuedPhase = replayAlreadyQueued, &id, phase
	l.Why = fmt.Sprintf("%s is %s", id, phase)
	return l
}

// of returns the line with what the publisher says.
func (l replayLine) of(result publisher.Result) replayLine {
	switch result.Status {
	case publisher.Confirmed:
		if result.Duplicate { // an earlier run has sent it
			return l.alreadyQueued(l.ID, publisher.PhaseQueued)
		}
		l.Status = replayPublished
		return l
	case publisher.AlreadyQueued:
		return l.alreadyQueued(result.QueuedID, result.QueuedPhase)
	default:
		return l.failed(result.Err)
	}
}

// A replayReport prints lines as they become known, and counts in the end. It keeps no lines. Its methods may be called
// from many goroutines at once.
type replayReport struct {
	w      io.Writer
	out    output
	name   string
	dryRun bool

	mu     sync.Mutex
	table  *table // of a dry run, for people
	err    error
	begun  bool
	counts map[replayStatus]int
}

func newReplayReport(w io.Writer, o replayOptions) *replayReport {
	r := &replayReport{w: w, out: *o.out, name: o.name, dryRun: o.dryRun, counts: map[replayStatus]int{}}
	if o.dryRun {
		r.table = newTable(w, "HOST", "GROUP", "STATUS", "REQUESTED", "OLD ID", "NEW ID", "WHY")
	}
	return r
}

func (r *replayReport) add(l replayLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[l.Status]++
	r.err = errors.Join(r.err, r.print(l))
}

func (r *replayReport) print(l replayLine) error {
	switch {
	case r.err != nil:
		return nil
	case r.out == outputJSON:
		return r.printJSON(l)
	case r.dryRun:
		return r.table.row(string(l.Host), string(l.Group), string(l.Status), timeText(l.RequestedAt, secondsTime),
			l.ReplayOf.String(), l.ID.String(), l.Why)
	}
	text := fmt.Sprintf("%s\t%s\t%s", plain(string(l.Host)), l.Status, l.ID)
	if l.Why != "" {
		text += "\t" + plain(l.Why)
	}
	_, err := fmt.Fprintln(r.w, text)
	return err
}

// printJSON prints an element of the object's list.
func (r *replayReport) printJSON(l replayLine) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	before := ",\n"
	if !r.begun {
		r.begun, before = true, r.beginning()
	}
	_, err = r.w.Write(append([]byte(before), data...))
	return err
}

// beginning is the JSON object as far as to its list. The name needs no escapes: see replayName.
func (r *replayReport) beginning() string {
	return fmt.Sprintf("{\"name\":%q,\"dry_run\":%t,\"requests\":[\n", r.name, r.dryRun)
}

// told are the counts that are printed, in their order.
func (r *replayReport) told() []replayStatus {
	if r.dryRun {
		return []replayStatus{replayPlanned, replayAlreadyDone, replaySuperseded, replaySkipped}
	}
	return []replayStatus{
		replayPublished, replayAlreadyQueued, replayAlreadyDone, replaySuperseded, replaySkipped, replayFailed,
	}
}

// end prints the counts, and returns why not all could be printed.
func (r *replayReport) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	var text strings.Builder
	switch {
	case r.out == outputJSON:
		if !r.begun {
			text.WriteString(strings.TrimSuffix(r.beginning(), "\n"))
		} else {
			text.WriteString("\n")
		}
		text.WriteString("]")
		for _, status := range r.told() {
			fmt.Fprintf(&text, ",%q:%d", status, r.counts[status])
		}
		text.WriteString("}\n")
	default:
		if r.dryRun {
			if err := r.table.end(); err != nil {
				return err
			}
		}
		for i, status := range r.told() {
			if i > 0 {
				text.WriteString(", ")
			}
			fmt.Fprintf(&text, "%s %d", strings.ReplaceAll(string(status), "_", " "), r.counts[status])
		}
		text.WriteString("\n")
	}
	_, err := io.WriteString(r.w, text.String())
	return err
}

// result prints the counts, and returns what the exit code tells; stopped is why the replay did not come to its end.
func (r *replayReport) result(stopped error) error {
	err := r.end()
	sent := r.counts[replayPublished] + r.counts[replayAlreadyQueued]
	failed := r.counts[replayFailed]
	switch {
	case stopped != nil && sent == 0:
		return errors.Join(stopped, err)
	case stopped != nil:
		return errors.Join(fmt.Errorf("%w: %v; run it again with --name %s for the rest", errPartly, stopped, r.name), err)
	case failed > 0 && sent == 0:
		return errors.Join(errors.New("nothing was published"), err)
	case failed > 0:
		return errors.Join(fmt.Errorf("%w: %d of %d publishes failed", errPartly, failed, failed+sent), err)
	}
	return err
}
