// Package restart is Mandrill's vocabulary: what is asked for (Request), of whom (Host), how a host's boots
// are told apart (Epoch, State), who can restart it (Driver, Traits), and what came of it (Outcome).
//
// It promises to stay free of everything else of ours, so that a driver, a store and a handler can be written,
// read and tested without knowing one another.
package restart
