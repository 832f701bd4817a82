package publisher

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"
)

// The subject is full because of another request: the caller is told which, and how far it is.
func TestRefusal_NamesTheRequestInTheWay(t *testing.T) {
	for _, tt := range []struct {
		name   string
		phases Phases
		want   Phase
	}{
		{"WithoutAJournal", nil, PhaseQueued},
		{"Restarting", fakePhases(func() (Phase, error) { return PhaseRestarting, nil }), PhaseRestarting},
		{"WaitingToRetry", fakePhases(func() (Phase, error) { return PhaseWaiting, nil }), PhaseWaiting},
		{"WithAJournalThatIsAway", fakePhases(func() (Phase, error) { return "", errors.New("away") }), PhaseQueued},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &fakeBroker{}
				other := validRequest(t, "web-1")
				b.enqueue(t, other)
				got, took := publishOne(t, newFaked(t, b, Config{Phases: tt.phases}), validRequest(t, "web-1"))
				if got.Status != AlreadyQueued || got.QueuedID != other.ID || got.QueuedPhase != tt.want || got.Err != nil {
					t.Errorf("got %+v, want already queued: %s, %s", got, other.ID, tt.want)
				}
				if took != 0 {
					t.Errorf("took %s, want an answer at once", took)
				}
			})
		})
	}
}

// A message that a foreign publisher got wrong is in the way too, until a worker dead-letters it.
func TestRefusal_NamesAMalformedMessageByTheIDThatWorkersGiveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{}
		r := validRequest(t, "web-1")
		b.enqueue(t, r)
		for _, msg := range b.queued {
			msg.Data = []byte("restart it, please")
		}
		got, _ := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1"))
		if got.Status != AlreadyQueued || got.QueuedID == r.ID || got.QueuedID.Version() != 5 {
			t.Errorf("got %+v, want already queued under a derived id", got)
		}
	})
}

// Our own first try was stored, and the server, restarted since, no longer knows the id for a duplicate.
func TestRefusal_BecauseOfOurOwnEarlierAttemptIsAConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{}
		b.before = func(n int, _ *nats.Msg) fault {
			if n == 2 {
				clear(b.ids)
			}
			return fault{lose: n == 1, carryOn: n > 1}
		}
		got, _ := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1"))
		if got.Status != Confirmed || got.Err != nil {
			t.Errorf("got %+v, want confirmed", got)
		}
		if n := b.attempted(); n != 2 {
			t.Errorf("got %d attempts, want 2", n)
		}
	})
}

// A cluster may refuse for a moment after the ack of the request before.
func TestRefusal_ForARequestThatIsGoneIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{before: once(fault{err: fullSubject})}
		got, took := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1"))
		if got.Status != Confirmed {
			t.Errorf("got %+v, want confirmed", got)
		}
		if took > 100*time.Millisecond {
			t.Errorf("took %s, want no more than a moment", took)
		}
	})
}

// Right after an ack a cluster refuses, and shows the request that was acked: on three nodes in 1 try of 8 at least.
func TestRefusal_OfAClusterIsNotTakenForThatOfAnotherRequestAtFirst(t *testing.T) {
	t.Run("TheOtherWasJustAcked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &fakeBroker{replicas: 3}
			acked := validRequest(t, "web-1")
			b.enqueue(t, acked)
			time.AfterFunc(20*time.Millisecond, func() { b.consume(acked) })
			if got, _ := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1")); got.Status != Confirmed {
				t.Errorf("got %+v, want confirmed", got)
			}
		})
	})
	t.Run("TheOtherIsQueued", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &fakeBroker{replicas: 3}
			other := validRequest(t, "web-1")
			b.enqueue(t, other)
			got, took := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1"))
			if got.Status != AlreadyQueued || got.QueuedID != other.ID {
				t.Errorf("got %+v, want already queued behind %s", got, other.ID)
			}
			if took < refusalDoubt || took > 3*refusalDoubt {
				t.Errorf("took %s, want a little more than %s", took, refusalDoubt)
			}
		})
	})
}

func TestRefusal_ForARequestThatHasEndedIsTriedAgainUntilItHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{}
		other := validRequest(t, "web-1")
		b.enqueue(t, other)
		time.AfterFunc(time.Second, func() { b.consume(other) })
		ended := fakePhases(func() (Phase, error) { return PhaseEnded, nil })
		got, took := publishOne(t, newFaked(t, b, Config{Phases: ended}), validRequest(t, "web-1"))
		if got.Status != Confirmed || took < time.Second {
			t.Errorf("got %+v after %s, want confirmed after a second", got, took)
		}
	})
}

