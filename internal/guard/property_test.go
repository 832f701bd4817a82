package guard_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// A play is what happens in a fleet, round by round: in each, every worker sees one result, each at its own time.
type play struct {
	Workers     int
	ResumeAfter int
	Successes   int
	Rounds      []round
}

type round struct {
	Verdicts []monitor.Verdict // of each worker
	Event    string
	Worker   int // to which it happens
}

func drawPlay(rt *rapid.T) play {
	p := play{
		Workers:     rapid.IntRange(1, 4).Draw(rt, "workers"),
		ResumeAfter: rapid.SampledFrom([]int{0, 3, 4}).Draw(rt, "resume after"),
		Successes:   rapid.IntRange(1, 4).Draw(rt, "successes"),
	}
	verdict := rapid.SampledFrom([]monitor.Verdict{good, good, good, good, good, bad, unknown})
	event := rapid.SampledFrom([]string{"", "", "", "", "crash", "stop", "start", "resume", "away", "back"})
	for range rapid.IntRange(1, 40).Draw(rt, "rounds") {
		p.Rounds = append(p.Rounds, round{
			rapid.SliceOfN(verdict, p.Workers, p.Workers).Draw(rt, "verdicts"), event.Draw(rt, "event"), rapid.IntRange(0, p.Workers-1).Draw(rt, "worker"),
		})
	}
	return p
}

// A stage is a fleet, and what it has come to.
type stage struct {
	play
	bucket  *bucket
	workers []*worker // nil: it is down
	cleared []uint64  // of each worker, how many times an entry had been taken away when its monitor failed last
	lifted  uint64    // entries that were taken away, by whomever
	wrong   []string
}

func (s *stage) wrongf(format string, args ...any) {
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

func (s *stage) start(t *testing.T, i int) {
	s.workers[i] = start(t, config(s.bucket, fmt.Sprint("worker-", i), s.ResumeAfter))
	s.workers[i].monitor.successes = s.Successes
}

// crash ends a worker that can write nothing any more. The server is away for all others too, who see nothing meanwhile.
func (s *stage) crash(w *worker) {
	away := s.bucket.away
	s.bucket.set(func() { s.bucket.away = errAway })
	w.stop()
	s.bucket.set(func() { s.bucket.away = away })
}

func (s *stage) happens(t *testing.T, r round) {
	switch r.Event {
	case "crash":
		if w := s.workers[r.Worker]; w != nil {
			s.workers[r.Worker] = nil
			s.crash(w)
		}
	case "stop":
		if w := s.workers[r.Worker]; w != nil {
			s.workers[r.Worker] = nil
			w.stop()
		}
	case "start":
		if s.workers[r.Worker] == nil {
			s.start(t, r.Worker)
		}
	case "resume":
		if s.bucket.has(key) {
			s.lifted++
		}
		s.bucket.resume(key)
	case "away":
		s.bucket.set(func() { s.bucket.away = errAway })
	case "back":
		s.bucket.set(func() { s.bucket.away = nil })
		time.Sleep(every / 5) // in which it is tried again
	}
}

// judge looks at what holds whenever nothing moves.
func (s *stage) judge(at string) {
	for i, w := range s.workers {
		if w == nil {
			continue
		}
		held := len(w.Holds(group)) > 0
		switch {
		case w.monitor.state == monitor.StateUnknown && !held:
			s.wrongf("%s: %s holds nothing back, and knows nothing yet", at, w.name)
		case w.monitor.state == monitor.StateFailed && s.cleared[i] == s.lifted && !held && !s.bucket.has(key):
			s.wrongf("%s: %s has failed, and nothing holds the group back", at, w.name)
		}
	}
}

// sees has a worker see a result.
func (s *stage) sees(i int, v monitor.Verdict) {
	w := s.workers[i]
	before := w.monitor.state
	o := w.monitor.result(v, "seen by "+w.name)
	if before != monitor.StateFailed && o.After == monitor.StateFailed {
		s.cleared[i] = s.lifted
	}
	w.Observe(o)
	synctest.Wait()
}

func (s *stage) perform(t *testing.T) {
	s.bucket.lifting = func(string) {
		s.lifted++
		if s.ResumeAfter == 0 {
			s.wrongf("resumed by itself")
		}
		for _, w := range s.workers {
			if w != nil && w.monitor.state == monitor.StateFailed {
				s.wrongf("resumed while the monitor of %s is failed", w.name)
			}
		}
	}
	var stands entry // last, when since had been lifted
	var since uint64
	for i := range s.workers {
		s.start(t, i)
	}
	synctest.Wait()
	for n, r := range s.Rounds {
		s.happens(t, r)
		for i, v := range r.Verdicts {
			time.Sleep(every / time.Duration(s.Workers))
			if s.workers[i] == nil {
				continue
			}
			s.sees(i, v)
			s.judge(fmt.Sprintf("round %d, worker %d", n, i))
			now := s.bucket.standing()[key]
			if stands.revision != 0 && now.revision != 0 && since == s.lifted && (now.By != stands.By || !now.Since.Equal(stands.Since)) {
				s.wrongf("round %d: the entry of %s became one of %s", n, stands.By, now.By)
			}
			stands, since = now, s.lifted
		}
	}
	s.endWell(t)
}

// endWell has everybody see that all is well, for long enough.
func (s *stage) endWell(t *testing.T) {
	s.bucket.set(func() { s.bucket.away = nil })
	time.Sleep(every)
	paused := s.bucket.has(key)
	for i, w := range s.workers {
		if w == nil {
			s.start(t, i)
		}
	}
	for range 2*s.ResumeAfter + s.Successes + 2 {
		for i := range s.workers {
			s.sees(i, good)
		}
		time.Sleep(every)
	}
	if got, want := s.bucket.has(key), paused && s.ResumeAfter == 0; got != want {
		s.wrongf("all is well: paused %t, want %t", got, want)
	}
	for _, w := range s.workers {
		if holds := w.Holds(group); len(holds) > 0 {
			s.wrongf("all is well, and %s holds the group back: %v", w.name, holds)
		}
	}
}

// Whatever workers see, and whichever of them die: nothing is triggered between a failure and its pause, nobody resumes
// by itself what another worker sees fail, and where all is well in the end, nothing is held back that may go on.
func TestGuard_FleetNeitherGoesOnTooEarlyNorWaitsForEver(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlay(rt)
		s := &stage{play: p}
		synctest.Test(t, func(t *testing.T) {
			s.bucket = newBucket()
			s.workers, s.cleared = make([]*worker, p.Workers), make([]uint64, p.Workers)
			s.perform(t)
		})
		for _, wrong := range s.wrong {
			rt.Error(wrong)
		}
	})
}
