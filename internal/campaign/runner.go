package campaign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

var (
	// ErrNotFound is returned for a campaign that is not there.
	ErrNotFound = errors.New("there is no such campaign")

	// ErrUnreadable is returned for a document that this version cannot read.
	ErrUnreadable = errors.New("cannot be read")

	errOtherGroup = errors.New("the campaign is of another group")

	// ErrConflict is returned where somebody else has written the progress. The campaign is theirs.
	ErrConflict = errors.New("somebody else drives the campaign")
)

// A Store keeps the documents of campaigns. A read may be a little behind; the compare of a write is exact.
type Store interface {
	// Spec returns ErrNotFound or ErrUnreadable where that is so. Any other error means unknown.
	Spec(ctx context.Context, id uuid.UUID) (Spec, error)
	// Progress returns the progress, with Revision zero and nothing else where there is none; or ErrUnreadable.
	Progress(ctx context.Context, id uuid.UUID) (Progress, error)
	// CompareAndSet stores p if the stored revision is p.Revision, zero meaning none, and returns the new one; also
	// where this very write, known by Driver and Write, was stored by an earlier call. Otherwise it returns
	// ErrConflict. Any other error means unknown: the caller asks again with the same p, before it does anything
	// else.
	CompareAndSet(ctx context.Context, p Progress) (revision uint64, err error)
}

// Steering is where people's wishes stand.
type Steering interface {
	Wish(ctx context.Context, id uuid.UUID) (Wish, error)
	// Abort returns once an abort mark stands, this one or an earlier one, which stays, with the revision of the control
	// bucket at which it does: nothing that knows that one triggers anything for the campaign.
	Abort(ctx context.Context, id uuid.UUID, m Mark) (revision uint64, err error)
}

// A Target names one request.
type Target struct {
	ID    uuid.UUID
	Group restart.Group
	Host  restart.Host
}

// Sent is what came of one publish.
type Sent struct {
	Other uuid.UUID // the request that is queued in its place
	Err   error     // why it may not be queued; it is tried again
}

// Requests are the work stream, the journal and the database, as far as a campaign needs them.
type Requests interface {
	// Publish returns what came of each request.
	Publish(ctx context.Context, requests []restart.Request) []Sent
	// Look returns where each request is. It must look at the stream before the database, which has the outcome of
	// whatever has left the stream. An error means that nothing is known.
	Look(ctx context.Context, targets []Target) ([]Sight, error)
	// Cancel returns, for each request, whether it is certain now that it never will be triggered. It may be asked
	// again.
	Cancel(ctx context.Context, targets []Target, why Mark) ([]bool, error)
}

// RunnerConfig says what a runner works with.
type RunnerConfig struct {
	Worker   string
	Group    restart.Group // whose campaigns it drives, and no other's
	Store    Store
	Steering Steering
	Requests Requests
	// Conditions returns what a campaign's group is like now. While it cannot tell, nothing is asked for.
	Conditions func(ctx context.Context, s *Spec) (Conditions, error)
	// Announce, if not nil, is called with each progress once it is stored.
	Announce func(s *Spec, p Progress)
	// Every is the time between two looks. Zero means 2 s.
	Every time.Duration
	// MaxTaken is how often a campaign may be taken up without coming forward. Zero means 50.
	MaxTaken int
	Logger   zerolog.Logger
}

// A Runner drives campaigns. Its methods may be called from many goroutines at once.
type Runner struct{ cfg RunnerConfig }

const (
	// callTimeout bounds one read or write, publishTimeout one batch.
	callTimeout    = 10 * time.Second
	publishTimeout = 2 * time.Minute

	// idleShare is how much longer than a look at thousands of requests the pause after it is, so that looking is not all
	// that the server is busy with.
	// A look that got no answer is nothing to rest from, and no rest is longer than maxRest: nobody hears an abort meanwhile.
	idleShare = 4
	maxRest   = 10 * time.Second

	// writeRetry is the time until a write is tried again that got no answer.
	writeRetry = 500 * time.Millisecond

	// partSize is how many requests are looked at, or cancelled, in one call, so that no number of them is too much.
	partSize = 500

	// wellAfter is how long a campaign has to be driven until it is clear that it does not kill its driver: it may wait for
	// days, and then neither comes forward nor is poison.
	wellAfter = time.Minute

	// patience is how often a read is tried again that may be behind.
	patience = 5
)

