package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mayhem-mandrill/mandrill/internal/porttest"
)

// settings keep the server to itself. What concerns durability is left as PostgreSQL has it: a test of what survives
// means nothing on a server that does not sync.
var settings = []string{
	"listen_addresses=127.0.0.1",
	"unix_socket_directories=", // only the port tells one server from another
	"max_connections=60",
	"logging_collector=off",
	"timezone=America/New_York", // so that a time that is not kept in UTC is seen
}

func create(install installation) (s *Server, err error) {
	dir, err := os.MkdirTemp("", "mandrill-postgres-")
	if err != nil {
		return nil, err
	}
	s = &Server{install: install, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	if err := s.initialize(); err != nil {
		return nil, err
	}
	if s.port, err = porttest.Free(); err != nil {
		return nil, err
	}
	return s, s.start()
}

func (s *Server) initialize() error {
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		return err
	}
	for _, name := range []string{s.dir, secret} {
		if err := s.install.own(name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// md5, because tests connect all the time, and the better way is slow on purpose.
	cmd := exec.CommandContext(ctx, filepath.Join(s.install.bin, "initdb"), "--pgdata", s.data(), "--username", user,
		"--pwfile", secret, "--auth", "md5", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.Dir = s.dir
	cmd.SysProcAttr = s.install.attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

// start starts the server and waits until it takes connections.
func (s *Server) start() error {
	if s.process != nil {
		return errors.New("it runs already")
	}
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port)}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(filepath.Join(s.install.bin, "postgres"), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = s.install.attributes()
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = startProcess(cmd); err != nil {
		return err
	}
	if err := s.awaitReady(); err != nil {
		said, _ := os.ReadFile(s.log())
		return fmt.Errorf("%w; it said:\n%s", errors.Join(err, s.kill()), said)
	}
	return nil
}

func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.ended:
			return fmt.Errorf("it ended: %v", s.process.err)
		case <-ctx.Done():
			return fmt.Errorf("it takes no connection after %s: %w", patience, err)
		case <-time.After(20 * time.Millisecond): // nothing but the server says when it is ready
		}
	}
}

// stop asks for a fast shutdown: connections are ended, and what is committed is written.
func (s *Server) stop() error {
	if s.process == nil {
		return errors.New("it does not run")
	}
	if err := s.process.signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case <-s.process.ended:
		s.process = nil
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("it runs after %s", patience), s.kill())
	}
}

func (s *Server) kill() error {
	if s.process == nil {
		return errors.New("it does not run")
	}
	err := s.process.killAll()
	s.process = nil
	return err
}

// remove ends the server, if it runs, and removes its data.
func (s *Server) remove() error {
	var err error
	if s.process != nil {
		err = s.kill() // it has nothing to keep
	}
	return errors.Join(err, s.releaseMemory(), os.RemoveAll(s.dir))
}

// releaseMemory gives back the shared memory by which PostgreSQL knows that nobody else uses its data. A server that was
// killed leaves it behind, for the next one on the same data, which will not come.
func (s *Server) releaseMemory() error {
	id, ok := s.sharedMemory()
	if !ok {
		return nil
	}
	return removeSharedMemory(id)
}

// sharedMemory returns the id of the shared memory, if there is any: a server that stops in good order has none.
func (s *Server) sharedMemory() (id int, ok bool) {
	lock, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	lines := bytes.Split(lock, []byte("\n"))
	if len(lines) < 7 {
		return 0, false // killed before it had any
	}
	fields := bytes.Fields(lines[6]) // key and id
	if len(fields) != 2 {
		return 0, false
	}
	id, err = strconv.Atoi(string(fields[1]))
	return id, err == nil
}
