// Package handler takes one message through its whole life: it holds the message's lease, decodes it, has the work
// done, and settles it in one place, according to the work's verdict.
//
// Handler is the part that serves any work. Restarter is Mandrill's own work: it saves the request and restarts its
// host side by side, under the journal's fence, and records the one outcome. What a message comes from, and where
// events, letters and rows go, are small interfaces of this package.
//
// The verdict decides the message's fate:
//
//	Done                the message is acknowledged
//	Retry(delay)        it is given back, to be delivered again after the delay
//	Bury(letter)        the letter is stored, then the message is terminated
//	Leave               nothing: the lease, or a compare-and-set, was lost to somebody else
//
// Nothing is settled after the lease was lost, and no extension can follow a settlement.
package handler
