package rolling

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/job"
	"drydock/store"
)

// The tasks of this package.
const (
	taskRestart = "rollingrestart"
	taskReprov  = "rollingreprov"
)

// work is one operation in the hand of this process.
type work struct {
	*Runner
	cluster Cluster
	job     job.Job // as it was last written or read
	term    int
	taken   time.Time     // when we took it up
	wake    chan struct{} // something happened in the cluster
}

// abortion is why an operation ends that an operator aborted.
type abortion struct{ by string }

func (a abortion) Error() string { return "aborted by " + a.by }

// run brings an operation to its end. When ctx ends it is left as it stands.
func (w *work) run(ctx context.Context) {
	err := w.walk(ctx)
	switch {
	case ctx.Err() != nil || errors.Is(err, errLost):
		w.log.Info("rolling operation left", "job", w.job, "reason", context.Cause(ctx))
	case err != nil:
		w.fail(ctx, err)
	default:
		w.end(ctx, job.Done, "")
	}
}

// takeUp makes an operation that was begun ours.
func (w *work) takeUp(ctx context.Context) bool {
	ok := w.apply(ctx, store.Change{Event: job.Note, From: job.Processing, Reason: "taken up by " + w.actor, Edit: func(j *job.Job) {
		if j.Plan != nil {
			j.Plan.Term++
			j.Plan.Worker = w.actor
		}
	}})
	if !ok || w.job.Plan == nil {
		return false
	}
	w.term, w.taken = w.job.Plan.Term, time.Now()
	w.log.Info("rolling operation taken up", "job", w.job, "term", w.term)
	return true
}

// walk gives every server its turn.
func (w *work) walk(ctx context.Context) error {
	for {
		for _, s := range w.job.Plan.Stages {
			if s.State == job.StageFailed { // and then we were killed
				return w.again(s)
			}
		}
		at := w.job.Plan.Present()
		if at == len(w.job.Plan.Stages) {
			return nil
		}
		if w.job.Plan.Stages[at].State == job.StagePending {
			if err := w.ready(ctx, at); err != nil {
				return err
			}
		}
		if err := w.stage(ctx, at); err != nil {
			return err
		}
	}
}

// again is the failure that was recorded before.
func (w *work) again(s job.Stage) error {
	if o := orderOf(w.job); o.Word == job.OrderAbort {
		return abortion{o.By}
	}
	return errors.New(s.Reason)
}

