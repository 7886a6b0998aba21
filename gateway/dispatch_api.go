package gateway

import (
	"context"
	"errors"
	"time"

	"drydock/gateway/jobtable"
	"drydock/job"
	"drydock/store"
)

// offerAll offers every queued job through the API. No SQL is involved (maintenance.txt section 6.1.8.2): the port, if
// one is needed, is reserved when a client claims the job.
func (t *target) offerAll(ctx context.Context, jobs []job.Job) time.Duration {
	if !t.leaving {
		t.leaving = t.work.run(t.leaveSQL)
	}
	next := time.Duration(idle)
	for _, j := range jobs {
		if j.State != job.Queued {
			continue
		}
		if wait := withdrawnFor(j); wait < againAfter {
			next = sooner(next, againAfter-wait)
			continue
		}
		now, ok := t.apply(ctx, j, store.Change{Event: job.Offer, Edit: func(j *job.Job) {
			j.Mode, j.Dispatch = job.API, job.Dispatch{}
		}})
		if !ok {
			next = sooner(next, againAfter)
		} else if other, crowded := t.crowded(ctx, now); crowded {
			t.apply(ctx, now, store.Change{Event: job.Withdraw, From: job.Available, Reason: heldBy(other)})
			next = sooner(next, againAfter)
		}
	}
	return next
}

// withdrawnFor is how long ago a job was withdrawn because no port could be had; very long for any other.
func withdrawnFor(j job.Job) time.Duration {
	if len(j.Steps) == 0 || j.Steps[len(j.Steps)-1].Event != job.Withdraw || !job.WaitsForPort(j.Steps[len(j.Steps)-1].Reason) {
		return time.Hour
	}
	return time.Since(j.Since)
}

// leaveSQL clears what sql mode left on a server that is in api mode now: jobs offered as rows are taken back, jobs that
// a script runs from their rows are followed to their end, then the table is dropped and the database kept. It is
// remembered with the server, so that no SQL at all is issued after that, not even by the next process. The database
// may be down for as long as it likes; nothing waits for this.
func (t *target) leaveSQL(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			return
		case t.leaves <- struct{}{}:
		}
		left, err := t.leaveOnce(ctx)
		<-t.leaves
		switch {
		case left:
			if err := t.closeTable(); err != nil {
				t.log.Debug("close the connections to a jobs table", "cluster", t.name.cluster, "server", t.name.server.String(), "err", err)
			}
			return
		case err != nil:
			failures++
			t.rows.report(err)
			pause(ctx, backoff(failures))
		default:
			failures = 0
			pause(ctx, t.poll)
		}
	}
}

// leaveOnce goes one step; left is false while jobs run from their rows.
func (t *target) leaveOnce(ctx context.Context) (left bool, err error) {
	var doc store.DispatchDoc
	ok, err := t.docs.Get(ctx, t.name.cluster, t.name.server, store.DocDispatch, &doc)
	if err != nil || ok && doc == (store.DispatchDoc{Mode: job.API}) {
		return err == nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	if t.table == nil {
		t.table = t.open()
	}
	if left, err := t.takeBack(ctx); err != nil || !left {
		return false, err
	}
	if err := t.table.Drop(ctx); err != nil {
		return false, err
	}
	t.log.Info("dropped the jobs table: the server is in api mode", "cluster", t.name.cluster, "server", t.name.server.String())
	return true, t.docs.Put(ctx, t.name.cluster, t.name.server, store.DocDispatch, store.DispatchDoc{Mode: job.API})
}

// takeBack sees to the jobs that were offered as rows; left says that none runs from its row any more.
func (t *target) takeBack(ctx context.Context) (left bool, err error) {
	// The jobs first: a row that is read after its job was seen with it is either there or deleted.
	jobs := t.view.OfServer(t.name.cluster, t.name.server, nil)
	rows, err := t.table.Rows(ctx)
	if errors.Is(err, jobtable.ErrNoTable) {
		err = nil
	}
	left = true
	for _, j := range jobs {
		if !j.State.Live() || j.Dispatch.Row == 0 {
			continue
		}
		row, there := rows[j.Task]
		there = there && row.Run == jobtable.RunOf(j)
		switch {
		case j.State != job.Available && err != nil:
			left = false
		case j.State != job.Available || there && row.State != job.CodeAvailable:
			left = false
			err = t.rows.follow(ctx, j, row, there)
		default:
			var back bool
			back, err = t.takeRow(ctx, j, there && err == nil, err)
			left = left && back
		}
	}
	return left, err
}

// takeRow takes one offered job back, its row first. A database that is down does not keep the job from the API; its
// script reads no rows there.
func (t *target) takeRow(ctx context.Context, j job.Job, there bool, down error) (bool, error) {
	if there {
		gone, err := t.table.Withdraw(ctx, j.Task, jobtable.RunOf(j))
		if err == nil && !gone {
			return false, nil // a script was quicker: the job is followed
		}
		down = err
	}
	_, ok := t.apply(ctx, j, store.Change{Event: job.Withdraw, Reason: reasonNowAPI})
	return ok, down
}

// backoff is how long to wait before try number n (from 1): one second, doubled up to ten.
func backoff(n int) time.Duration {
	return min(time.Second<<min(n-1, 4), 10*time.Second)
}
