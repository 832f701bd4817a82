package guard

import (
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A guarding is what a monitor has come to. It only counts, so that whoever is late still knows what there is to do.
type guarding struct {
	Monitor
	state monitor.State

	failures uint64 // how many times it became failed
	since    time.Time
	seen     string    // by which it failed the last time
	results  uint64    // of it so far
	goods    int       // of which it was good, and they too
	row      int       // of which since any other
	good     time.Time // when the first of those came
}

func (m *guarding) observe(o monitor.Observation) {
	m.state = o.After
	m.results++
	if o.Result.Verdict == monitor.Good && o.After == monitor.StateGood {
		if m.row == 0 {
			m.good = o.At
		}
		m.goods, m.row = m.goods+1, m.row+1
	} else {
		m.row = 0
	}
	if o.Before != monitor.StateFailed && o.After == monitor.StateFailed {
		m.failures++
		m.since, m.seen = o.At.UTC(), o.Result.Seen
	}
}

// recovered reports whether so many good results in a row resume the monitor's groups.
func (m *guarding) recovered(row int) bool {
	return m.ResumeAfter > 0 && row >= m.ResumeAfter
}

// A post is a monitor before one of its groups. Run alone writes to it, but for stored.
type post struct {
	monitor *guarding
	group   restart.Group

	created uint64 // the failure for which it has put an entry that the watcher may not know of; zero: there is none
	stored  uint64 // the last failure for which nothing is to be put any more

	renewed uint64 // the last result of which the entry tells others, if it failed
	told    uint64 // the entry's revision then, or when it was to be told; zero: nobody knows
	of      uint64 // the failure whose results that were

	// The entry's revision when it was last looked at; zero: there was none, or nobody knows. It was seen first when
	// the monitor had base good results.
	revision uint64
	base     int
	looked   uint64 // after that result
}

// wanted reports whether an entry is to be put.
func (p *post) wanted() bool { return p.stored < p.monitor.failures }

// unsaid reports whether a result is to be told to others because the monitor is failed.
func (p *post) unsaid() bool {
	m := p.monitor
	return m.ResumeAfter > 0 && m.state == monitor.StateFailed && p.renewed < m.results
}

// due reports whether the entry is to be looked at. It is once after each result, so that what is seen was so for a
// whole interval when the next one counts.
func (p *post) due(entry control.Pause) bool {
	stands := p.revision != 0 || entry.Revision != 0
	return stands && p.monitor.ResumeAfter > 0 && (p.looked < p.monitor.results || p.unsaid())
}

// see notes the revision of the entry. What was good before does not count for it.
func (p *post) see(revision uint64) {
	if revision != p.revision {
		p.revision, p.base = revision, p.monitor.goods
	}
}

// tell notes that the entry of the revision tells others of a failure's result.
func (p *post) tell(failure, result, revision uint64) {
	p.renewed = result
	p.told, p.of = revision, failure
}

// A step is what is to be done about an entry.
type step int

const (
	leave step = iota
	again      // it is gone, and must be put
	renew
	lift
)

// next returns what is to be done about the entry as the watcher has just seen it; its revision is zero if there is
// none.
func (p *post) next(entry control.Pause) step {
	m := p.monitor
	p.see(entry.Revision)
	p.looked = m.results
	p.stored, p.created = max(p.stored, p.created), 0
	switch {
	case entry.Revision == 0:
		p.told = 0 // nothing: somebody has resumed the group since it was stored
		if p.wanted() {
			return again
		}
		return leave
	case p.unsaid() && p.of == m.failures && p.told != 0 && p.told != entry.Revision:
		// Another worker has said since that the check fails. Where all see it fail, one in each interval is enough.
		p.tell(m.failures, m.results, entry.Revision)
	case p.unsaid():
		return renew
	}
	p.stored = m.failures
	if m.recovered(min(m.row, m.goods-p.base)) {
		return lift
	}
	return leave
}
