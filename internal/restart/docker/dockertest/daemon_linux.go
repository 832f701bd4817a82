package dockertest

import "syscall"

// endsWithParent makes an engine end in good order with the test, even if that is killed.
func endsWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }

// apart does so too, and gives the engine a network of its own, without any way out.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Unshareflags: syscall.CLONE_NEWNET}
}
