package handler

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Fear: a server that is behind has a million extensions wait for the connection, each with a goroutine, and the worker
// dies of them. Or the one that waits for the connection keeps the others from being lost in time.
func TestSender_WhileOneIsSentTheOthersNeitherPileUpNorOutliveTheirLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		var s sender
		var stuckExtended, asked, lost atomic.Int64
		before := runtime.NumGoroutine()
		stuck := newLease(&s, time.Now(), func(func(error)) (func() bool, error) {
			stuckExtended.Add(1)
			time.Sleep(ackWait * 19 / 15) // the connection takes nothing until the others are lost, and this one not yet
			return func() bool { return true }, nil
		}, 2*ackWait+ackWait/2, func(time.Time, error) {})
		stuck.start()
		time.Sleep(ackWait * 5 / 6)
		synctest.Wait()
		if stuckExtended.Load() != 1 {
			t.Fatal("the first is not being sent")
		}
		leases := make([]*Lease, n)
		for i := range leases {
			leases[i] = newLease(&s, time.Now(), func(func(error)) (func() bool, error) {
				asked.Add(1)
				return func() bool { return true }, nil
			}, ackWait, func(_ time.Time, err error) {
				if errors.Is(err, ErrLeaseLost) {
					lost.Add(1)
				}
			})
			leases[i].start()
		}
		time.Sleep(ackWait / 3)
		synctest.Wait()
		if more := runtime.NumGoroutine() - before; more > 10 {
			t.Errorf("%d goroutines wait with %d leases", more, n)
		}
		time.Sleep(ackWait*9/10 - ackWait/3)
		synctest.Wait()
		if got := lost.Load(); got != n {
			t.Errorf("%d of %d leases were lost when their time was over", got, n)
		}
		time.Sleep(ackWait)
		synctest.Wait()
		if asked, lost := asked.Load(), lost.Load(); asked != 0 || lost != n {
			t.Errorf("%d leases were extended that were lost before, and %d of %d lost in the end", asked, lost, n)
		}
		for _, l := range append(leases, stuck) {
			l.release()
		}
	})
}

// Fear: who comes while another is being sent is forgotten, or is sent for when its time is over, or twice.
func TestSender_SendsOnceForEachThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		var s sender
		asked, events := make([]atomic.Int64, n), make([]atomic.Int64, n)
		leases := make([]*Lease, n)
		for i := range leases {
			leases[i] = newLease(&s, time.Now().Add(-ackWait/3), func(then func(error)) (func() bool, error) {
				asked[i].Add(1)
				time.Sleep(time.Millisecond)
				time.AfterFunc(time.Millisecond, func() { then(nil) })
				return func() bool { return true }, nil
			}, ackWait, func(time.Time, error) { events[i].Add(1) })
			leases[i].start()
		}
		time.Sleep(n / 2 * time.Millisecond)
		synctest.Wait()
		released, renewed := -1, -1
		for i := range leases {
			switch {
			case asked[i].Load() > 0:
			case released < 0:
				released = i
				leases[i].release()
			default:
				renewed = i
				if err := leases[i].Renew(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if renewed >= 0 {
				break
			}
		}
		time.Sleep(n * time.Millisecond)
		synctest.Wait()
		for i, l := range leases {
			want := int64(1)
			if i == released {
				want = 0
			}
			if a, e := asked[i].Load(), events[i].Load(); a != want || e != want {
				t.Errorf("lease %d (%d was released, %d renewed): got %d extensions and %d events", i, released, renewed, a, e)
			}
			l.release()
		}
	})
}
