package groupcommit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/store/groupcommit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A database records the batches that are committed to it, each of which waits until it may go on.
type database struct {
	mayGo chan struct{} // takes one for each commit; nil: at once

	mu      sync.Mutex
	batches [][]int
}

func (db *database) commit(batch []*groupcommit.Op[int]) {
	db.mu.Lock()
	var writes []int
	for _, op := range batch {
		writes = append(writes, op.Write)
		op.Err = errorOf(op.Write)
	}
	db.batches = append(db.batches, writes)
	db.mu.Unlock()
	if db.mayGo != nil {
		<-db.mayGo
	}
}

func (db *database) written() (all []int) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, batch := range db.batches {
		all = append(all, batch...)
	}
	slices.Sort(all)
	return all
}

func (db *database) sizes() (sizes []int) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, batch := range db.batches {
		sizes = append(sizes, len(batch))
	}
	return sizes
}

// A writeError is the error of the odd writes.
type writeError int

func (e writeError) Error() string { return fmt.Sprintf("write %d is odd", int(e)) }

func errorOf(write int) error {
	if write%2 == 1 {
		return writeError(write)
	}
	return nil
}

func TestQueue_LoneCallerWaitsForNobodyAndLearnsItsError(t *testing.T) {
	db := new(database)
	q := groupcommit.Start(groupcommit.Config{Committers: 1, MaxBatch: 100}, db.commit)
	defer q.Stop()
	for write := range 4 {
		if got, want := q.Do(t.Context(), write), errorOf(write); got != want {
			t.Errorf("write %d: got error %v, want %v", write, got, want)
		}
	}
	if diff := cmp.Diff([]int{1, 1, 1, 1}, db.sizes()); diff != "" {
		t.Errorf("sizes of batches (-want +got):\n%s", diff)
	}
}

func TestQueue_WhatCameDuringACommitSharesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &database{mayGo: make(chan struct{})}
		q := groupcommit.Start(groupcommit.Config{Committers: 1, MaxBatch: 30}, db.commit)
		var callers sync.WaitGroup
		do := func(write int) {
			callers.Go(func() {
				if got, want := q.Do(t.Context(), write), errorOf(write); got != want {
					t.Errorf("write %d: got error %v, want %v", write, got, want)
				}
			})
		}
		do(0)
		synctest.Wait() // its commit has begun
		for write := range 100 {
			do(1 + write)
		}
		synctest.Wait()
		close(db.mayGo)
		callers.Wait()
		q.Stop()
		if diff := cmp.Diff([]int{1, 30, 30, 30, 10}, db.sizes()); diff != "" {
			t.Errorf("sizes of batches (-want +got):\n%s", diff)
		}
	})
}

