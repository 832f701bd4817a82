package handler

import "sync"

// besideSlots is how many messages may be inside beyond those that the driver has slots for.
const besideSlots = 1000

// An entrance bounds how many messages are between their decoding and their trigger at once. That is where they need a
// deep stack; messages come faster than hosts are triggered, and a hundred thousand such stacks would stay in the
// process's memory long after. Those that wait before the entrance have a lease and nothing else. It never has them wait
// for the database, or for hosts that boot: who waits for these has left.
type entrance struct {
	mu    sync.Mutex // guards what follows, and inside of each job
	free  int
	queue []arrival
}

type arrival struct {
	job        *Job
	unreadable error
}

// arrive has the work of a message begin when there is room, or at once where it is not going to stay.
func (e *entrance) arrive(a arrival) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.free > 0:
		e.free--
		a.job.inside = true
	case a.job.Intake().Err() == nil && a.job.life.work.Err() == nil:
		e.queue = append(e.queue, a)
		return
	}
	go e.work(a)
}

// work begins the work of a message, and then, on a stack that is as deep as it needs, of others that wait.
func (e *entrance) work(a arrival) {
	grow()
	for ok := true; ok; {
		a.job.work(a.unreadable)
		a, ok = e.next(a.job)
	}
}

// next returns what takes the place of a job, if that has one still and anybody waits for it.
func (e *entrance) next(j *Job) (a arrival, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !j.inside {
		return arrival{}, false
	}
	j.inside = false
	if len(e.queue) == 0 {
		e.free++
		return arrival{}, false
	}
	a, e.queue[0], e.queue = e.queue[0], arrival{}, e.queue[1:]
	a.job.inside = true
	return a, true
}

// leave gives the place of a job to the next one.
func (e *entrance) leave(j *Job) {
	if next, ok := e.next(j); ok {
		go e.work(next)
	}
}

// clear lets everybody in who waits, because none is going to stay.
func (e *entrance) clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.queue {
		go e.work(a) // it has no place, and leaves none
	}
	e.queue = nil
}