// behind is how long a node of a cluster may be behind by the n-th try.
func behind(try int) time.Duration { return time.Duration(try) * 50 * time.Millisecond }

// NewRunner returns a runner.
func NewRunner(cfg RunnerConfig) (*Runner, error) {
	switch {
	case cfg.Worker == "", cfg.Group == "":
		return nil, errors.New("campaign: Worker or Group is missing")
	case cfg.Store == nil, cfg.Steering == nil, cfg.Requests == nil, cfg.Conditions == nil:
		return nil, errors.New("campaign: Store, Steering, Requests or Conditions is missing")
	case cfg.Every < 0, cfg.MaxTaken < 0:
		return nil, errors.New("campaign: Every or MaxTaken is negative")
	}
	if cfg.Every == 0 {
		cfg.Every = 2 * time.Second
	}
	if cfg.MaxTaken == 0 {
		cfg.MaxTaken = 50
	}
	if cfg.Announce == nil {
		cfg.Announce = func(*Spec, Progress) {}
	}
	return &Runner{cfg}, nil
}

// Run takes a campaign up and drives it until it is over, and then returns nil. It returns ErrConflict once somebody
// else has taken it up, ErrNotFound, which may be a read that is behind, or ErrUnreadable, and the cause of ctx when that
// ends: another may go on then.
func (r *Runner) Run(ctx context.Context, id uuid.UUID) error {
	spec, err := bounded(ctx, func(ctx context.Context) (Spec, error) { return r.cfg.Store.Spec(ctx, id) })
	if err != nil {
		return err
	}
	if spec.Group != r.cfg.Group { // who may hand in campaigns of one group may not do so for another by that
		return fmt.Errorf("%w than %q: %q", errOtherGroup, r.cfg.Group, spec.Group)
	}
	d := &drive{
		RunnerConfig: r.cfg, spec: &spec, log: r.cfg.Logger.With().Stringer("campaign", id).Str("group", string(spec.Group)).Logger(),
	}
	if err := d.take(ctx); err != nil || d.p.State.Final() {
		return err
	}
	err = d.run(ctx)
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrLeaseLost) && !errors.Is(err, ErrConflict) {
		d.handBack(ctx)
	}
	return err
}

// A drive is one runner's part in one campaign. It belongs to one goroutine.
type drive struct {
	RunnerConfig
	spec *Spec
	log  zerolog.Logger

	p       Progress      // as it is stored
	learned map[int]Sight // what a publish or a cancel has told, until it is recorded
	told    string        // the latest complaint, until a round goes by without one
	well    bool          // there was none in this round
	writes  int           // counts what was to be stored: no two have one number, also where the first got no answer
	looking time.Duration // how long the latest look at the requests took, if it was answered
}

