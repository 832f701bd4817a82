package journal

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// What may stand on what: '+' as the next attempt, '=' with the attempt of the one before, '.' not at all. Written out
// by hand; each refusal closes an interleaving in which a host is restarted twice or a request ends twice.
const mayFollow = `
                          nothing restarting takeover failed skipped expired cancelled dead unheard
restarting                   +        .         .        +      .       .       .       .      .
restarting,settled           +        +         =        +      .       .       .       .      .
takeover                     .        =         =        .      .       .       .       .      .
takeover,settled             .        =         =        .      .       .       .       .      .
failed                       .        =         .        .      .       .       .       .      .
failed,settled               .        =         .        .      .       .       .       .      .
skipped                      =        .         .        =      .       .       .       .      .
skipped,settled              =        =         =        =      .       .       .       .      .
expired                      =        .         .        =      .       .       .       .      .
expired,settled              =        =         =        =      .       .       .       .      .
cancelled                    =        .         .        =      .       .       .       .      .
cancelled,settled            =        =         =        =      .       .       .       .      .
dead                         =        .         .        =      .       .       .       .      .
dead,settled                 =        =         =        =      .       .       .       .      .
dead,attempts                =        .         .        =      .       .       .       .      .
dead,not_ready               =        =         =        =      .       .       .       .      .
dead,not_ready,settled       =        =         =        =      .       .       .       .      .
dead,unconfirmed             =        =         =        =      .       .       .       .      .
dead,unconfirmed,settled     =        =         =        =      .       .       .       .      .
skipped,not_ready            =        .         .        =      .       .       .       .      .
expired,unconfirmed          =        .         .        =      .       .       .       .      .
cancelled,not_ready          =        .         .        =      .       .       .       .      .
failed,takeover              .        .         .        .      .       .       .       .      .
dead,takeover,settled        .        .         .        .      .       .       .       .      .
unheard                      .        .         .        .      .       .       .       .      .
unheard,settled              .        .         .        .      .       .       .       .      .
nothing                      .        .         .        .      .       .       .       .      .
`

func TestMayFollow(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(mayFollow), "\n")
	lasts := strings.Fields(lines[0])
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, last := range lasts {
			t.Run(cells[0]+" on "+last, func(t *testing.T) { checkCell(t, last, cells[0], cells[1+i]) })
		}
	}
}

// checkCell tries every attempt number near the last one, and every kind of epoch.
func checkCell(t *testing.T, lastName, nextName, cell string) {
	lastAttempts := []int{1, 2, 3}
	if lastName == "nothing" {
		lastAttempts = []int{0}
	}
	for _, lastAttempt := range lastAttempts {
		for step := -2; step <= 3; step++ {
			for _, from := range []restart.Epoch{"", "boot 1", "boot 2"} {
				last, next := parseEvent(lastName), parseEvent(nextName)
				if last.Attempt = lastAttempt; !last.IsZero() {
					last.From = "boot 1"
				}
				next.Attempt, next.From = lastAttempt+step, from
				sameEpoch := from == "boot 1"
				if last.IsZero() { // then the epoch is chosen, by whatever needs one
					sameEpoch = from != "" || next.Kind != Restarting
				}
				want := sameEpoch && (cell == "+" && step == 1 || cell == "=" && step == 0)
				if err := MayFollow(last, next); (err == nil) != want {
					t.Errorf("attempt %d from %q on attempt %d: got %v, want allowed: %t", next.Attempt, from, lastAttempt, err, want)
				}
			}
		}
	}
}

func parseEvent(name string) Event {
	words := strings.Split(name, ",")
	e := Event{Kind: Kind(words[0])}
	switch words[0] {
	case "nothing":
		e.Kind = ""
	case "takeover":
		e.Kind, e.Takeover = Restarting, true
	}
	for _, word := range words[1:] {
		switch word {
		case "settled":
			e.Settled = true
		case "takeover":
			e.Takeover = true
		default:
			e.Reason = restart.Reason(word)
		}
	}
	return e
}

// An epoch that is not text would be read back as another one, and so as the proof of a restart that never was.
func TestMayFollow_RefusesAnEpochThatWouldNotComeBackTheSame(t *testing.T) {
	next := Event{Kind: Restarting, Attempt: 1, From: "boot \xff"}
	if err := MayFollow(Event{}, next); err == nil {
		t.Error("got nil, want a refusal")
	}
}

func TestMayFollow_SaysWhatIsRefusedOnWhatAndWhy(t *testing.T) {
	for want, pair := range map[string][2]Event{
		"restarting{1} may not follow restarting{1, takeover}: a trigger is open": {
			{Kind: Restarting, Takeover: true, Attempt: 1, From: "e"}, {Kind: Restarting, Attempt: 1, From: "e"},
		},
		"failed{1} may not follow nothing: only the last trigger's own giver knows that it was refused": {
			{}, {Kind: Failed, Attempt: 1},
		},
	} {
		if got := fmt.Sprint(MayFollow(pair[0], pair[1])); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Whatever is tried in whatever order, by however many workers: what gets into the journal is one request's life.
func TestMayFollow_AcceptsOnlyChainsThatAreOneLife(t *testing.T) {
	kinds := []Kind{Restarting, Restarting, Restarting, Failed, Failed, Skipped, Expired, Cancelled, Dead, "unheard", ""}
	rapid.Check(t, func(rt *rapid.T) {
		var chain []Event
		var last Event
		for range rapid.IntRange(1, 60).Draw(rt, "tries") {
			next := Event{
				Kind:     rapid.SampledFrom(kinds).Draw(rt, "kind"),
				From:     rapid.SampledFrom([]restart.Epoch{"boot 1", "boot 1", "boot 1", "boot 2", ""}).Draw(rt, "from"),
				Attempt:  last.Attempt + rapid.SampledFrom([]int{0, 0, 1, 1, -1, 2}).Draw(rt, "step"),
				Takeover: rapid.IntRange(0, 3).Draw(rt, "takeover") == 0,
				Settled:  rapid.Bool().Draw(rt, "settled"),
				Reason:   rapid.SampledFrom([]restart.Reason{"", restart.ReasonNotReady, restart.ReasonUnconfirmed}).Draw(rt, "reason"),
			}
			if MayFollow(last, next) == nil {
				chain, last = append(chain, next), next
			}
		}
		if why := notOneLife(chain); why != "" {
			rt.Fatalf("%s: %+v", why, chain)
		}
	})
}

// notOneLife says what is wrong with a chain, or nothing.
func notOneLife(chain []Event) string {
	triggers := 0
	for i, e := range chain {
		trigger := e.Kind == Restarting && !e.Takeover
		if trigger && (i == 0 || !chain[i-1].Takeover) {
			triggers++
		}
		switch {
		case e.From != chain[0].From:
			return "there are two epochs"
		case e.Kind == Restarting && e.From == "":
			return "a trigger has no epoch"
		case e.Attempt != triggers:
			return "attempts are not 1, 2, 3"
		case trigger && i > 0 && chain[i-1].Kind == Restarting && !e.Settled:
			return "two triggers are open"
		case e.Kind == Failed && (i == 0 || chain[i-1].Kind != Restarting || chain[i-1].Takeover):
			return "a refusal is not the last trigger's"
		case e.Kind.Terminal() && i != len(chain)-1:
			return "something follows the end"
		}
	}
	return ""
}
