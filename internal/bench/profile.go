package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"time"
)

// The rates at which contention is sampled while a profile is taken: one event of so many, and one a span of blocking of
// so many nanoseconds.
const (
	mutexFraction = 10
	blockRate     = 1_000_000
)

// traceFor is how long a trace is: of a longer one, at full speed, no viewer makes anything.
const traceFor = 2 * time.Second

// Profile takes profiles of this process into a folder, which it makes, until stop is called: cpu, heap, mutex, block and
// trace. Without a folder it does nothing.
func Profile(dir string) (stop func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make folder for profiles: %w", err)
	}
	cpu, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return nil, fmt.Errorf("cannot profile: %w", err)
	}
	traced, err := os.Create(filepath.Join(dir, "trace.out"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot profile: %w", err), cpu.Close())
	}
	runtime.SetMutexProfileFraction(mutexFraction)
	runtime.SetBlockProfileRate(blockRate)
	err = errors.Join(pprof.StartCPUProfile(cpu), trace.Start(traced))
	stopTrace := sync.OnceFunc(trace.Stop)
	short := time.AfterFunc(traceFor, stopTrace)
	stop = func() error {
		pprof.StopCPUProfile()
		short.Stop()
		stopTrace()
		runtime.SetMutexProfileFraction(0)
		runtime.SetBlockProfileRate(0)
		errs := []error{cpu.Close(), traced.Close()}
		for _, name := range []string{"heap", "allocs", "mutex", "block", "goroutine"} {
			errs = append(errs, writeProfile(dir, "", name))
		}
		return errors.Join(errs...)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot profile: %w", err), stop())
	}
	return stop, nil
}

// Snapshot writes the heap as it is now, and what goroutines there are, under names that begin so. Without a folder it
// does nothing.
func Snapshot(dir, prefix string) error {
	if dir == "" {
		return nil
	}
	return errors.Join(writeProfile(dir, prefix, "heap"), writeProfile(dir, prefix, "goroutine"))
}

func writeProfile(dir, prefix, name string) error {
	f, err := os.Create(filepath.Join(dir, prefix+name+".pprof"))
	if err != nil {
		return fmt.Errorf("cannot write profile: %w", err)
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}
