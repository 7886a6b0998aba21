package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/bus"
	"drydock/gateway/jobtable"
	"drydock/job"
	"drydock/store"
)

// rowKeeper is the sql mode of one server: it inserts the rows of queued jobs, follows rows to their end, and writes the
// verdicts back. It belongs to one goroutine at a time.
type rowKeeper struct {
	*target
	ready bool // the table was looked at by this process

	failures int       // of the database, in a row
	notUntil time.Time // no SQL before
	failed   string    // why, for people

	retry   map[string]time.Time    // by task: no offer before
	seen    map[string]jobtable.Row // by task: as read last
	noted   map[string]jobtable.Run // by task: the run whose result is recorded though it was reported done before
	settled map[string]jobtable.Run // by task: the run whose row needs no more looking at
}

func newRowKeeper(t *target) *rowKeeper {
	return &rowKeeper{
		target: t, retry: map[string]time.Time{}, seen: map[string]jobtable.Row{},
		noted: map[string]jobtable.Run{}, settled: map[string]jobtable.Run{},
	}
}

const (
	sqlTimeout  = 20 * time.Second // for the statements of one look
	settleGrace = 30 * time.Second // for the script to write the end of a row that it has reported already
	settleFor   = 24 * time.Hour   // a job that ended longer ago has its row settled, or the next job will see to it
)

// look does everything there is to do on the server and says when to look again.
func (k *rowKeeper) look(ctx context.Context, jobs []job.Job) time.Duration {
	queued, running, ended := k.sort(ctx, jobs)
	if len(queued)+len(running)+len(ended) == 0 {
		return idle
	}
	if wait := time.Until(k.notUntil); wait > 0 {
		k.explainAll(ctx, queued, k.failed)
		return wait
	}
	next := time.Duration(idle)
	if len(running)+len(ended) > 0 {
		next = k.poll
	}
	wait, err := k.inTurn(ctx, queued, running, ended)
	if ctx.Err() != nil {
		return idle
	}
	if err != nil {
		k.report(err)
		k.failures++
		delay := backoff(k.failures)
		k.notUntil = time.Now().Add(delay)
		k.explainAll(ctx, queued, k.failed)
		return delay
	}
	k.failures, k.failed = 0, ""
	return sooner(next, wait)
}

// inTurn is a round when there may be one more connection.
func (k *rowKeeper) inTurn(ctx context.Context, queued, running, ended []job.Job) (next time.Duration, err error) {
	if k.turns != nil {
		select {
		case k.turns <- struct{}{}:
			defer func() { <-k.turns }()
		case <-ctx.Done():
			return idle, ctx.Err()
		}
	}
	next, err = k.round(ctx, queued, running, ended)
	if errors.Is(err, jobtable.ErrNoTable) && k.ready {
		k.ready = false // somebody dropped it: set it up again, at once
		next, err = k.round(ctx, queued, running, ended)
	}
	return next, err
}

// sort picks the jobs that need the database, and takes back what was offered in the other mode.
func (k *rowKeeper) sort(ctx context.Context, jobs []job.Job) (queued, running, ended []job.Job) {
	for _, j := range jobs {
		switch {
		case j.State == job.Available && j.Dispatch.Row == 0:
			j, _ = k.apply(ctx, j, store.Change{Event: job.Withdraw, From: job.Available, Reason: reasonNowSQL})
			if j.State == job.Queued {
				queued = append(queued, j)
			}
		case j.State == job.Queued:
			queued = append(queued, j)
		case j.Dispatch.Row == 0:
		case j.State.Live():
			running = append(running, j)
		case k.settled[j.Task] != jobtable.RunOf(j) && time.Since(j.Since) < settleFor:
			ended = append(ended, j)
		}
	}
	return queued, running, ended
}

// round is one read of the table, then what follows from it. The jobs were read before the rows: a row that
// is missing then was deleted, it is not one that comes later.
func (k *rowKeeper) round(ctx context.Context, queued, running, ended []job.Job) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	if err := k.setup(ctx); err != nil {
		return idle, err
	}
	rows, err := k.table.Rows(ctx)
	if err != nil {
		return idle, err
	}
	for _, j := range running {
		row, there := rows[j.Task]
		if back, err := k.takeCalledBack(ctx, j); err != nil {
			return idle, err
		} else if back {
			continue
		}
		if err := k.follow(ctx, j, row, there && row.Run == jobtable.RunOf(j)); err != nil {
			return idle, err
		}
	}
	for _, j := range ended {
		if row, there := rows[j.Task]; there && row.Run == jobtable.RunOf(j) {
			if done, err := k.settle(ctx, j, row); err != nil {
				return idle, err
			} else if !done {
				continue
			}
		}
		k.settled[j.Task] = jobtable.RunOf(j)
	}
	next = idle
	for _, j := range queued {
		wait := time.Until(k.retry[j.Task])
		if wait <= 0 {
			row, there := rows[j.Task]
			if wait, err = k.offer(ctx, j, row, there); err != nil {
				return idle, err
			}
			k.retry[j.Task] = time.Now().Add(wait)
		}
		if wait > 0 {
			next = sooner(next, wait)
		}
	}
	return next, nil
}

