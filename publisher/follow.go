package publisher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const (
	// refusalPatience bounds how long a publish is tried again that the stream refuses for a request which is not there
	// or has ended, or that finds no stream. A cluster may do so for a moment after an ack, or after an election.
	refusalPatience = 2 * time.Second

	// refusalDoubt is how long a cluster is not believed that another request is queued. Right after an ack it refuses
	// for the request that was acked, and mostly still shows it: for 1 to 26 ms as measured.
	refusalDoubt = 200 * time.Millisecond

	// These are the server's codes for errors that nats.go has no name for.
	codeStoreFailed       jetstream.ErrorCode = 10077 // what a full subject gives, among others
	codeDuplicateConflict jetstream.ErrorCode = 10158 // the same id is being stored at this moment
)

// A publication is one request on its way. It belongs to one goroutine at a time.
type publication struct {
	request      Request
	msg          *nats.Msg
	deadline     time.Time
	unanswered   bool      // an attempt got no answer, so it may be stored
	duplicate    bool      // the stream had the id already
	refusedSince time.Time // zero until the stream has refused it
}

// follow brings a publish whose first attempt was just sent to its end.
func (p *Publisher) follow(pub *publication, future jetstream.PubAckFuture, err error) Result {
	if err == nil {
		err = p.await(p.life, pub, future)
	}
	if err == nil {
		return pub.confirmed()
	}
	ctx, cancel := context.WithDeadlineCause(p.life, pub.deadline, fmt.Errorf("given up after %s", p.timeout))
	defer cancel()
	pauses := backoff.ExponentialBackOff{
		InitialInterval: 20 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: time.Second,
	}
	for {
		result, final := p.judge(ctx, pub, err)
		if final {
			return result
		}
		if !sleep(ctx, pauses.NextBackOff()) {
			if cause := context.Cause(ctx); result.Status == Failed && !errors.Is(result.Err, cause) {
				result.Err = fmt.Errorf("%w; %w", result.Err, cause)
			}
			return result
		}
		p.log.Debug().Str("host", string(pub.request.Host)).Stringer("id", pub.request.ID).Err(err).Msg("publishing again")
		err = p.attempt(ctx, pub)
	}
}

func (p *Publisher) attempt(ctx context.Context, pub *publication) error {
	future, err := p.send(pub)
	if err != nil {
		return err
	}
	return p.await(ctx, pub, future)
}

// noRetry keeps nats.go from trying again by itself, which would hide why.
var noRetry = jetstream.WithRetryAttempts(0)

func (p *Publisher) send(pub *publication) (jetstream.PubAckFuture, error) {
	return p.js.PublishMsgAsync(pub.msg, noRetry)
}

// await returns nil when the stream has the message, be it from this attempt or from an earlier one.
func (p *Publisher) await(ctx context.Context, pub *publication, future jetstream.PubAckFuture) error {
	stored, failed := future.Ok(), future.Err()
	select {
	case ack := <-stored:
		pub.duplicate = ack.Duplicate
		return nil
	case err := <-failed:
		if !answered(err) {
			pub.unanswered = true
		}
		return err
	case <-ctx.Done():
		pub.unanswered = true
		return context.Cause(ctx)
	}
}

// answered reports whether an attempt that failed was told so by the server.
func answered(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// judge says what an attempt that ended with err comes to: the result, and whether it is final. One that is not final
// stands if there is no time for another attempt.
func (p *Publisher) judge(ctx context.Context, pub *publication, err error) (result Result, final bool) {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return pub.confirmed(), true
	case errors.As(err, &api) && api.ErrorCode == codeStoreFailed:
		return p.judgeRefusal(ctx, pub, err)
	case errors.As(err, &api):
		return pub.failed(err), !temporary(api)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		// A cluster that elects a leader does not respond either, so ask.
		why := p.noResponse(ctx)
		return pub.failed(fmt.Errorf("%w: %w", err, why)), errors.Is(why, ErrNoStream) && pub.refusedFor() >= refusalPatience
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		if denied := p.denial(); denied != nil {
			err = fmt.Errorf("%w: %w", err, denied)
			return pub.failed(err), strings.Contains(denied.Error(), `"`+pub.msg.Subject+`"`)
		}
		return pub.failed(err), false
	}
	return pub.failed(err), permanent(err)
}

