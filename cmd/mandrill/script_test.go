package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

var update = flag.Bool("update", false, "write what the scripts compare with")

const scripts = "../../testdata/script"

// TestScript runs the scripts of the command line, each in a folder of its own with a data folder of its own. Beside
// what testscript brings, a script can say:
//
//	exits CODE PROGRAM [ARG...]   run it in the foreground; it must exit with the code
//	start NAME PROGRAM [ARG...]   run it in the background; its output goes to NAME.out and NAME.err
//	await NAME TEXT [COUNT]       wait until its output holds the text, that often
//	signal NAME TERM|INT|HUP|KILL send it a signal
//	ended NAME CODE               wait for its end; it must exit with the code
//	field FILE PATH VALUE         the JSON object in the file, or stdout, has the value there, as in requests.0.status
//	sums FILE A = B + C [= ...]   sums of fields of the JSON object, or numbers, are equal
//	server NAME VARIABLE          put the URL that 'mandrill server' has printed into a variable
//	hold URL GROUP CAUSE SPAN     hold a group back by an entry of the control bucket; $UNTIL is when it ends; 0 is never
//	send URL SUBJECT FILE         store the file in the work stream, as a foreign publisher
//	id FILE VARIABLE              put the first id that the file, or stdout, has into a variable
//	address NAME VARIABLE         put the address at which a worker serves health and metrics into a variable
//	fetch ADDRESS PATH            print what is served there
//	config-of URL STREAM FILE     create or change a stream to the configuration in the file, by a hand that is not ours
//
// -update writes what cmp compares with.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 scripts,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv("DATA", filepath.Join(env.WorkDir, "state", "mandrill"))
			env.Values[jobsKey{}] = &jobs{named: map[string]*job{}}
			return nil
		},
		Condition: func(condition string) (bool, error) {
			if condition == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("there is no condition %q", condition)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     scriptExits,
			"start":     scriptStart,
			"await":     scriptAwait,
			"signal":    scriptSignal,
			"ended":     scriptEnded,
			"field":     scriptField,
			"sums":      scriptSums,
			"server":    scriptServer,
			"hold":      scriptHold,
			"id":        scriptID,
			"address":   scriptAddress,
			"fetch":     scriptFetch,
			"send":      scriptSend,
			"config-of": scriptConfigOf,
		},
	})
}

type jobsKey struct{}

// jobs are what a script runs in the background.
type jobs struct {
	mu    sync.Mutex
	named map[string]*job
}

type job struct {
	cmd      *exec.Cmd
	out, err string        // files
	done     chan struct{} // closed when it has ended
}

func jobNamed(ts *testscript.TestScript, name string) *job {
	all := ts.Value(jobsKey{}).(*jobs)
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.named[name] == nil {
		ts.Fatalf("nothing called %q was started", name)
	}
	return all.named[name]
}

func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func exitCodeOf(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return 0, err
}

func wantCode(ts *testscript.TestScript, what, want string, err error) {
	got, err := exitCodeOf(err)
	ts.Check(err)
	if strconv.Itoa(got) != want {
		ts.Fatalf("%s: got exit code %d, want %s", what, got, want)
	}
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "exits CODE PROGRAM [ARG...]")
	wantCode(ts, strings.Join(args[1:], " "), args[0], ts.Exec(args[1], args[2:]...))
}

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "start NAME PROGRAM [ARG...]")
	j := &job{out: ts.MkAbs(args[0] + ".out"), err: ts.MkAbs(args[0] + ".err"), done: make(chan struct{})}
	stdout, err := os.Create(j.out)
	ts.Check(err)
	defer stdout.Close()
	stderr, err := os.Create(j.err)
	ts.Check(err)
	defer stderr.Close()
	j.cmd = exec.Command(args[1], args[2:]...)
	j.cmd.Dir, j.cmd.Stdout, j.cmd.Stderr = ts.MkAbs("."), stdout, stderr
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"} {
		j.cmd.Env = append(j.cmd.Env, name+"="+ts.Getenv(name))
	}
	ts.Check(j.cmd.Start())
	go func() {
		defer close(j.done)
		_ = j.cmd.Wait() // ProcessState tells
	}()
	all := ts.Value(jobsKey{}).(*jobs)
	all.mu.Lock()
	defer all.mu.Unlock()
	all.named[args[0]] = j
	ts.Defer(func() {
		_ = j.cmd.Process.Kill() // it has ended already, as a rule
		<-j.done
	})
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && (len(args) == 2 || len(args) == 3), "await NAME TEXT [COUNT]")
	count := 1
	if len(args) == 3 {
		var err error
		count, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	j := jobNamed(ts, args[0])
	deadline := time.Now().Add(patience)
	for {
		var over bool
		select {
		case <-j.done:
			over = true
		default:
			over = time.Now().After(deadline)
		}
		out := ts.ReadFile(j.out) + ts.ReadFile(j.err)
		if strings.Count(out, args[1]) >= count {
			return
		}
		if over {
			ts.Fatalf("%s has not said %q %d times:\n%s", args[0], args[1], count, lastLines(out))
		}
		time.Sleep(poll)
	}
}

