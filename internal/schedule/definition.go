package schedule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	minValidFor = time.Second
	maxValidFor = restart.MaxLifetime // what is published must not live longer
	maxTextLen  = 4096
)

// A Definition says what is done, and when.
type Definition struct {
	Name string `json:"name"`
	Spec Spec   `json:"spec"`

	// Either Restart or Roll says what is done.
	Restart *Restart        `json:"restart,omitempty"`
	Roll    json.RawMessage `json:"roll,omitempty"` // a campaign's own words: a JSON object, which is not looked into here

	ValidFor restart.Duration `json:"valid_for"` // how long after its planned time a run may still begin
	CatchUp  bool             `json:"catch_up,omitempty"`
	Paused   bool             `json:"paused,omitempty"`
	Since    time.Time        `json:"since"` // nothing was planned before: when it was added, or last resumed

	By string    `json:"by,omitempty"` // who added it
	At time.Time `json:"at"`           // and when

	// Raw is the definition as it was stored, unknown fields included; nil for one that was not.
	Raw []byte `json:"-"`
}

// A Restart is the request for one host that a firing makes.
type Restart struct {
	Group    restart.Group `json:"group"`
	Host     restart.Host  `json:"host"`
	Instance string        `json:"instance,omitempty"`
	Reason   string        `json:"reason,omitempty"`
}

// Validate returns a *restart.FieldError for the first field that is not as it must be.
func (d *Definition) Validate() error {
	if err := CheckName(d.Name); err != nil {
		return err
	}
	switch validFor := time.Duration(d.ValidFor); {
	case d.Spec.Kind == "":
		return fieldErr("spec", "is missing")
	case (d.Restart == nil) == (d.Roll == nil):
		return fieldErr("restart", "or else roll must say what is done, and not both")
	case d.Roll != nil && !bytes.HasPrefix(bytes.TrimSpace(d.Roll), []byte("{")):
		return fieldErr("roll", "is no JSON object")
	case validFor < minValidFor || validFor > maxValidFor:
		return fieldErr("valid_for", "%s is not from %s to %s", validFor, minValidFor, maxValidFor)
	case d.At.IsZero():
		return fieldErr("at", "is missing")
	case d.Since.IsZero():
		return fieldErr("since", "is missing")
	case len(d.By) > maxTextLen:
		return fieldErr("by", "has %d bytes, more than %d", len(d.By), maxTextLen)
	}
	if d.Restart != nil {
		return d.Restart.validate()
	}
	return nil
}

func (r *Restart) validate() error {
	if _, err := restart.ParseGroup(string(r.Group)); err != nil {
		return err
	}
	if host, err := restart.ParseHost(string(r.Host)); err != nil {
		return err
	} else if host != r.Host {
		return fieldErr("host", "%q is not in lower case", r.Host)
	}
	switch {
	case len(r.Instance) > maxTextLen:
		return fieldErr("instance", "has %d bytes, more than %d", len(r.Instance), maxTextLen)
	case len(r.Reason) > maxTextLen:
		return fieldErr("reason", "has %d bytes, more than %d", len(r.Reason), maxTextLen)
	}
	return nil
}

// encode returns the definition as it is stored, with the fields of Raw that this code does not know.
func (d *Definition) encode() ([]byte, error) {
	data, err := json.Marshal(d)
	if err != nil || d.Raw == nil {
		return data, err
	}
	var known, kept map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(data, &known), json.Unmarshal(d.Raw, &kept)); err != nil {
		return nil, err
	}
	for _, omitted := range []string{"restart", "roll", "catch_up", "paused", "by"} { // where they are empty
		delete(kept, omitted)
	}
	maps.Copy(kept, known)
	return json.Marshal(kept)
}

// decode reads the definition that stands under a name. Unknown fields are ignored, and kept in Raw, which shares data.
func decode(name, version string, data []byte) (Definition, error) {
	if version != "" && version != restart.WireVersion {
		return Definition{}, fmt.Errorf("wire version %.80q is unknown; this program reads version %s", version, restart.WireVersion)
	}
	var d Definition
	if err := json.Unmarshal(data, &d); err != nil {
		return Definition{}, notADefinition(err)
	}
	if d.Name != name {
		return Definition{}, fieldErr("name", "is %.80q in the definition and %q in the subject", d.Name, name)
	}
	d.Raw = data
	return d, d.Validate()
}

func notADefinition(err error) error {
	var field *restart.FieldError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &field):
		return field
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return fieldErr(mismatch.Field, "cannot be a JSON %.40s", mismatch.Value)
	default:
		return fmt.Errorf("not a schedule: %.200v", err)
	}
}
