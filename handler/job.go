package handler

import (
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Job is a message in work.
type Job struct {
	Delivery
	Request Request
	Lease   *Lease

	handler  *Handler
	version  string // of the message's form
	stored   time.Time
	fallback uuid.UUID // the id of the request if it has no other
	began    time.Time
	progress progress
	life     life
	done     func() // called at the very end
	inside   bool   // guarded by the entrance
	in       neighbors
}

// read decodes the message. An error means that it can never be read; the job then says what is known of it.
func (j *Job) read() error {
	envelope, err := j.Envelope()
	j.version, j.stored, j.fallback = envelope.Version, envelope.Stored, envelope.FallbackID
	if err == nil {
		err = contain(func() (err error) {
			j.Request, err = restart.Decode(envelope, j.Data())
			return err
		})
	}
	if err != nil {
		j.Request = Request{
			ID: envelope.FallbackID, Group: envelope.Group, Host: envelope.Host,
			RequestedAt: envelope.Stored, NotAfter: envelope.Stored, Raw: j.Data(),
		}
	}
	return err
}

// Log begins a line of the log, which says whom it is about. A logger that knew would cost each message half a kilobyte,
// and most are silent.
func (j *Job) Log(level zerolog.Level) *zerolog.Event {
	event := j.handler.cfg.Logger.WithLevel(level)
	if event == nil {
		return nil // it takes everything, and does nothing
	}
	r := &j.Request
	return event.Stringer("id", r.ID).Str("instance", r.Instance).Str("host", string(r.Host)).Str("group", string(r.Group))
}
