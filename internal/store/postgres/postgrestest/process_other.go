//go:build unix && !linux

package postgrestest

import "syscall"

func (i installation) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: i.credential}
}

// childrenOf knows of none: they end by themselves when they see that their parent is gone.
func childrenOf(int) []int { return nil }

func isDead(int) bool { return false }

func removeSharedMemory(int) error { return nil }
