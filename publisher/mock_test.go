package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
)

// fakeDoor takes a Mock's requests, and reports them confirmed.
type fakeDoor struct {
	confirmIn time.Duration
	end       func(n int) (Status, error) // of the n-th request, from 1; nil: all are confirmed

	mu       sync.Mutex
	taken    []time.Time
	requests []Request
}

func (d *fakeDoor) publish(ctx context.Context, r Request, report func(Result)) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := r.Complete(DefaultDomain, time.Now()); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = append(d.taken, time.Now())
	d.requests = append(d.requests, r)
	result := Result{Request: r, Status: Confirmed}
	if d.end != nil {
		result.Status, result.Err = d.end(len(d.requests))
	}
	time.AfterFunc(d.confirmIn, func() { report(result) })
	return nil
}

// gaps returns the times between one request and the next.
func (d *fakeDoor) gaps() []time.Duration {
	var gaps []time.Duration
	for i := 1; i < len(d.taken); i++ {
		gaps = append(gaps, d.taken[i].Sub(d.taken[i-1]))
	}
	return gaps
}

func runMock(t testing.TB, ctx context.Context, cfg MockConfig) Totals {
	t.Helper()
	m, err := NewMock(cfg)
	if err != nil {
		t.Fatal(err)
	}
	totals, err := m.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func TestNewMock_RefusesWhatCannotWork(t *testing.T) {
	publish := (&fakeDoor{}).publish
	for name, cfg := range map[string]MockConfig{
		"NothingToPublishWith": {},
		"NegativeCount":        {Publish: publish, Count: -1},
		"NegativeRate":         {Publish: publish, Rate: -1},
		"RateIsNaN":            {Publish: publish, Rate: math.NaN()},
		"RateIsInfinite":       {Publish: publish, Rate: math.Inf(1)},
		"RateIsBeyondClocks":   {Publish: publish, Rate: 1e-12},
		"NegativePublishers":   {Publish: publish, Publishers: -1},
		"BadGroup":             {Publish: publish, Group: "a.b"},
	} {
		if _, err := NewMock(cfg); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// M03.
func TestMock_NamesInstancesCattleAndFourCharacters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDoor{}
		runMock(t, t.Context(), MockConfig{Publish: d.publish, Count: 2000, Group: "blue", Reason: "drill"})
		cattle := regexp.MustCompile(`^cattle-[a-z0-9]{4}$`)
		seen := map[rune]bool{}
		for _, r := range d.requests {
			if !cattle.MatchString(r.Instance) {
				t.Fatalf("got instance %q, want one that matches %s", r.Instance, cattle)
			}
			for _, char := range r.Instance[len("cattle-"):] {
				seen[char] = true
			}
			if r.Group != "blue" || r.Reason != "drill" || r.RequestedBy != "mock" {
				t.Fatalf("got %+v, want group blue, reason drill, requested by mock", r)
			}
		}
		if len(seen) != 36 {
			t.Errorf("got %d different characters, want all 36", len(seen))
		}
	})
}

