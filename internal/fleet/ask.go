package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// ErrSilence means that nobody answered, and that the server did not say that nobody is there: the workers may all hang,
// or a permission to ask may be missing.
var ErrSilence = errors.New("no worker answers, and it is not known that there is none")

// quiet is how long nobody new must have answered for all workers to be known. An answer takes a round trip and little
// more; how many are to come, nobody can tell beforehand.
const quiet = 300 * time.Millisecond

// errTimeUp ends a listening that has heard nothing for as long as it should.
var errTimeUp = errors.New("time is up")

const (
	pingReply   = ".ping"
	answerReply = ".answer"
)

// A call is a question to all workers, and what has come back.
type call struct {
	nc    *nats.Conn
	inbox string
	sub   *nats.Subscription

	known  map[string]Instance // by id
	last   time.Time           // when somebody was heard of for the first time, or else when the call began
	nobody bool                // the server says that nobody listens
}

func newCall(nc *nats.Conn) (*call, error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox + ".*")
	if err != nil {
		return nil, err
	}
	return &call{nc: nc, inbox: inbox, sub: sub, known: make(map[string]Instance), last: time.Now()}, nil
}

func (c *call) close() { _ = c.sub.Unsubscribe() } // which only a closed connection refuses

// ask asks everybody who they are and, unless the subject is empty, the question. It may be called again.
func (c *call) ask(subject string, question any) error {
	ping, err := micro.ControlSubject(micro.PingVerb, service, "")
	if err != nil {
		return err // unreachable: the service has a name
	}
	if err := c.nc.PublishRequest(ping, c.inbox+pingReply, nil); err != nil {
		return err
	}
	if subject == "" {
		return nil
	}
	data, err := json.Marshal(question)
	if err != nil {
		return err
	}
	return c.nc.PublishRequest(subject, c.inbox+answerReply, data)
}

// hear takes in one message. It returns it, with the instance that it is from, if it answers the question. The error is
// errTimeUp if none has come until then, and the cause if ctx has ended.
func (c *call) hear(ctx context.Context, until time.Time) (from string, answer *nats.Msg, err error) {
	listening, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	msg, err := c.sub.NextMsgWithContext(listening)
	switch {
	case ctx.Err() != nil:
		return "", nil, context.Cause(ctx)
	case errors.Is(err, nats.ErrNoResponders):
		c.nobody = true
		return "", nil, nil
	case err != nil && listening.Err() != nil:
		return "", nil, errTimeUp
	case err != nil:
		return "", nil, err
	}
	if strings.HasSuffix(msg.Subject, pingReply) {
		c.hearPing(msg)
		return "", nil, nil
	}
	return msg.Header.Get(instanceHeader), msg, nil // no instance: a stranger
}

func (c *call) hearPing(msg *nats.Msg) {
	var ping micro.Ping
	if err := json.Unmarshal(msg.Data, &ping); err == nil && ping.Name == service && ping.ID != "" {
		c.meet(instanceOf(ping.ServiceIdentity))
	}
}

func (c *call) meet(i Instance) {
	if _, known := c.known[i.ID]; !known {
		c.known[i.ID] = i
		c.last = time.Now()
	}
}

// silence returns ErrSilence if nothing is known at all.
func (c *call) silence() error {
	if len(c.known) == 0 && !c.nobody {
		return ErrSilence
	}
	return nil
}

// gather listens until everybody who is known has answered, as done reports, and nobody new is heard of any more, or
// until the end. It gives each answer to take, which may say that it is enough.
func (c *call) gather(ctx context.Context, end time.Time, done func() bool, take func(id string, answer *nats.Msg) (enough bool)) error {
	for {
		until := end
		if settled := c.last.Add(quiet); settled.Before(end) && done() && c.silence() == nil {
			until = settled
		}
		id, answer, err := c.hear(ctx, until)
		switch {
		case errors.Is(err, errTimeUp):
			return nil
		case err != nil:
			return err
		case id != "" && take(id, answer):
			return nil
		}
	}
}

// silent returns those who have not answered, as answered reports.
func (c *call) silent(answered func(id string) bool) []Instance {
	var silent []Instance
	for id, i := range c.known {
		if !answered(id) {
			silent = append(silent, i)
		}
	}
	slices.SortFunc(silent, func(a, b Instance) int { return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.ID, b.ID)) })
	return silent
}

// A statusCall asks for the workers' status.
type statusCall struct {
	*call
	status map[string]WorkerStatus // the latest of each instance
}

func newStatusCall(nc *nats.Conn) (*statusCall, error) {
	c, err := newCall(nc)
	if err != nil {
		return nil, err
	}
	return &statusCall{call: c, status: make(map[string]WorkerStatus)}, nil
}

func (c *statusCall) take(id string, answer *nats.Msg) (enough bool) {
	var s WorkerStatus
	if err := parseAnswer(answer, &s); err != nil || s.Instance != id {
		return false // it counts as silent
	}
	c.meet(s.instance())
	c.status[id] = s
	return false
}

func (c *statusCall) answered(id string) bool {
	_, ok := c.status[id]
	return ok
}

func (c *statusCall) sorted() []WorkerStatus {
	return slices.SortedFunc(maps.Values(c.status), func(a, b WorkerStatus) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Instance, b.Instance))
	})
}

// Workers returns what every worker says of itself, sorted by name, and those that are there and have not answered. It
// takes a moment, and no longer than wait.
func Workers(ctx context.Context, nc *nats.Conn, wait time.Duration) (workers []WorkerStatus, silent []Instance, err error) {
	c, err := newStatusCall(nc)
	if err == nil {
		defer c.close()
		err = c.ask(statusSubject, nil)
	}
	if err == nil {
		err = c.gather(ctx, time.Now().Add(wait), func() bool { return len(c.silent(c.answered)) == 0 }, c.take)
	}
	if err == nil {
		err = c.silence()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot find the workers: %w", err)
	}
	return c.sorted(), c.silent(c.answered), nil
}

// parseAnswer returns the error that an answer is, if it is one.
func parseAnswer(msg *nats.Msg, v any) error {
	if text := msg.Header.Get(micro.ErrorHeader); text != "" {
		return errors.New(text)
	}
	if err := json.Unmarshal(msg.Data, v); err != nil {
		return fmt.Errorf("its answer cannot be read: %w", err)
	}
	return nil
}
