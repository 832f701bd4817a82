package schedule_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
)

func TestDefinition_ValidateNamesTheField(t *testing.T) {
	for want, spoil := range map[string]func(*schedule.Definition){
		`name: is empty`: func(d *schedule.Definition) { d.Name = "" },
		`name: "Nightly" has the character 'N'; only lower-case letters, digits and '-' are allowed`: func(d *schedule.Definition) { d.Name = "Nightly" },
		`name: "a.b" has the character '.'; only lower-case letters, digits and '-' are allowed`:     func(d *schedule.Definition) { d.Name = "a.b" },
		`name: "*" has the character '*'; only lower-case letters, digits and '-' are allowed`:       func(d *schedule.Definition) { d.Name = "*" },
		`name: "-a" begins with '-', which programs take for an option`:                              func(d *schedule.Definition) { d.Name = "-a" },
		`spec: is missing`: func(d *schedule.Definition) { d.Spec = schedule.Spec{} },
		`restart: or else roll must say what is done, and not both`: func(d *schedule.Definition) { d.Restart = nil },
		`roll: is no JSON object`:                                   func(d *schedule.Definition) { d.Restart, d.Roll = nil, json.RawMessage(`[]`) },
		`valid_for: 0s is not from 1s to 168h0m0s`:                  func(d *schedule.Definition) { d.ValidFor = 0 },
		`valid_for: 169h0m0s is not from 1s to 168h0m0s`:            func(d *schedule.Definition) { d.ValidFor = restart.Duration(169 * time.Hour) },
		`host: "UPPER" is not in lower case`:                        func(d *schedule.Definition) { d.Restart.Host = "UPPER" },
		`group: is empty`:                                           func(d *schedule.Definition) { d.Restart.Group = "" },
		`at: is missing`:                                            func(d *schedule.Definition) { d.At = time.Time{} },
	} {
		d := definition(t, "nightly", "24h")
		d.At, d.Since = time.Now(), time.Now()
		spoil(&d)
		wantFieldError(t, d.Validate(), want)
	}
}

// definition returns a valid schedule of an even interval.
func definition(t *testing.T, name, every string) schedule.Definition {
	t.Helper()
	spec, err := schedule.ParseEvery(every)
	if err != nil {
		t.Fatal(err)
	}
	return schedule.Definition{
		Name: name, Spec: spec, Restart: &schedule.Restart{Group: "default", Host: "web1.example.net", Reason: name},
		ValidFor: restart.Duration(time.Hour), By: "ann",
	}
}
