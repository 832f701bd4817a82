package main

import (
	"math"
	"runtime/debug"
)

// heapFloor is how much memory is taken for used before the garbage collector doubles it. A worker's live heap is a few
// megabytes, and a message leaves some twenty kilobytes of garbage behind: the collector would run a hundred times a
// second, and take a fifth of the worker's processor time (measured with 'mandrill bench pipeline' at GOGC=100 and 2000).
const heapFloor = 64 << 20

// newHeapFloor returns what the garbage collector takes for used, for as long as it is kept alive. It is never touched, so
// it takes no memory. Where there is a limit (GOMEMLIMIT), which would count it, there is none.
func newHeapFloor() []byte {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return nil
	}
	return make([]byte, heapFloor)
}
