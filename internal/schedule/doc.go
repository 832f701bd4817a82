// Package schedule restarts at set times: once, at even intervals, or as a cron expression says.
//
// The broker keeps the time. A definition is a message that carries JetStream's own schedule headers, and whenever it is
// due the server stores a copy of it, a firing, in the same stream. One durable consumer, which every worker serves, takes
// the firings. There is no ticker here and no leader.
//
// What is promised: a planned time is done once, or is said to be skipped, missed, refused or failed. A firing's id is
// derived from the schedule's name and the planned time, so the server firing twice (it does, after it was killed), the
// message being delivered twice, and a worker dying at any point, all end in the same id; whoever does what a firing asks
// must be idempotent by it. One result is kept for an id, the first, by compare-and-set on the schedule's list of results.
//
// Which planned time a firing is for is computed from the expression. The server writes into each firing when the next is
// due, so the planned time is the last one before that, whatever the clocks say; how late it is tells the stream's time. A
// server that was away fires once when it is back, for the last time that has passed, and, if it was killed, sometimes
// not at all: then a worker that connects publishes the firing that is missing. The times before are put on record as
// missed, the latest hundred of them.
//
// Expressions mean what the server takes them to mean, with two exceptions, which the server fires and this package drops:
//   - A wall time that clocks show twice, when they are set back, counts once, the first time, unless the schedule runs
//     in every hour.
//   - In zones where clocks skip midnight, the server's search for a day goes wrong. There it is asked for every day, and
//     the days that are not planned are dropped.
//
// A wall time that clocks skip, when they are set forward, is not planned on that day.
package schedule
