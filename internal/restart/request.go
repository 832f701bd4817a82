package restart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// WireVersion is the version of the request that this code writes, and the only one that it reads.
	WireVersion = "1"

	// DefaultLifetime and MaxLifetime bound the time from requested_at to not_after. The second is a day shorter than
	// the journal's memory, so that no request outlives what is known of it.
	DefaultLifetime = 24 * time.Hour
	MaxLifetime     = 7 * 24 * time.Hour

	// maxTextLen bounds each free text in bytes, so that whatever quotes one still fits into a message.
	maxTextLen = 4096
)

// A Request asks for one restart of one host.
type Request struct {
	ID           uuid.UUID `json:"id"`
	Instance     string    `json:"instance"`
	Host         Host      `json:"host"`
	Group        Group     `json:"group"`
	Reason       string    `json:"reason,omitempty"`
	RequestedBy  string    `json:"requested_by,omitempty"`
	RequestedAt  time.Time `json:"requested_at"`
	NotAfter     time.Time `json:"not_after"`
	Campaign     string    `json:"campaign,omitempty"`
	ReplayOf     string    `json:"replay_of,omitempty"`
	RequeuedFrom string    `json:"requeued_from,omitempty"`
	MinUptime    Duration  `json:"min_uptime,omitzero"`

	// Raw is the request as it was on the wire, unknown fields included; nil for one that was never there.
	Raw []byte `json:"-"`
}

// Duration is a time.Duration that is written the way people write it, as in "168h".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Complete fills in what the request leaves open: group, host (from instance and domain), requested_at (now),
// not_after and, if it has none, a new id. It returns a *FieldError if what results is not valid.
func (r *Request) Complete(domain string, now time.Time) error {
	if r.Group == "" {
		r.Group = DefaultGroup
	}
	if r.Host == "" {
		host, err := HostOf(r.Instance, domain)
		if err != nil {
			return err
		}
		r.Host = host
	}
	if r.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("cannot make an id: %w", err)
		}
		r.ID = id
	}
	r.fillTimes(now)
	switch {
	case !r.NotAfter.After(now):
		return &FieldError{"not_after", fmt.Sprintf("%s has passed", r.NotAfter.Format(time.RFC3339))}
	case r.NotAfter.Sub(now) > MaxLifetime:
		return &FieldError{"not_after", fmt.Sprintf("%s is more than %s from now", r.NotAfter.Format(time.RFC3339), MaxLifetime)}
	}
	return r.Validate()
}

func (r *Request) fillTimes(now time.Time) {
	if r.RequestedAt.IsZero() {
		r.RequestedAt = now
	}
	if r.NotAfter.IsZero() {
		r.NotAfter = r.RequestedAt.Add(DefaultLifetime)
	}
	r.RequestedAt, r.NotAfter = r.RequestedAt.UTC(), r.NotAfter.UTC()
	if r.Instance == "" {
		r.Instance = string(r.Host)
	}
}

// Validate returns a *FieldError for the first field that is not as the wire wants it.
func (r *Request) Validate() error {
	if r.ID == uuid.Nil {
		return &FieldError{"id", "is missing"}
	}
	if host, err := ParseHost(string(r.Host)); err != nil {
		return err
	} else if host != r.Host {
		return &FieldError{"host", fmt.Sprintf("%q is not in lower case", r.Host)}
	}
	if _, err := ParseGroup(string(r.Group)); err != nil {
		return err
	}
	for _, text := range []struct{ field, value string }{
		{"instance", r.Instance},
		{"reason", r.Reason},
		{"requested_by", r.RequestedBy},
		{"campaign", r.Campaign},
		{"replay_of", r.ReplayOf},
		{"requeued_from", r.RequeuedFrom},
	} {
		if len(text.value) > maxTextLen {
			return &FieldError{text.field, fmt.Sprintf("has %d bytes, more than %d", len(text.value), maxTextLen)}
		}
	}
	switch lifetime := r.NotAfter.Sub(r.RequestedAt); {
	case r.RequestedAt.IsZero():
		return &FieldError{"requested_at", "is missing"}
	case r.RequestedAt.UTC().Year() < 1:
		return &FieldError{"requested_at", "is before the year 1"} // RFC 3339 has no such years
	case r.NotAfter.UTC().Year() > 9999:
		return &FieldError{"not_after", "is after the year 9999"}
	case lifetime < 0:
		return &FieldError{"not_after", "is before requested_at"}
	case lifetime > MaxLifetime:
		return &FieldError{"not_after", fmt.Sprintf("is %s after requested_at, more than %s", lifetime, MaxLifetime)}
	case r.MinUptime < 0:
		return &FieldError{"min_uptime", "is negative"}
	}
	return nil
}

