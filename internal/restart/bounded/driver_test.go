package bounded_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	host restart.Host = "cattle-a1b2.example.net"

	probeTimeout   = 10 * time.Second
	restartTimeout = 2 * time.Minute
	overrun        = 3 * time.Second
)

var trigger = restart.Trigger{Host: host, From: "1", Within: time.Hour, Attempt: 1}

// A fake is a driver that does as it is told.
type fake struct {
	probe   func(context.Context) (restart.State, error)
	restart func(context.Context, restart.Trigger) error
}

func (f *fake) Traits() restart.Traits { return restart.Traits{MaxDelay: time.Minute} }

func (f *fake) Probe(ctx context.Context, _ restart.Host) (restart.State, error) { return f.probe(ctx) }

func (f *fake) Restart(ctx context.Context, t restart.Trigger) error { return f.restart(ctx, t) }

func TestNew_RefusesWhatCannotBeAndNamesTheField(t *testing.T) {
	for field, spoil := range map[string]func(*bounded.Config){
		"driver":          func(c *bounded.Config) { c.Driver = nil },
		"slots":           func(c *bounded.Config) { c.Slots = 0 },
		"probe_timeout":   func(c *bounded.Config) { c.ProbeTimeout = 0 },
		"restart_timeout": func(c *bounded.Config) { c.RestartTimeout = -1 },
		"overrun":         func(c *bounded.Config) { c.Overrun = -1 },
	} {
		t.Run(field, func(t *testing.T) {
			cfg := config(&fake{}, 1)
			spoil(&cfg)
			if _, err := bounded.New(cfg); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
				t.Errorf("New(%+v): got %v, want an error for %s", cfg, err, field)
			}
		})
	}
}

func TestSlot_PassesOnWhatTheDriverIsGivenAndAnswers(t *testing.T) {
	state := restart.State{Epoch: "7", Since: time.Unix(1, 0), Ready: true}
	var got restart.Trigger
	d := newDriver(t, config(&fake{
		probe: func(context.Context) (restart.State, error) { return state, nil },
		restart: func(_ context.Context, t restart.Trigger) error {
			got = t
			return &restart.RefusedError{After: time.Minute, Err: errors.New("busy")}
		},
	}, 1))
	if d.Traits() != (&fake{}).Traits() {
		t.Errorf("Traits: got %+v, want the driver's", d.Traits())
	}
	s := acquire(t, d)
	defer s.Release()
	if seen, err := s.Probe(t.Context(), host); seen != state || err != nil {
		t.Errorf("Probe: got %+v, %v, want %+v", seen, err, state)
	}
	var refused *restart.RefusedError
	if err := s.Restart(t.Context(), trigger); !errors.As(err, &refused) || refused.After != time.Minute {
		t.Errorf("Restart: got %v, want it refused for a minute", err)
	}
	if got != trigger {
		t.Errorf("trigger: got %+v, want %+v", got, trigger)
	}
}

// Fear: an empty epoch differs from every other, so a host of which nothing is known counts as restarted.
func TestSlot_ProbeWithoutAnEpochIsUnknown(t *testing.T) {
	d := newDriver(t, config(&fake{probe: func(context.Context) (restart.State, error) {
		return restart.State{Ready: true}, nil
	}}, 1))
	s := acquire(t, d)
	defer s.Release()
	_, err := s.Probe(t.Context(), host)
	wantUnknown(t, err)
}

func TestSlot_StateBesideAnErrorIsNotPassedOn(t *testing.T) {
	down := errors.New("it is down")
	d := newDriver(t, config(&fake{probe: func(context.Context) (restart.State, error) {
		return restart.State{Epoch: "7", Ready: true}, down
	}}, 1))
	s := acquire(t, d)
	defer s.Release()
	if state, err := s.Probe(t.Context(), host); state != (restart.State{}) || !errors.Is(err, down) {
		t.Errorf("Probe: got %+v, %v, want no state and the driver's error", state, err)
	}
}

// Fear: one host with an odd answer takes the worker down, and with it a thousand other hosts' restarts.
func TestSlot_PanicIsUnknownAndTheNextCallWorks(t *testing.T) {
	for name, bad := range map[string]func(){
		"Text":    func() { panic("boom") },
		"AClass":  func() { panic(restart.ErrRefused) },
		"Nil":     func() { panic(nil) },
		"Runtime": func() { _ = []int(nil)[len(os.Args)] },
	} {
		t.Run(name, func(t *testing.T) {
			eachCall(t, func(t *testing.T, callIn func(context.Context, *bounded.Slot) error, f *fake) {
				d := newDriver(t, config(f, 1))
				f.do(func(context.Context) { bad() })
				s := acquire(t, d)
				err := callIn(t.Context(), s)
				wantUnknown(t, err)
				var panicked *bounded.PanicError
				if !errors.As(err, &panicked) || panicked.Value == nil || !strings.Contains(string(panicked.Stack), "driver_test.go") {
					t.Errorf("got %#v, want a PanicError with the stack of the panic", err)
				}
				f.do(func(context.Context) {})
				if err := callIn(t.Context(), s); err != nil {
					t.Errorf("next call in the slot: got %v", err)
				}
				s.Release()
				wantInUse(t, d, 0, 0)
			})
		})
	}
}

