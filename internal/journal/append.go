package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"strconv"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// newEventID returns an id that no other event has. It only has to be told from those of other events of the same
// request, which is no secret, and so it need not come from the kernel: the generator is ChaCha8, which the runtime has
// seeded from there, and gives as many random bits.
func newEventID() (id uuid.UUID) {
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80 // the variant of RFC 9562
	return id
}

// An expectation is the header by which the broker compares: which sequence is to be the last under which subjects. It
// is used again and again, because a map with two slices in it costs more than what it says.
type expectation struct {
	fields   nats.Header
	sequence []string // these two are in fields
	subject  []string
}

func newExpectation() *expectation {
	e := &expectation{sequence: make([]string, 1), subject: make([]string, 1)}
	e.fields = nats.Header{
		jetstream.ExpectedLastSubjSeqHeader:     e.sequence,
		jetstream.ExpectedLastSubjSeqSubjHeader: e.subject,
	}
	return e
}

// header returns the header, which is good until the next call.
func (e *expectation) header(last uint64, id uuid.UUID) nats.Header {
	e.sequence[0], e.subject[0] = strconv.FormatUint(last, 10), stream.JournalByID(id)
	return e.fields
}

// parseAnswer returns the sequence that an append was given, or why it was refused.
func parseAnswer(data []byte) (sequence uint64, err error) {
	if sequence, ok := parsePlainAnswer(data); ok {
		return sequence, nil
	}
	var answer struct {
		Stream   string              `json:"stream"`
		Sequence uint64              `json:"seq"`
		Error    *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return 0, jetstream.ErrInvalidJSAck
	}
	if answer.Error != nil {
		return 0, answer.Error
	}
	if answer.Stream == "" {
		return 0, jetstream.ErrInvalidJSAck
	}
	return answer.Sequence, nil
}

// parsePlainAnswer reads an answer of the one form that almost all have, {"stream":"NAME","seq":1}. Every other may be
// as good and is not read.
func parsePlainAnswer(data []byte) (sequence uint64, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"stream":"`+stream.Journal+`","seq":`))
	if !ok {
		return 0, false
	}
	digits, ok := bytes.CutSuffix(rest, []byte("}"))
	if !ok || bytes.HasPrefix(digits, []byte("0")) { // which is no number in JSON
		return 0, false
	}
	sequence, err := strconv.ParseUint(string(digits), 10, 64)
	return sequence, err == nil
}
