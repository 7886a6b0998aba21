package gateway

import (
	"context"
	"fmt"
	"time"

	"drydock/bus"
	"drydock/gateway/joblog"
	"drydock/gateway/jobtable"
	"drydock/job"
	"drydock/store"
)

// follow gives a live job the event that its row tells of. there says that the row is the job's own. Errors are the
// database's.
func (k *rowKeeper) follow(ctx context.Context, j job.Job, row jobtable.Row, there bool) error {
	if !there {
		k.missing(ctx, j)
		return nil
	}
	if was := k.seen[j.Task]; was != row {
		k.seen[j.Task] = row
		if was.Run == row.Run {
			k.sign(j)
		}
	}
	e, ok := job.EventOfRow(row.State, row.Done)
	if !ok {
		return nil // nobody took it yet
	}
	if to, err := job.Next(j.State, e); err != nil || to == j.State && !k.unread(j, e) {
		return nil
	}
	if e == job.Start || e == job.Wait {
		k.apply(ctx, j, store.Change{Event: e})
		return nil
	}
	return k.end(ctx, j, row, e)
}

// missing says what a job loses with its row, which a person or a restored backup took away.
func (k *rowKeeper) missing(ctx context.Context, j job.Job) {
	if task, err := job.TaskByName(j.Task); err == nil && task.Kind == job.KindRestore && j.State != job.Available {
		return // its table was replaced with everything else; the script reports over the API
	}
	reason := fmt.Sprintf("row %d was deleted from %s.%s", j.Dispatch.Row, jobtable.Database, jobtable.Name)
	switch j.State {
	case job.Available:
		k.apply(ctx, j, store.Change{Event: job.Withdraw, Reason: reason})
	case job.Processing, job.Waiting:
		k.apply(ctx, j, store.Change{Event: job.Cut, Reason: reason})
	}
}

// unread reports whether the row of a job that was reported done by other means may still add its result.
func (k *rowKeeper) unread(j job.Job, e job.Event) bool {
	return e == job.Done && j.Evidence.Result == "" && k.noted[j.Task] != jobtable.RunOf(j)
}

// end takes in what a script wrote at its end.
func (k *rowKeeper) end(ctx context.Context, j job.Job, row jobtable.Row, e job.Event) error {
	result, err := k.table.Result(ctx, j.Task, row.Run)
	if err != nil {
		return err
	}
	found := joblog.Parse(j.Task, joblog.Info, result).Evidence
	found.Initiated = false // the whole result is of this run; it must not undo what the log said of it
	_, ok := k.apply(ctx, j, store.Change{Event: e, Reason: rowReason(e, found, result), Edit: func(j *job.Job) {
		j.Evidence = withLog(j.Evidence, found)
		if j.Evidence.Result == "" {
			j.Evidence.Result = tail(result, maxResult)
		}
	}})
	if ok {
		k.noted[j.Task] = row.Run
	}
	return nil
}

// rowReason says in a sentence what a row reports; nothing for what needs no reason.
func rowReason(e job.Event, found joblog.Evidence, result string) string {
	if e != job.Error {
		return ""
	}
	last := lastLine(result)
	if n := len(found.Errors); n > 0 {
		last = found.Errors[n-1]
	}
	if last == "" {
		return "the script reported an error"
	}
	return "the script reported an error: " + last
}

// sign tells that the row of a running job moved.
func (k *rowKeeper) sign(j job.Job) {
	err := k.conn.Publish(bus.ProgressSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task), bus.Progress{
		Sign: bus.SignRow, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt,
		Type: bus.TypeProgress, Time: time.Now().UTC(),
	})
	if err != nil {
		k.log.Warn("tell of a sign of life", "job", j, "err", err)
	}
}

// settle writes the outcome of a job that has ended to its row, as other tools on this table expect to find it: 4 or 6
// after the checks, 5 when drydock ended it. done false means that the script is still about to write its own end.
func (k *rowKeeper) settle(ctx context.Context, j job.Job, row jobtable.Row) (done bool, err error) {
	run := jobtable.RunOf(j)
	code, checked := j.State.SQLCode()
	checked = checked && (j.State == job.Success || j.State == job.Failed)
	switch {
	case checked && row.State == code:
		return true, nil
	case checked && row.Live() && time.Since(j.Since) < settleGrace:
		return false, nil
	case checked:
		_, err = k.table.Settle(ctx, j.Task, run, code, row.Live())
	case row.Live():
		_, err = k.table.Abandon(ctx, j.Task, run, fmt.Sprintf("drydock: %s: %s", j.State, j.Reason))
	case row.State == job.CodeFinished:
		_, err = k.table.Settle(ctx, j.Task, run, job.CodeFailed, false)
	}
	return err == nil, err
}
