// Package ops is what an operator's machines see of this process: its metrics, and whether it lives and is ready, over
// HTTP.
//
// Metrics speak of groups, outcomes, reasons, phases, causes and monitors, never of hosts or requests: how many series
// there are depends on the configuration, and on nothing that ever happens. Groups and monitors are asked for once, by
// their configured names; whatever else becomes a label has a type of its own, and what is not in the vocabulary counts
// as "other".
//
// The server is for loopback, or for a network whose members may all see these things: it asks for no password. Behind
// /debug/pprof/ is a process's whole memory, which is why that must be switched on.
package ops
