// Package campaign restarts many hosts, a few at a time.
//
// A campaign is a [Spec], written once, and a [Progress], written by compare-and-set before anything is done about
// it. What comes next is decided by [Next], a pure function of both and of what was seen; a [Runner] looks, asks
// Next, writes, and does what it says. Any worker can go on from any point: the ids of a campaign's requests are
// derived from the campaign and the host, so that publishing what may have been published before changes nothing, and
// whatever was opened and is neither queued nor ended is published again.
//
// It promises that a campaign asks for each of its hosts once, under one id; that hosts which it has asked for and
// which have not ended, hosts that have failed, and those that were down when it last looked are together never more
// than max_unavailable when it asks for another; and that it asks for none after its abort was confirmed.
//
// A runner takes a campaign over by writing to its progress. From then on no other can begin a batch: its own write
// is refused. What remains possible: one that was stopped between its write and its publishing, and goes on later,
// publishes requests that the present runner knows of. They are the same requests, which the journal makes harmless,
// and where the campaign was aborted meanwhile, the gates of whoever handles them end them instead of triggering.
package campaign