func TestRefusal_IsNotWaitedOutForEver(t *testing.T) {
	t.Run("TheOtherHasEndedAndStays", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &fakeBroker{}
			other := validRequest(t, "web-1")
			b.enqueue(t, other)
			ended := fakePhases(func() (Phase, error) { return PhaseEnded, nil })
			got, took := publishOne(t, newFaked(t, b, Config{Phases: ended}), validRequest(t, "web-1"))
			if got.Status != AlreadyQueued || got.QueuedID != other.ID || got.QueuedPhase != PhaseEnded {
				t.Errorf("got %+v, want already queued: %s, ended", got, other.ID)
			}
			if took < refusalPatience || took > 2*refusalPatience {
				t.Errorf("took %s, want about %s", took, refusalPatience)
			}
		})
	})
	// The same code also means a stream that is full for another reason, which only its text tells.
	t.Run("NothingIsThere", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &fakeBroker{before: always(fault{err: fullSubject})}
			got, took := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1"))
			if got.Status != Failed || !errors.Is(got.Err, fullSubject) || errors.Is(got.Err, ErrUnanswered) {
				t.Errorf("got %+v, want failed with the server's reason", got)
			}
			if took < refusalPatience || took > 2*refusalPatience {
				t.Errorf("took %s, want about %s", took, refusalPatience)
			}
		})
	})
}

// Whatever goes wrong for a while, the request arrives, once, under its id.
func TestAttempt_IsRepeatedUnderTheSameID(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault fault
	}{
		{"NotSentInAnOutage", fault{sendErr: nats.ErrReconnectBufExceeded}},
		{"Disconnected", fault{err: nats.ErrDisconnected}},
		{"NeverArrived", fault{silent: true}},
		{"AnswerLost", fault{lose: true}},
		{"LeaderElection", fault{err: jetstream.ErrNoStreamResponse}},
		{"ServerBusy", fault{err: busy}},
		{"SameIDIsBeingStored", fault{err: &jetstream.APIError{Code: 409, ErrorCode: codeDuplicateConflict}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &fakeBroker{before: once(tt.fault)}
				r := validRequest(t, "web-1")
				got, _ := publishOne(t, newFaked(t, b, Config{}), r)
				if got.Status != Confirmed {
					t.Errorf("got %+v, want confirmed", got)
				}
				if id := r.ID.String(); !slices.Equal(b.attempts, []string{id, id}) || len(b.queued) != 1 {
					t.Errorf("got attempts %v and %d stored, want two of %s and one stored", b.attempts, len(b.queued), id)
				}
			})
		})
	}
}

// A node that was just elected may not know of a stream that is there. A mock publisher would end of it, in the middle of
// its run.
func TestAbsence_OfTheStreamIsNotBelievedAtFirst(t *testing.T) {
	for _, tt := range []struct {
		name   string
		absent time.Duration
		want   Status
	}{
		{"OfAMoment", refusalPatience / 2, Confirmed},
		{"Lasting", time.Hour, Failed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				found := time.Now().Add(tt.absent)
				absent := func() bool { return time.Now().Before(found) }
				b := &fakeBroker{absent: absent, before: func(int, *nats.Msg) fault {
					if absent() {
						return fault{err: jetstream.ErrNoStreamResponse}
					}
					return fault{carryOn: true}
				}}
				got, took := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1"))
				if got.Status != tt.want || errors.Is(got.Err, ErrNoStream) != (tt.want == Failed) {
					t.Errorf("got %+v, want %v", got, tt.want)
				}
				if took > 2*refusalPatience {
					t.Errorf("took %s, want about %s", took, refusalPatience)
				}
			})
		})
	}
}

func TestFailure_ComesAtOnceWhereTryingAgainIsUseless(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault fault
		want  error
	}{
		{"ConnectionClosed", fault{sendErr: nats.ErrConnectionClosed}, nats.ErrConnectionClosed},
		{"TooLarge", fault{sendErr: nats.ErrMaxPayload}, nats.ErrMaxPayload},
		{"StreamIsSealed", fault{err: sealed}, sealed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &fakeBroker{before: always(tt.fault)}
				got, took := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1"))
				if got.Status != Failed || !errors.Is(got.Err, tt.want) || errors.Is(got.Err, ErrUnanswered) {
					t.Errorf("got %+v, want failed with %v", got, tt.want)
				}
				if took != 0 || b.attempted() != 1 {
					t.Errorf("got %d attempts in %s, want one", b.attempted(), took)
				}
			})
		})
	}
}