// A run can be repeated: the seed alone decides each publisher's names, not pace or who comes first (M03).
func TestMock_SameSeedGivesEachPublisherTheSameNames(t *testing.T) {
	names := func(cfg MockConfig) (names map[int][]string) {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			cfg.Publish, cfg.Count, cfg.Publishers = (&fakeDoor{}).publish, 60, 3
			cfg.Logger = zerolog.New(zerolog.SyncWriter(&log))
			runMock(t, t.Context(), cfg)
			names = map[int][]string{}
			for line := range bytes.Lines(log.Bytes()) {
				var entry struct {
					Publisher int
					Instance  string
				}
				if err := json.Unmarshal(line, &entry); err != nil {
					t.Fatal(err)
				}
				names[entry.Publisher] = append(names[entry.Publisher], entry.Instance)
			}
			for _, of := range names {
				slices.Sort(of) // reports of one moment come in any order
			}
		})
		return names
	}
	want := names(MockConfig{Seed: 7})
	for name, cfg := range map[string]MockConfig{
		"Again":      {Seed: 7},
		"RandomGaps": {Seed: 7, Rate: 10},
		"Steady":     {Seed: 7, Rate: 10, Steady: true},
	} {
		if diff := cmp.Diff(want, names(cfg)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if cmp.Equal(want, names(MockConfig{Seed: 8})) {
		t.Error("got the same names from another seed")
	}
	if cmp.Equal(want[1], want[2]) {
		t.Error("two publishers have the same names")
	}
}

// M06: a count ends by itself, and not before the last is confirmed.
func TestMock_CountIsExactAndConfirmedWhenRunReturns(t *testing.T) {
	for _, tt := range []struct{ count, publishers int }{{1, 1}, {100, 1}, {100, 3}, {2, 3}} {
		t.Run(fmt.Sprintf("%dBy%d", tt.count, tt.publishers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDoor{confirmIn: time.Minute}
				totals := runMock(t, t.Context(), MockConfig{Publish: d.publish, Count: tt.count, Publishers: tt.publishers})
				if want := (Totals{Published: tt.count}); totals != want || len(d.requests) != tt.count {
					t.Errorf("got %+v of %d requests, want %+v", totals, len(d.requests), want)
				}
			})
		})
	}
}

// M06: no count runs until it is stopped, and what is under way then is still awaited.
func TestMock_WithoutCountRunsUntilStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDoor{confirmIn: time.Minute}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		totals := runMock(t, ctx, MockConfig{Publish: d.publish, Rate: 2, Publishers: 3})
		if ran := time.Since(start); ran < time.Hour || ran > time.Hour+time.Minute {
			t.Errorf("ran for %s, want an hour and the minute that the last one takes", ran)
		}
		if want := (Totals{Published: len(d.requests)}); totals != want {
			t.Errorf("got %+v, want %+v", totals, want)
		}
		if want := 7200.0; math.Abs(float64(totals.Published)-want) > want/20 {
			t.Errorf("got %d published in an hour, want about %v", totals.Published, want)
		}
	})
}

// M08: gaps are random, uniformly between 0 and 1 s at two a second, as the original's are.
func TestMock_GapsAreRandomWithTheMeanThatWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDoor{}
		runMock(t, t.Context(), MockConfig{Publish: d.publish, Count: 10_001, Rate: 2, Seed: 1})
		gaps := d.gaps()
		var sum time.Duration
		below := 0
		for _, gap := range gaps {
			sum += gap
			if gap < 250*time.Millisecond {
				below++
			}
		}
		low, high := slices.Min(gaps), slices.Max(gaps)
		if low < 0 || low > 10*time.Millisecond || high < 990*time.Millisecond || high > time.Second {
			t.Errorf("got gaps from %s to %s, want nearly 0 to nearly 1s", low, high)
		}
		if mean := sum / 10_000; mean < 490*time.Millisecond || mean > 510*time.Millisecond {
			t.Errorf("got a mean gap of %s, want about 500ms", mean)
		}
		if below < 2300 || below > 2700 {
			t.Errorf("got %d of 10000 gaps in the lowest quarter, want about 2500", below)
		}
	})
}

// M08, M09: several publishers share the rate, and steady means steady for whoever receives from all of them.
func TestMock_SteadyGapsAreEvenAcrossAllPublishers(t *testing.T) {
	for _, publishers := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			d := &fakeDoor{}
			runMock(t, t.Context(), MockConfig{Publish: d.publish, Count: 300, Rate: 10, Steady: true, Publishers: publishers})
			for i, gap := range d.gaps() {
				if gap.Round(time.Microsecond) != 100*time.Millisecond {
					t.Fatalf("%d publishers: got gap %d of %s, want 100ms", publishers, i, gap)
				}
			}
		})
	}
}

func TestMock_WithoutRateDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		runMock(t, t.Context(), MockConfig{Publish: (&fakeDoor{}).publish, Count: 10_000, Publishers: 3})
		if took := time.Since(start); took != 0 {
			t.Errorf("took %s, want no time", took)
		}
	})
}

