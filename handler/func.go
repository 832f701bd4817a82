package handler

import (
	"context"
	"errors"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// FuncWork makes Work of a function, so that lease and settlement can be used around anything. A nil error
// acknowledges the message, one that wraps restart.ErrPermanent buries it, and any other has it retried.
func FuncWork(do func(context.Context, Request) error, retry Backoff) Work {
	return &funcWork{do, retry}
}

type funcWork struct {
	do    func(context.Context, Request) error
	retry Backoff
}

func (f *funcWork) Do(ctx context.Context, job *Job) *Verdict {
	err := f.do(ctx, job.Request)
	switch {
	case err == nil:
		return Done()
	case errors.Is(context.Cause(ctx), ErrLeaseLost):
		return Leave(ErrLeaseLost)
	case errors.Is(err, restart.ErrPermanent):
		return f.bury(job, restart.ReasonPermanent, err)
	default:
		return Retry(f.retry.Delay(job.Deliveries()), err)
	}
}

func (f *funcWork) Reject(_ context.Context, job *Job, reason error) *Verdict {
	return f.bury(job, restart.ReasonMalformed, reason)
}

// Recorded always says no: nothing is on record anywhere.
func (f *funcWork) Recorded(context.Context, *Job) (bool, error) { return false, nil }

func (f *funcWork) bury(job *Job, reason restart.Reason, err error) *Verdict {
	return Bury(Outcome{
		ID: job.Request.ID, Host: job.Request.Host, Group: job.Request.Group,
		Kind: restart.Dead, Reason: reason, Detail: err.Error(), At: time.Now().UTC(),
	})
}
