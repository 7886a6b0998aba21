package receiver

import (
	"context"
	"errors"
	"time"

	"drydock/job"
	"drydock/store"
)

const (
	recordTry    = 10 * time.Second // one write to the log
	recordPause  = 100 * time.Millisecond
	recordPauses = 5 * time.Second // the longest pause between two tries
)

// record gives a change to the job and does not let go until it is written or is of no use any more: a bus that is away
// must not lose a finished stream. ok is false when the job has moved on, or ctx ended first.
func (p *Pool) record(ctx context.Context, ref store.Ref, ch store.Change) (j job.Job, ok bool) {
	log := p.cfg.Log.With("job_id", ref.ID, "attempt", ref.Attempt, "event", string(ch.Event))
	for pause := recordPause; ; pause = min(2*pause, recordPauses) {
		tryCtx, cancel := context.WithTimeout(ctx, recordTry)
		j, err := p.jobs.Apply(tryCtx, ref, ch)
		cancel()
		switch {
		case err == nil:
			return j, true
		case errors.Is(err, job.ErrTransition), errors.Is(err, store.ErrStale), errors.Is(err, store.ErrNone):
			log.Info("job has moved on", "err", err)
			return j, false
		case ctx.Err() != nil:
			return j, false
		}
		if pause == recordPause {
			log.Warn("record cannot be written, trying on", "err", err)
		}
		select {
		case <-ctx.Done():
			return j, false
		case <-time.After(pause):
		}
	}
}
