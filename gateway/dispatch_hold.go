package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/store"
)

// heldFor is how long a look leaves a held job alone.
const heldFor = 5 * time.Second

// hold takes out of jobs the queued ones that must wait for another heavy job of the server, and says why they wait
// (WARN0110). One heavy job has a server for itself: an OPTIMIZE under a physical backup can spoil the backup without
// any error. held reports whether any job waits.
//
// The view may lag, and another gateway may be about to offer another job. So before a heavy job goes out the server's
// slots are read from the log itself, and of several queued ones every gateway lets the same one through: the oldest.
func (t *target) hold(ctx context.Context, jobs []job.Job) (free []job.Job, held bool) {
	jobs = slices.DeleteFunc(slices.Clone(jobs), job.Job.Gated) // a scheduler lets them go, and that wakes us
	if !slices.ContainsFunc(jobs, queuedHeavy) {
		return jobs, false
	}
	slots, err := t.heavySlots(ctx)
	if err != nil {
		t.log.Warn("look for other jobs of the server", "cluster", t.name.cluster, "server", t.name.server.String(), "err", err)
		return slices.DeleteFunc(jobs, queuedHeavy), true
	}
	first, busy := nextHeavy(slots)
	for _, j := range jobs {
		switch {
		case !queuedHeavy(j) || !busy && j.ID == first.ID:
			j, ok := t.release(ctx, j)
			if ok {
				free = append(free, j)
			}
			held = held || !ok
		case first.ID == j.ID:
			// The log knows it as offered already; the view will.
		default:
			held = true
			t.explain(ctx, j, fmt.Sprintf("%s%s %s has the server for itself", job.HeldReason, first.Task, first.ID))
		}
	}
	return free, held
}

func queuedHeavy(j job.Job) bool { return j.State == job.Queued && heavy(j) }

func heavy(j job.Job) bool {
	task, err := job.TaskByName(j.Task)
	return err == nil && task.Heavy()
}

// heavySlots reads the live heavy jobs of the server from the log.
func (t *target) heavySlots(ctx context.Context) (live []job.Job, err error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	for _, task := range job.Tasks() {
		if !task.Heavy() {
			continue
		}
		j, _, err := t.jobs.Last(ctx, job.Key{Cluster: t.name.cluster, Server: t.name.server, Task: task.Name})
		switch {
		case errors.Is(err, store.ErrNone):
		case err != nil:
			return nil, err
		case j.State.Live() && !j.Gated():
			live = append(live, j)
		}
	}
	return live, nil
}

// nextHeavy picks the job that has the server: the one that was offered (busy), or else the queued one that goes first.
// It is pure. A job that waits for something else, such as a port, does not keep the others from going first.
func nextHeavy(live []job.Job) (first job.Job, busy bool) {
	slices.SortFunc(live, func(a, b job.Job) int { return strings.Compare(a.ID, b.ID) })
	for _, j := range live {
		if j.State != job.Queued {
			return j, true
		}
	}
	for _, j := range live {
		if !waitsForPort(j.Reason) {
			return j, false
		}
	}
	if len(live) > 0 {
		return live[0], false
	}
	return job.Job{}, false
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