// A commit for every few of a crowd costs the disk many times what one for all does; but whoever comes alone, or when the
// next batch is full, or at the end, would wait for nothing.
func TestQueue_GathersWhatFollowsACrowdAndHasNobodyElseWait(t *testing.T) {
	for _, tt := range []struct {
		name         string
		first, later int // writes
		stop         bool
		want         time.Duration // until the later ones are done
		wantSizes    []int
	}{
		{"crowd", 9, 3, false, time.Minute, []int{1, 8, 3}},
		{"few", 8, 3, false, 0, []int{1, 7, 3}},
		{"next is full", 9, 20, false, 0, []int{1, 8, 20}},
		{"stopped", 9, 3, true, 0, []int{1, 8, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := &database{mayGo: make(chan struct{})}
				q := groupcommit.Start(groupcommit.Config{Committers: 1, MaxBatch: 20, Gather: time.Minute}, db.commit)
				var callers sync.WaitGroup
				do := func(n int) {
					for range n {
						callers.Go(func() { _ = q.Do(t.Context(), 0) })
					}
				}
				do(1)
				synctest.Wait() // its commit has begun
				do(tt.first - 1)
				synctest.Wait()
				db.mayGo <- struct{}{}
				synctest.Wait() // that of the others has begun
				began := time.Now()
				do(tt.later)
				if synctest.Wait(); tt.stop {
					callers.Go(q.Stop)
					synctest.Wait()
				}
				close(db.mayGo)
				callers.Wait()
				if got := time.Since(began); got != tt.want {
					t.Errorf("done after %s, want %s", got, tt.want)
				}
				q.Stop()
				if diff := cmp.Diff(tt.wantSizes, db.sizes()); diff != "" {
					t.Errorf("sizes of batches (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestQueue_CommittersCommitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &database{mayGo: make(chan struct{})}
		q := groupcommit.Start(groupcommit.Config{Committers: 3, MaxBatch: 2}, db.commit)
		var callers sync.WaitGroup
		for write := range 8 {
			callers.Go(func() { _ = q.Do(t.Context(), write) })
			synctest.Wait()
		}
		if diff := cmp.Diff([]int{1, 1, 1}, db.sizes()); diff != "" {
			t.Errorf("sizes of batches while none is done (-want +got):\n%s", diff)
		}
		close(db.mayGo)
		callers.Wait()
		q.Stop()
		if got := db.written(); len(got) != 8 {
			t.Errorf("got writes %v, want 8", got)
		}
	})
}

// A database that hangs must not keep its callers, nor be sent what they have asked again since.
func TestQueue_CallerWhoseContextEndsLeavesAndIsSparedIfNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &database{mayGo: make(chan struct{})}
		q := groupcommit.Start(groupcommit.Config{Committers: 1, MaxBatch: 100}, db.commit)
		impatient := errors.New("impatient")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, impatient)
		defer cancel()
		var callers sync.WaitGroup
		leave := func(write int) {
			callers.Go(func() {
				if err := q.Do(ctx, write); err != impatient {
					t.Errorf("write %d: got error %v, want %v", write, err, impatient)
				}
			})
			synctest.Wait()
		}
		leave(2) // is taken
		leave(4)
		callers.Go(func() {
			if err := q.Do(t.Context(), 6); err != nil {
				t.Errorf("write 6: %v", err)
			}
		})
		time.Sleep(2 * time.Minute)
		leave(8) // has come too late
		close(db.mayGo)
		callers.Wait()
		q.Stop()
		if diff := cmp.Diff([]int{2, 6}, db.written()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// What was used for one caller is used for others later: none may be told what another's write has come to.
func TestQueue_OfManyWhoComeAndGoEachLearnsItsOwnFate(t *testing.T) {
	db := new(database)
	q := groupcommit.Start(groupcommit.Config{Committers: 2, MaxBatch: 16}, db.commit)
	var callers sync.WaitGroup
	var next atomic.Int64
	var told sync.Map
	for range 64 {
		callers.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(100))*time.Microsecond)
				write := int(next.Add(1))
				err := q.Do(ctx, write)
				cancel()
				if err == nil || errors.As(err, new(writeError)) {
					told.Store(write, true)
				}
				if err != errorOf(write) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("write %d: got error %v", write, err)
				}
			}
		})
	}
	callers.Wait()
	q.Stop()
	written := db.written()
	if len(slices.Compact(slices.Clone(written))) != len(written) {
		t.Error("a write was committed twice")
	}
	told.Range(func(write, _ any) bool {
		if _, found := slices.BinarySearch(written, write.(int)); !found {
			t.Errorf("write %d is lost, though its caller was told", write)
		}
		return true
	})
}

func TestQueue_StopAnswersWhatWasTakenAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &database{mayGo: make(chan struct{})}
		q := groupcommit.Start(groupcommit.Config{Committers: 1, MaxBatch: 2}, db.commit)
		var callers, stops sync.WaitGroup
		for write := range 5 {
			callers.Go(func() {
				if got, want := q.Do(t.Context(), write), errorOf(write); got != want {
					t.Errorf("write %d: got error %v, want %v", write, got, want)
				}
			})
			synctest.Wait()
		}
		var stopped atomic.Int32
		for range 3 {
			stops.Go(func() {
				q.Stop()
				stopped.Add(1)
			})
		}
		synctest.Wait()
		if err := q.Do(t.Context(), 6); err != groupcommit.ErrClosed {
			t.Errorf("after Stop: got error %v, want %v", err, groupcommit.ErrClosed)
		}
		if n := stopped.Load(); n != 0 {
			t.Errorf("%d calls of Stop returned before the writes that were taken", n)
		}
		close(db.mayGo)
		callers.Wait()
		stops.Wait()
		q.Stop()
		if diff := cmp.Diff([]int{0, 1, 2, 3, 4}, db.written()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}
