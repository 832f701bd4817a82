package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// While messages come and go between the pages, whoever follows them is told of each that stays exactly once.
func TestNewPage_WhatStaysIsListedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		message := rapid.Custom(func(t *rapid.T) Message {
			return Message{
				ID:   uuid.UUID{15: rapid.Byte().Draw(t, "id")},
				Host: restart.Host(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "host")), // an id may be reused
			}
		})
		some := rapid.SliceOfNDistinct(message, 0, 30, Message.key)
		stay := some.Draw(t, "stay")
		stays := map[string]bool{}
		for _, m := range stay {
			stays[m.key()] = true
		}
		q := inFlightQuestion{Limit: rapid.IntRange(0, 7).Draw(t, "limit")}
		room := rapid.IntRange(0, 2000).Draw(t, "room")
		told := map[string]int{}
		for {
			now := stay
			for _, m := range some.Draw(t, "come and go") {
				if !stays[m.key()] {
					now = append(now[:len(now):len(now)], m)
				}
			}
			page, err := newPage(now, q, room)
			if err != nil {
				t.Fatal(err)
			}
			if q.Limit > 0 && len(page.Messages) > q.Limit {
				t.Fatalf("got %d messages, want at most %d", len(page.Messages), q.Limit)
			}
			if data, err := json.Marshal(page.Messages); err != nil || len(page.Messages) > 1 && len(data) > room+2 {
				t.Fatalf("got %d bytes (%v), want at most %d", len(data), err, room)
			}
			for _, m := range page.Messages {
				told[m.key()]++
			}
			if page.Next == "" {
				break
			}
			if page.Next <= q.After {
				t.Fatalf("got page %q behind %q", page.Next, q.After)
			}
			q.After = page.Next
		}
		for _, m := range stay {
			if told[m.key()] != 1 {
				t.Fatalf("got %s %d times, want once", m.key(), told[m.key()])
			}
		}
	})
}

func TestNewPage_ErrNegativeLimit(t *testing.T) {
	if _, err := newPage(nil, inFlightQuestion{Limit: -1}, 1000); !errors.Is(err, errBadQuestion) {
		t.Errorf("got %v, want %v", err, errBadQuestion)
	}
}

func TestNewPage_HoldsNoMoreThanItsBoundWhateverIsAsked(t *testing.T) {
	var all []Message
	for i := range 3 * maxPage {
		all = append(all, Message{ID: uuid.New(), Host: restart.Host(fmt.Sprintf("host-%d", i))})
	}
	page, err := newPage(all, inFlightQuestion{Limit: 1 << 30}, 1<<20)
	if err != nil || len(page.Messages) != maxPage || page.Next == "" {
		t.Errorf("got %d messages, then %q (%v), want %d and another page", len(page.Messages), page.Next, err, maxPage)
	}
}
