package stream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

var (
	anyGroup = rapid.Custom(func(t *rapid.T) restart.Group {
		return restart.Group(rapid.StringMatching(`[A-Za-z0-9-]{1,63}`).Draw(t, "group"))
	})
	anyHost = rapid.Custom(func(t *rapid.T) restart.Host {
		return restart.Host(rapid.StringMatching(`[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_-]{1,63}){0,2}`).Draw(t, "host"))
	})
	anyID = rapid.Custom(func(t *rapid.T) uuid.UUID {
		return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	})
)

func TestWorkSubject_NamesItsGroupAndHostAndNoOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group, host := anyGroup.Draw(t, "group"), anyHost.Draw(t, "host")
		subject := WorkSubject(group, host)
		g, h, err := ParseWorkSubject(subject)
		if err != nil || g != group || h != host {
			t.Fatalf("%s: got %q, %q, %v, want %q, %q", subject, g, h, err, group, host)
		}
		other := anyGroup.Draw(t, "other")
		if got, want := matches(WorkFilter(other), subject), other == group; got != want {
			t.Fatalf("%s matches the filter of group %q: got %t, want %t", subject, other, got, want)
		}
	})
}

func TestJournalSubject_NamesItsRequestAndIsFoundByItsIDAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group, id, host := anyGroup.Draw(t, "group"), anyID.Draw(t, "id"), anyHost.Draw(t, "host")
		subject := JournalSubject(group, id, host)
		g, i, h, err := ParseJournalSubject(subject)
		if err != nil || g != group || i != id || h != host {
			t.Fatalf("%s: got %q, %s, %q, %v, want %q, %s, %q", subject, g, i, h, err, group, id, host)
		}
		other := anyID.Draw(t, "other")
		if got, want := matches(JournalByID(other), subject), other == id; got != want {
			t.Fatalf("%s matches the filter of id %s: got %t, want %t", subject, other, got, want)
		}
	})
}

func TestParseWorkSubject_RefusesWhatNoDoorLetsIn(t *testing.T) {
	for _, subject := range []string{
		"",
		"mandrill",
		"mandrill.restart",
		"mandrill.restart.",
		"mandrill.restart.default",
		"mandrill.restart.default.",
		"mandrill.restart..host",
		"mandrill.restart.default.host.",
		"mandrill.restart.default..host",
		"mandrill.restart.default.a..b",
		"mandrill.restart.default.Host",
		"mandrill.restart.default.ho st",
		"mandrill.restart.default.hö",
		"mandrill.restart.default.*",
		"mandrill.restart.default.>",
		"mandrill.restart.*.host",
		"mandrill.restart.no_group.host",
		"mandrill.restart." + strings.Repeat("g", 64) + ".host",
		"mandrill.restart.default." + strings.Repeat("h", 254),
		"Mandrill.restart.default.host",
		"mandrill.journal.default.host",
		"x.mandrill.restart.default.host",
	} {
		if g, h, err := ParseWorkSubject(subject); err == nil {
			t.Errorf("%q: got %q, %q, want an error", subject, g, h)
		}
	}
}

func TestParseJournalSubject_RefusesWhatIsNoEventsSubject(t *testing.T) {
	id := uuid.NewString()
	for _, subject := range []string{
		"",
		"mandrill.journal",
		"mandrill.journal.default",
		"mandrill.journal.default." + id,
		"mandrill.journal.default.no-id.host",
		"mandrill.restart.default." + id + ".host",
	} {
		if g, i, h, err := ParseJournalSubject(subject); err == nil {
			t.Errorf("%q: got %q, %s, %q, want an error", subject, g, i, h)
		}
	}
}

func TestDeadSubject_IsOneOfTheDeadStreamWhateverTheMessagesOwnWas(t *testing.T) {
	for work, want := range map[string]string{
		"mandrill.restart.default.a.example.net": "mandrill.dead.default.a.example.net.7",
		"mandrill.restart.badly":                 "mandrill.dead.badly.7",
	} {
		got := DeadSubject(work, 7)
		if got != want || !matches(deadConfig().Subjects[0], got) {
			t.Errorf("dead letter of %q: got %q, want %q", work, got, want)
		}
	}
}

func TestFallbackID_IsTheSameForEveryDeliveryAndForNoOtherMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		created, seq := rapid.Int64().Draw(t, "created"), rapid.Uint64().Draw(t, "seq")
		otherCreated, otherSeq := rapid.Int64().Draw(t, "other created"), rapid.Uint64().Draw(t, "other seq")
		same := created == otherCreated && seq == otherSeq
		if got := FallbackID(created, seq) == FallbackID(otherCreated, otherSeq); got != same {
			t.Fatalf("ids are the same: got %t, want %t", got, same)
		}
		name := fmt.Sprintf("MANDRILL/%d/%d", created, seq)
		if got, want := FallbackID(created, seq), uuid.NewSHA1(fallbackSpace, []byte(name)); got != want {
			t.Fatalf("got %s, and workers of other versions have %s", got, want)
		}
	})
}

// matches is how a server matches subjects, said again.
func matches(filter, subject string) bool {
	want, got := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, token := range want {
		if token == ">" {
			return len(got) > i
		}
		if i >= len(got) || token != "*" && token != got[i] {
			return false
		}
	}
	return len(want) == len(got)
}

func FuzzParseWorkSubject(f *testing.F) {
	f.Add("mandrill.restart.default.a.example.net")
	f.Add("mandrill.restart.default.>")
	f.Fuzz(func(t *testing.T, subject string) {
		group, host, err := ParseWorkSubject(subject)
		if err == nil && WorkSubject(group, host) != subject {
			t.Errorf("%q was taken for %q", subject, WorkSubject(group, host))
		}
	})
}
