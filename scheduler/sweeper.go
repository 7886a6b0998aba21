package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const (
	sweepEvery = time.Second
	// sweepShare is how many times longer than a sweep took the pause after it is, within bounds: with thousands of servers it looks at
	// tens of thousands of jobs, and what it waits for are minutes.
	sweepShare = 30
	// sweepPaused is a pause between two sweeps after which we cannot say that we have been listening.
	sweepPaused = 5 * time.Second
	// retryAfter is the pause before the second attempt; it doubles with each, up to retryAtMost.
	retryAfter  = 5 * time.Second
	retryAtMost = time.Minute
	// retryWithin is the least age at which a job is too old to be tried again; scheduler-max-lateness may extend it.
	retryWithin = 5 * time.Minute
)

// runSweeper listens for signs of life and sweeps once a second.
func (s *Scheduler) runSweeper(ctx context.Context) error {
	sub, err := bus.Listen(s.conn, bus.AllProgress, func(p bus.Progress) { s.signs.progress(p, s.now()) })
	if err != nil {
		return err
	}
	defer func() {
		if err := sub.Unsubscribe(); err != nil {
			s.log.Debug("unsubscribe from signs of life", "err", err)
		}
	}()
	reconnects, swept := s.conn.NC.Stats().Reconnects, time.Now()
	gap := sweepEvery
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gap):
		}
		begun := time.Now()
		connected := s.conn.NC.IsConnected()
		if n := s.conn.NC.Stats().Reconnects; !connected || n != reconnects || time.Since(swept) > sweepPaused {
			s.signs.renew(s.now())
			reconnects = n
		}
		if connected {
			if err := s.sweep(ctx, s.now()); err != nil && ctx.Err() == nil {
				s.log.Warn("sweep", "err", err)
			}
		}
		swept = time.Now()
		gap = min(max(sweepEvery, sweepShare*swept.Sub(begun)), sweepPaused/2)
	}
}

// sweep looks at every job once and ends or renews what has been left alone for too long.
func (s *Scheduler) sweep(ctx context.Context, now time.Time) error {
	var errs []error
	s.signs.begin()
	closures := sync.OnceValues(func() (store.Closures, error) { return s.control.Closures(ctx) })
	for _, last := range s.view.Among(swept, nil) {
		j := *last
		var g sign
		if j.State.Live() {
			g = s.signs.of(j, now)
		}
		c, ok := s.cluster(j.Cluster)
		if !ok {
			continue // another scheduler's, or nobody's until it is configured again
		}
		ch, due := retry(j, c, now)
		if j.State.Live() {
			if ch, due = overdue(j, c, g, now); due && s.mayGoOn(j, c, ch, g, now) {
				continue
			}
		} else if due {
			var shut store.Closures
			var err error
			if shut, err = closures(); err != nil {
				return errors.Join(append(errs, err)...)
			}
			ch, due = c.regate(j, ch, shut, now)
			if op, rolls := s.operation(c, shut, now); rolls && minds(op, j) {
				ch.Edit = func(j *job.Job) { j.Gate, j.Reason = job.GateRolling, behind(op) }
			}
		}
		if due {
			errs = append(errs, s.changeUnlessMoved(ctx, j, ch))
		}
	}
	s.signs.forget(now)
	return errors.Join(errs...)
}

// mayGoOn holds the end of a lease back while a statement of the job may go on on the server: the next heavy job would
// run beside it. A server that cannot be asked for scheduler-jobs-pickup-timeout is no longer waited for.
func (s *Scheduler) mayGoOn(j job.Job, c Cluster, ch store.Change, g sign, now time.Time) bool {
	if j.Mode != job.Local || ch.Event != job.Cut || s.clear == nil || now.Sub(g.last) > c.Lease+c.PickupTimeout {
		return false
	}
	return !s.clear(j)
}

