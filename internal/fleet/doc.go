// Package fleet lets workers be found and asked over NATS, without a registry: a worker is there as long as it answers.
//
// A Server is a worker's side. It is a service of nats.go's micro framework, so the nats command finds it too (nats micro
// list). Workers, InFlight, Outcome and Confirmed are the side of those who watch and steer. They ask all workers at once,
// on subjects without a queue group, and take a worker for one that is there as soon as it has answered a PING of the
// framework, or a question. A worker whose answer stays away, because it hangs, is named.
//
// What it promises: nobody is waited for beyond the time that the caller gives. A worker that answered a PING is never
// silently left out. That nobody is there is said only when the server says so; otherwise silence is an error,
// ErrSilence, as where a permission is missing. After Run has returned, none of the functions in its Config runs.
//
// What remains possible: a worker that is cut off, or whose process stands still, answers no PING within the moment that
// is waited for the first one of each worker, and is not known to be there. It may have confirmed the control bucket
// just before, and trigger on the strength of that for as long as it may at all, less than ack_wait. Whoever must be sure
// compares what the workers say they hold with what the consumer has handed out, and waits for ack_wait if that is more.
// Revisions of a bucket that was deleted and made again begin from one: a worker that has not noticed looks as if it had
// confirmed.
//
// # Permissions
//
// A worker needs, beside all else:
//
//	subscribe $SRV.PING, $SRV.PING.mandrill-worker, $SRV.PING.mandrill-worker.*
//	subscribe $SRV.INFO, $SRV.INFO.mandrill-worker, $SRV.INFO.mandrill-worker.*
//	subscribe $SRV.STATS, $SRV.STATS.mandrill-worker, $SRV.STATS.mandrill-worker.*
//	subscribe mandrill.worker.>
//	publish   _INBOX.> (or the right to answer: allow_responses)
//
// Whoever asks, which is a worker that drives campaigns too, needs:
//
//	publish   $SRV.PING.mandrill-worker
//	publish   mandrill.worker.status          for Workers and Confirmed
//	publish   mandrill.worker.in_flight.*     for InFlight
//	publish   mandrill.worker.outcome         for Outcome
//	subscribe _INBOX.>
//
// A worker answers to whatever subject a question names for that, if it may publish there: whoever may publish to $SRV.>
// or mandrill.worker.> can have it publish an answer onto any of the worker's own subjects. Leave both to those who
// operate the workers.
package fleet
