// Package webhook restarts hosts by asking an HTTP server, which does it. The manual says what such a server must do.
//
// The driver promises that one call sends at most one request to restart, that nothing of it is sent after the call has
// returned, and that a call which ends before a connection stood is known to have done nothing. It follows no redirect
// and uses no proxy, bounds what it reads of an answer, and tells the secret, and what stands in a URL after the
// server's name, to nobody but the server.
//
// The compare is the server's: it takes a request only if the epoch in If-Match is the running boot's, so it holds at
// acceptance, and what was taken may take effect up to MaxDelay later. What remains possible: a host that is rebooted
// by another hand between acceptance and effect loses its new boot; a server that compares wrongly, that takes effect
// later than MaxDelay, or that forgets an Idempotency-Key before, restarts a host once more than asked; and whoever can
// answer in the server's place can say anything, because answers are not signed: TLS is what protects them.
package webhook
