package handler

import "sync"

// A room bounds how many messages do at once what needs a goroutine, and the stack that goes with it. Those that wait
// before it have neither: a hundred thousand of them, when the database is away or hosts answer slowly, would take three
// times the memory that they take otherwise.
type room struct {
	mu    sync.Mutex // guards what follows, and each visit
	free  int
	queue []*visit
}

// A visit is a message's wait for room, and its stay.
type visit struct {
	room   *room
	begin  func()
	waits  bool
	inside bool
}

// enter reports whether there was room. If not, begin is called when there is, on a goroutine of its own.
func (r *room) enter(begin func()) (v *visit, inside bool) {
	v = &visit{room: r, begin: begin}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.free > 0 {
		r.free--
		v.inside = true
	} else {
		v.waits = true
		r.queue = append(r.queue, v)
	}
	return v, v.inside
}

// hurry has a visit that still waits begin without room.
func (v *visit) hurry() {
	v.room.mu.Lock()
	defer v.room.mu.Unlock()
	if v.waits {
		v.waits = false
		go v.begin()
	}
}

// leave gives the room of a visit, if it has any, to the next one.
func (v *visit) leave() {
	r := v.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if !v.inside {
		return
	}
	v.inside = false
	for len(r.queue) > 0 {
		next := r.queue[0]
		r.queue[0], r.queue = nil, r.queue[1:]
		if next.waits {
			next.waits, next.inside = false, true
			go next.begin()
			return
		}
	}
	r.free++
}