// changeUnlessMoved asks the log first: the view that j comes from may lag, and a job that moved is not left alone.
func (s *Scheduler) changeUnlessMoved(ctx context.Context, j job.Job, ch store.Change) error {
	last, _, err := s.jobs.Last(ctx, j.Key())
	if err != nil {
		return err
	}
	if last.Run() != j.Run() || last.State != j.State || !last.Updated.Equal(j.Updated) {
		return nil
	}
	return s.change(ctx, j, ch)
}

// overdue is the end or the release of a live job that was left alone for longer than its state allows. It is pure.
func overdue(j job.Job, c Cluster, g sign, now time.Time) (store.Change, bool) {
	silent := now.Sub(g.last)
	switch {
	case isRolling(j):
		// Such an operation has bounds of its own, and must undo what it did before it ends.
	case (j.State == job.Queued || j.State == job.Available) && !c.has(j.Task, j.Server):
		if now.Sub(g.first) > c.PickupTimeout {
			return store.Change{Event: job.Expire, Reason: "the server is no longer in the configuration of the cluster"}, true
		}
	case j.Held(), j.Gated(), j.CalledBack():
		// It waits for a job that has a lease of its own, or for a gate that opens by itself or by a person's word.
	case j.State == job.Queued || j.State == job.Available:
		// From the start of the attempt: what is offered, claimed and released in turn is not being run either.
		since := g.first
		if j.Ready.After(since) {
			since = j.Ready
		}
		if now.Sub(since) > c.PickupTimeout {
			return store.Change{Event: job.Expire, Reason: untaken(j, c)}, true
		}
	case j.State == job.Claimed && silent > c.ClaimTimeout:
		return store.Change{Event: job.Release, Reason: "claimed, and no sign of life for " + span(c.ClaimTimeout)}, true
	case (j.State == job.Processing || j.State == job.Waiting) && silent > c.Lease:
		return store.Change{Event: job.Cut, Reason: "no sign of life for " + span(c.Lease)}, true
	}
	return store.Change{}, false
}

// untaken says what an expired job waited for.
func untaken(j job.Job, c Cluster) string {
	within := "within " + span(c.PickupTimeout)
	switch {
	case j.State == job.Queued && j.Reason != "":
		return "not offered " + within + ": " + j.Reason
	case j.State == job.Queued:
		return "not offered " + within
	case j.Mode == job.Local:
		return "no scheduler took it " + within
	case j.Mode == job.ByReceiver:
		return "no receiver took it " + within
	case j.Mode == job.API:
		return "no script on " + j.Server.String() + " asked for it " + within
	default:
		return "no script on " + j.Server.String() + " took its row " + within
	}
}

var (
	retriables = []job.State{job.Halted, job.Failed, job.Expired}
	swept      = slices.Concat(job.LiveStates, retriables)
)

func retriable(s job.State) bool { return slices.Contains(retriables, s) }

// retry is the next attempt of a job that ended badly not long ago. It is pure. That the job is still the last of its
// slot is for the caller to make sure.
func retry(j job.Job, c Cluster, now time.Time) (store.Change, bool) {
	if j.Trigger.Kind == job.Rolling || isRolling(j) {
		return store.Change{}, false // its operation has ended with it, and whether there is another one a person decides
	}
	if t, err := job.TaskByName(j.Task); err == nil && (t.Kind == job.KindService || t.Kind == job.KindRestore) {
		// A person asked for it, for that moment. Done by itself minutes later it would take a server down that is needed, or
		// replace its data twice.
		return store.Change{}, false
	}
	if j.State == job.Failed && j.Evidence.Finding != "" {
		return store.Change{}, false // looked at again it is the same
	}
	if !retriable(j.State) || j.Attempt > c.Retry || !c.has(j.Task, j.Server) {
		return store.Change{}, false
	}
	pause := min(retryAfter<<(j.Attempt-1), retryAtMost)
	ended := now.Sub(j.Since)
	if ended < pause || ended > max(c.MaxLateness, retryWithin) {
		return store.Change{}, false
	}
	return store.Change{
		Event:  job.Retry,
		Reason: fmt.Sprintf("attempt %d of %d, after %s: %s", j.Attempt+1, c.Retry+1, j.State, j.Reason),
	}, true
}
