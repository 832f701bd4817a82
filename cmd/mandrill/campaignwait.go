package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/pflag"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	// campaignEvery is the time between two looks at a campaign that is waited for.
	campaignEvery = 300 * time.Millisecond
	// campaignLook bounds one look.
	campaignLook = 10 * time.Second
	// barWidth leaves room on a line for what the campaign waits for.
	barWidth = 30
)

// waitFlags are the flags of a verb that waits for the end of a campaign where it is told to.
type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func (o *waitFlags) addFlags(f *pflag.FlagSet, usage string) {
	f.BoolVar(&o.wait, "wait", false, usage)
	f.DurationVar(&o.timeout, "wait-timeout", 0, "how long --wait waits; 0 is as long as it takes")
}

func (o *waitFlags) check(f *pflag.FlagSet) error {
	if o.timeout < 0 || o.timeout == 0 && f.Changed("wait-timeout") {
		return usagef("--wait-timeout: %s is not in the future", o.timeout)
	}
	return nil
}

// A campaignEnd is how a campaign ended.
type campaignEnd struct {
	State    campaign.State `json:"state"`
	Why      string         `json:"why,omitempty"`
	Outcomes map[string]int `json:"outcomes"` // how many hosts ended how
	// Unwell are the hosts that were neither restarted nor skipped.
	Unwell []unwellHost `json:"unwell"`

	id uuid.UUID
}

// An unwellHost is a host that ended otherwise than wished.
type unwellHost struct {
	Host    restart.Host   `json:"host"`
	Outcome string         `json:"outcome"`
	Reason  restart.Reason `json:"reason,omitempty"`
}

func newCampaignEnd(c campaign.Campaign) *campaignEnd {
	e := &campaignEnd{State: c.Progress.State, Why: c.Progress.Why, Outcomes: map[string]int{}, Unwell: []unwellHost{}, id: c.Spec.ID}
	for _, row := range reportWithout(c).Rows {
		e.Outcomes[row.Outcome]++
		if row.Outcome != string(restart.Restarted) && row.Outcome != string(restart.Skipped) {
			e.Unwell = append(e.Unwell, unwellHost{row.Host, row.Outcome, row.Reason})
		}
	}
	return e
}

// reportWithout returns the report of a campaign as its own progress tells it, without the database.
func reportWithout(c campaign.Campaign) campaign.Report {
	return campaign.NewReport(&c.Spec, c.Progress, func(uuid.UUID) (restart.Outcome, bool) { return restart.Outcome{}, false })
}

// err returns what the exit code tells.
func (e *campaignEnd) err() error {
	if len(e.Unwell) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d hosts ended otherwise than restarted or skipped", errPartly, len(e.Unwell))
}

func (e *campaignEnd) print(w io.Writer) error {
	for _, u := range e.Unwell {
		fmt.Fprintf(w, "%s\t%s\t%s\n", u.Host, u.Outcome, plain(string(u.Reason)))
	}
	text := fmt.Sprintf("campaign %s %s:", e.id, e.State)
	for i, kind := range kindsIn(e.Outcomes) {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(" %s %d", kind, e.Outcomes[kind])
	}
	if e.Why != "" {
		text += "; " + plain(e.Why)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// kindsIn returns the words that are counted, in the order in which people read them.
func kindsIn(counts map[string]int) (words []string) {
	for _, kind := range restart.Kinds {
		words = append(words, string(kind))
	}
	words = append(words, campaign.InWork, campaign.LeftToOther, campaign.NotAsked)
	return slices.DeleteFunc(words, func(word string) bool { return counts[word] == 0 })
}

// await shows how far a campaign is until it is over. While NATS is away it goes on looking. A timeout of zero is none.
func (w *campaignWheel) await(ctx context.Context, id uuid.UUID, fits campaign.Fits, timeout time.Duration) (*campaignEnd, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("--wait-timeout %s is over", timeout))
		defer cancel()
	}
	view := w.app.newCampaignView()
	defer view.stop()
	told := ""
	var c campaign.Campaign
	for began := time.Now(); ; {
		look, cancel := context.WithTimeout(ctx, campaignLook)
		err := w.refresh(look, id, &c)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w; the campaign goes on: 'mandrill campaign show %s --wait' looks at it again", context.Cause(ctx), id)
		case errors.Is(err, campaign.ErrNotFound) && time.Since(began) < campaignLook: // a node that is behind
		case errors.Is(err, campaign.ErrNotFound), errors.Is(err, campaign.ErrUnreadable):
			return nil, fmt.Errorf("cannot look at campaign %s: %w", id, err)
		case err != nil:
			if err.Error() != told {
				told = err.Error()
				view.say(fmt.Sprintf("mandrill: cannot look at the campaign, trying until it can: %v\n", err))
			}
		default:
			told = ""
			view.update(newCampaignLine(c, time.Now(), fits))
			if c.Progress.State.Final() {
				return newCampaignEnd(c), nil
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(campaignEvery):
		}
	}
}

// refresh reads a campaign again if it has come forward: its hosts may be many, and never change.
func (w *campaignWheel) refresh(ctx context.Context, id uuid.UUID, c *campaign.Campaign) error {
	p, err := w.docs.Progress(ctx, id)
	if err != nil || c.Spec.ID == id && p.Revision == c.Progress.Revision {
		return err
	}
	now, err := w.docs.Load(ctx, id)
	if err == nil {
		*c = now
	}
	return err
}

// A campaignView shows how far a campaign is: as a bar on a terminal, else as a line whenever it has come forward.
type campaignView struct {
	app  *app
	bars *mpb.Progress // nil without a terminal
	bar  *mpb.Bar
	text atomic.Pointer[string]
	last campaignLine
}

func (a *app) newCampaignView() *campaignView {
	v := &campaignView{app: a}
	if isTerminal(a.stderr) {
		v.bars = mpb.New(mpb.WithOutput(a.stderr), mpb.WithAutoRefresh())
	}
	return v
}

func (v *campaignView) update(l campaignLine) {
	text := l.text(time.Now())
	if v.bars == nil {
		l.Expected, l.Over, l.Paused, l.Aborted = time.Time{}, time.Time{}, nil, nil // no news, or in Waits
		if l != v.last {
			v.last = l
			fmt.Fprintln(v.app.stderr, plain(text))
		}
		return
	}
	text = plain(text)
	v.text.Store(&text)
	if v.bar == nil {
		v.bar = v.bars.AddBar(int64(l.Hosts), mpb.BarRemoveOnComplete(), mpb.BarWidth(barWidth),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + *v.text.Load() })))
	}
	v.bar.SetCurrent(int64(l.Done))
}

// say tells what is wrong, above the bar.
func (v *campaignView) say(text string) {
	if v.bars != nil {
		_, _ = v.bars.Write([]byte(text)) // it is told to a person, who sees the terminal
		return
	}
	fmt.Fprint(v.app.stderr, text)
}

// stop takes the bar away.
func (v *campaignView) stop() {
	if v.bar != nil {
		v.bar.Abort(true)
	}
	if v.bars != nil {
		v.bars.Wait()
	}
}
