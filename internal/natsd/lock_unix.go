//go:build linux || darwin || freebsd || netbsd || openbsd

package natsd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock takes a lock on the folder that ends with the process, however that ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write to folder %q of the embedded NATS server: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot use folder %q: another embedded NATS server is using it; stop that one or choose another folder", dir)
		}
		return nil, fmt.Errorf("cannot lock folder %q: %w", dir, err)
	}
	return func() { f.Close() }, nil
}
