package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	"drydock/job"
	"drydock/store"
)

// heldFor is how long a look leaves a held job alone, twice as long after each that finds nothing new, up to heldAtMost. Any change of a job
// of the server makes it look at once: this is for what the view did not see. A look that failed is soon repeated.
const (
	heldFor    = 5 * time.Second
	heldAtMost = 20 * time.Second
)

// hold takes out of jobs, which are its to change, the queued ones that must wait for another heavy job of the server, and says why they wait
// (WARN0110). One heavy job has a server for itself: an OPTIMIZE under a physical backup can spoil the backup without
// any error. held reports whether any job waits.
//
// The view may lag, and another gateway may be about to offer another job. So before a heavy job goes out the server's
// slots are read from the log itself, and of several queued ones every gateway lets the same one through: the oldest.
func (t *target) hold(ctx context.Context, jobs []job.Job) (free []job.Job, held bool) {
	jobs = slices.DeleteFunc(jobs, job.Job.Gated) // a scheduler lets them go, and that wakes us
	var waiting []job.Job
	for _, j := range jobs {
		if queuedHeavy(j) {
			waiting = append(waiting, j)
		}
	}
	if waiting == nil {
		return jobs, false
	}
	if t.seenBusy(ctx, waiting) {
		return slices.DeleteFunc(jobs, queuedHeavy), true
	}
	slots, err := t.liveHeavy(ctx)
	if err != nil {
		t.log.Warn("look for other jobs of the server", "cluster", t.name.cluster, "server", t.name.server.String(), "err", err)
		t.held = 0
		return slices.DeleteFunc(jobs, queuedHeavy), true
	}
	for _, j := range jobs {
		first, busy := job.NextHeavy(job.InTheWay(j, slots))
		switch {
		case !queuedHeavy(j) || !busy && j.ID == first.ID:
			j, ok := t.release(ctx, j)
			if ok {
				free = append(free, j)
			} else {
				held, t.held = true, 0
			}
		case first.ID == j.ID:
			// The log knows it as offered already; the view will.
		default:
			held = true
			t.explain(ctx, j, heldBy(first))
		}
	}
	return free, held
}

// seenBusy reports whether the view alone shows that none of the waiting heavy jobs may go, and then says why they wait. To
// hold a job the log need not be read: that a view is behind keeps it for a moment longer, and lets nothing through.
func (t *target) seenBusy(ctx context.Context, waiting []job.Job) bool {
	seen := t.view.OfServer(t.name.cluster, t.name.server, func(x *job.Job) bool { return x.State.Live() && isHeavy(x.Task) })
	firsts := make([]job.Job, len(waiting))
	for i, j := range waiting {
		var busy bool
		if firsts[i], busy = job.NextHeavy(job.InTheWay(j, seen)); !busy {
			return false
		}
	}
	for i, j := range waiting {
		t.explain(ctx, j, heldBy(firsts[i]))
	}
	return true
}

func heldBy(other job.Job) string {
	return fmt.Sprintf("%s%s %s has the server for itself", job.HeldReason, other.Task, other.ID)
}

// crowded looks once more after an offer: between the look in hold and the offer lie a reservation and a row, time
// enough for another heavy job to begin. Of two that were offered at the same moment the younger steps back.
func (t *target) crowded(ctx context.Context, j job.Job) (other job.Job, yes bool) {
	if !heavy(j) {
		return other, false
	}
	live, err := t.liveHeavy(ctx)
	if err != nil {
		t.log.Warn("look for other jobs of the server after an offer", "job", j, "err", err)
		return other, false
	}
	other = rivalOf(j, live)
	return other, other.ID != ""
}

// rivalOf is the one of the live heavy jobs of a server for which j, which was offered or claimed, must step back: one
// that somebody works on or has claimed, or an older one that is offered too. It is pure; the zero Job when there is none.
func rivalOf(j job.Job, live []job.Job) job.Job {
	for _, x := range job.InTheWay(j, live) {
		if x.ID != j.ID && x.State != job.Queued && (x.State != job.Available || x.ID < j.ID) {
			return x
		}
	}
	return job.Job{}
}

func queuedHeavy(j job.Job) bool { return j.State == job.Queued && heavy(j) }

func heavy(j job.Job) bool { return isHeavy(j.Task) }

func isHeavy(name string) bool {
	task, err := job.TaskByName(name)
	return err == nil && task.Heavy()
}

func (t *target) liveHeavy(ctx context.Context) ([]job.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	return t.jobs.LiveHeavy(ctx, t.name.cluster, t.name.server)
}

// release ends the wait of a job that was held, so that its time to be picked up begins now.
func (t *target) release(ctx context.Context, j job.Job) (job.Job, bool) {
	if !j.Held() {
		return j, true
	}
	return t.apply(ctx, j, store.Change{Event: job.Note, Reason: "the server is free", Edit: func(j *job.Job) {
		if j.Held() && !j.Gated() {
			j.Reason, j.Ready = "", time.Now().UTC()
		}
	}})
}
