package sqlite

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// acquire locks the file at path for as long as it is open; the kernel unlocks it when the process dies. The file stays
// when the lock is gone: to remove it would let a third process lock a file that the second no longer sees.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another worker has it open; a SQLite database serves one worker")
	} else if err != nil {
		err = fmt.Errorf("cannot lock %q: %w", path, err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
