package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// atOnce is how many workers are asked for their messages at the same time.
const atOnce = 16

// InFlight returns what all workers hold, that which is in its phase for the longest first, and those workers that are
// there and have not told all. It takes a moment, and no longer than wait. A message that is handed from one worker to
// another meanwhile may be there twice, or not at all.
func InFlight(ctx context.Context, nc *nats.Conn, wait time.Duration) (messages []Message, silent []Instance, err error) {
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	known, err := instances(ctx, nc, wait)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot find the workers: %w", err)
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for _, i := range known {
		asking.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			held, err := inFlightOf(bounded, nc, i)
			mu.Lock()
			defer mu.Unlock()
			messages = append(messages, held...)
			if err != nil {
				silent = append(silent, i)
			}
		})
	}
	asking.Wait()
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("cannot ask the workers: %w", context.Cause(ctx))
	}
	slices.SortFunc(messages, func(a, b Message) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.key(), b.key())) })
	slices.SortFunc(silent, func(a, b Instance) int { return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.ID, b.ID)) })
	return messages, silent, nil
}

// instances returns who is there.
func instances(ctx context.Context, nc *nats.Conn, wait time.Duration) ([]Instance, error) {
	c, err := newCall(nc)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.ask("", nil); err != nil {
		return nil, err
	}
	everybody := func() bool { return true }
	if err := c.gather(ctx, time.Now().Add(wait), everybody, func(string, *nats.Msg) bool { return false }); err != nil {
		return nil, err
	}
	return c.silent(func(string) bool { return false }), c.silence()
}

// inFlightOf returns what one worker holds, or as much of it as it has told.
func inFlightOf(ctx context.Context, nc *nats.Conn, i Instance) (messages []Message, err error) {
	var q inFlightQuestion
	for {
		data, err := json.Marshal(q)
		if err != nil {
			return messages, err
		}
		msg, err := nc.RequestWithContext(ctx, inFlightPrefix+i.ID, data)
		if err != nil {
			return messages, err
		}
		var page inFlightPage
		if err := parseAnswer(msg, &page); err != nil {
			return messages, err
		}
		for _, m := range page.Messages {
			m.Worker = i.Worker
			messages = append(messages, m)
		}
		switch {
		case page.Next == "":
			return messages, nil
		case page.Next <= q.After:
			return messages, errors.New("its pages do not end")
		}
		q.After = page.Next
	}
}