// ready waits until the next server may have its turn, and marks that it has it. Orders and holds take effect here.
func (w *work) ready(ctx context.Context, at int) error {
	next := w.job.Plan.Stages[at].Server
	var since time.Time // waiting for other jobs
	for {
		if err := w.aborted(); err != nil {
			return err
		}
		why, err := w.standing(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			w.warn("look whether the operation is to stand", err)
			w.pause(ctx)
			continue
		case why != "":
			if err := w.stand(ctx, fmt.Sprintf("paused before %s: %s", next, why), true); err != nil {
				return err
			}
			w.pause(ctx)
			continue
		}
		busy, err := w.rivals(ctx)
		if err == nil && busy == "" {
			break
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) > w.cluster.WaitTimeout {
			return fmt.Errorf("%s did not end within rolling-wait-timeout = %s", busy, w.cluster.WaitTimeout)
		}
		if err := w.stand(ctx, fmt.Sprintf("waits before %s for %s", next, busy), false); err != nil {
			return err
		}
		w.pause(ctx)
	}
	err := w.few(ctx, func(all answers) error {
		if what := changed(w.cluster.Servers, w.job.Plan.Stages, all); what != "" {
			return fmt.Errorf("the topology has changed before the turn of %s: %s", next, what)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.record(ctx, "turn of "+next.String(), func(j *job.Job) {
		j.Reason, j.Plan.Paused = "", time.Time{}
		s := &j.Plan.Stages[at]
		s.State, s.Began = job.StageRunning, time.Now().UTC()
	})
}

// standing says why no further server may have its turn now.
func (w *work) standing(ctx context.Context) (string, error) {
	if o := orderOf(w.now()); o.Word == job.OrderPause {
		return "asked for by " + o.By, nil
	}
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	closures, err := w.control.Closures(ctx)
	if err != nil || w.job.Trigger.Force {
		return "", err
	}
	why, _ := closures.Shut(w.cluster.Name, time.Now())
	return why, nil
}

// stand records why nothing goes on.
func (w *work) stand(ctx context.Context, reason string, paused bool) error {
	if w.job.Reason == reason {
		return nil
	}
	return w.record(ctx, reason, func(j *job.Job) {
		j.Reason = reason
		switch {
		case !paused:
			j.Plan.Paused = time.Time{}
		case j.Plan.Paused.IsZero():
			j.Plan.Paused = time.Now().UTC()
		}
	})
}

// now is the operation as the view shows it, with the orders that came since it was last written.
func (w *work) now() job.Job {
	if j, ok := w.view.Get(w.job.Key()); ok && j.ID == w.job.ID && !j.Updated.Before(w.job.Updated) {
		return j
	}
	return w.job
}

func (w *work) aborted() error {
	if o := orderOf(w.now()); o.Word == job.OrderAbort {
		return abortion{o.By}
	}
	return nil
}

// fail ends an operation that cannot go on: what was done for a while is undone first.
func (w *work) fail(ctx context.Context, why error) {
	err := w.record(ctx, why.Error(), func(j *job.Job) {
		if at := j.Plan.Present(); at < len(j.Plan.Stages) && j.Plan.Stages[at].State == job.StageRunning {
			s := &j.Plan.Stages[at]
			s.State, s.Reason, s.Ended = job.StageFailed, why.Error(), time.Now().UTC()
		}
	})
	if err != nil {
		w.warn("record a failure", err)
		return
	}
	undoing, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	if err := w.undo(undoing); err != nil {
		w.warn("undo read_only, trying further after the end", err)
	}
	if ctx.Err() != nil {
		return
	}
	event := job.Error
	if errors.As(why, &abortion{}) {
		event = job.Cancel
	}
	w.end(ctx, event, fmt.Sprintf("%s; %s", why, w.tally()))
}

// tally says how far the operation came.
func (w *work) tally() string {
	done, all := 0, 0
	for _, s := range w.job.Plan.Stages {
		if s.State != job.StageSkipped {
			all++
		}
		if s.State == job.StageDone {
			done++
		}
	}
	verb := "restarted"
	if w.job.Task == taskReprov {
		verb = "reprovisioned"
	}
	return fmt.Sprintf("%d of %d servers %s", done, all, verb)
}

// end records the end of the operation, and tries until it is recorded.
func (w *work) end(ctx context.Context, e job.Event, reason string) {
	for ctx.Err() == nil {
		if err := w.record(ctx, "", func(*job.Job) {}); errors.Is(err, errLost) {
			return
		}
		now, err := w.jobs.Apply(ctx, store.RefOf(w.job), store.Change{Event: e, Reason: reason, Edit: func(j *job.Job) {
			j.Evidence.Tool, j.Evidence.Result, j.Evidence.Completed = "drydock", w.tally(), e == job.Done
			if j.Plan != nil {
				j.Plan.Paused = time.Time{}
			}
		}})
		if err == nil {
			w.job = now
			w.log.Info("rolling operation ended", "job", now, "event", e, "reason", reason)
			return
		}
		w.warn("record the end of a rolling operation", err)
		if store.Late(err) {
			return
		}
		w.pause(ctx)
	}
}

// record changes the operation while it is ours, and tries until that is written or ctx ends. Errors: [errLost], ctx's.
func (w *work) record(ctx context.Context, reason string, edit func(*job.Job)) error {
	for {
		lost := false
		now, err := w.jobs.Apply(ctx, store.RefOf(w.job), store.Change{Event: job.Note, Reason: reason, Edit: func(j *job.Job) {
			if lost = j.State != job.Processing || j.Plan == nil || j.Plan.Term != w.term; !lost {
				edit(j)
			}
		}})
		switch {
		case lost && err == nil, store.Late(err): // with another error it may have been lost on the view only, which lags
			return errLost
		case err == nil:
			w.job = now
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		w.warn("record a step", err)
		w.pause(ctx)
	}
}

// apply gives an event to an operation that is not begun yet; ok says that it was taken in.
func (w *work) apply(ctx context.Context, ch store.Change) bool {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	now, err := w.jobs.Apply(ctx, store.RefOf(w.job), ch)
	if err != nil {
		w.warn("record a change of a rolling operation", err)
		return false
	}
	w.job = now
	return true
}

func (w *work) warn(what string, err error) { w.log.Warn(what, "job", w.job, "err", err) }

// pause waits for the next look, or until something happens in the cluster.
func (w *work) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-w.wake:
		// A burst of changes costs one look, and our own changes none.
		select {
		case <-ctx.Done():
		case <-time.After(min(w.ticker, lookGap)):
		}
	case <-time.After(w.ticker):
	}
}

const lookGap = 50 * time.Millisecond
