// Package monitor runs health checks, each at its own interval, until a condition ends them all.
//
// Every answer is one of three: good, bad, unknown. A result that is unknown never makes anything better: it counts
// neither as good nor as bad, ends a row of good results and leaves a row of bad ones as it is. What cannot be checked
// counts as bad, and says so: a check that panics, does not answer in time, or still runs long after it.
//
// Beats do not drift: beat n of a monitor is due at the run's start + InitialDelay + n*Every, however long checks take
// and however late a beat was. A check never overlaps itself. A beat that comes due while the check still runs is
// missed: it is skipped, counted, and never made up for. A beat that is late because the process was is run late, once,
// in place of all that it is late for.
//
// When a run ends, every check is cancelled, and all have returned before Run does, so that what the caller does then
// has nobody beside it. What remains possible: a check that ignores its context runs on, because Go cannot end a
// goroutine from outside. It is waited for no longer than two seconds, then counted, logged and named in the Ending;
// its monitor counts as bad at every beat until it returns, and it is never started a second time beside itself.
//
// All timing is done by one goroutine, which is Run's caller; a check has a goroutine only while it runs. A monitor
// that waits costs about 0.4 KB so; with a goroutine and a timer of its own it cost 2.7 to 3.6 KB, and beats were no less
// late.
package monitor