func TestSlot_DriverThatEndsItsGoroutineIsUnknown(t *testing.T) {
	eachCall(t, func(t *testing.T, callIn func(context.Context, *bounded.Slot) error, f *fake) {
		d := newDriver(t, config(f, 1))
		f.do(func(context.Context) { runtime.Goexit() })
		s := acquire(t, d)
		wantUnknown(t, callIn(t.Context(), s))
		s.Release()
		wantInUse(t, d, 0, 0)
	})
}

func TestSlot_CallEndsWithItsTimeout(t *testing.T) {
	const soon = time.Second
	for _, tt := range []struct {
		name   string
		within time.Duration
		want   time.Duration
	}{
		{"OfTheRestart", time.Hour, restartTimeout},
		{"OfTheTrigger", soon, soon},
		{"OfATriggerThatAllowsNone", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				f.do(func(ctx context.Context) { <-ctx.Done() })
				d := newDriver(t, config(f, 1))
				s := acquire(t, d)
				defer s.Release()
				called := time.Now()
				err := s.Restart(t.Context(), restart.Trigger{Host: host, From: "1", Within: tt.within})
				if took := time.Since(called); took != tt.want {
					t.Errorf("Restart: took %s, want %s", took, tt.want)
				}
				wantUnknown(t, err)
			})
		})
	}
	t.Run("OfTheProbe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			f.do(func(ctx context.Context) { <-ctx.Done() })
			s := acquire(t, newDriver(t, config(f, 1)))
			defer s.Release()
			called := time.Now()
			_, err := s.Probe(t.Context(), host)
			if took := time.Since(called); took != probeTimeout {
				t.Errorf("Probe: took %s, want %s", took, probeTimeout)
			}
			wantUnknown(t, err)
		})
	})
}

// A trigger that goes out after the lease was lost may meet the next worker's.
func TestSlot_CallWhoseTimeIsOverReachesNothing(t *testing.T) {
	eachCall(t, func(t *testing.T, callIn func(context.Context, *bounded.Slot) error, f *fake) {
		f.do(func(context.Context) { t.Error("the driver was called") })
		s := acquire(t, newDriver(t, config(f, 1)))
		defer s.Release()
		lost := errors.New("lease lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(lost)
		if err := callIn(ctx, s); !errors.Is(err, lost) {
			t.Errorf("got %v, want the context's cause", err)
		}
	})
}

// An answer that comes late says more than none: that the host was restarted, or was not.
func TestSlot_AnswerWithinTheOverrunCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t, config(&fake{restart: func(ctx context.Context, _ restart.Trigger) error {
			<-ctx.Done()
			time.Sleep(overrun - 1)
			return restart.ErrChanged
		}}, 1))
		s := acquire(t, d)
		if err := s.Restart(t.Context(), trigger); !errors.Is(err, restart.ErrChanged) {
			t.Errorf("Restart: got %v, want the driver's answer", err)
		}
		s.Release()
		wantInUse(t, d, 0, 0)
	})
}

// do makes both calls of the driver do so, and succeed where that returns.
func (f *fake) do(what func(context.Context)) {
	f.probe = func(ctx context.Context) (restart.State, error) {
		what(ctx)
		if ctx.Err() != nil {
			return restart.State{}, ctx.Err()
		}
		return restart.State{Epoch: "1", Ready: true}, nil
	}
	f.restart = func(ctx context.Context, _ restart.Trigger) error {
		what(ctx)
		return ctx.Err()
	}
}

// eachCall tests a probe and a restart, each with a driver that can be told what to do.
func eachCall(t *testing.T, test func(*testing.T, func(context.Context, *bounded.Slot) error, *fake)) {
	for name, callIn := range map[string]func(context.Context, *bounded.Slot) error{
		"Probe": func(ctx context.Context, s *bounded.Slot) error {
			_, err := s.Probe(ctx, host)
			return err
		},
		"Restart": func(ctx context.Context, s *bounded.Slot) error { return s.Restart(ctx, trigger) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, callIn, &fake{}) })
		})
	}
}

func config(d restart.Driver, slots int) bounded.Config {
	return bounded.Config{
		Driver: d, Slots: slots, ProbeTimeout: probeTimeout, RestartTimeout: restartTimeout, Overrun: overrun,
	}
}

func newDriver(t testing.TB, cfg bounded.Config) *bounded.Driver {
	t.Helper()
	d, err := bounded.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func acquire(t testing.TB, d *bounded.Driver) *bounded.Slot {
	t.Helper()
	s, err := d.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantInUse(t *testing.T, d *bounded.Driver, slots, strays int) {
	t.Helper()
	if d.InUse() != slots || d.Strays() != strays {
		t.Errorf("got %d slots in use and %d strays, want %d and %d", d.InUse(), d.Strays(), slots, strays)
	}
}

func wantUnknown(t *testing.T, err error) {
	t.Helper()
	for _, class := range []error{nil, restart.ErrChanged, restart.ErrRefused, restart.ErrPermanent} {
		if errors.Is(err, class) {
			t.Errorf("got %v, want an error of no class", err)
		}
	}
}
