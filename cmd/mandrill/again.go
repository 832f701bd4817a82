package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// askAgain is the flags of what asks again for what was asked for before: replay, and dead requeue.
type askAgain struct {
	requestedBy string
	notAfter    string
	rate        float64
	dryRun      bool
	yes         bool
}

func (o *askAgain) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.requestedBy, "requested-by", "", "who asks (default your user and host name)")
	f.StringVar(&o.notAfter, "not-after", "", "when a new request expires: a span from when it is sent, such as 2h, or a time such as 2006-01-02T15:04:05Z (default 24h)")
	f.Float64Var(&o.rate, "rate", 0, "how many are sent a second at most; 0 is as fast as it goes")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be sent, and send nothing")
	f.BoolVar(&o.yes, "yes", false, fmt.Sprintf("do not ask before more than %d are sent", confirmAbove))
}

// check finds what is wrong with a flag before it is wrong with every request, and fills in who asks.
func (o *askAgain) check(a *app, now time.Time) error {
	if err := checkRate(o.rate); err != nil {
		return err
	}
	o.requestedBy = cmp.Or(o.requestedBy, a.whoami())
	if _, err := o.ask(restart.Request{Host: "host"}, now); err != nil {
		return &config.UsageError{Err: err}
	}
	return nil
}

// ask returns a request as it is asked for at that time.
func (o *askAgain) ask(r restart.Request, now time.Time) (restart.Request, error) {
	var err error
	if r.NotAfter, err = parseNotAfter(o.notAfter, now); err != nil {
		return restart.Request{}, err
	}
	r.RequestedBy, r.RequestedAt = o.requestedBy, now
	return r, r.Complete("", now) // the domain is for requests without a host
}

// leastRate is one request in eleven days.
const leastRate = 1e-6

func checkRate(rate float64) error {
	if rate != 0 && !(rate >= leastRate && rate <= math.MaxFloat64) { // NaN is refused too
		return usagef("--rate: %v is neither 0 nor a number of at least %v", rate, leastRate)
	}
	return nil
}

// A pace lets so many through a second, one by one.
type pace struct {
	gap time.Duration // zero: no waiting
	due time.Time
}

func newPace(rate float64) *pace {
	if rate == 0 {
		return &pace{}
	}
	return &pace{gap: time.Duration(float64(time.Second) / rate)}
}

// wait waits for the next one's turn, and reports whether ctx did not end before. What an outage of more than a second
// held up is not made good by a burst.
func (p *pace) wait(ctx context.Context) bool {
	if p.gap == 0 {
		return ctx.Err() == nil
	}
	now := time.Now()
	if now.Sub(p.due) > time.Second {
		p.due = now
	}
	timer := time.NewTimer(p.due.Sub(now))
	defer timer.Stop()
	p.due = p.due.Add(p.gap)
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// withPublisher calls do with a publisher on the connection, and closes it.
func withPublisher(ctx context.Context, conn *connection, cfg config.Config, log zerolog.Logger,
	do func(*publisher.Publisher) error,
) error {
	p, err := newPublisher(ctx, conn, cfg, log)
	if err != nil {
		return err
	}
	err = do(p)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Publish.Timeout)
	defer cancel()
	return errors.Join(err, p.Close(closing))
}