// Repeatable reports whether a person may ask for it again with the same id, however much later. Such a request may have
// a past even where it is delivered for the first time and the journal knows nothing of it any more.
func (r *Request) Repeatable() bool { return r.ReplayOf != "" || r.RequeuedFrom != "" }

// ReplayID returns the id of the replay of a request under a name: the same each time it is asked for.
func ReplayID(of uuid.UUID, name string) uuid.UUID {
	return uuid.NewSHA1(derivedSpace, []byte("replay/"+of.String()+"/"+name))
}

// RequeueID returns the id of the request that takes the place of one that ended dead: the same each time it is asked
// for.
func RequeueID(of uuid.UUID) uuid.UUID {
	return uuid.NewSHA1(derivedSpace, []byte("requeue/"+of.String()))
}

// CampaignID returns the id of a campaign's request for a host: the same each time it is asked for.
func CampaignID(campaign uuid.UUID, host Host) uuid.UUID {
	return uuid.NewSHA1(derivedSpace, []byte("campaign/"+campaign.String()+"/"+string(host)))
}

// derivedSpace is the name space of the ids that are derived from durable things.
var derivedSpace = uuid.MustParse("0f6b8a52-93c1-5c7e-8d14-6d616e647269")

// Encode returns the request as it goes on the wire.
func (r *Request) Encode() ([]byte, error) { return json.Marshal(r) }

// An Envelope is what the broker knows of a request before anybody has read it.
type Envelope struct {
	Version string // the header Mandrill-Version; empty means 1
	Group   Group  // from the subject, as is Host
	Host    Host
	Stored  time.Time // when the stream took it
	// FallbackID stands in for an id that is missing or unusable. It must be the same at every delivery.
	FallbackID uuid.UUID
}

// Decode reads a request from the wire. The subject is the truth: a payload whose group or host differs from the
// envelope's is refused, so that permission to publish for one group is just that. Unknown fields are ignored and
// kept in Raw, which shares data; but an object of nothing else, without the header, is no request. The error says which field is wrong, and is for people: it quotes no more than the
// beginning of what came.
func Decode(env Envelope, data []byte) (Request, error) {
	if env.Version != "" && env.Version != WireVersion {
		return Request{}, fmt.Errorf("wire version %.80q is unknown; this worker reads version %s", env.Version, WireVersion)
	}
	r, err := parse(data, env)
	if err != nil {
		return Request{}, err
	}
	switch {
	case r.Group != "" && r.Group != env.Group:
		return Request{}, &FieldError{"group", fmt.Sprintf("is %.80q in the payload and %q in the subject", r.Group, env.Group)}
	case r.Host != "" && r.Host != env.Host:
		return Request{}, &FieldError{"host", fmt.Sprintf("is %.80q in the payload and %q in the subject", r.Host, env.Host)}
	}
	r.Group, r.Host = env.Group, env.Host
	r.fillTimes(env.Stored)
	if err := r.Validate(); err != nil {
		return Request{}, err
	}
	return r, nil
}

