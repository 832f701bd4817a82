package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// cancelOptions are the flags of cancel that are no settings.
type cancelOptions struct {
	group, reason string
	out           *output
}

func (a *app) cancelCommand() *cobra.Command {
	var o cancelOptions
	cmd := &cobra.Command{
		Use:   "cancel ID|HOST",
		Short: "Cancel a queued request, unless it was triggered",
		Long: `Cancel the queued request of that id, or that of a host, which is a name without dashes in the places of an id's. The
journal decides: once a worker has triggered it, or is about to, it cannot be cancelled any more, and once it is cancelled,
no worker will. Its message stays until a worker takes it up, records the outcome 'cancelled' and settles it.`,
		Example: `  mandrill cancel cattle-a1b2 --reason "wrong rack"
  mandrill cancel 01a1fbe2-e6cc-736c-b479-60539a1e765f`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("cancel: say one request, by its id or its host")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.group, "group", "", "the group in which the host is queued, if it is in several")
	f.StringVar(&o.reason, "reason", "", "why, for people")
	o.out = addOutput(cmd)
	config.AddFlags(f, append([]string{"domain"}, steerSettings...)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.cancel(cmd, args[0], o) }
	return cmd
}

func (a *app) cancel(cmd *cobra.Command, what string, o cancelOptions) error {
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	wanted, err := parseWanted(what, o.group, loaded.Config.Domain)
	if err != nil {
		return err
	}
	return a.withWheel(cmd.Context(), loaded.Config, "cancel", func(ctx context.Context, w *wheel) error {
		return w.cancel(ctx, wanted, a.whoami(), o)
	})
}

// A wanted request is one that is named by its id or by its host.
type wantedRequest struct {
	id    uuid.UUID     // the zero id: by host
	host  restart.Host  // empty: by id
	group restart.Group // empty: any
}

func parseWanted(what, group, domain string) (w wantedRequest, err error) {
	if group != "" {
		if w.group, err = restart.ParseGroup(group); err != nil {
			return w, usagef("--group: %w", err)
		}
	}
	if w.id, err = uuid.Parse(what); err == nil {
		return w, nil
	}
	if w.host, err = restart.HostOf(what, domain); err != nil {
		return w, usagef("cancel: %q is neither an id nor a host: %w", what, err)
	}
	return w, nil
}

func (w wantedRequest) String() string {
	if w.host == "" {
		return "request " + w.id.String()
	}
	return string(w.host)
}

// filter returns the subjects on which the request may be queued.
func (w wantedRequest) filter() string {
	group, host := w.group, w.host
	if group == "" {
		group = "*"
	}
	if host == "" {
		host = ">"
	}
	return stream.WorkSubject(group, host)
}

func (w *wheel) cancel(ctx context.Context, wanted wantedRequest, who string, o cancelOptions) error {
	work, err := openWork(ctx, w.conn)
	if err != nil {
		return fmt.Errorf("cannot cancel: %w", err)
	}
	found, stored, err := findQueued(ctx, work, wanted)
	if err != nil {
		return err
	}
	events, err := w.openJournal(ctx)
	if err != nil {
		return err
	}
	detail := "by " + who
	if o.reason != "" {
		detail += ": " + o.reason
	}
	stands, err := cancelRequest(ctx, events, found, stored, journal.Event{Worker: who, Reason: restart.ReasonByHand, Detail: detail})
	if err == nil {
		err = wantCancelled(stands)
	}
	if err != nil {
		return fmt.Errorf("cannot cancel request %s for %s: %w", found.ID, found.Host, err)
	}
	if *o.out == outputJSON {
		return w.app.printJSON(map[string]any{"cancelled": true, "id": found.ID, "host": found.Host, "group": found.Group})
	}
	_, err = fmt.Fprintf(w.app.stdout, "%s\tcancelled\t%s\n", found.Host, found.ID)
	return err
}

// findQueued returns the request that is queued, and when its message was stored.
func findQueued(ctx context.Context, work jetstream.Stream, wanted wantedRequest) (key journal.Key, stored time.Time, err error) {
	found := 0
	for next := uint64(1); ; {
		msg, err := work.GetMsg(ctx, next, jetstream.WithGetMsgSubject(wanted.filter()))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return key, stored, fmt.Errorf("cannot look for %s: %w", wanted, err)
		}
		next = msg.Sequence + 1
		group, host, err := stream.ParseWorkSubject(msg.Subject)
		if err != nil {
			continue // a worker will say what is wrong with it
		}
		id := stream.RequestID(msg, work.CachedInfo().Created, group, host)
		if wanted.host == "" && id != wanted.id {
			continue
		}
		key, stored = journal.Key{Group: group, ID: id, Host: host}, msg.Time
		if found++; wanted.host == "" {
			break
		}
	}
	switch found {
	case 0:
		return key, stored, fmt.Errorf("nothing is queued for %s: it has ended, or was never asked for; see mandrill history", wanted)
	case 1:
		return key, stored, nil
	}
	return key, stored, usagef("cancel: %s is queued in %d groups: choose one with --group", wanted, found)
}

func (w *wheel) openJournal(ctx context.Context) (*journal.Journal, error) {
	s, err := w.js.Stream(ctx, stream.Journal)
	if err != nil {
		return nil, fmt.Errorf("cannot open journal %s: %w", stream.Journal, err)
	}
	info := s.CachedInfo()
	return journal.Open(ctx, journal.Config{Conn: w.conn.Conn, Created: info.Created, MaxAge: info.Config.MaxAge})
}

// errBeyondJournal is why a request that is older than the journal cannot be cancelled. It is triggered no more either.
var errBeyondJournal = errors.New("it is older than what the journal can vouch for; a worker ends it dead")

// cancelRequest appends the event that every later fence meets, with who and why as given, unless a fence or another end
// was first. It returns what stands in the journal then.
func cancelRequest(ctx context.Context, events *journal.Journal, key journal.Key, stored time.Time, e journal.Event) (journal.Event, error) {
	for {
		last, err := events.Last(ctx, key)
		switch {
		case err != nil, last.Kind == journal.Restarting, last.Kind.Terminal():
			return last, err
		case last.IsZero() && !events.Covers(stored):
			return last, errBeyondJournal
		}
		e.Kind, e.From, e.Attempt, e.At = journal.Cancelled, last.From, last.Attempt, time.Now().UTC()
		appended, err := events.Append(ctx, key, last, e)
		if !errors.Is(err, journal.ErrConflict) {
			return appended, err
		}
	}
}

// wantCancelled returns what is wrong unless a request was cancelled, by whomever.
func wantCancelled(stands journal.Event) error {
	switch stands.Kind {
	case journal.Cancelled:
		return nil
	case journal.Restarting:
		return fmt.Errorf("it was triggered, or is about to be, by worker %s at %s", stands.Worker, clockText(stands.At))
	}
	return fmt.Errorf("it has ended %s (%s) at %s", stands.Kind, stands.Reason, clockText(stands.At))
}

func clockText(t time.Time) string { return timeText(t, secondsTime) }
