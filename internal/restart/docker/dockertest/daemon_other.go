//go:build !linux

package dockertest

import "syscall"

// endsWithParent cannot be had here.
func endsWithParent() *syscall.SysProcAttr { return nil }
