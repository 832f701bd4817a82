package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A rollSource is where the hosts of a campaign are named.
type rollSource struct {
	file      string
	stdin     bool
	known     string
	sinceText string

	since time.Time
}

func (s *rollSource) addFlags(f *pflag.FlagSet) {
	f.StringVar(&s.file, "file", "", "the hosts are the lines of this file; what follows a # is left out")
	f.BoolVar(&s.stdin, "stdin", false, "the hosts are the lines of standard input")
	f.StringVar(&s.known, "known", "", "the hosts are all of this group that the database knows of, by name")
	f.StringVar(&s.sinceText, "since", "", "with --known: only those that were asked for since then: a span such as 720h, or a time such as 2006-01-02T15:04:05Z")
}

// check refuses anything but exactly one source.
func (s *rollSource) check(cmd *cobra.Command, args []string) (err error) {
	var given []string
	for name, is := range map[string]bool{
		"hosts as arguments": len(args) > 0, "--file": cmd.Flags().Changed("file"), "--stdin": s.stdin, "--known": cmd.Flags().Changed("known"),
	} {
		if is {
			given = append(given, name)
		}
	}
	slices.Sort(given)
	switch {
	case len(given) == 0:
		return usagef("roll: name hosts, as arguments, or with --file, --stdin or --known")
	case len(given) > 1:
		return usagef("roll: hosts come from one place, not from %s", strings.Join(given, " and "))
	case s.sinceText != "" && s.known == "":
		return usagef("--since: is only for --known")
	}
	s.since, err = parsePast("since", s.sinceText, time.Now())
	return err
}

// group returns the one group whose hosts they are.
func (s *rollSource) group(cmd *cobra.Command, cfg config.Config) (restart.Group, error) {
	if cmd.Flags().Changed("known") {
		group, err := restart.ParseGroup(s.known)
		switch {
		case err != nil:
			return "", usagef("--known: %w", err)
		case cmd.Flags().Changed("group") && (len(cfg.Groups) != 1 || cfg.Groups[0] != group):
			return "", usagef("--known: hosts of group %s are restarted in it, and in no other; leave out --group", group)
		}
		return group, nil
	}
	if len(cfg.Groups) != 1 {
		return "", usagef("group: a campaign is for one group, not for %d", len(cfg.Groups))
	}
	return cfg.Groups[0], nil
}

// name says which source it is, the same for the dry run and the real one.
func (s *rollSource) name(hosts []restart.Host) string {
	switch {
	case s.known != "":
		return "known " + s.sinceText
	case s.stdin:
		return "stdin"
	case s.file != "":
		path, err := filepath.Abs(s.file)
		if err != nil {
			path = s.file
		}
		return "file " + path
	}
	sorted := slices.Clone(hosts)
	slices.Sort(sorted)
	return fmt.Sprint("hosts ", slices.Compact(sorted))
}

// read returns the hosts as they are named; those of --known are in the database.
func (s *rollSource) read(a *app, args []string, domain string) (hosts []restart.Host, err error) {
	names, place := args, func(i int) string { return fmt.Sprintf("argument %d", i+1) }
	switch {
	case s.known != "":
		return nil, nil
	case s.stdin:
		var lines []int
		if names, lines, err = readHosts(a.stdin, "standard input"); err != nil {
			return nil, err
		}
		place = func(i int) string { return fmt.Sprintf("line %d", lines[i]) }
	case len(args) == 0:
		f, err := os.Open(s.file)
		if err != nil {
			return nil, usagef("--file: %w", err)
		}
		defer f.Close()
		var lines []int
		if names, lines, err = readHosts(f, s.file); err != nil {
			return nil, &config.UsageError{Err: err}
		}
		place = func(i int) string { return fmt.Sprintf("%s, line %d", s.file, lines[i]) }
	}
	if len(names) == 0 {
		return nil, usagef("roll: there are no hosts in %s", map[bool]string{true: "standard input", false: s.file}[s.stdin])
	}
	var problems []error
	for i, name := range names {
		host, err := restart.HostOf(name, domain)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", place(i), err))
		}
		hosts = append(hosts, host)
	}
	if len(problems) > 0 {
		return nil, &config.UsageError{Err: errors.Join(problems...)}
	}
	return hosts, nil
}

// knownHosts returns the hosts of a group that the database knows of, by name.
func (w *campaignWheel) knownHosts(ctx context.Context, group restart.Group, since time.Time) (hosts []restart.Host, err error) {
	err = w.app.withHistory(ctx, w.cfg, func(ctx context.Context, db store.Store) error {
		hosts, err = hostsIn(ctx, db, store.Filter{Group: group, Since: since})
		return err
	})
	if err == nil && len(hosts) == 0 {
		err = noHostsIn(group)
	}
	return hosts, err
}

func noHostsIn(group restart.Group) error {
	return refusal(fmt.Sprintf("the database knows of no hosts of group %s", group))
}

// hostsIn returns the hosts of the requests in a database, by name.
func hostsIn(ctx context.Context, db store.Store, filter store.Filter) ([]restart.Host, error) {
	hosts := map[restart.Host]bool{}
	for e, err := range db.History(ctx, filter) {
		if err != nil {
			return nil, err
		}
		hosts[e.Request.Host] = true
	}
	return slices.Sorted(maps.Keys(hosts)), nil
}

