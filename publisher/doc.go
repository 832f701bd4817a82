// Package publisher puts requests on the work stream, and learns of each what became of it.
//
// A publish does not wait for the one before it, nor for whoever will do the work; only a full window of unconfirmed
// ones makes it wait. It ends exactly once: the stream has confirmed it, or holds another request for the same host
// already, or it failed, and then the error says so if the stream may have it all the same. A request that is not
// valid is turned away at the door with a *FieldError, and nothing is sent.
//
// A request may be on the stream twice, under the one id, where the answer to an attempt was lost and the server has
// forgotten the id. That is harmless: the id, not the message, is what a worker restarts a host for.
package publisher
