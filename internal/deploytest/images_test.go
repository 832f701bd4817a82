package deploytest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest"
)

// postgresID is the user that the official image has too.
const postgresID = 999

// postgresEntry is as much of the official image's entry point as the compose file needs. What comes with a shell has to do.
const postgresEntry = `#!/bin/sh
set -e
if ! [ -s "$PGDATA/PG_VERSION" ]; then
	printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
	initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C
	echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
	echo "create database $POSTGRES_USER" | postgres --single -j postgres
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
`

// A layer is the files of an image.
type layer struct {
	t     *testing.T
	files bytes.Buffer
	w     *tar.Writer
	have  map[string]bool
}

func newLayer(t *testing.T) *layer {
	l := &layer{t: t, have: map[string]bool{}}
	l.w = tar.NewWriter(&l.files)
	return l
}

func (l *layer) put(h tar.Header, content []byte) {
	l.t.Helper()
	if l.have[h.Name] {
		return
	}
	l.have[h.Name] = true
	h.Size = int64(len(content))
	if err := l.w.WriteHeader(&h); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.w.Write(content); err != nil {
		l.t.Fatal(err)
	}
}

// copyFile adds a file of this machine, what it links to included.
func (l *layer) copyFile(path, as string) {
	l.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		l.t.Fatal(err)
	}
	l.put(tar.Header{Name: as, Mode: int64(info.Mode().Perm())}, content)
}

var libraryPath = regexp.MustCompile(`(/\S+) \(0x`)

// copyProgram adds a program or library, and the libraries that it needs.
func (l *layer) copyProgram(path, as string) {
	l.t.Helper()
	l.copyFile(path, as)
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		l.t.Fatalf("ldd %s: %v", path, err)
	}
	for _, m := range libraryPath.FindAllStringSubmatch(string(out), -1) {
		l.copyFile(m[1], m[1])
	}
}

func (l *layer) copyFolder(path string) {
	l.t.Helper()
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
				l.copyFile(name, name)
			}
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// load gives the engine an image of the files.
func (l *layer) load(engine *dockertest.Engine, name string, changes ...string) {
	l.t.Helper()
	if err := l.w.Close(); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	progress, err := engine.API().ImageImport(ctx, client.ImageImportSource{Source: &l.files, SourceName: "-"}, name,
		client.ImageImportOptions{Changes: changes})
	if err != nil {
		l.t.Fatal(err)
	}
	defer progress.Close()
	for lines := json.NewDecoder(progress); ; {
		var line struct{ Error string }
		err := lines.Decode(&line)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || line.Error != "" {
			l.t.Fatalf("cannot load image %s: %v %s", name, err, line.Error)
		}
	}
}

// loadPostgres makes an image of this machine's PostgreSQL, where no registry has the official one.
func loadPostgres(t *testing.T, engine *dockertest.Engine, name string) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		missing(t, "PostgreSQL is not installed as Debian has it")
	}
	bin := filepath.Dir(slices.Max(found))
	home := filepath.Dir(bin)
	l := newLayer(t)
	for _, program := range []string{"postgres", "initdb", "psql", "pg_isready"} {
		l.copyProgram(filepath.Join(bin, program), filepath.Join(bin, program))
	}
	for _, library := range []string{"dict_snowball.so", "plpgsql.so"} {
		l.copyProgram(filepath.Join(home, "lib", library), filepath.Join(home, "lib", library))
	}
	l.copyProgram("/bin/sh", "/bin/sh")
	l.copyFolder(filepath.Join("/usr/share/postgresql", filepath.Base(home)))
	l.copyFolder("/usr/share/zoneinfo")
	l.put(tar.Header{Name: "/etc/passwd", Mode: 0o644}, []byte("postgres:x:999:999::/var/lib/postgresql:/bin/sh\n"))
	l.put(tar.Header{Name: "/entry", Mode: 0o755}, []byte(postgresEntry))
	l.put(tar.Header{Name: "/tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}, nil)
	l.put(tar.Header{Name: "/var/lib/postgresql/data/", Mode: 0o700, Uid: postgresID, Gid: postgresID, Typeflag: tar.TypeDir}, nil)
	l.load(engine, name, "USER 999:999", "ENV PATH="+bin+":/bin", "ENV PGDATA=/var/lib/postgresql/data", `ENTRYPOINT ["/entry"]`)
}

// loadHosts makes an image of the hosts.
func loadHosts(t *testing.T, engine *dockertest.Engine, name string) {
	t.Helper()
	hostd := filepath.Join(t.TempDir(), "hostd")
	build := exec.Command("go", "build", "-trimpath", "-o", hostd, "./hostd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l := newLayer(t)
	l.copyFile(hostd, "/hostd")
	l.load(engine, name, `ENTRYPOINT ["/hostd"]`)
}
