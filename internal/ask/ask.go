// Package ask asks over a NATS connection and waits for the answer, as the Request of nats.go does and for a part of
// what that costs: a question takes the connection's lock once, and needs no timer, no goroutine and no channel of its
// own. Who does not wait is called back.
//
// All answers come on one subscription. An answer that comes late, or twice, reaches nobody: it carries the number of
// its question, and no other question of the same asker ever has that number.
package ask

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrOverdue is returned for a question that was not answered within Patience.
var ErrOverdue = errors.New("no answer in time")

// ticks is how often within Patience it is looked for what is overdue.
const ticks = 8

// Config says how it is asked.
type Config struct {
	Conn *nats.Conn
	// Patience is how long an answer is waited for, and up to an eighth longer, where the asker's context does not end
	// before. Zero means that only the context bounds the wait.
	Patience time.Duration
}

// An Asker asks over one connection. Its methods are called from many goroutines at once.
//
// The first question starts one goroutine, which is the connection's like the one that reads from it: it ends when the
// connection is closed or drained.
type Asker struct {
	cfg Config

	subscribing sync.Mutex
	prefix      atomic.Pointer[string] // what the subjects of all answers begin with; nil until there is a subscription

	table   table
	waiters sync.Pool
}

// New returns an Asker. It starts nothing.
func New(cfg Config) *Asker {
	return &Asker{cfg: cfg, waiters: sync.Pool{New: func() any { return &waiter{answer: make(chan answer, 1)} }}}
}

// Ask sends a message and returns what is answered. nats.ErrNoResponders means that nobody listens, and the cause of
// ctx that it ended first. Without a connection it fails at once, unless that has a reconnect buffer; a question that
// was on its way when the connection broke, or is sent just after it was there again, fails with nats.ErrDisconnected.
// After an error it is not known whether the message arrived, but for a context that had ended before: then nothing is
// sent. Header and data are the caller's again when Ask returns.
func (a *Asker) Ask(ctx context.Context, subject string, header nats.Header, data []byte) (*nats.Msg, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	w := a.waiters.Get().(*waiter)
	defer a.waiters.Put(w) // which is then out of the table, and its channel empty
	q, err := a.send(w, subject, header, data)
	if err != nil {
		return nil, err
	}
	select {
	case got := <-w.answer:
		return got.msg, got.err
	case <-ctx.Done():
		if q.Cancel() {
			return nil, context.Cause(ctx)
		}
		got := <-w.answer // whoever took it is about to answer
		return got.msg, got.err
	}
}

// Send sends a message and returns at once. What Ask would have returned is told to then, once, on a goroutine that all
// answers come by, so it must not wait for anything; never within Send, and not if that returns an error.
func (a *Asker) Send(subject string, header nats.Header, data []byte, then func(*nats.Msg, error)) (Question, error) {
	return a.send(&waiter{then: then}, subject, header, data)
}

// A Question was sent, and is open until it is answered.
type Question struct {
	asker  *Asker
	slot   uint32
	number uint64
}

// Cancel ends the wait for the answer. It reports whether it was in time: if so, nobody is told anything.
func (q Question) Cancel() bool { return q.asker.table.take(q.slot, q.number) != nil }

// send sends the question of w, which is in the table then unless there is an error.
func (a *Asker) send(w *waiter, subject string, header nats.Header, data []byte) (Question, error) {
	prefix, err := a.answers()
	if err != nil {
		return Question{}, err
	}
	q := Question{asker: a}
	if q.slot, q.number, err = a.table.add(w); err != nil {
		return Question{}, err
	}
	if header == nil {
		err = a.cfg.Conn.PublishRequest(subject, q.reply(prefix), data)
	} else {
		err = a.cfg.Conn.PublishMsg(&nats.Msg{Subject: subject, Reply: q.reply(prefix), Header: header, Data: data})
	}
	if err != nil && q.Cancel() {
		return Question{}, err
	}
	return q, nil // if it was not sent, whoever took it out of the table says so
}

// answers makes sure that answers can come, and returns what their subjects begin with.
func (a *Asker) answers() (string, error) {
	if prefix := a.prefix.Load(); prefix != nil {
		return *prefix, nil
	}
	return a.subscribe()
}

func (a *Asker) subscribe() (string, error) {
	a.subscribing.Lock()
	defer a.subscribing.Unlock()
	if prefix := a.prefix.Load(); prefix != nil {
		return *prefix, nil
	}
	prefix := a.cfg.Conn.NewInbox() + "."
	// Asked for before there is a subscription, so that its end is not missed.
	changes := a.cfg.Conn.StatusChanged(nats.RECONNECTING, nats.DRAINING_SUBS, nats.CLOSED)
	_, err := a.cfg.Conn.Subscribe(prefix+"*", func(msg *nats.Msg) {
		token, _ := strings.CutPrefix(msg.Subject, prefix)
		if w := a.table.take(parseToken(token)); w != nil {
			w.tell(answerOf(msg))
		}
	})
	if err != nil {
		a.cfg.Conn.RemoveStatusListener(changes)
		return "", err
	}
	go a.watch(changes)
	a.prefix.Store(&prefix)
	return prefix, nil
}

// watch ends the waits for what will not be answered any more, until the connection has ended.
func (a *Asker) watch(changes chan nats.Status) {
	defer a.cfg.Conn.RemoveStatusListener(changes)
	var tick <-chan time.Time
	if a.cfg.Patience > 0 {
		ticker := time.NewTicker(max(1, a.cfg.Patience/ticks))
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-tick:
			a.table.endOverdue()
		case <-changes:
			// What the connection says now is asked for: of many changes in a row the last may not have been told.
			switch {
			case a.cfg.Conn.IsClosed():
				a.table.close(nats.ErrConnectionClosed)
				return
			case a.cfg.Conn.IsDraining():
				a.table.close(nats.ErrConnectionDraining)
				return
			default:
				a.table.endAll(nats.ErrDisconnected)
			}
		}
	}
}

// answerOf returns what a message says.
func answerOf(msg *nats.Msg) answer {
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return answer{err: nats.ErrNoResponders}
	}
	return answer{msg: msg}
}

// reply returns where the question is answered to.
func (q Question) reply(prefix string) string {
	var buf [96]byte
	token := append(buf[:0], prefix...)
	token = strconv.AppendUint(token, uint64(q.slot), 36)
	token = append(token, '-')
	token = strconv.AppendUint(token, q.number, 36)
	return string(token)
}

// parseToken returns the slot and the number that the last token of an answer's subject names; number 0, which no
// question has, if it names none.
func parseToken(token string) (slot uint32, number uint64) {
	s, n, _ := strings.Cut(token, "-")
	place, err := strconv.ParseUint(s, 36, 32)
	if err != nil {
		return 0, 0
	}
	number, err = strconv.ParseUint(n, 36, 64)
	if err != nil {
		return 0, 0
	}
	return uint32(place), number
}