// The work must not be flooded when an outage ends, and a short hold-up must not lower the rate.
func TestMock_MakesGoodAShortDelayAndNotAnOutage(t *testing.T) {
	for _, tt := range []struct {
		held, want time.Duration // want: how long 100 requests take at 10 a second
	}{
		{held: 500 * time.Millisecond, want: 10 * time.Second},
		{held: time.Minute, want: 70 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &fakeDoor{}
			held := false
			publish := func(ctx context.Context, r Request, report func(Result)) error {
				if !held {
					held = true
					time.Sleep(tt.held)
				}
				return d.publish(ctx, r, report)
			}
			start := time.Now()
			runMock(t, t.Context(), MockConfig{Publish: publish, Count: 100, Rate: 10, Steady: true})
			if took := time.Since(start); took < tt.want-time.Second || took > tt.want+time.Second {
				t.Errorf("held up for %s: took %s, want about %s", tt.held, took, tt.want)
			}
		})
	}
}

// M05, M07, M09, M10: every end is counted and logged with who published what; at debug, unless it failed.
func TestMock_CountsAndLogsHowEachPublishEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDoor{end: func(n int) (Status, error) {
			switch n {
			case 2:
				return AlreadyQueued, nil
			case 3:
				return Failed, errors.New("no answer")
			}
			return Confirmed, nil
		}}
		var log bytes.Buffer
		logger := zerolog.New(zerolog.SyncWriter(&log))
		totals := runMock(t, t.Context(), MockConfig{Publish: d.publish, Count: 3, Rate: 1, Logger: logger})
		if want := (Totals{Published: 1, AlreadyQueued: 1, Failed: 1}); totals != want {
			t.Errorf("got %+v, want %+v", totals, want)
		}
		lines := bytes.Split(bytes.TrimSpace(log.Bytes()), []byte("\n"))
		for i, want := range []struct{ level, message string }{
			{"debug", "published"}, {"debug", "already queued"}, {"warn", "not published"},
		} {
			var got map[string]any
			if err := json.Unmarshal(lines[i], &got); err != nil {
				t.Fatal(err)
			}
			r := d.requests[i]
			for field, value := range map[string]any{
				"level": want.level, "message": want.message, "publisher": 1.0, "instance": r.Instance,
				"host": string(r.Host), "group": "default", "id": r.ID.String(),
			} {
				if got[field] != value {
					t.Errorf("line %d: got %s %v, want %v", i, field, got[field], value)
				}
			}
		}
	})
}

// Without an end to count to, it would otherwise fail for ever, as fast as it can.
func TestMock_EndsWhereGoingOnIsUseless(t *testing.T) {
	noStream := &fakeDoor{confirmIn: time.Second, end: func(int) (Status, error) { return Failed, ErrNoStream }}
	refused := errors.New("door is shut")
	for _, tt := range []struct {
		name    string
		publish func(context.Context, Request, func(Result)) error
		want    error
	}{
		{"NoStream", noStream.publish, ErrNoStream},
		{"NotTaken", func(context.Context, Request, func(Result)) error { return refused }, refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, err := NewMock(MockConfig{Publish: tt.publish, Rate: 100, Publishers: 3})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := m.Run(t.Context()); !errors.Is(err, tt.want) {
					t.Errorf("got error %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// All of it together, on a real server: random names collide, and everything adds up (M06, M07, M12).
func TestMock_OnARealServerPublishedIsStoredAndEverythingAddsUp(t *testing.T) {
	const count = 5000
	srv := natsdtest.Start(t)
	work := createWork(t, srv.JetStream(t))
	p := openPublisher(t, Config{Conn: srv.Connect(t)})
	totals := runMock(t, t.Context(), MockConfig{Publish: p.Publish, Count: count, Publishers: 3, Seed: 1})
	if totals.Published+totals.AlreadyQueued != count || totals.Failed != 0 {
		t.Errorf("got %+v, want %d in all and none failed", totals, count)
	}
	if totals.AlreadyQueued == 0 {
		t.Error("got no collision: use another seed")
	}
	if n := stored(t, work); n != totals.Published {
		t.Errorf("got %d stored, want the %d published", n, totals.Published)
	}
}