// Somebody who reads "failed" and asks again must know whether the first may be under way.
func TestFailure_SaysWhetherTheRequestMayBeStoredAllTheSame(t *testing.T) {
	for _, tt := range []struct {
		name       string
		fault      fault
		unanswered bool
	}{
		{"NeverSent", fault{sendErr: nats.ErrReconnectBufExceeded}, false},
		{"RefusedForNow", fault{err: busy}, false},
		{"NoAnswer", fault{silent: true}, true},
		{"Disconnected", fault{err: nats.ErrDisconnected}, true},
		{"AnswerLost", fault{lose: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &fakeBroker{before: always(tt.fault)}
				got, took := publishOne(t, newFaked(t, b, Config{Timeout: time.Minute}), validRequest(t, "web-1"))
				if got.Status != Failed || errors.Is(got.Err, ErrUnanswered) != tt.unanswered {
					t.Errorf("got %+v, want failed, unanswered: %v", got, tt.unanswered)
				}
				if took != time.Minute || !strings.Contains(got.Err.Error(), "given up after 1m0s") {
					t.Errorf("got %q after %s, want it to be tried for, and to name, a minute", got.Err, took)
				}
			})
		})
	}
}

func TestPublish_OfAStoredRequestMayBeRepeatedByTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{}
		r := validRequest(t, "web-1")
		b.enqueue(t, r)
		b.forget()
		if got, _ := publishOne(t, newFaked(t, b, Config{}), r); got.Status != Confirmed || !got.Duplicate {
			t.Errorf("got %+v, want it confirmed as a duplicate", got)
		}
	})
}

// What an attempt without an answer has stored is nobody else's.
func TestPublish_ItsOwnAttemptIsNoDuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, forgetful := range []bool{false, true} {
			b := &fakeBroker{}
			b.before = func(n int, _ *nats.Msg) fault {
				if n > 1 && forgetful {
					b.ids = nil
				}
				return fault{lose: n == 1, carryOn: true}
			}
			if got, _ := publishOne(t, newFaked(t, b, Config{}), validRequest(t, "web-1")); got.Status != Confirmed || got.Duplicate {
				t.Errorf("server forgets: %t: got %+v, want it confirmed, and no duplicate", forgetful, got)
			}
		}
	})
}

// Whatever a broker, a worker and others who publish do: one report, and it is true.
func TestPublish_ReportIsTrueWhateverGoesWrong(t *testing.T) {
	faults := []fault{
		{carryOn: true},
		{answerIn: time.Second},
		{sendErr: nats.ErrReconnectBufExceeded},
		{err: nats.ErrDisconnected},
		{silent: true},
		{lose: true},
		{err: fullSubject},
		{err: busy},
		{err: sealed},
	}
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.SampledFrom(faults), 0, 8).Draw(rt, "faults")
		othersFate := rapid.SampledFrom([]string{"not there", "queued", "consumed", "consumed later"}).Draw(rt, "other")
		timeout := time.Duration(rapid.IntRange(1, 40).Draw(rt, "seconds")) * time.Second

		b := &fakeBroker{before: func(n int, _ *nats.Msg) fault {
			if n <= len(plan) {
				return plan[n-1]
			}
			return fault{carryOn: true}
		}}
		var r, other Request
		var got Result
		synctest.Test(t, func(t *testing.T) {
			r, other = validRequest(t, "web-1"), validRequest(t, "web-1") // by the bubble's clock
			if othersFate != "not there" {
				b.enqueue(t, other)
			}
			switch othersFate {
			case "consumed":
				b.consume(other)
			case "consumed later":
				time.AfterFunc(time.Second, func() { b.consume(other) })
			}
			got, _ = publishOne(t, newFaked(t, b, Config{Timeout: timeout}), r)
			time.Sleep(time.Minute) // lets what is still on its way arrive
		})
		switch stored := b.ids[r.ID.String()]; {
		case got.Status == Confirmed && !stored:
			rt.Fatal("confirmed, and not stored")
		case got.Status == AlreadyQueued && (stored || got.QueuedID != other.ID):
			rt.Fatalf("already queued behind %s, want %s; stored: %v", got.QueuedID, other.ID, stored)
		case got.Status == Failed && stored && !errors.Is(got.Err, ErrUnanswered):
			rt.Fatalf("stored, and failed without saying so: %v", got.Err)
		}
	})
}
