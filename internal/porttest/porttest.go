// Package porttest gives tests ports for servers whose address must be known before they listen, or stay theirs while they are
// away.
package porttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// The system gives out ports from 32768 on to those who ask for any (from 49152 on where it is not Linux). One of these may
// be somebody else's as soon as nobody listens there.
const lowest, count = 16384, 16384

// given is how many ports were given, from a random one on: tests of several packages run beside each other.
var given atomic.Int64

func init() { given.Store(rand.Int64N(count)) }

// Free returns a port of the loopback address at which nobody listens. It gives all others before it gives it again.
func Free() (int, error) {
	const tries = 100
	var errs []error
	for range tries {
		port := lowest + int(given.Add(1)%count)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		errs = append(errs, err)
	}
	return 0, fmt.Errorf("no port is free: %w", errors.Join(errs...))
}
