package publisher

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// MockConfig says what a Mock asks for.
type MockConfig struct {
	// Publish takes the requests; required, and usually the Publish of a Publisher, under whose conditions it reports.
	Publish func(ctx context.Context, r Request, report func(Result)) error
	// Count is how many requests there are in all. Zero means no end.
	Count int
	// Rate is how many there are a second, on average and in all. Zero means as many as are taken.
	Rate float64
	// Steady makes the gaps between requests even. Otherwise each is drawn anew, uniformly between nothing and twice
	// the mean: at two a second, between 0 and 1 s.
	Steady bool
	// Publishers share Count and Rate among them, and publish at the same time. Zero means one.
	Publishers int
	// Seed decides the names and gaps of each publisher. Zero is as good a seed as any.
	Seed uint64
	// Group is whom the requests are for. Empty means the default group.
	Group  Group
	Reason string
	Logger zerolog.Logger
}

// A Mock publishes requests for hosts that it makes up.
type Mock struct {
	cfg MockConfig
	gap time.Duration // of each publisher, on average
	log zerolog.Logger
}

// Totals counts how the publishes of a Mock ended.
type Totals struct {
	Published     int // confirmed
	AlreadyQueued int
	Failed        int
}

// NewMock returns a Mock that has published nothing yet.
func NewMock(cfg MockConfig) (*Mock, error) {
	if cfg.Publishers == 0 {
		cfg.Publishers = 1
	}
	if cfg.Group == "" {
		cfg.Group = restart.DefaultGroup
	}
	gap := 0.0
	if cfg.Rate != 0 {
		gap = float64(cfg.Publishers) / cfg.Rate * float64(time.Second)
	}
	if _, err := restart.ParseGroup(string(cfg.Group)); err != nil {
		return nil, err
	}
	switch {
	case cfg.Publish == nil:
		return nil, errors.New("mock publisher has nothing to publish with")
	case cfg.Count < 0:
		return nil, fmt.Errorf("count of %d requests is negative", cfg.Count)
	case cfg.Publishers < 0:
		return nil, fmt.Errorf("number of publishers, %d, is negative", cfg.Publishers)
	case cfg.Rate < 0 || math.IsNaN(cfg.Rate) || math.IsInf(cfg.Rate, 1):
		return nil, fmt.Errorf("rate of %v requests a second is none", cfg.Rate)
	case gap > math.MaxInt64/2:
		return nil, fmt.Errorf("rate of %v requests a second is too low", cfg.Rate)
	}
	return &Mock{
		cfg: cfg,
		gap: time.Duration(gap),
		log: cfg.Logger.With().Str("component", "mock").Logger(),
	}, nil
}

// Run publishes until Count is reached or ctx ends, and returns when every publish has been reported, which each is in
// bounded time. It returns an error where going on is useless: a request was not taken, or there is no stream to take
// it. What was published one by one and failed is counted, not returned.
func (m *Mock) Run(ctx context.Context) (Totals, error) {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	run := &mockRun{Mock: m, stop: stop}

	var publishers sync.WaitGroup
	for i := range m.cfg.Publishers {
		publishers.Go(func() { run.publish(running, i) })
	}
	publishers.Wait()
	run.unreported.Wait()

	if ctx.Err() != nil {
		return run.totals, nil
	}
	return run.totals, context.Cause(running)
}

// mockRun is one Run of a Mock.
type mockRun struct {
	*Mock
	stop       context.CancelCauseFunc
	unreported sync.WaitGroup

	mu     sync.Mutex // guards totals against concurrent reports
	totals Totals
}

// publish is one of the publishers, the i-th from 0.
func (r *mockRun) publish(ctx context.Context, i int) {
	// Names and gaps are drawn apart, so that pace does not change the names.
	names := rand.New(rand.NewPCG(r.cfg.Seed, uint64(2*i)))
	gaps := rand.New(rand.NewPCG(r.cfg.Seed, uint64(2*i+1)))
	log := r.log.With().Int("publisher", i+1).Logger()

	due := time.Now()
	if r.cfg.Steady {
		due = due.Add(r.gap / time.Duration(r.cfg.Publishers) * time.Duration(i)) // even gaps between all, not bunches
	}
	for range r.share(i) {
		if !sleepUntil(ctx, due) {
			return
		}
		r.unreported.Add(1)
		err := r.cfg.Publish(ctx, r.request(names), func(result Result) {
			defer r.unreported.Done()
			r.report(log, result)
		})
		if err != nil {
			r.unreported.Done()
			r.stop(err)
			return
		}
		due = r.next(due, gaps)
	}
}

// share returns how many requests are the i-th publisher's.
func (m *Mock) share(i int) int {
	if m.cfg.Count == 0 {
		return math.MaxInt
	}
	share := m.cfg.Count / m.cfg.Publishers
	if i < m.cfg.Count%m.cfg.Publishers {
		share++
	}
	return share
}

func (m *Mock) request(names *rand.Rand) Request {
	return Request{
		Instance:    instanceName(names),
		Group:       m.cfg.Group,
		Reason:      m.cfg.Reason,
		RequestedBy: "mock",
	}
}

// instanceName returns "cattle-" and four characters of a–z0–9.
func instanceName(rng *rand.Rand) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	name := []byte("cattle-????")
	for i := len("cattle-"); i < len(name); i++ {
		name[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(name)
}

// next returns when the request after the one that was due is due. Being late does not lower the rate, unless it is by
// more than a second: what an outage held up is not made good by a burst.
func (m *Mock) next(due time.Time, gaps *rand.Rand) time.Time {
	gap := m.gap
	if !m.cfg.Steady {
		gap = time.Duration(gaps.Float64() * 2 * float64(m.gap))
	}
	due = due.Add(gap)
	if now := time.Now(); now.Sub(due) > time.Second {
		return now
	}
	return due
}

// report counts and logs, at debug so that a worker's lines can be read beside it.
func (r *mockRun) report(log zerolog.Logger, result Result) {
	level, message := zerolog.DebugLevel, "published"
	r.mu.Lock()
	switch result.Status {
	case Confirmed:
		r.totals.Published++
	case AlreadyQueued:
		r.totals.AlreadyQueued++
		log = log.With().Stringer("queued_id", result.QueuedID).Str("queued_phase", string(result.QueuedPhase)).Logger()
		message = "already queued"
	default:
		r.totals.Failed++
		level, message = zerolog.WarnLevel, "not published"
	}
	r.mu.Unlock()
	request := result.Request
	log.WithLevel(level).Str("instance", request.Instance).Str("host", string(request.Host)).
		Str("group", string(request.Group)).Stringer("id", request.ID).Err(result.Err).Msg(message)
	if errors.Is(result.Err, ErrNoStream) {
		r.stop(result.Err)
	}
}

// sleepUntil waits until t, and reports whether ctx did not end before.
func sleepUntil(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err() == nil
	}
	return sleep(ctx, d)
}
