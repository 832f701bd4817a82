// Command release builds what is given to others: an archive of Mandrill for each platform, and their checksums. Two builds
// of the same sources with the same version of Go have the same bytes, wherever and whenever they are made.
//
// That is why nothing is taken from the machine: no cgo, no paths, no environment that changes what the compiler does, and
// no word of the version control system, whose folder an unpacked source archive does not have. The version, and the time
// that the archives' files bear, are given instead.
package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// platforms are what releases are built for.
var platforms = []platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}

type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "_" + p.arch }

// extras are the files of the sources that are in each archive, beside the program.
var extras = []string{"LICENSE", "README.md", "CHANGELOG.md"}

// A release is what is built.
type release struct {
	sources string // the folder of the module
	out     string // the folder that the archives are written to
	version string
	stamp   time.Time // of every file
}

func main() {
	var r release
	var epoch int64
	flag.StringVar(&r.sources, "sources", ".", "folder of the module")
	flag.StringVar(&r.out, "out", "dist", "folder to write to")
	flag.StringVar(&r.version, "version", "", "version that the program tells")
	flag.Int64Var(&epoch, "epoch", 0, "time of every file, in seconds since 1970")
	flag.Parse()
	r.stamp = time.Unix(epoch, 0).UTC()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := r.build(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

// versions are what can stand in a file's name and behind the linker's -X.
var versions = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+-]*$`)

func (r release) build(ctx context.Context) error {
	if !versions.MatchString(r.version) {
		return fmt.Errorf("version: %q is none", r.version)
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	return errors.Join(r.packAll(ctx, work), os.RemoveAll(work))
}

func (r release) packAll(ctx context.Context, work string) error {
	if err := r.document(ctx, work); err != nil {
		return fmt.Errorf("cannot write man pages and completions: %w", err)
	}
	var sums strings.Builder
	for _, p := range platforms {
		name, sum, err := r.pack(ctx, work, p)
		if err != nil {
			return fmt.Errorf("cannot build for %s: %w", p, err)
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// generated is the folder, of those that are worked in, of what the program writes about itself.
const generated = "generated"

// document has the program write its man pages and completions, as it is built for this machine.
func (r release) document(ctx context.Context, work string) error {
	program := filepath.Join(work, "here")
	if err := r.compile(ctx, program, platform{runtime.GOOS, runtime.GOARCH}); err != nil {
		return err
	}
	for shell, file := range map[string]string{"bash": "mandrill.bash", "fish": "mandrill.fish", "zsh": "_mandrill"} {
		out, err := exec.CommandContext(ctx, program, "completion", shell).Output()
		if err != nil {
			return err
		}
		folder := filepath.Join(work, generated, "completions")
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, file), out, 0o644)); err != nil {
			return err
		}
	}
	return exec.CommandContext(ctx, program, "man", filepath.Join(work, generated, "man", "man1")).Run()
}

// pack writes the archive of a platform, and returns its name and checksum.
func (r release) pack(ctx context.Context, work string, p platform) (name, sum string, err error) {
	program := filepath.Join(work, p.String())
	if err := r.compile(ctx, program, p); err != nil {
		return "", "", err
	}
	folder := fmt.Sprintf("mandrill_%s_%s", r.version, p)
	name = folder + ".tar.gz"
	f, err := os.Create(filepath.Join(r.out, name))
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	packed := gzip.NewWriter(io.MultiWriter(f, hash)) // with no name and no time in its header
	a := archive{tar.NewWriter(packed), folder, r.stamp}
	if err := a.add(program, "mandrill", 0o755); err != nil {
		return "", "", err
	}
	for _, extra := range extras {
		if err := a.add(filepath.Join(r.sources, extra), extra, 0o644); err != nil {
			return "", "", err
		}
	}
	if err := a.addFolder(filepath.Join(work, generated)); err != nil {
		return "", "", err
	}
	if err := errors.Join(a.w.Close(), packed.Close()); err != nil {
		return "", "", err
	}
	return name, fmt.Sprintf("%x", hash.Sum(nil)), nil
}

func (r release) compile(ctx context.Context, program string, p platform) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags", "-s -w -X main.version="+r.version, "-o", program, "./cmd/mandrill")
	cmd.Dir = r.sources
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off", "GOFIPS140=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// An archive is one that is being written.
type archive struct {
	w      *tar.Writer
	folder string // in which everything is
	stamp  time.Time
}

// addFolder adds all files of a folder, in the order of their names.
func (a archive) addFolder(folder string) error {
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		return a.add(path, filepath.ToSlash(name), 0o644)
	})
}

func (a archive) add(path, name string, mode int64) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	header := &tar.Header{
		Name: a.folder + "/" + name, Mode: mode, Size: int64(len(content)), ModTime: a.stamp, Format: tar.FormatUSTAR,
	}
	if err := a.w.WriteHeader(header); err != nil {
		return err
	}
	_, err = a.w.Write(content)
	return err
}
