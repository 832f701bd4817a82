package handler

import (
	"fmt"
	"runtime/debug"
)

// A panicError is a panic of one message, which is that message's failure alone.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// contain turns a panic of f into a *panicError.
func contain[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return f()
}
