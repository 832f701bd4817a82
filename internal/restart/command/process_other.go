//go:build !linux

package command

import "syscall"

// groupOfItsOwn makes the program leader of a process group. It outlives a worker that is killed.
func groupOfItsOwn() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
