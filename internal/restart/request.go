package restart

import (
	"encoding/json"
	"fmt"
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
	if !r.NotAfter.After(now) {
		return &FieldError{"not_after", fmt.Sprintf("%s has passed", r.NotAfter.Format(time.RFC3339))}
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
	switch lifetime := r.NotAfter.Sub(r.RequestedAt); {
	case r.RequestedAt.IsZero():
		return &FieldError{"requested_at", "is missing"}
	case lifetime < 0:
		return &FieldError{"not_after", "is before requested_at"}
	case lifetime > MaxLifetime:
		return &FieldError{"not_after", fmt.Sprintf("is %s after requested_at, more than %s", lifetime, MaxLifetime)}
	case r.MinUptime < 0:
		return &FieldError{"min_uptime", "is negative"}
	}
	return nil
}

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
// kept in Raw, which shares data. The error says which field is wrong, and is for people.
func Decode(env Envelope, data []byte) (Request, error) {
	if env.Version != "" && env.Version != WireVersion {
		return Request{}, fmt.Errorf("wire version %q is unknown; this worker reads version %s", env.Version, WireVersion)
	}
	// The id is read apart, because an unusable one is replaced, while anything else unusable is refused.
	var wire struct {
		Request
		ID any `json:"id"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return Request{}, fmt.Errorf("not a request: %w", err)
	}
	r := wire.Request
	r.Raw = data
	r.ID = env.FallbackID
	if text, ok := wire.ID.(string); ok {
		if id, err := uuid.Parse(text); err == nil && id != uuid.Nil {
			r.ID = id
		}
	}
	switch {
	case r.Group != "" && r.Group != env.Group:
		return Request{}, &FieldError{"group", fmt.Sprintf("is %q in the payload and %q in the subject", r.Group, env.Group)}
	case r.Host != "" && r.Host != env.Host:
		return Request{}, &FieldError{"host", fmt.Sprintf("is %q in the payload and %q in the subject", r.Host, env.Host)}
	}
	r.Group, r.Host = env.Group, env.Host
	r.fillTimes(env.Stored)
	if err := r.Validate(); err != nil {
		return Request{}, err
	}
	return r, nil
}
