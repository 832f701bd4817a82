package handler

// stackRoom is what the work for a message needs, from its decoding to its trigger, and from a look at its host to its
// settlement: with it, a stack has 16 KB.
const stackRoom = 12 << 10

// grow has the stack of a new goroutine grow at once to what its work is going to need. It would come to that anyway, but
// in three steps, each of which copies what stands on it by then: a fifth of what the handler costs a message.
func grow() { reserve(false) }

// reserve has room in its frame, which is all that it is for: to use it would be to clear it, for a microsecond.
//
//go:noinline
func reserve(use bool) {
	if use {
		var room [stackRoom]byte
		touch(&room)
	}
}

//go:noinline
func touch(*[stackRoom]byte) {}
