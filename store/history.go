package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
)

// Filter narrows [Jobs.List]; empty fields mean all.
type Filter struct {
	Cluster string
	Server  job.Server // Port 0: every port of Host; empty Host: every server
	Task    string
	State   job.State
	Since   time.Time // jobs that changed since then
	Limit   int       // newest first; 0 means 200
}

// List reads the history of jobs from the log, newest first, each as it was last.
func (s *Jobs) List(ctx context.Context, f Filter) ([]job.Job, error) {
	byID := map[string]job.Job{}
	err := bus.Read(ctx, s.c, bus.StreamJobs, bus.JobFilter(f.Cluster, f.Server.Host, f.Server.Port, f.Task), bus.From{Since: f.Since},
		func(_ bus.Meta, ev bus.JobEvent) error {
			byID[ev.Job.ID] = ev.Job
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read the history of jobs: %w", err)
	}
	var out []job.Job
	for _, j := range byID {
		if f.State == "" || j.State == f.State {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, func(a, b job.Job) int { return strings.Compare(b.ID, a.ID) })
	return out[:min(len(out), limitOr(f.Limit, 200))], nil
}

// Find is the job with this id as it is now, from the view or, for one that was followed by others, from the log.
// Errors: [ErrNone], [job.ErrID].
func (s *Jobs) Find(ctx context.Context, id string) (job.Job, error) {
	due, err := job.TimeOfID(id)
	if err != nil {
		return job.Job{}, err
	}
	if s.view != nil {
		if j, ok := s.view.Find(id); ok {
			return j, nil
		}
	}
	// A job is created after it is due, so its log begins there; clocks of several machines may differ a little.
	from := bus.From{Since: due.Add(-time.Minute)}
	var found job.Job
	var at uint64
	err = bus.Read(ctx, s.c, bus.StreamJobs, bus.AllJobs, from, func(m bus.Meta, ev bus.JobEvent) error {
		if ev.Job.ID != id {
			return nil
		}
		found, at = ev.Job, m.Seq
		return bus.ErrStop
	})
	if err != nil {
		return job.Job{}, fmt.Errorf("look for job %s: %w", id, err)
	}
	if found.ID == "" {
		return job.Job{}, fmt.Errorf("%w: %s", ErrNone, id)
	}
	err = bus.Read(ctx, s.c, bus.StreamJobs, subjectOf(found.Key()), bus.From{Seq: at}, func(_ bus.Meta, ev bus.JobEvent) error {
		if ev.Job.ID != id {
			return bus.ErrStop // a slot never goes back to an earlier job
		}
		found = ev.Job
		return nil
	})
	return found, err
}
