package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const version = "v1.2.3-test"

// A release that nobody can build again is one that nobody can check. The second build is of a copy of the sources, which
// has another name, other times and no version control, in an environment that asks for other things.
func TestProcess_TwoBuildsInTwoFoldersHaveTheSameBytes(t *testing.T) {
	if os.Getenv("MANDRILL_TEST_ALL") != "1" {
		t.Skip("it takes minutes: make release-check")
	}
	one := build(t, "../..")
	t.Setenv("GOGC", "50") // some difference of environments
	t.Setenv("GOFLAGS", "-buildvcs=true")
	two := build(t, copySources(t))
	for _, p := range platforms {
		name := fmt.Sprintf("mandrill_%s_%s.tar.gz", version, p)
		if !bytes.Equal(one[name], two[name]) || len(one[name]) == 0 {
			t.Errorf("%s: two builds differ, or are none: %d and %d bytes", name, len(one[name]), len(two[name]))
		}
		sum := fmt.Sprintf("%x  %s\n", sha256.Sum256(one[name]), name)
		if !strings.Contains(string(one["SHA256SUMS"]), sum) {
			t.Errorf("SHA256SUMS has not %q:\n%s", sum, one["SHA256SUMS"])
		}
	}
	if len(one) != len(platforms)+1 {
		t.Errorf("got %d files, want an archive for each platform and SHA256SUMS", len(one))
	}
	saysItsVersion(t, one)
}

// saysItsVersion runs the program that is for this machine.
func saysItsVersion(t *testing.T, files map[string][]byte) {
	folder := fmt.Sprintf("mandrill_%s_%s_%s", version, runtime.GOOS, runtime.GOARCH)
	packed, ok := files[folder+".tar.gz"]
	if !ok {
		t.Logf("nothing is built for %s/%s", runtime.GOOS, runtime.GOARCH)
		return
	}
	content := unpack(t, packed)
	for _, name := range append([]string{"mandrill", "man/man1/mandrill-worker.1", "completions/_mandrill"}, extras...) {
		if len(content[folder+"/"+name]) == 0 {
			t.Errorf("the archive has no %s", name)
		}
	}
	program := filepath.Join(t.TempDir(), "mandrill")
	if err := os.WriteFile(program, content[folder+"/mandrill"], 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "mandrill "+version+",") {
		t.Errorf("got %s, %v, want version %s", out, err, version)
	}
}

func TestRelease_AVersionThatIsNoneIsRefused(t *testing.T) {
	for _, v := range []string{"", "-X main.version=x", "a/b", "v1 v2"} {
		if err := (release{sources: "../..", out: t.TempDir(), version: v}).build(t.Context()); err == nil {
			t.Errorf("%q was taken for a version", v)
		}
	}
}

// build returns the files of a release, by name.
func build(t *testing.T, sources string) map[string][]byte {
	t.Helper()
	out := t.TempDir()
	r := release{sources: sources, out: out, version: version, stamp: time.Unix(1_700_000_000, 0).UTC()}
	if err := r.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name.Name()], err = os.ReadFile(filepath.Join(out, name.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// copySources returns a copy of what a release is made of.
func copySources(t *testing.T) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "elsewhere")
	for _, name := range append([]string{"go.mod", "go.sum"}, extras...) {
		content, err := os.ReadFile(filepath.Join("../..", name))
		if err == nil {
			err = errors.Join(os.MkdirAll(copied, 0o755), os.WriteFile(filepath.Join(copied, name), content, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"cmd", "consumer", "handler", "internal", "publisher", "deploy"} {
		if err := os.CopyFS(filepath.Join(copied, folder), os.DirFS(filepath.Join("../..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

func unpack(t *testing.T, packed []byte) map[string][]byte {
	t.Helper()
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(plain); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
