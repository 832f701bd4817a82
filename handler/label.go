package handler

import (
	"context"
	"runtime/pprof"
)

// label labels the goroutine that calls it, and those which that one starts from now on.
func (j *Job) label(phase Phase) {
	if !j.handler.cfg.Labels || phase == "" {
		return
	}
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(
		"host", string(j.Request.Host), "id", j.Request.ID.String(), "phase", string(phase),
	)))
}