// setup looks at the table once per process, and remembers with the server that it has one, so that a process in api
// mode knows what to drop. That is written before the table is made.
func (k *rowKeeper) setup(ctx context.Context) error {
	if k.ready {
		return nil
	}
	want := store.DispatchDoc{Mode: job.SQL, Table: true}
	var have store.DispatchDoc
	ok, err := k.docs.Get(ctx, k.name.cluster, k.name.server, store.DocDispatch, &have)
	if err == nil && (!ok || have != want) {
		err = k.docs.Put(ctx, k.name.cluster, k.name.server, store.DocDispatch, want)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoBus, err)
	}
	err = k.table.Setup(ctx)
	k.ready = err == nil
	return err
}

var errNoBus = errors.New("the bus does not answer")

// offer brings one queued job into the table and returns how long to wait before it is tried again; 0 when it is
// offered or no longer queued.
func (k *rowKeeper) offer(ctx context.Context, j job.Job, row jobtable.Row, there bool) (time.Duration, error) {
	// The view may be behind; what an outdated job writes into the table, a script would run.
	if ok, err := k.current(ctx, j); err != nil || !ok {
		return waitIf(err != nil), nil
	}
	run := jobtable.RunOf(j)
	if there && row.Live() && row.Run != run {
		switch ours, err := k.ours(ctx, j, row.Run); {
		case err != nil:
			k.log.Warn("look up the job of a row", "job", j, "err", err)
			return againAfter, nil
		case !ours:
			k.explain(ctx, j, "the jobs table holds a live row of another program: "+row.String())
			return k.poll, nil
		}
		if _, err := k.table.Abandon(ctx, j.Task, row.Run, "drydock: the job of this row has ended"); err != nil {
			return 0, err
		}
	}
	d, reason := k.reserve(ctx, j)
	if reason != "" {
		// A row that is still offered from before names a port that may be another job's by now.
		if there && row.Run == run {
			if _, err := k.table.Withdraw(ctx, j.Task, run); err != nil {
				return 0, err
			}
		}
		k.explain(ctx, j, reason)
		return againAfter, nil
	}
	return k.insert(ctx, j, d)
}

func waitIf(failed bool) time.Duration {
	if failed {
		return againAfter
	}
	return 0
}

// current asks the log itself whether j is still its slot's job, and queued.
func (k *rowKeeper) current(ctx context.Context, j job.Job) (bool, error) {
	last, _, err := k.jobs.Last(ctx, j.Key())
	if err != nil {
		k.log.Warn("look up a job", "job", j, "err", err)
		return false, err
	}
	return last.Run() == j.Run() && last.State == job.Queued && !last.Gated(), nil
}

// ours reports whether a run in the slot of j, which is the slot's current job, was drydock's. If so it has ended: a slot
// holds one job at a time. A run that the log does not know is another drydock's, and none of our business.
func (k *rowKeeper) ours(ctx context.Context, j job.Job, run jobtable.Run) (bool, error) {
	if run.Job == j.ID {
		return true, nil
	}
	due, err := job.TimeOfID(run.Job)
	if err != nil {
		return false, nil // no id of ours, or no payload at all
	}
	past, err := k.jobs.List(ctx, store.Filter{
		Cluster: j.Cluster, Server: j.Server, Task: j.Task, Since: due.Add(-time.Minute), Limit: 1 << 20,
	})
	for _, p := range past {
		if p.ID == run.Job {
			return true, nil
		}
	}
	return false, err
}

// reserve asks a receiver for a port when the task streams to drydock; reason says why there is none. A reservation that
// is not used lapses at the receiver; giving it back would take it from another dispatcher that was quicker.
func (k *rowKeeper) reserve(ctx context.Context, j job.Job) (d job.Dispatch, reason string) {
	task, err := job.TaskByName(j.Task)
	if err != nil {
		return d, err.Error()
	}
	if task.Flow != job.FlowIn {
		return d, ""
	}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	r, err := bus.Request[bus.OpenReply](ctx, k.conn, bus.SubjectReceiverOpen, bus.OpenRequest{Key: j.Key(), JobID: j.ID, Attempt: j.Attempt})
	var refused *bus.ServiceError
	switch {
	case err == nil:
		return job.Dispatch{Receiver: r.Receiver, Address: r.Address, Port: r.Port}, ""
	case errors.As(err, &refused) && refused.Code == bus.CodeExhausted:
		return d, job.ReasonNoPort
	case errors.As(err, &refused) && refused.Code == bus.CodeNoSpace:
		return d, job.ReasonNoSpace + refused.Message
	case errors.As(err, &refused):
		return d, "the receiver refuses: " + refused.Message
	}
	k.log.Warn("reserve a port", "job", j, "err", err)
	return d, job.ReasonNoReceiver
}