func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	}
	usage(ts, !neg && len(args) == 2 && signals[args[1]] != nil, "signal NAME TERM|INT|HUP|KILL")
	ts.Check(jobNamed(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func scriptEnded(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "ended NAME CODE")
	j := jobNamed(ts, args[0])
	select {
	case <-j.done:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended:\n%s", args[0], lastLines(ts.ReadFile(j.err)))
	}
	if got := strconv.Itoa(j.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s: got exit code %s, want %s:\n%s", args[0], got, args[1], lastLines(ts.ReadFile(j.err)))
	}
}

func lastLines(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// lookUp returns what stands at a path in a JSON object, as text.
func lookUp(ts *testscript.TestScript, file, path string) string {
	var at any
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	decoder.UseNumber()
	if err := decoder.Decode(&at); err != nil {
		ts.Fatalf("%s is not JSON: %v", file, err)
	}
	if decoder.More() {
		ts.Fatalf("%s has more than one JSON value", file)
	}
	for key := range strings.SplitSeq(path, ".") {
		switch in := at.(type) {
		case map[string]any:
			at = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(in) {
				ts.Fatalf("%s: there is no %s of %d", file, path, len(in))
			}
			at = in[i]
		default:
			ts.Fatalf("%s: there is no %s", file, path)
		}
	}
	if at == nil {
		ts.Fatalf("%s: there is no %s", file, path)
	}
	return fmt.Sprint(at)
}

func scriptField(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 3, "[!] field FILE PATH VALUE")
	if got := lookUp(ts, args[0], args[1]); (got == args[2]) == neg {
		ts.Fatalf("%s is %q", args[1], got)
	}
}

func scriptSums(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 4, "sums FILE A = B + C [= ...]")
	var told []string
	equal, first := true, 0.0
	for i, side := range strings.Split(strings.Join(args[1:], " "), "=") {
		sum := 0.0
		for term := range strings.SplitSeq(side, "+") {
			term = strings.TrimSpace(term)
			n, err := strconv.ParseFloat(term, 64)
			if err != nil {
				n, err = strconv.ParseFloat(lookUp(ts, args[0], term), 64)
			}
			ts.Check(err)
			sum += n
		}
		if i == 0 {
			first = sum
		}
		equal = equal && sum == first
		told = append(told, strconv.FormatFloat(sum, 'g', -1, 64))
	}
	if !equal {
		ts.Fatalf("%s: got %s", strings.Join(args[1:], " "), strings.Join(told, " = "))
	}
}

func scriptServer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "server NAME VARIABLE")
	scriptAwait(ts, false, []string{args[0], "server is ready"})
	url := lookUp(ts, args[0]+".out", "url")
	if !regexp.MustCompile(`^nats://\w+@127\.0\.0\.1:\d+$`).MatchString(url) {
		ts.Fatalf("%q is not a URL with a token", url)
	}
	ts.Setenv(args[1], url)
}

func scriptConfigOf(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "config-of URL STREAM FILE")
	conn, err := nats.Connect(args[0])
	ts.Check(err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	ts.Check(err)
	config := jetstream.StreamConfig{}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2])), &config))
	if config.Name = args[1]; config.Name != stream.Work && config.Name != stream.Journal && config.Name != stream.Dead {
		ts.Fatalf("%q is none of our streams", config.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = js.CreateOrUpdateStream(ctx, config)
	ts.Check(err)
}

var anyID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

func scriptID(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "id FILE VARIABLE")
	found := anyID.FindString(ts.ReadFile(args[0]))
	if found == "" {
		ts.Fatalf("%s has no id", args[0])
	}
	ts.Setenv(args[1], found)
}

var servedAt = regexp.MustCompile(`"address":"([^"]+)"`)

func scriptAddress(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "address NAME VARIABLE")
	found := servedAt.FindStringSubmatch(ts.ReadFile(args[0] + ".err"))
	if found == nil {
		ts.Fatalf("%s has not said where it serves", args[0])
	}
	ts.Setenv(args[1], found[1])
}

func scriptFetch(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "fetch ADDRESS PATH")
	response, err := http.Get("http://" + args[0] + args[1])
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
}

func scriptHold(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 4, "hold URL GROUP CAUSE SPAN")
	span, err := time.ParseDuration(args[3])
	ts.Check(err)
	p := control.Pause{
		Group: restart.Group(args[1]), Cause: control.Cause(args[2]), Since: time.Now().UTC(), By: "ann", Why: "looking at the racks",
	}
	if span > 0 {
		p.Until = time.Now().UTC().Add(span).Truncate(time.Second)
		ts.Setenv("UNTIL", p.Until.Format(time.RFC3339))
	}
	conn, err := nats.Connect(args[0])
	ts.Check(err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kv, err := js.KeyValue(ctx, stream.Control)
	ts.Check(err)
	_, err = control.Put(ctx, kv, p)
	ts.Check(err)
	ts.Check(control.Derive(ctx, js, kv, p.Group))
}

func scriptSend(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "send URL SUBJECT FILE")
	conn, err := nats.Connect(args[0])
	ts.Check(err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = js.Publish(ctx, args[1], []byte(ts.ReadFile(args[2])))
	ts.Check(err)
}

// TestHelp_EveryVerbHasAnExample is for whoever learns a verb from its --help.
func TestHelp_EveryVerbHasAnExample(t *testing.T) {
	t.Parallel()
	for _, verb := range allVerbs(newApp().rootCommand()) {
		if !strings.Contains(verb.Example, "mandrill ") || verb.Short == "" {
			t.Errorf("%s does not say what it does, with an example", verb.CommandPath())
		}
	}
}

// allVerbs returns a command and all below it.
func allVerbs(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		all = append(all, allVerbs(sub)...)
	}
	return all
}
