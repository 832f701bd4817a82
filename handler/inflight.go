package handler

import (
	"context"
	"sync"
)

// inFlight is what a handler holds.
type inFlight struct {
	mu     sync.Mutex // guards what follows
	jobs   map[*Job]*shift
	shifts []*shift
	over   func() // called when a shift may begin nothing new
}

// A shift is the messages that were begun under the same contexts, which all do in one run of a consumer. The contexts
// know of the shift, and not of each of a hundred thousand messages.
type shift struct {
	work, intake context.Context
	jobs         int
	leave        []func() bool // the contexts
}

// add makes a message known. If it is begun under a context, it is told when that ends, and when nothing new may be begun.
func (f *inFlight) add(j *Job, work context.Context) {
	f.mu.Lock()
	var s *shift
	if work != nil {
		s = f.shift(work, j.Intake())
		s.jobs++
	}
	f.jobs[j] = s
	f.mu.Unlock()
	if work != nil && work.Err() != nil { // perhaps since before the message was known
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
	for j, its := range f.jobs {
		if its == s {
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
	if s := f.jobs[j]; s != nil {
		s.jobs--
	}
	delete(f.jobs, j)
}

// held returns what is being worked on.
func (f *inFlight) held() []Held {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := make([]Held, 0, len(f.jobs))
	for j := range f.jobs {
		held = append(held, j.held())
	}
	return held
}
