// Package deadletter keeps what was given up, for people: one letter for each work message that ended dead, with the
// reason and the bytes as they came.
package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A Letter is a work message that was given up.
type Letter struct {
	Outcome      restart.Outcome `json:"outcome"`
	WorkSubject  string          `json:"work_subject"`
	WorkSequence uint64          `json:"work_sequence"`
	Stored       time.Time       `json:"stored"` // when the work stream took the message
	Deliveries   int             `json:"deliveries"`
	Version      string          `json:"version,omitempty"` // the message's header Mandrill-Version
	Data         []byte          `json:"data"`              // the message as it came, in base64
	// DataSize is how many bytes came, where Data is only their beginning: base64 is longer, so a message of the
	// greatest size that the broker takes does not fit into a letter.
	DataSize int `json:"data_size,omitempty"`
	// RequeuedAs is the id of the request that took the letter's place, and RequeuedAt when that was. Zero: none has.
	RequeuedAs uuid.UUID `json:"requeued_as,omitzero"`
	RequeuedAt time.Time `json:"requeued_at,omitzero"`
}

// Requeued reports whether a request took the letter's place.
func (l Letter) Requeued() bool { return l.RequeuedAs != uuid.Nil }

// Whole reports whether Data is all that came.
func (l Letter) Whole() bool { return l.DataSize == 0 }

// A Box is where letters are put. Its methods are called from many goroutines at once.
type Box struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

const (
	// headerRoom is what is kept free in a message for its headers, which count towards the broker's limit.
	headerRoom = 1024
	// markRoom is what is kept free in a letter for its mark, so that a letter is as whole with it as it was without.
	markRoom = 128
)

// Open returns the box behind js. The stream must be there.
func Open(ctx context.Context, js jetstream.JetStream) (*Box, error) {
	s, err := js.Stream(ctx, stream.Dead)
	if err != nil {
		return nil, fmt.Errorf("cannot open dead letters %s: %w", stream.Dead, err)
	}
	return &Box{js: js, stream: s}, nil
}

// Bury puts a letter into the box and returns once it is stored, by this call or by an earlier one for the same work
// message.
func (b *Box) Bury(ctx context.Context, l Letter) error {
	data, err := encode(l, b.js.Conn().MaxPayload()-headerRoom-markRoom)
	if err != nil {
		return fmt.Errorf("cannot encode dead letter: %w", err)
	}
	subject := stream.DeadSubject(l.WorkSubject, l.WorkSequence)
	err = b.put(ctx, subject, data, 0)
	if stream.IsWrongSequence(err) {
		err = b.putBeside(ctx, subject, data, l)
	}
	if err != nil {
		return fmt.Errorf("cannot store dead letter %s: %w", subject, err)
	}
	return nil
}

func (b *Box) put(ctx context.Context, subject string, data []byte, expect uint64) error {
	_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data},
		jetstream.WithExpectLastSequencePerSubject(expect))
	return err
}

// putBeside looks at what is there already. A replicated stream also refuses while another worker's letter is only on
// its way: then it finds nothing, and that is the error. A letter for a message of an earlier work stream, whose sequences
// were the same, is left where it is, and this one is put beside it.
func (b *Box) putBeside(ctx context.Context, subject string, data []byte, l Letter) error {
	last, err := b.stream.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return err
	}
	_, there, err := b.find(ctx, subject, l.Stored)
	if err != nil || there {
		return err
	}
	return b.put(ctx, subject, data, last.Sequence)
}

// find returns the last word of the letter for the message that was stored at that time.
func (b *Box) find(ctx context.Context, subject string, stored time.Time) (found Letter, there bool, err error) {
	for from := uint64(1); ; {
		msg, err := b.stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return found, there, nil
		}
		if err != nil {
			return Letter{}, false, err
		}
		from = msg.Sequence + 1
		// The subject may be one that the broker takes for a filter, and a stranger may have written to it.
		l, err := decode(msg.Subject, msg.Data)
		if err == nil && msg.Subject == subject && l.Stored.Equal(stored) {
			found, there = l, true
		}
	}
}

// decode reads a letter. The subject is the truth.
func decode(subject string, data []byte) (l Letter, err error) {
	if err := json.Unmarshal(data, &l); err != nil {
		return Letter{}, err
	}
	if l.Outcome.Kind == "" {
		return Letter{}, errors.New("it has no outcome")
	}
	if stream.DeadSubject(l.WorkSubject, l.WorkSequence) != subject {
		return Letter{}, fmt.Errorf("it says that it is for message %d of %.300q", l.WorkSequence, l.WorkSubject)
	}
	return l, nil
}

// encode cuts the letter's data where the whole would be larger than limit: a letter that cannot be stored would have
// its message delivered again for ever.
func encode(l Letter, limit int64) ([]byte, error) {
	data, err := json.Marshal(l)
	over := int64(len(data)) - limit
	if err != nil || over <= 0 {
		return data, err
	}
	const sizeField = int64(len(`,"data_size":9223372036854775807`))
	cut := (over + sizeField + 3) / 4 * 3 // four characters of base64 for three bytes
	if l.Whole() {
		l.DataSize = len(l.Data)
	}
	l.Data = l.Data[:max(0, int64(len(l.Data))-cut)]
	return json.Marshal(l)
}
