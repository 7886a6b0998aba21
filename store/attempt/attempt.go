// Package attempt is what those share who work on jobs themselves, and not through a script: they change exactly the
// attempt they hold, record its end for as long as it would live, and keep its log lines.
package attempt

import (
	"context"
	"log/slog"
	"time"

	"drydock/job"
	"drydock/store"
)

// Apply gives an event to exactly this attempt of a job; ok says that it was taken in. Why it was not stands in the log.
func Apply(ctx context.Context, jobs *store.Jobs, log *slog.Logger, j job.Job, ch store.Change) (now job.Job, ok bool) {
	now, err := jobs.Apply(ctx, store.RefOf(j), ch)
	switch {
	case err == nil:
		return now, true
	case store.Late(err):
		log.Info("too late for the job", "job", j, "event", ch.Event, "err", err)
	default:
		log.Warn("record a change of a job", "job", j, "event", ch.Event, "err", err)
	}
	return j, false
}

// End records the end of an attempt, also after ctx has ended. It tries until patience is over, which is best as long as
// the job would live without a sign: work that is done and not recorded would be done again.
func End(ctx context.Context, jobs *store.Jobs, log *slog.Logger, j job.Job, ch store.Change, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for {
		now, err := jobs.Apply(ctx, store.RefOf(j), ch)
		if err == nil {
			log.Info("job done", "job", now, "event", ch.Event, "reason", ch.Reason)
			return
		}
		log.Warn("record the end of a job", "job", j, "event", ch.Event, "err", err)
		if store.Late(err) || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
