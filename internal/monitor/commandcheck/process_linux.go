package commandcheck

import "syscall"

// groupOfItsOwn makes the program leader of a process group that ends, as far as the program goes, with this process.
func groupOfItsOwn() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