func parse(data []byte, env Envelope) (Request, error) {
	p, plain := scan(data)
	if !plain {
		var err error
		if p, err = unmarshal(data); err != nil {
			return Request{}, err
		}
		if env.Version == "" && isForeign(data) {
			return Request{}, errForeign
		}
	}
	r := Request{
		ID: usableID(p.id, env.FallbackID), Instance: string(p.instance), Host: known(p.host, env.Host), Group: known(p.group, env.Group),
		Reason:      string(p.reason),
		RequestedBy: string(p.requestedBy), Campaign: string(p.campaign), ReplayOf: string(p.replayOf), RequeuedFrom: string(p.requeued),
		Raw: data,
	}
	if err := readField("requested_at", p.requestedAt, r.RequestedAt.UnmarshalText); err != nil {
		return Request{}, err
	}
	if err := readField("not_after", p.notAfter, r.NotAfter.UnmarshalText); err != nil {
		return Request{}, err
	}
	if err := readField("min_uptime", p.minUptime, r.MinUptime.UnmarshalText); err != nil {
		return Request{}, err
	}
	return r, nil
}

// readField has the text read, if there is one. It takes a function and no encoding.TextUnmarshaler, which would put each
// request on the heap.
func readField(name string, text []byte, read func([]byte) error) error {
	if text == nil {
		return nil
	}
	if err := read(text); err != nil {
		return &FieldError{name, fmt.Sprintf("%.200v", err)}
	}
	return nil
}

// known returns the text, without a copy of its own where it is what the subject says, as it is in all requests but bad ones.
func known[T Host | Group](text []byte, subject T) T {
	if string(text) == string(subject) {
		return subject
	}
	return T(text)
}

// unmarshal reads any JSON. The id is read apart, because an unusable one is replaced, while anything else unusable is
// refused; so are times and durations, whose errors do not name the field.
func unmarshal(data []byte) (payload, error) {
	wire := &struct {
		Request
		ID          json.RawMessage `json:"id"`
		RequestedAt *string         `json:"requested_at"`
		NotAfter    *string         `json:"not_after"`
		MinUptime   *string         `json:"min_uptime"`
	}{}
	if err := json.Unmarshal(data, &wire); err != nil {
		return payload{}, notARequest(err)
	}
	if wire == nil {
		return payload{}, errors.New("not a request: null")
	}
	r := wire.Request
	p := payload{
		instance: []byte(r.Instance), host: []byte(r.Host), group: []byte(r.Group), reason: []byte(r.Reason),
		requestedBy: []byte(r.RequestedBy), campaign: []byte(r.Campaign), replayOf: []byte(r.ReplayOf), requeued: []byte(r.RequeuedFrom),
		requestedAt: bytesOf(wire.RequestedAt), notAfter: bytesOf(wire.NotAfter), minUptime: bytesOf(wire.MinUptime),
	}
	var id string
	if json.Unmarshal(wire.ID, &id) == nil {
		p.id = []byte(id)
	}
	return p, nil
}

// errForeign is about what a server or a service has answered to somebody who named a request's subject for the reply: a
// server lets anybody do so who may ask anything at all. All fields may be left out, so it would be a request.
var errForeign = errors.New("not a request: no header Mandrill-Version, and other fields than a request's alone")

// isForeign reports whether a valid object has fields, and none of a request's.
func isForeign(data []byte) bool {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil || len(fields) == 0 {
		return false
	}
	for name := range fields {
		if new(payload).field(bytes.ToLower([]byte(name))) != nil { // encoding/json has not asked for the case either
			return false
		}
	}
	return true
}

func bytesOf(text *string) []byte {
	if text == nil {
		return nil
	}
	return append([]byte{}, *text...) // not nil, where it is empty
}

func usableID(text []byte, fallback uuid.UUID) uuid.UUID {
	id, err := uuid.ParseBytes(text)
	if err != nil || id == uuid.Nil {
		return fallback
	}
	return id
}

func notARequest(err error) error {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Field != "" {
		path := strings.Split(mismatch.Field, ".")
		return &FieldError{path[len(path)-1], fmt.Sprintf("is a JSON %.40s, not a string", mismatch.Value)}
	}
	return fmt.Errorf("not a request: %.200v", err)
}
