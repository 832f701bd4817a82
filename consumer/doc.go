// Package consumer pulls a group's messages from the work stream, has work begun on each, and drains.
//
// It asks for as many messages as it has free slots, so that it never holds one that nobody works on, and a slow
// message never delays the next. In a process that is overloaded it takes them slowly, one by one. It survives whatever
// happens to the server, the connection and the consumer; only a work stream that is gone, a consumer with a setting
// that would break the promise, or a connection that was closed, ends it.
package consumer