// take makes the campaign ours: whoever drove it can write no more.
func (d *drive) take(ctx context.Context) error {
	driver := d.Worker + "/" + uuid.NewString()
	for try := 1; ; try++ {
		p, err := bounded(ctx, func(ctx context.Context) (Progress, error) { return d.Store.Progress(ctx, d.spec.ID) })
		if err != nil {
			return err
		}
		if p.Revision == 0 {
			p = newProgress(d.spec)
		}
		if err := p.fits(d.spec); err != nil {
			return fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		if d.p = p; p.State.Final() {
			return nil
		}
		p.Driver, p.Taken = driver, p.Taken+1
		if p.Taken > d.MaxTaken {
			return d.giveUp(ctx, p)
		}
		err = d.store(ctx, p)
		if err == nil {
			d.log.Info().Int("taken", p.Taken).Str("state", string(p.State)).Msg("campaign taken up")
		}
		if !errors.Is(err, ErrConflict) || try == patience {
			return err
		}
		if err := sleep(ctx, behind(try)); err != nil {
			return err
		}
	}
}

// giveUp aborts a campaign that kills whoever drives it. What is queued meets the mark.
func (d *drive) giveUp(ctx context.Context, p Progress) error {
	mark := Mark{By: d.Worker, At: time.Now().UTC(), Why: fmt.Sprintf("it was taken up %d times without coming forward", p.Taken-1)}
	if err := d.mark(ctx, mark); err != nil {
		return err
	}
	p.State, p.Why, p.Waits, p.Over = Aborted, mark.String(), "", mark.At
	return d.store(ctx, p)
}

func (d *drive) run(ctx context.Context) error {
	const most = 5 // looks without a pause
	began := time.Now()
	for hurried := 0; ; {
		d.well = true
		decision := Next(d.spec, d.p, d.facts(ctx))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if well := d.p.Taken > 0 && time.Since(began) > wellAfter; well || differ(decision.Progress, d.p) {
			decision.Progress.Taken = 0
			if err := d.store(ctx, decision.Progress); err != nil {
				return err
			}
		}
		again, err := d.do(ctx, decision)
		switch {
		case err != nil:
			d.complain(ctx, err)
		case decision.Action == End:
			return nil
		case again && hurried < most:
			hurried++
			continue
		}
		if hurried = 0; d.well {
			d.told = ""
		}
		pause := max(d.Every, min(idleShare*d.looking, maxRest))
		if !decision.Until.IsZero() {
			pause = max(min(pause, time.Until(decision.Until)), 0)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// do does what was decided, and reports whether to look again at once.
func (d *drive) do(ctx context.Context, decision Decision) (again bool, err error) {
	switch decision.Action {
	case Publish:
		err = d.publish(ctx, decision.Hosts)
	case Cancel:
		err = d.cancel(ctx, decision.Hosts)
	case Abort:
		d.log.Warn().Str("why", decision.Why).Msg("campaign stops")
		return true, d.mark(ctx, Mark{By: "the campaign itself", Why: decision.Why, At: time.Now().UTC()})
	}
	return len(d.learned) > 0, err
}

// facts looks at everything. What cannot be seen holds the campaign back.
func (d *drive) facts(ctx context.Context) Facts {
	f := Facts{Sights: map[int]Sight{}}
	var err error
	if f.Wish, err = bounded(ctx, func(ctx context.Context) (Wish, error) { return d.Steering.Wish(ctx, d.spec.ID) }); err != nil {
		f.Wish = Wish{Paused: &Mark{By: "itself", Why: "nobody can tell what is wanted of it"}}
		d.complain(ctx, err)
	}
	if f.Wish.Aborted == nil {
		f.Conditions, err = bounded(ctx, func(ctx context.Context) (Conditions, error) { return d.RunnerConfig.Conditions(ctx, d.spec) })
	}
	if err != nil {
		f.Conditions = Conditions{Paused: "nobody can tell what its group is like"}
		d.complain(ctx, err)
	}
	began := time.Now()
	for hosts := range slices.Chunk(d.p.open(), partSize) {
		sights, err := bounded(ctx, func(ctx context.Context) ([]Sight, error) { return d.Requests.Look(ctx, d.targets(hosts)) })
		if err == nil && len(sights) != len(hosts) {
			err = fmt.Errorf("cannot look at %d requests: %d were found", len(hosts), len(sights)) // a fault in our own code
		}
		if err != nil {
			d.complain(ctx, err)
			began = time.Now()
			break // what was not seen counts as queued
		}
		for i, host := range hosts {
			f.Sights[host] = sights[i]
		}
	}
	d.looking = time.Since(began)
	maps.Copy(f.Sights, d.learned)
	f.Now = time.Now().UTC()
	return f
}

func (d *drive) targets(hosts []int) []Target {
	targets := make([]Target, len(hosts))
	for i, host := range hosts {
		targets[i] = Target{ID: d.id(host), Group: d.spec.Group, Host: d.spec.Hosts[host]}
	}
	return targets
}

// id returns the id of the request that a host counts as.
func (d *drive) id(host int) uuid.UUID {
	if other, ok := d.p.Others[host]; ok {
		return other
	}
	return restart.CampaignID(d.spec.ID, d.spec.Hosts[host])
}

// store writes the progress until it is known to be stored, or that somebody else's is.
func (d *drive) store(ctx context.Context, p Progress) error {
	d.writes = max(d.writes, d.p.Write) + 1
	p.Write, p.At = d.writes, time.Now().UTC()
	for {
		revision, err := bounded(ctx, func(ctx context.Context) (uint64, error) { return d.Store.CompareAndSet(ctx, p) })
		switch {
		case err == nil:
			p.Revision = revision
			d.p, d.learned = p, nil
			d.Announce(d.spec, p.clone())
			return nil
		case errors.Is(err, ErrConflict):
			return err
		}
		d.complain(ctx, err)
		if err := sleep(ctx, writeRetry); err != nil {
			return err
		}
	}
}

func (d *drive) publish(ctx context.Context, hosts []int) error {
	requests := make([]restart.Request, len(hosts))
	for i, host := range hosts {
		name, wave := d.spec.Hosts[host], d.p.wave(host)
		requests[i] = restart.Request{
			ID: restart.CampaignID(d.spec.ID, name), Instance: string(name), Host: name, Group: d.spec.Group, Reason: d.spec.Reason,
			RequestedBy: d.spec.By, RequestedAt: wave.At, NotAfter: wave.NotAfter, Campaign: d.spec.ID.String(), MinUptime: d.spec.MinUptime,
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	var errs []error
	for i, sent := range d.Requests.Publish(ctx, requests) {
		switch {
		case sent.Other != uuid.Nil:
			d.learn(hosts[i], Sight{Other: sent.Other})
		case sent.Err != nil && len(errs) == 0: // the others are much the same
			errs = append(errs, sent.Err)
		}
	}
	return errors.Join(errs...)
}

func (d *drive) cancel(ctx context.Context, hosts []int) error {
	mark := Mark{By: d.Worker, Why: "campaign " + d.spec.ID.String() + " was aborted " + d.p.Why, At: time.Now().UTC()}
	for part := range slices.Chunk(hosts, partSize) {
		cancelled, err := bounded(ctx, func(ctx context.Context) ([]bool, error) { return d.Requests.Cancel(ctx, d.targets(part), mark) })
		for i, done := range cancelled {
			if done {
				d.learn(part[i], Sight{Kind: restart.Cancelled, Reason: restart.ReasonAborted})
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *drive) learn(host int, s Sight) {
	if d.learned == nil {
		d.learned = map[int]Sight{}
	}
	d.learned[host] = s
}

func (d *drive) mark(ctx context.Context, m Mark) error {
	_, err := bounded(ctx, func(ctx context.Context) (uint64, error) { return d.Steering.Abort(ctx, d.spec.ID, m) })
	return err
}

// handBack tells the next one that nothing went wrong here.
func (d *drive) handBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout/2)
	defer cancel()
	p := d.p.clone()
	p.Taken = 0
	if err := d.store(ctx, p); err != nil {
		d.log.Debug().Err(err).Msg("not noted that it was handed back")
	}
}

// complain logs what goes wrong, once as long as it is the same.
func (d *drive) complain(ctx context.Context, err error) {
	d.well = false
	if ctx.Err() != nil || err.Error() == d.told {
		return
	}
	d.told = err.Error()
	d.log.Warn().Err(err).Msg("campaign cannot go on, trying until it can")
}

// differ reports whether a progress says anything else than another, beside who wrote it.
func differ(a, b Progress) bool {
	a.Driver, a.Write, a.Taken, a.At = b.Driver, b.Write, b.Taken, b.At
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA != nil || errB != nil || !bytes.Equal(x, y)
}

// bounded calls with a context that ends in time.
func bounded[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return call(ctx)
}

// sleep waits for that time, and returns the cause of ctx if that ends first.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
