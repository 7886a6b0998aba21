package scheduler

import (
	"context"
	"errors"
	"slices"

	"drydock/job"
	"drydock/store"
)

// list keeps which tables the server has before a backup of it begins, for a drill to look for. Without them the backup
// is taken all the same, and compared with nothing.
func (s *Scheduler) list(ctx context.Context, c Cluster, j job.Job) {
	if s.lister == nil || !slices.Contains(c.WholeBackups, j.Task) {
		return
	}
	// The log itself: a list that is made when the backup runs already would not be one of before it.
	last, _, err := s.jobs.Last(ctx, j.Key())
	if err == nil && (last.State.Live() || last.ID == j.ID || last.Seen >= j.Seen) {
		return
	}
	var tables []job.Listed
	if err == nil || errors.Is(err, store.ErrNone) {
		tables, err = s.listInTurn(ctx, j)
	}
	if err == nil {
		err = s.docs.PutListing(ctx, j.Key(), j.ID, tables)
	}
	if err != nil {
		s.log.Info("the tables before a backup are not known", "job", j, "err", err)
	}
}

// listInTurn asks a server for its tables when it has one of the places for that. The tick waits for it: not beyond its own time.
func (s *Scheduler) listInTurn(ctx context.Context, j job.Job) ([]job.Listed, error) {
	select {
	case s.listing <- struct{}{}:
		defer func() { <-s.listing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.lister(ctx, j.Cluster, j.Server, false)
}

// takeStock brings into a backup's job what was there before it and still is. It is done before the job is proven: the
// manifest is signed with it.
func (s *Scheduler) takeStock(ctx context.Context, j job.Job) job.Job {
	if s.lister == nil || j.Inventory != nil || !j.Proven.IsZero() {
		return j
	}
	before, ok, err := s.docs.Listing(ctx, j.Key(), j.ID)
	if err == nil && !ok {
		return j
	}
	var after []job.Listed
	if err == nil {
		after, err = s.lister(ctx, j.Cluster, j.Server, true)
	}
	inventory := job.Lasting(before, after)
	if err == nil && inventory != nil {
		var now job.Job
		now, err = s.jobs.Apply(ctx, store.RefOf(j), store.Change{Event: job.Note, From: job.Finished, Edit: func(j *job.Job) { j.Inventory = inventory }})
		if err == nil {
			return now
		}
	}
	if err != nil {
		s.log.Info("the tables after a backup are not known", "job", j, "err", err)
	}
	return j
}
