package command

import "syscall"

// groupOfItsOwn makes the program leader of a process group, and lets it end with the worker, however that ends.
func groupOfItsOwn() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
