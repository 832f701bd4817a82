/*
Mandrill restarts hosts because a message asked for it.

	mandrill demo
	mandrill worker
	mandrill publish cattle-a1b2 --reason "kernel update"

It makes one promise: every accepted request ends in exactly one recorded outcome, and no host is restarted twice for
one request, whichever worker, NATS node, database or link dies on the way. What follows is a tour of the code that
keeps it, from the bottom up. Each package's own comment says more.

# Words

[github.com/mayhem-mandrill/mandrill/internal/restart] is the vocabulary: a Request asks for one restart of one Host;
an Epoch names one boot; a Driver probes hosts and restarts them, if a given boot is still running; an Outcome is the
one end of a request. Of ours it imports only [github.com/mayhem-mandrill/mandrill/internal/plainjson], which writes
JSON for little, so everything else can speak it. Decode, the door for what comes from the wire, is here too.

# Hosts

[github.com/mayhem-mandrill/mandrill/internal/restart/simulated] is the driver that is harmless: its hosts exist only
in the process. Beside it stand those that are not: command, ssh, docker and webhook, each with a package comment that
says how strong its compare is. [github.com/mayhem-mandrill/mandrill/internal/restart/restarttest] is the contract that
every driver passes, and with it the first half of the promise: what compares at the moment of effect ends at most one
boot. [github.com/mayhem-mandrill/mandrill/internal/restart/bounded] keeps a driver within bounds of number and time.

# Memory

[github.com/mayhem-mandrill/mandrill/internal/store] says what a database of requests and outcomes must do.
[github.com/mayhem-mandrill/mandrill/internal/store/sqlite] does it for one worker, and
[github.com/mayhem-mandrill/mandrill/internal/store/postgres] for a fleet; both take whatever is waiting into one
transaction, by [github.com/mayhem-mandrill/mandrill/internal/store/groupcommit]. Of two outcomes of a request, the first
stands. Nothing else is decided by reading the database, except that what ended before is not begun again.

# The broker

[github.com/mayhem-mandrill/mandrill/internal/stream] spells every name and subject, creates streams that are absent,
and refuses those with settings that would break the promise. [github.com/mayhem-mandrill/mandrill/internal/natsd]
runs a server in the process, so that nobody has to install one.

[github.com/mayhem-mandrill/mandrill/internal/journal] is the other half of the promise: what a request has triggered,
one event on the other, by compare-and-set. MayFollow is the table of what may stand on what.
[github.com/mayhem-mandrill/mandrill/internal/deadletter] keeps what was given up.
[github.com/mayhem-mandrill/mandrill/internal/control] is what steers the workers of a fleet: what holds a group back, its
budget, the breaker, and which database its workers remember in.

# A message's life

[github.com/mayhem-mandrill/mandrill/handler] takes one message through its whole life. Its Handler is for any work:
it holds the lease, decodes, has the work done, and settles in one place. Its Restarter is our work: it saves the
request and restarts the host side by side, asking [github.com/mayhem-mandrill/mandrill/internal/policy] whether it
may. Start reading at Handler.Begin, then Restarter.Do. It knows nothing of NATS: a message is its interface
Delivery.

[github.com/mayhem-mandrill/mandrill/consumer] is where deliveries come from. It pulls as many messages as it has free
slots, has work begun on each, and drains. [github.com/mayhem-mandrill/mandrill/publisher] is where requests come
from; its Mock makes them up. These three never import each other.

# Figures

[github.com/mayhem-mandrill/mandrill/internal/bench] measures: it starts processes, runs what is compared in turns, and
reads what they use. What is measured stands in the files of this package that are called bench.

# This package

[github.com/mayhem-mandrill/mandrill/internal/config] makes one checked configuration of file, environment and flags.
This package joins the parts: there is a file for each verb, and service.go and group.go build a worker, in the order of
this tour, and take it down in the reverse. [github.com/mayhem-mandrill/mandrill/internal/explain] says why nothing
happens, by the same gates and pauses. [github.com/mayhem-mandrill/mandrill/internal/importtest] keeps the directions.

The command line is tested by scripts, in testdata/script; what only shows in processes that are stopped, killed and
started again, by the tests called process. The manual, in docs, is tested too: see docs_test.go.
*/
package main
