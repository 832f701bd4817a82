package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// stopPatience is how long a process that was told to end may take, before it is killed.
const stopPatience = 20 * time.Second

// A Process takes part in a benchmark. It is given an order on its standard input, one line of JSON, and reports on its
// standard output, one line of JSON each. It ends when its standard input does, so it never outlives this process.
type Process struct {
	cmd    *exec.Cmd
	orders io.WriteCloser
	stderr tail
	lines  chan []byte // closed when it has ended
	err    error       // of its end; written before lines is closed
}

// Start starts a process and gives it its order. It must be stopped.
func Start(cmd *exec.Cmd, order any) (*Process, error) {
	p := &Process{cmd: cmd, lines: make(chan []byte, 64)}
	line, err := json.Marshal(order)
	if err != nil {
		return nil, fmt.Errorf("cannot encode order: %w", err)
	}
	reports, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.orders, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	cmd.Stderr = &p.stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", cmd.Path, err)
	}
	go p.read(reports)
	if _, err := p.orders.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot give %s its order: %w", cmd.Path, err), p.Stop())
	}
	return p, nil
}

// read passes the reports on until there are no more, and waits for the end.
func (p *Process) read(reports io.Reader) {
	defer close(p.lines)
	decoder := json.NewDecoder(reports)
	for {
		var line json.RawMessage
		if err := decoder.Decode(&line); err != nil {
			break
		}
		p.lines <- line
	}
	_, _ = io.Copy(io.Discard, reports) // what is no JSON must not block it
	p.err = p.cmd.Wait()
}

// Next waits for the next report and decodes it.
func (p *Process) Next(ctx context.Context, report any) error {
	select {
	case line, ok := <-p.lines:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !ok {
			return fmt.Errorf("a process of the benchmark has ended early (%s): %s", p.cmd.ProcessState, p.stderr.String())
		}
		return json.Unmarshal(line, report)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Signal sends it a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop tells it to end, and returns when it has. Reports that nobody waited for are lost. It is killed if it does not end.
func (p *Process) Stop() error {
	_ = p.orders.Close() // an error means that it has ended
	kill := time.AfterFunc(stopPatience, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.lines {
	}
	if p.err != nil {
		return fmt.Errorf("a process of the benchmark has ended badly: %w: %s", p.err, p.stderr.String())
	}
	return nil
}

// A tail keeps the last of what is written to it. It is read only after the process has ended.
type tail struct{ kept []byte }

const tailSize = 4096

func (t *tail) Write(data []byte) (int, error) {
	t.kept = append(t.kept, data...)
	if more := len(t.kept) - tailSize; more > 0 {
		t.kept = bytes.Clone(t.kept[more:])
	}
	return len(data), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.kept)) }
