package handler

import (
	"context"
	"sync"
)

// inFlight is what a handler holds.
type inFlight struct {
	mu     sync.Mutex // guards what follows, and the neighbors of each job
	first  *Job
	n      int
	shifts []*shift
	over   func() // called when a shift may begin nothing new
}

// neighbors are a job's place among those in flight.
type neighbors struct {
	before, after *Job
	shift         *shift
}

// A shift is the messages that were begun under the same contexts, which all do in one run of a consumer. The contexts
// know of the shift, and not of each of a hundred thousand messages.
type shift struct {
	work, intake context.Context
	jobs         int
	leave        []func() bool // the contexts
}

// add makes a message known that is begun under a context. It is told when that ends, and when nothing new may be begun.
func (f *inFlight) add(j *Job, work context.Context) {
	f.mu.Lock()
	j.in.shift = f.shift(work, j.Intake())
	j.in.shift.jobs++
	if j.in.after = f.first; f.first != nil {
		f.first.in.before = j
	}
	f.first = j
	f.n++
	f.mu.Unlock()
	if work.Err() != nil { // perhaps since before the message was known
		j.life.stop(context.Cause(work))
	}
}

// shift returns that of the two contexts. mu is held.
func (f *inFlight) shift(work, intake context.Context) *shift {
	var kept []*shift
	for _, s := range f.shifts {
		if s.work == work && s.intake == intake {
			return s
		}
		if s.jobs > 0 {
			kept = append(kept, s)
			continue
		}
		for _, leave := range s.leave {
			leave()
		}
	}
	s := &shift{work: work, intake: intake}
	s.leave = append(s.leave,
		context.AfterFunc(work, func() {
			f.each(s, func(j *Job) { j.life.stop(context.Cause(work)) })
			f.over()
		}),
		context.AfterFunc(intake, func() {
			f.each(s, func(j *Job) { j.life.stopIntake() })
			f.over()
		}))
	f.shifts = append(kept, s)
	return s
}

func (f *inFlight) each(s *shift, do func(*Job)) {
	f.mu.Lock()
	var jobs []*Job
	for j := range f.all {
		if j.in.shift == s {
			jobs = append(jobs, j)
		}
	}
	f.mu.Unlock()
	for _, j := range jobs {
		do(j)
	}
}

func (f *inFlight) remove(j *Job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j.in.before != nil {
		j.in.before.in.after = j.in.after
	} else {
		f.first = j.in.after
	}
	if j.in.after != nil {
		j.in.after.in.before = j.in.before
	}
	j.in.shift.jobs--
	f.n--
	j.in = neighbors{}
}

// all yields each job. mu is held.
func (f *inFlight) all(yield func(*Job) bool) {
	for j := f.first; j != nil && yield(j); j = j.in.after {
	}
}

// held returns what is being worked on.
func (f *inFlight) held() []Held {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := make([]Held, 0, f.n)
	for j := range f.all {
		held = append(held, j.held())
	}
	return held
}
