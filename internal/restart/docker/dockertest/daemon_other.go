//go:build !linux

package dockertest

import "syscall"

// endsWithParent cannot be had here.
func endsWithParent() *syscall.SysProcAttr { return nil }

// apart cannot be had either: an engine runs on Linux alone.
func apart() *syscall.SysProcAttr { return nil }
