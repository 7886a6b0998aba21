package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/bus"
	"drydock/job"
)

// LiveOf reads the live jobs of a cluster from the log, in any order.
func (s *Jobs) LiveOf(ctx context.Context, cluster string) (live []job.Job, err error) {
	last := map[job.Key]job.Job{} // a change may come while we read
	err = bus.Read(ctx, s.c, bus.StreamJobs, bus.JobFilter(cluster, "", 0, ""), bus.From{LastPerSubject: true}, func(_ bus.Meta, ev bus.JobEvent) error {
		last[ev.Job.Key()] = ev.Job
		return nil
	})
	if err == nil {
		err = ctx.Err() // a reading that was cut short proves nothing
	}
	if err != nil {
		return nil, fmt.Errorf("read the jobs of cluster %s: %w", cluster, err)
	}
	for _, j := range last {
		if j.State.Live() {
			live = append(live, j)
		}
	}
	return live, nil
}

// ErrOrder is in the chain of an error that says why an operator's word cannot be given to a job.
var ErrOrder = errors.New("order refused")

// Order gives an operator's word to a rolling operation: [job.OrderPause], [job.OrderResume] or [job.OrderAbort]. Giving
// it again changes nothing. It takes effect when its worker comes to the next step. Errors: [ErrOrder], or as [Jobs.Apply].
func (s *Jobs) Order(ctx context.Context, j job.Job, word, by string) (job.Job, error) {
	if t, err := job.TaskByName(j.Task); err != nil || t.Kind != job.KindRolling {
		return j, fmt.Errorf("%w: %s is no rolling operation", ErrOrder, j.ID)
	}
	if word == job.OrderAbort {
		after, err := s.Apply(ctx, RefOf(j), Change{Event: job.Cancel, From: job.Queued, Reason: "aborted by " + by, Actor: by})
		if !errors.Is(err, job.ErrTransition) {
			return after, err
		}
	}
	var refused error
	after, err := s.Apply(ctx, RefOf(j), Change{Event: job.Note, Reason: word + " asked for by " + by, Actor: by, Edit: func(j *job.Job) {
		refused = order(j, word, by)
	}})
	if err == nil {
		err = refused
	}
	return after, err
}

// order edits the plan of j, which is a copy.
func order(j *job.Job, word, by string) error {
	if j.State == job.Finished || !j.State.Live() {
		if word == job.OrderAbort && j.State == job.Canceled {
			return nil
		}
		return fmt.Errorf("%w: %s has ended: it is %s", ErrOrder, j.ID, j.State)
	}
	if j.Plan == nil {
		j.Plan = &job.Plan{}
	}
	now := j.Plan.Order
	switch {
	case now.Word == word, word == job.OrderResume && now.Word == "":
	case now.Word == job.OrderAbort:
		return fmt.Errorf("%w: %s is being aborted, by %s", ErrOrder, j.ID, now.By)
	case word == job.OrderResume:
		j.Plan.Order = job.Order{}
		if j.State == job.Queued {
			j.Ready = time.Now().UTC() // how long it may wait for other jobs counts from here
		}
	default:
		j.Plan.Order = job.Order{Word: word, By: by, Time: time.Now().UTC()}
	}
	return nil
}

// Cancel ends a job by an operator's hand. A rolling operation that has begun is aborted: what it did to servers for a
// while must be undone first. Errors: as [Jobs.Apply].
func (s *Jobs) Cancel(ctx context.Context, j job.Job, by string) (job.Job, error) {
	if t, err := job.TaskByName(j.Task); err == nil && t.Kind == job.KindRolling && j.State.Live() {
		return s.Order(ctx, j, job.OrderAbort, by)
	}
	return s.Apply(ctx, RefOf(j), Change{Event: job.Cancel, Reason: "canceled by " + by, Actor: by})
}
