// Package simulated is the safe driver: it restarts hosts that exist only in this process.
//
// A host comes into being when it is first named, up and ready. Its boots are counted at the host, so that a test, or
// the demo, can compare what really happened with what was recorded. Faults are drawn at rates that are all zero unless
// asked for, or are forced upon single calls and boots.
//
// The compare holds at the moment of effect, also for a request that takes effect late, and no request takes effect
// later than it was given: at most one boot can come of all requests that name the same epoch. What remains is that
// hosts live no longer than their process, and that another process has other hosts of the same names.
//
// There are no goroutines and no timers: a host catches up with the clock whenever it is looked at. What grows is one
// small record for each host ever named, which is kept for the life of the fleet.
package simulated
