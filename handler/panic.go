package handler

import (
	"errors"
	"runtime/debug"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
)

// contain turns a panic of f, which is one message's failure alone, into a *bounded.PanicError, as a driver's is.
func contain(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &bounded.PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return f()
}

// logPanic tells where it was that err, if it is a panic, began.
func logPanic(j *Job, err error) {
	if panicked, ok := errors.AsType[*bounded.PanicError](err); ok {
		j.Log(zerolog.ErrorLevel).Err(err).Bytes("stack", panicked.Stack).Msg("message panicked")
	}
}
