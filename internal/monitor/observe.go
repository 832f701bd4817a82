package monitor

import "time"

func (c *call) observation(start time.Time, beat int64) Observation {
	return Observation{Seq: beat, Offset: c.began, At: start.Add(c.ended), Result: c.result}
}

// observe counts a result, and tells of it.
func (r *run) observe(m *monitor, o Observation) {
	o.Name, o.Missed, o.Before = m.Name, o.Seq-m.told-1, m.state
	m.told = o.Seq
	m.count(o.Result.Verdict)
	o.After = m.state
	r.logResult(&o)
	if r.cfg.Observe != nil {
		r.cfg.Observe(o)
	}
	if o.Before == o.After {
		return
	}
	if o.Before == StateFailed {
		r.failed, m.cause = r.failed-1, nil
	}
	event := r.log.Info()
	if o.After == StateFailed {
		r.failed, m.cause = r.failed+1, &o
		event = r.log.Error()
	}
	event.Str("monitor", m.Name).Stringer("from", o.Before).Stringer("to", o.After).Str("seen", o.Result.Seen).
		Msg("monitor changed")
}

func (r *run) logResult(o *Observation) {
	event := r.log.Info()
	if o.Result.Verdict != Good {
		event = r.log.Warn()
	}
	event = event.Str("monitor", o.Name).Int64("seq", o.Seq).Dur("offset", o.Offset).
		Stringer("verdict", o.Result.Verdict).Str("seen", o.Result.Seen).Dur("took", o.Result.Took)
	for _, f := range o.Result.Facts {
		event = event.Int64(f.Name, f.Value)
	}
	if o.Missed > 0 {
		event = event.Int64("missed", o.Missed)
	}
	event.Msg("checked")
}
