// Package notify tells people, through one webhook, that a group was paused or resumed, that its breaker opened, that a
// request ended as a dead letter, or that a campaign ended.
//
// It promises never to be in the way of the work: Notify never blocks, and what waits to be told is bounded. Of one kind
// and group at most one message is sent in an interval, which tells the latest notice and how many more there were, so
// that ten thousand dead letters are a handful of messages. A message that is not taken is tried again for a bounded
// time, also over a stop, and then given up with one line in the log. The secret, and what stands in the URL after the
// server's name, are told to nobody but the server: not to the log, not in an error. No redirect is followed and no proxy
// is used.
//
// What remains possible: a message whose answer was lost is sent again, so people may read it twice; what waits when the
// process is killed is lost, because notices are kept in memory only; and each process coalesces its own notices, so many
// workers that each give up a request of the same group send a message each.
package notify