// insert writes the row and then says so in the log. A crash in between is made good by the next round: it finds the row
// of the run and adopts it.
func (k *rowKeeper) insert(ctx context.Context, j job.Job, d job.Dispatch) (time.Duration, error) {
	address := d.Address
	if address == "" {
		address = k.address
	}
	row, err := k.table.Insert(ctx, j, address, d.Port)
	if errors.Is(err, jobtable.ErrOld) {
		// Its job was due later and yet came before ours, or ours has been replaced since.
		if ok, err := k.current(ctx, j); err != nil || !ok {
			return waitIf(err != nil), nil
		}
		row, err = k.table.Replace(ctx, j, address, d.Port)
	}
	if errors.Is(err, jobtable.ErrLiveRow) {
		return k.poll, nil // it came after our look; the next one explains it
	}
	if err != nil {
		return 0, err
	}
	d.Row = row
	now, ok := k.apply(ctx, j, store.Change{Event: job.Offer, Edit: func(j *job.Job) {
		if j.Dispatch.Row == 0 { // else another dispatcher was quicker, with the same reservation
			j.Mode, j.Dispatch = job.SQL, d
		}
	}})
	switch {
	case ok:
		k.log.Info("job offered", "job", now, "row", row, "port", now.Dispatch.Port)
		if now.Dispatch.Port != d.Port || now.Dispatch.Address != d.Address {
			// The other dispatcher's receiver is the one that counts; a row that nobody took yet must name it.
			_, err = k.table.Insert(ctx, j, cmp.Or(now.Dispatch.Address, address), now.Dispatch.Port)
		}
		if other, crowded := k.crowded(ctx, now); crowded && err == nil {
			return k.stepBack(ctx, now, other)
		}
		return 0, err
	case now.Run() == j.Run() && now.Gated():
		return againAfter, k.callBack(ctx, now)
	case now.ID == "" || now.Run() == j.Run() && now.State == job.Queued:
		return againAfter, nil // the bus took no change: the row is adopted later
	case now.Run() == j.Run() && now.State.Live():
		return 0, nil // a script took it meanwhile: the row is followed
	}
	// The job ended while its row was being written: nobody may take it, and who has it must see.
	_, err = k.table.Abandon(ctx, j.Task, jobtable.RunOf(j), "drydock: the job has ended: "+now.Reason)
	return 0, err
}

// callBack takes away the row of a job whose gate was shut while the row was being written. When a script was quicker the
// job runs, whatever the gate: it is opened, and the next look adopts the row.
func (k *rowKeeper) callBack(ctx context.Context, j job.Job) error {
	gone, err := k.table.Withdraw(ctx, j.Task, jobtable.RunOf(j))
	if err != nil || gone {
		return err
	}
	k.apply(ctx, j, store.Change{Event: job.Note, Reason: "the script was quicker than the gate " + string(j.Gate), Edit: func(j *job.Job) {
		if j.Gated() {
			j.Gate, j.Reason = "", ""
		}
	}})
	return nil
}

// takeCalledBack takes away the row of an offered job whose gate was shut. It reports false when a script was quicker, or
// nobody wants it back.
func (k *rowKeeper) takeCalledBack(ctx context.Context, j job.Job) (bool, error) {
	if !j.CalledBack() {
		return false, nil
	}
	gone, err := k.table.Withdraw(ctx, j.Task, jobtable.RunOf(j))
	if err == nil && gone {
		k.apply(ctx, j, store.Change{Event: job.Withdraw, Reason: j.Reason})
	}
	return gone, err
}

// stepBack takes an offer back for another heavy job of the server, its row first. A script that was quicker keeps it.
func (k *rowKeeper) stepBack(ctx context.Context, j, other job.Job) (time.Duration, error) {
	gone, err := k.table.Withdraw(ctx, j.Task, jobtable.RunOf(j))
	if err != nil || !gone {
		return 0, err
	}
	k.apply(ctx, j, store.Change{Event: job.Withdraw, From: job.Available, Reason: heldBy(other)})
	return againAfter, nil
}

// report logs a failure of the database once, and keeps it as the reason why jobs wait.
func (k *rowKeeper) report(err error) {
	why := sqlReason(err)
	if why != k.failed {
		k.log.Warn("jobs table", "cluster", k.name.cluster, "server", k.name.server.String(), "err", err)
	}
	k.failed = why
}

func (k *rowKeeper) explainAll(ctx context.Context, jobs []job.Job, reason string) {
	for _, j := range jobs {
		k.explain(ctx, j, reason)
	}
}

// sqlReason is the failure for people, without what differs from one try to the next, such as our own port numbers:
// a new reason is a new entry in the job's log.
func sqlReason(err error) string {
	var refused *mysql.MySQLError
	var network *net.OpError
	switch {
	case errors.As(err, &refused):
		return fmt.Sprintf("the database refuses: %s (error %d)", refused.Message, refused.Number)
	case errors.Is(err, errNoBus):
		return errNoBus.Error()
	case errors.Is(err, jobtable.ErrLayout), errors.Is(err, jobtable.ErrNoTable):
		return err.Error()
	case errors.As(err, &network) && network.Addr != nil:
		return fmt.Sprintf("%s%s %s: %v", job.ReasonNoRow, network.Op, network.Addr, network.Err)
	case errors.Is(err, context.DeadlineExceeded):
		return job.ReasonNoRow + "no answer in time"
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return job.ReasonNoRow + err.Error()
}
