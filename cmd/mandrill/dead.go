package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// deadSettings are the settings of a verb for dead letters. None of them needs the database.
var deadSettings = []string{
	"nats", "nats_context", "creds", "token", "tls.ca", "tls.cert", "tls.key", "data", "domain", "log.level", "log.format",
}

// deadReasons are why a request is given up.
var deadReasons = []restart.Reason{
	restart.ReasonMalformed, restart.ReasonIDReused, restart.ReasonPoison, restart.ReasonAttempts, restart.ReasonPermanent,
	restart.ReasonNotReady, restart.ReasonUnconfirmed, restart.ReasonJournalHorizon,
}

func (a *app) deadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "Look at requests that were given up, and ask for them again",
		Long: `Look at requests that were given up, and ask for them again. Each is a dead letter, with why it was given up and its
bytes as they came, and is kept for 30 days.`,
		Example: `  mandrill dead list
  mandrill dead requeue --reason attempts --since 2h --dry-run`,
		Args: cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error { return usagef("dead: say list, show, requeue or purge") },
	}
	cmd.AddCommand(a.deadListCommand(), a.deadShowCommand(), a.deadRequeueCommand(), a.deadPurgeCommand())
	return cmd
}

// A deadFilter is the flags that choose dead letters.
type deadFilter struct {
	scope
	reason string

	// Only where addChoice has added them, or purge.
	all, requeued bool
	olderThan     string
}

func (f *deadFilter) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.host, "host", "", "only those of this host; a name without a dot is an instance")
	flags.StringVar(&f.group, "group", "", "only those of this group")
	flags.StringVar(&f.reason, "reason", "", "only those that were given up for this reason: "+deadReasonNames())
	flags.StringVar(&f.since, "since", "", "only what was given up since then: a span such as 1h, or a time such as 2006-01-02T15:04:05Z")
	flags.StringVar(&f.until, "until", "", "only what was given up before then: a span or a time, as --since")
}

// addChoice adds the flags of a verb that does something to what is chosen, so that nothing is chosen by leaving flags
// out.
func (f *deadFilter) addChoice(cmd *cobra.Command) {
	f.addFlags(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "all of them")
}

func deadReasonNames() string {
	names := make([]string, len(deadReasons))
	for i, reason := range deadReasons {
		names[i] = string(reason)
	}
	return strings.Join(names, ", ")
}

// given reports whether any flag narrows the choice.
func (f *deadFilter) given() bool {
	return f.scope.given() || f.reason != "" || f.requeued || f.olderThan != ""
}

// choice returns what ids, flags or --all choose; exactly one of them must.
func (f *deadFilter) choice(verb string, args []string, domain string, now time.Time) (deadletter.Filter, error) {
	ways := 0
	for _, way := range []bool{len(args) > 0, f.given(), f.all} {
		if way {
			ways++
		}
	}
	switch {
	case ways == 0:
		return deadletter.Filter{}, usagef("%s: choose dead letters: by id, by flags such as --reason, or --all", verb)
	case ways > 1:
		return deadletter.Filter{}, usagef("%s: choose by ids, by flags such as --reason, or --all, and by one of these only", verb)
	}
	filter, err := f.filter(domain, now)
	if err != nil {
		return filter, err
	}
	for _, text := range args {
		id, err := parseID(verb, text)
		if err != nil {
			return filter, err
		}
		filter.IDs = append(filter.IDs, id)
	}
	return filter, nil
}

// filter returns what the flags say, checked. Spans count back from now.
func (f *deadFilter) filter(domain string, now time.Time) (deadletter.Filter, error) {
	chosen, err := f.parse(domain, now)
	if err != nil {
		return deadletter.Filter{}, err
	}
	filter := deadletter.Filter{
		Host: chosen.Host, Group: chosen.Group, Since: chosen.Since, Until: chosen.Until,
		Reason: restart.Reason(f.reason), Requeued: f.requeued,
	}
	if f.reason != "" && !slices.Contains(deadReasons, filter.Reason) {
		return filter, usagef("--reason: %q is none of %s", f.reason, deadReasonNames())
	}
	if f.olderThan != "" {
		span, err := time.ParseDuration(f.olderThan)
		switch {
		case err != nil || span < 0:
			return filter, usagef("--older-than: %q is not a span such as 168h", f.olderThan)
		case f.until != "":
			return filter, usagef("--older-than: say this or --until, not both")
		}
		filter.Until = now.Add(-span)
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, usagef("--since: %s is not before the end of what is chosen, %s", f.since, timeText(filter.Until, secondsTime))
	}
	return filter, nil
}

// A deadBox is the dead letters, read for a person.
type deadBox struct {
	*deadletter.Box
	app        *app
	conn       *connection
	unreadable int // how many cannot be read, and might have matched
}

// withDeadLetters calls do with the dead letters.
func (a *app) withDeadLetters(ctx context.Context, cfg config.Config, do func(context.Context, *deadBox) error) error {
	return a.withJetStream(ctx, cfg, "dead", func(conn *connection, js jetstream.JetStream) error {
		box, err := deadletter.Open(ctx, js)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = fmt.Errorf("there is no stream %s, which the first worker creates: start a worker", stream.Dead)
		}
		if err != nil {
			return err
		}
		return do(ctx, &deadBox{Box: box, app: a, conn: conn})
	})
}

// letters returns the letters that match, and tells of those that cannot be read.
func (b *deadBox) letters(ctx context.Context, f deadletter.Filter) iter.Seq2[deadletter.Entry, error] {
	return func(yield func(deadletter.Entry, error) bool) {
		for e, err := range b.Letters(ctx, f) {
			if _, ok := errors.AsType[*deadletter.UnreadableError](err); ok {
				fmt.Fprintf(b.app.stderr, "mandrill: %v\n", err)
				if len(f.IDs) == 0 { // otherwise it is known whether all were found
					b.unreadable++
				}
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// incomplete returns what the exit code tells where letters could not be read.
func (b *deadBox) incomplete() error {
	if b.unreadable == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d dead letters cannot be read", errPartly, b.unreadable)
}

// missing returns an error that names the first of the wanted ids that has no letter.
func missing(wanted []uuid.UUID, found map[uuid.UUID]bool) error {
	for _, id := range wanted {
		if !found[id] {
			return fmt.Errorf("there is no dead letter of request %s", id)
		}
	}
	return nil
}

// noneSuch says on standard error why standard output is empty.
func (b *deadBox) noneSuch() { fmt.Fprintln(b.app.stderr, "mandrill: there are no such dead letters") }
