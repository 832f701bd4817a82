package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	skeema "github.com/skeema/knownhosts"
	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const remedyForChanged = "if the host was reinstalled, compare the key at the host and replace what is known; " +
	"otherwise somebody else may answer in its place"

// knownHosts are known_hosts files, read again when they have changed: hosts are reinstalled more often than workers
// are restarted.
type knownHosts struct {
	files []string

	mu    sync.Mutex    // guards what follows
	stats []fs.FileInfo // of the files as they were read
	db    *hostKeys
}

// hostKeys are the keys as they stood in the files once.
type hostKeys struct {
	*skeema.HostKeyDB
	file string // where to add a key
}

// load returns the keys as they stand in the files now.
func (k *knownHosts) load() (*hostKeys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	stats := make([]fs.FileInfo, 0, len(k.files))
	for _, file := range k.files {
		stat, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		stats = append(stats, stat)
	}
	same := func(a, b fs.FileInfo) bool {
		return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
	}
	if k.db != nil && slices.EqualFunc(k.stats, stats, same) {
		return k.db, nil
	}
	db, err := skeema.NewDB(k.files...)
	if err != nil {
		return nil, err
	}
	k.stats, k.db = stats, &hostKeys{HostKeyDB: db, file: k.files[0]}
	return k.db, nil
}

// algorithms returns those by which the host is known, so that it shows a key that can be compared and not another one
// of its keys; none means any.
func (k *hostKeys) algorithms(addr string) []string {
	supported := gossh.SupportedAlgorithms().HostKeys
	return slices.DeleteFunc(k.HostKeyAlgorithms(addr), func(a string) bool { return !slices.Contains(supported, a) })
}

// check is a [gossh.HostKeyCallback]. Its errors wrap ErrPermanent and say what to do.
func (k *hostKeys) check(addr string, remote net.Addr, key gossh.PublicKey) error {
	err := k.HostKeyCallback()(addr, remote, key)
	if err == nil {
		return nil
	}
	shown := key.Type() + " " + gossh.FingerprintSHA256(key)
	if revoked, ok := errors.AsType[*knownhosts.RevokedError](err); ok {
		return fmt.Errorf("%w: the host key of %s, %s, is revoked by %s:%d; give the host another key",
			restart.ErrPermanent, addr, shown, revoked.Revoked.Filename, revoked.Revoked.Line)
	}
	known, ok := errors.AsType[*knownhosts.KeyError](err)
	switch {
	case !ok:
		return fmt.Errorf("%w: the host key of %s, %s: %w", restart.ErrPermanent, addr, shown, err)
	case len(known.Want) == 0:
		return fmt.Errorf("%w: the host key of %s, %s, is not in known_hosts; compare it at the host (ssh-keygen -lf "+
			"/etc/ssh/ssh_host_*_key.pub), then add what ssh-keyscan prints to %s", restart.ErrPermanent, addr, shown, k.file)
	}
	return fmt.Errorf("%w: the host key of %s has changed: it is %s, but known is %s; %s",
		restart.ErrPermanent, addr, shown, describe(known.Want), remedyForChanged)
}

// explain says what it means that nothing could be agreed upon.
func (k *hostKeys) explain(addr string, err *gossh.AlgorithmNegotiationError) error {
	if err.What != "host key" || len(k.algorithms(addr)) == 0 {
		return fmt.Errorf("%w: cannot agree with %s: %w", restart.ErrPermanent, addr, err)
	}
	return fmt.Errorf("%w: the host key of %s has changed: it has none of the kind that known_hosts has "+
		"(ssh-keygen -F '%s' -f %s): %w; %s", restart.ErrPermanent, addr, skeema.Normalize(addr), k.file, err, remedyForChanged)
}

func describe(keys []knownhosts.KnownKey) string {
	said := make([]string, 0, len(keys))
	for _, k := range keys {
		said = append(said, fmt.Sprintf("%s %s (%s:%d)", k.Key.Type(), gossh.FingerprintSHA256(k.Key), k.Filename, k.Line))
	}
	return strings.Join(said, ", ")
}
