// Package bench measures: it starts the processes that take part, runs what is compared in turns, reads what a process
// uses, and makes of many figures the few that are told.
//
// It promises that what it compares was measured in turns, on one server, and that a figure comes with what it depends
// on. It does not promise figures: those are the machine's. What is measured is the caller's, except for what Mandrill is
// compared with, which is nats.go alone.
package bench
