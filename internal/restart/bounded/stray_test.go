package bounded_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
)

// Fear: a driver that hangs holds its message past every deadline, and the worker cannot stop.
func TestSlot_CallThatIgnoresItsContextIsGivenUp(t *testing.T) {
	eachCall(t, func(t *testing.T, callIn func(context.Context, *bounded.Slot) error, f *fake) {
		letGo := make(chan struct{})
		f.do(func(context.Context) { <-letGo })
		d := newDriver(t, config(f, 1))
		s := acquire(t, d)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()

		called := time.Now()
		err := callIn(ctx, s)
		if took := time.Since(called); took != time.Second+overrun {
			t.Errorf("took %s, want %s", took, time.Second+overrun)
		}
		if !errors.Is(err, bounded.ErrAbandoned) {
			t.Errorf("got %v, want %v", err, bounded.ErrAbandoned)
		}
		wantUnknown(t, err)
		wantInUse(t, d, 1, 1)
		if err := callIn(t.Context(), s); err == nil {
			t.Error("a second call runs beside the stray, and so would a third")
		}
		wantInUse(t, d, 1, 1)

		close(letGo)
		synctest.Wait()
		wantInUse(t, d, 1, 0)
		if err := callIn(t.Context(), s); err != nil {
			t.Errorf("call after the stray has returned: got %v", err)
		}
		s.Release()
		wantInUse(t, d, 0, 0)
	})
}

// Fear: each message leaves a goroutine behind, with a socket or a process, until the machine has no more of them.
func TestDriver_StraysKeepTheirPlacesUntilTheyReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 3
		letGo := make(chan struct{})
		f := &fake{}
		f.do(func(context.Context) { <-letGo })
		d := newDriver(t, config(f, slots))
		for range slots {
			s := acquire(t, d)
			if _, err := s.Probe(t.Context(), host); !errors.Is(err, bounded.ErrAbandoned) {
				t.Fatalf("Probe: got %v, want %v", err, bounded.ErrAbandoned)
			}
			s.Release()
		}
		wantInUse(t, d, slots, slots)

		stopped := errors.New("stopped")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, stopped)
		defer cancel()
		if _, err := d.Acquire(ctx); err != stopped {
			t.Errorf("Acquire: got %v, want %v", err, stopped)
		}

		letGo <- struct{}{}
		synctest.Wait()
		wantInUse(t, d, slots-1, slots-1)
		acquire(t, d).Release()
		close(letGo)
		synctest.Wait()
		wantInUse(t, d, 0, 0)
	})
}

func TestDriver_EndedContextAcquiresNothing(t *testing.T) {
	d := newDriver(t, config(&fake{}, 1))
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	for range 100 {
		if _, err := d.Acquire(ctx); err != stopped {
			t.Fatalf("Acquire: got %v, want %v", err, stopped)
		}
	}
	wantInUse(t, d, 0, 0)
}

func TestSlot_IsReleasedOnce(t *testing.T) {
	d := newDriver(t, config(&fake{}, 2))
	first, second := acquire(t, d), acquire(t, d)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(first.Release)
	}
	wg.Wait()
	wantInUse(t, d, 1, 0)
	if _, err := first.Probe(t.Context(), host); err == nil {
		t.Error("Probe in a slot that was released: got nil, want an error")
	}
	second.Release()
	wantInUse(t, d, 0, 0)
}

