package dockertest

import "syscall"

// endsWithParent makes an engine end in good order with the test, even if that is killed.
func endsWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
