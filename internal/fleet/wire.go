package fleet

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/micro"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// service is the name under which workers are found, and apiVersion the version of the questions that they answer, which
// is not the program's.
const (
	service    = "mandrill-worker"
	apiVersion = "1.0.0"
)

// The subjects of the questions. The first two reach every worker.
const (
	statusSubject  = "mandrill.worker.status"
	outcomeSubject = "mandrill.worker.outcome"
	inFlightPrefix = "mandrill.worker.in_flight." // then the instance
)

// instanceHeader says in every answer, also in one that is an error, whose it is.
const instanceHeader = "Mandrill-Instance"

// The keys of the service's metadata.
const (
	workerKey  = "worker"
	versionKey = "version"
	groupsKey  = "groups" // with commas between them
)

// An Instance is one run of one worker.
type Instance struct {
	ID      string          `json:"instance"` // no other has it
	Worker  string          `json:"worker"`
	Version string          `json:"version"`
	Groups  []restart.Group `json:"groups"`
}

func (i Instance) serves(group restart.Group) bool {
	return group == "" || slices.Contains(i.Groups, group)
}

func (i Instance) metadata() map[string]string {
	names := make([]string, len(i.Groups))
	for n, group := range i.Groups {
		names[n] = string(group)
	}
	return map[string]string{workerKey: i.Worker, versionKey: i.Version, groupsKey: strings.Join(names, ",")}
}

func instanceOf(s micro.ServiceIdentity) Instance {
	i := Instance{ID: s.ID, Worker: s.Metadata[workerKey], Version: s.Metadata[versionKey]}
	for name := range strings.SplitSeq(s.Metadata[groupsKey], ",") {
		i.Groups = append(i.Groups, restart.Group(name))
	}
	return i
}

// A WorkerStatus is what a worker says of itself.
type WorkerStatus struct {
	Instance        string        `json:"instance"`
	Worker          string        `json:"worker"`
	Version         string        `json:"version"`
	Started         time.Time     `json:"started"`
	Groups          []GroupStatus `json:"groups"`
	LagSeconds      float64       `json:"lag_seconds"`
	Overloaded      bool          `json:"overloaded"`
	ControlRevision uint64        `json:"control_revision"`
	ConfirmedAt     time.Time     `json:"confirmed_at,omitzero"` // by the worker's clock
}

func (s WorkerStatus) instance() Instance {
	i := Instance{ID: s.Instance, Worker: s.Worker, Version: s.Version}
	for _, g := range s.Groups {
		i.Groups = append(i.Groups, g.Group)
	}
	return i
}

// A GroupStatus is how many messages of one group a worker holds, and how many of them in which phase.
type GroupStatus struct {
	Group    restart.Group  `json:"group"`
	InFlight int            `json:"in_flight"`
	Phases   map[string]int `json:"phases,omitempty"`
}

// A Message is one that a worker holds.
type Message struct {
	ID      uuid.UUID     `json:"id"`
	Host    restart.Host  `json:"host"`
	Group   restart.Group `json:"group"`
	Phase   string        `json:"phase"`
	Since   time.Time     `json:"since"` // when the phase began, by the worker's clock
	Attempt int           `json:"attempt,omitempty"`
	Worker  string        `json:"worker,omitempty"` // filled in by InFlight
}

// key orders messages, and is no other's of the same worker: an id that was reused may be there for two hosts.
func (m Message) key() string { return m.ID.String() + "/" + string(m.Group) + "/" + string(m.Host) }

// An inFlightQuestion asks for a page of a worker's messages.
type inFlightQuestion struct {
	Limit int    `json:"limit,omitempty"` // zero, or more than a page holds: as many as it holds
	After string `json:"after,omitempty"` // Next of the page before; empty: from the first
}

type inFlightPage struct {
	Messages []Message `json:"messages"`
	Next     string    `json:"next,omitempty"` // empty: that is all
}

type outcomeQuestion struct {
	ID uuid.UUID `json:"id"`
}

type outcomeAnswer struct {
	Found   bool            `json:"found"`
	Outcome restart.Outcome `json:"outcome,omitzero"`
}