// The operator hears of a driver that is stuck when it happens, and what came of it in the end.
func TestDriver_TellsOfAStrayTwice(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func() error
		want map[string]any
	}{
		{"Returns", func() error { return nil }, nil},
		{"Fails", func() error { return restart.ErrRefused }, map[string]any{"error": "refused for now"}},
		{"Panics", func() error { panic("boom") }, map[string]any{"error": fmt.Sprintf("cannot restart host %q: panic: boom", host)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				letGo := make(chan struct{})
				var log bytes.Buffer
				cfg := config(&fake{restart: func(context.Context, restart.Trigger) error {
					<-letGo
					return tt.end()
				}}, 1)
				cfg.Logger = zerolog.New(&log)
				d := newDriver(t, cfg)
				s := acquire(t, d)
				if err := s.Restart(t.Context(), trigger); !errors.Is(err, bounded.ErrAbandoned) {
					t.Errorf("Restart: got %v, want %v", err, bounded.ErrAbandoned)
				}
				s.Release()
				wantLine(t, &log, map[string]any{
					"level": "error", "component": "driver", "host": string(host), "call": "restart", "strays": 1.0,
					"message": "driver ignores its deadline",
				})
				close(letGo)
				synctest.Wait()
				want := map[string]any{
					"level": "warn", "component": "driver", "host": string(host), "call": "restart", "strays": 0.0,
					"message": "driver returned long after its deadline",
				}
				for field, value := range tt.want {
					want[field] = value
				}
				wantLine(t, &log, want)
				if log.Len() != 0 {
					t.Errorf("log: %s, want no more", &log)
				}
			})
		})
	}
}

// wantLine takes a line off the log. A stack is not compared.
func wantLine(t *testing.T, log *bytes.Buffer, want map[string]any) {
	t.Helper()
	line, _ := log.ReadBytes('\n')
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("log: %q: %v", line, err)
	}
	delete(got, "stack")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// Whatever a driver does, there are never more calls than slots, and in the end every slot is free again, once.
func TestDriver_NeverMakesMoreCallsThanSlots(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		callers := rapid.SampledFrom([]int{10, 100, 1000}).Draw(rt, "callers")
		slots := rapid.IntRange(1, 20).Draw(rt, "slots")
		// How long the n-th call takes, and whether it heeds its context, panics, or is released while it runs. No timer is due
		// at once: some of those together kill the race detector (https://go.dev/issue/78156).
		takes := rapid.SliceOfN(rapid.IntRange(1, 20), 1, 30).Draw(rt, "takes")
		kind := rapid.SampledFrom([]string{"heeds", "ignores", "panics", "released"})
		kinds := rapid.SliceOfN(kind, 1, 7).Draw(rt, "kinds")
		var most int64
		var d *bounded.Driver
		synctest.Test(t, func(t *testing.T) { d, most = crowd(t, callers, slots, takes, kinds) })
		if left := d.InUse() + d.Strays(); most > int64(slots) || left != 0 {
			rt.Fatalf("%d calls at once in %d slots; %d in use or stray in the end", most, slots, left)
		}
	})
}

// crowd lets many goroutines call, and returns when all calls have returned, strays too.
func crowd(t *testing.T, callers, slots int, takes []int, kinds []string) (d *bounded.Driver, most int64) {
	var running, highest, calls atomic.Int64
	f := &fake{}
	f.do(func(ctx context.Context) {
		now := running.Add(1)
		defer running.Add(-1)
		for high := highest.Load(); now > high && !highest.CompareAndSwap(high, now); high = highest.Load() {
		}
		n := int(calls.Add(1))
		takes := time.After(time.Duration(takes[n%len(takes)]) * time.Second)
		switch kinds[n%len(kinds)] {
		case "ignores":
			<-takes
		case "panics":
			panic("boom")
		default:
			select {
			case <-takes:
			case <-ctx.Done():
			}
		}
	})
	d = newDriver(t, config(f, slots))
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			s := acquire(t, d)
			defer s.Release()
			if kinds[i%len(kinds)] == "released" {
				time.AfterFunc(time.Duration(1+i%3)*time.Second, s.Release)
			}
			_, _ = s.Probe(t.Context(), host)
			_ = s.Restart(t.Context(), restart.Trigger{Host: host, From: "1", Within: 5 * time.Second})
			s.Release()
		})
	}
	wg.Wait()
	time.Sleep(time.Hour) // every stray returns
	synctest.Wait()
	return d, highest.Load()
}
