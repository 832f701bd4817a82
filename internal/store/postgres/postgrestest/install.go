package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// An installation is PostgreSQL's programs, and who runs them.
type installation struct {
	bin        string
	credential *syscall.Credential // nil: whoever runs the test
}

// find returns the installation that is in the path, or else the newest of Debian's. PostgreSQL refuses to run as root,
// who therefore runs it as somebody else.
func find() (installation, error) {
	bin, err := findPrograms()
	if err != nil || os.Getuid() != 0 {
		return installation{bin: bin}, err
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := osuser.Lookup(name); err == nil {
			credential, err := credentialOf(u)
			return installation{bin, credential}, err
		}
	}
	return installation{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

func findPrograms() (bin string, err error) {
	if program, err := exec.LookPath("postgres"); err == nil {
		if program, err = filepath.EvalSymlinks(program); err == nil { // initdb is beside the file, not the link
			return filepath.Dir(program), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed: there is no postgres in the path, nor in /usr/lib/postgresql/*/bin")
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return versionIn(a) - versionIn(b) })
	return filepath.Dir(newest), nil
}

// versionIn returns the major version in /usr/lib/postgresql/15/bin/postgres.
func versionIn(program string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(program)))) // 0, the oldest, for what is none
	return n
}

func credentialOf(u *osuser.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %q has the id %q: %w", u.Username, u.Uid, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %q has the group %q: %w", u.Username, u.Gid, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// own gives a file or folder to who runs the programs.
func (i installation) own(name string) error {
	if i.credential == nil {
		return nil
	}
	return os.Chown(name, int(i.credential.Uid), int(i.credential.Gid))
}