// confirmed is the result of a publish whose request the stream has. What an attempt without an answer has stored is its
// own.
func (pub *publication) confirmed() Result {
	return Result{Request: pub.request, Status: Confirmed, Duplicate: pub.duplicate && !pub.unanswered}
}

// refusedFor returns how long it is since the publish was refused for the first time, be it now.
func (pub *publication) refusedFor() time.Duration {
	if pub.refusedSince.IsZero() {
		pub.refusedSince = time.Now()
	}
	return time.Since(pub.refusedSince)
}

// judgeRefusal looks at what the stream holds for the host, because an error does not say: it may be this request,
// another one, or nothing any more.
func (p *Publisher) judgeRefusal(ctx context.Context, pub *publication, refusal error) (result Result, final bool) {
	refusedFor := pub.refusedFor()
	patient := refusedFor < refusalPatience
	id, replicated, err := p.queued(ctx, pub)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return pub.failed(fmt.Errorf("refused, with nothing queued for the host: %w", refusal)), !patient
	case err != nil:
		return pub.failed(fmt.Errorf("refused, and cannot see what is queued: %w: %w", err, refusal)), !patient
	case id == pub.request.ID:
		pub.duplicate = true
		return pub.confirmed(), true
	}
	phase := p.phase(ctx, pub, id)
	result = Result{Request: pub.request, Status: AlreadyQueued, QueuedID: id, QueuedPhase: phase}
	doubtful := phase == PhaseEnded || replicated && refusedFor < refusalDoubt
	return result, !doubtful || !patient
}

// queued returns the id of the request that the stream holds for a publication's host, or jetstream.ErrMsgNotFound; and
// whether the stream is a cluster's.
func (p *Publisher) queued(ctx context.Context, pub *publication) (id uuid.UUID, replicated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	work, err := p.js.Stream(ctx, stream.Work)
	if err != nil {
		return uuid.Nil, false, err
	}
	msg, err := work.GetLastMsgForSubject(ctx, pub.msg.Subject)
	if err != nil {
		return uuid.Nil, false, err
	}
	info := work.CachedInfo()
	// A malformed one holds the place all the same, until a worker gives it up.
	id = stream.RequestID(msg, info.Created, pub.request.Group, pub.request.Host)
	return id, info.Config.Replicas > 1, nil
}

func (p *Publisher) phase(ctx context.Context, pub *publication, id uuid.UUID) Phase {
	if p.phases == nil {
		return PhaseQueued
	}
	phase, err := p.phases.Phase(ctx, pub.request.Group, id, pub.request.Host)
	if err != nil {
		p.log.Debug().Str("host", string(pub.request.Host)).Stringer("id", id).Err(err).Msg("phase is unknown")
		return PhaseQueued
	}
	return phase
}

// noResponse returns why a publish had nobody to respond to it, as far as the server says.
func (p *Publisher) noResponse(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := p.js.Stream(ctx, stream.Work)
	switch {
	case err == nil:
		return errors.New("its leader is away")
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return ErrNoStream
	}
	return err
}

// denial returns the connection's last error if it is one of permission. A publish without permission is not answered;
// the server's complaint names the subject, but not the message, and stays until the connection has another error.
func (p *Publisher) denial() error {
	if err := p.lastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return nil
}

// temporary reports whether the server may take later what it refused with this error.
func temporary(api *jetstream.APIError) bool {
	return api.Code >= 500 || api.Code == 429 || api.ErrorCode == codeDuplicateConflict
}

// permanent reports whether sending again is useless.
func permanent(err error) bool {
	for _, p := range []error{
		nats.ErrConnectionClosed, nats.ErrConnectionDraining, nats.ErrMaxPayload, nats.ErrBadSubject,
		nats.ErrHeadersNotSupported,
	} {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}

func (pub *publication) failed(err error) Result {
	err = fmt.Errorf("cannot publish request for host %q: %w", pub.request.Host, err)
	if pub.unanswered {
		err = fmt.Errorf("%w; %w", err, ErrUnanswered)
	}
	return Result{Request: pub.request, Status: Failed, Err: err}
}

// sleep waits for d, and reports whether ctx did not end before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
