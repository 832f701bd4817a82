// Package deadletter keeps what was given up, for people: one letter for each work message that ended dead, with the
// reason and the bytes as they came.
package deadletter

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

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
}

// A Box is where letters are put.
type Box struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

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
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("cannot encode dead letter: %w", err)
	}
	subject := stream.DeadSubject(l.WorkSubject, l.WorkSequence)
	_, err = b.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data},
		jetstream.WithExpectLastSequencePerSubject(0))
	if stream.IsWrongSequence(err) {
		// A replicated stream also refuses while another worker's letter is only on its way, so look.
		_, err = b.stream.GetLastMsgForSubject(ctx, subject)
	}
	if err != nil {
		return fmt.Errorf("cannot store dead letter %s: %w", subject, err)
	}
	return nil
}
