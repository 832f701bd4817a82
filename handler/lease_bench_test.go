package handler

import (
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// BenchmarkLease is a lease that is taken, extended once, and released.
func BenchmarkLease(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var answer func(error)
		l := newLease(new(sender), time.Now(), func(then func(error)) (func() bool, error) {
			answer = then
			return func() bool { return true }, nil
		}, ackWait, func(time.Time, error) {})
		l.start()
		l.mu.Lock()
		l.ask()
		l.mu.Unlock()
		answer(nil)
		if held, extended := l.release(); !held || extended != 1 {
			b.Fatal(held, extended)
		}
	}
}

// BenchmarkGate is the gates as each message meets them before its trigger.
func BenchmarkGate(b *testing.B) {
	h := newIdleHandler(b, &quickHost{}, Config{})
	j := &Job{Delivery: newDelivery(newRequest(b)), handler: h, Request: newRequest(b)}
	p := &passage{Restarter: h.cfg.Work.(*Restarter), job: j}
	state := &restart.State{Epoch: "1", Ready: true}
	b.ReportAllocs()
	for b.Loop() {
		if refusal := p.gate(); refusal != nil {
			b.Fatal(refusal)
		}
		if answer := p.ask(state); answer.Verdict != policy.Go {
			b.Fatal(answer)
		}
	}
}
