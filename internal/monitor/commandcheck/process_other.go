//go:build !linux

package commandcheck

import "syscall"

// groupOfItsOwn makes the program leader of a process group, which outlives this process if that is killed.
func groupOfItsOwn() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
