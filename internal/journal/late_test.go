package journal

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// While a cluster elects a leader nobody takes an append. The library would send it again by itself, a quarter of a
// second later, whoever holds the message by then.
func TestJournal_SendsNothingAfterTheContextHasEndedThoughNobodyTookIt(t *testing.T) {
	server := natsdtest.Start(t)
	js := server.JetStream(t)
	streams, err := stream.Ensure(t.Context(), js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := Open(t.Context(), Config{Conn: server.Connect(t), Created: streams.JournalCreated})
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), stream.Journal); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	key := Key{Group: "default", ID: uuid.New(), Host: "a"}
	if got, err := j.Append(ctx, key, Event{}, Event{Kind: Cancelled}); err == nil {
		t.Errorf("got %+v, want an error", got)
	}

	nc := server.Connect(t)
	late := make(chan *nats.Msg, 16)
	if _, err := nc.ChanSubscribe(stream.JournalByID(key.ID), late); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case msg := <-late:
		t.Errorf("got %s after the end", msg.Data)
	case <-time.After(500 * time.Millisecond): // twice as long as the library would wait
	}
}