// refused looks for hosts that the gates of this configuration refuse for good, whatever the time. The workers decide by
// theirs, so they stay in the campaign; where none is left, there is nothing to begin.
func (r *roll) refused(rules policy.Rules, hosts []restart.Host) error {
	rules.Self = policy.Self{} // this machine is not the worker's
	rules.Windows, rules.DryRun = nil, false
	refusals := map[restart.Host]string{}
	for _, h := range hosts {
		request := restart.Request{Host: h, Group: r.spec.Group, NotAfter: r.spec.NotAfter}
		if answer := rules.Ask(policy.Asked{Request: request, Now: r.spec.Created}); answer.Verdict == policy.Never {
			refusals[h] = answer.Refusal.Detail
		}
	}
	distinct := len(slices.Compact(slices.Sorted(slices.Values(hosts))))
	details := make([]string, 0, len(refusals))
	for _, h := range hosts {
		if why := refusals[h]; why != "" && !slices.Contains(details, why) {
			details = append(details, why)
		}
	}
	switch {
	case len(refusals) == 0:
		return nil
	case len(refusals) == distinct:
		return usagef("roll: none of the hosts would be restarted: %s", few(details))
	}
	r.warn("%d of %d hosts would be skipped: %s", len(refusals), distinct, few(details))
	return nil
}

// arrange puts the hosts into their order, each once.
func (r *roll) arrange(ctx context.Context, cfg config.Config, listed []restart.Host) (err error) {
	if r.spec.Order == campaign.OrderRandom && r.spec.Seed == 0 {
		r.spec.Seed = randomSeed()
	}
	var since map[restart.Host]time.Time
	if r.spec.Order == campaign.OrderLongest {
		if since, err = r.probe(ctx, cfg, listed); err != nil {
			return err
		}
	}
	r.spec.Hosts, err = campaign.Arrange(r.spec.Order, r.spec.Seed, listed, since)
	if n := len(listed) - len(r.spec.Hosts); err == nil && n > 0 {
		r.warn("%d of %d names are of hosts that were named before; each host is restarted once", n, len(listed))
	}
	return err
}

// probesAtOnce is how many hosts are asked at the same time since when they have been up.
const probesAtOnce = 20

// probe asks every host since when it has been up. Those that cannot tell are named, and come last.
func (r *roll) probe(ctx context.Context, cfg config.Config, hosts []restart.Host) (_ map[restart.Host]time.Time, err error) {
	if cfg.Driver.Kind == config.DriverSimulated {
		return nil, usagef("--order: simulated hosts live in their worker, and cannot be asked from here since when they have been up")
	}
	driver, err := r.app.newDriver(cfg, r.spec.Group)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeDriver(driver)) }()
	asked, err := bounded.New(bounded.Config{
		Driver: driver, Slots: min(cfg.Driver.Slots, probesAtOnce), ProbeTimeout: cfg.ProbeTimeout, RestartTimeout: cfg.RestartTimeout,
		Logger: r.app.newLogger(cfg.Log),
	})
	if err != nil {
		return nil, err
	}
	hosts = slices.Compact(slices.Sorted(slices.Values(hosts)))
	bar := r.app.newProgress("asking", len(hosts))
	defer bar.stop()
	var (
		mu      sync.Mutex
		since   = map[restart.Host]time.Time{}
		unknown []string
		asking  sync.WaitGroup
	)
	note := func(h restart.Host, state restart.State, err error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			unknown = append(unknown, fmt.Sprintf("%s (%v)", h, err))
		case state.Since.IsZero():
			unknown = append(unknown, fmt.Sprintf("%s (its driver cannot tell)", h))
		default:
			since[h] = state.Since
		}
	}
	var stuck error
	for _, h := range hosts {
		if stuck == nil {
			var slot *bounded.Slot
			if slot, stuck = acquire(ctx, asked, cfg.ProbeTimeout); stuck == nil {
				asking.Go(func() {
					defer slot.Release()
					state, err := slot.Probe(ctx, h)
					bar.add()
					note(h, state, err)
				})
				continue
			}
		}
		note(h, restart.State{}, stuck)
	}
	asking.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		r.warn("of %d hosts it is not known since when they have been up, so they come last: %s", len(unknown), strings.Join(unknown, ", "))
	}
	return since, nil
}

// acquire waits for a slot as long as a driver that keeps its time could use them all.
func acquire(ctx context.Context, d *bounded.Driver, probeTimeout time.Duration) (*bounded.Slot, error) {
	const overrun = 10 * time.Second // more than a call is given that ignores its end
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout+overrun, errors.New("not asked, because earlier calls of the driver do not end"))
	defer cancel()
	return d.Acquire(ctx)
}

func (r *roll) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// few returns the first of many texts.
func few(texts []string) string {
	const most = 5
	if len(texts) > most {
		return fmt.Sprintf("%s; and %d more", strings.Join(texts[:most], "; "), len(texts)-most)
	}
	return strings.Join(texts, "; ")
}
