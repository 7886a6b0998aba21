package rolling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"drydock/job"
	"drydock/scheduler/local"
	"drydock/store"
)

const sqlTime = 5 * time.Second

// drain makes the primary read-only and waits for the transactions that have written, where rolling-primary-read-only
// says so. That it is to be undone is recorded before.
func (w *work) drain(ctx context.Context, at int) error {
	s := w.at(at)
	if !w.cluster.PrimaryReadOnly || s.Role != string(store.RolePrimary) {
		return nil
	}
	db := local.Open(s.Server, w.cluster.User, w.cluster.Password, w.cluster.DrainTimeout+sqlTime)
	defer func() { _ = db.Close() }()
	on, err := isReadOnly(ctx, db)
	if err != nil {
		return err
	}
	if !on && !s.ReadOnly {
		if err := w.record(ctx, "read_only on "+s.Server.String(), func(j *job.Job) { j.Plan.Stages[at].ReadOnly = true }); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(w.cluster.DrainTimeout)
	if !on {
		if err := setReadOnly(ctx, db, w.cluster.DrainTimeout); err != nil {
			return err
		}
	}
	for {
		n, err := writers(ctx, db)
		switch {
		case err != nil:
			return err
		case n == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d transactions that have written still run after rolling-drain-timeout = %s", n, w.cluster.DrainTimeout)
		}
		if err := w.aborted(); err != nil {
			return err
		}
		w.pause(ctx)
	}
}

// release gives the primary back to its writers.
func (w *work) release(ctx context.Context, at int) error {
	limit, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	for {
		err := w.giveBack(limit, at)
		if err == nil || limit.Err() != nil {
			return err
		}
		w.warn("undo read_only", err)
		w.pause(limit)
	}
}

// undo gives back every server that the operation made read-only, and tries until ctx ends.
func (w *work) undo(ctx context.Context) error {
	for i, s := range w.job.Plan.Stages {
		for s.ReadOnly {
			err := w.giveBack(ctx, i)
			if err == nil {
				break
			}
			w.pause(ctx)
			if ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

// giveBack undoes read_only of one server and records that. One that has become a replica meanwhile keeps it: whoever
// made it one meant that.
func (w *work) giveBack(ctx context.Context, at int) error {
	s := w.at(at)
	if !s.ReadOnly {
		return nil
	}
	if !slices.Contains(w.cluster.Servers, s.Server) { // nobody could undo it any more, and no operation could follow
		w.log.Warn("a server that is no longer in the configuration was left read-only", "job", w.job, "step", s.Server.String())
		return w.note(ctx, "read_only of "+s.Server.String()+" is not undone: it is no server of the cluster any more",
			func(j *job.Job) { j.Plan.Stages[at].ReadOnly = false })
	}
	f, err := w.facts.Fresh(ctx, w.cluster.Name, s.Server, 0)
	switch {
	case err != nil:
		return err
	case !f.Up || f.Role == "":
		return fmt.Errorf("%s cannot be reached: %s", s.Server, f.Err)
	case f.Role == store.RolePrimary:
		db := local.Open(s.Server, w.cluster.User, w.cluster.Password, sqlTime)
		defer func() { _ = db.Close() }()
		if _, err := db.ExecContext(ctx, "SET GLOBAL read_only=0"); err != nil {
			return fmt.Errorf("undo read_only on %s: %w", s.Server, err)
		}
	}
	return w.note(ctx, "read_only undone on "+s.Server.String(), func(j *job.Job) { j.Plan.Stages[at].ReadOnly = false })
}

// note is [work.record] that also reaches an operation that has ended.
func (w *work) note(ctx context.Context, reason string, edit func(*job.Job)) error {
	if w.job.State.Live() {
		return w.record(ctx, reason, edit)
	}
	now, err := w.jobs.Apply(ctx, store.RefOf(w.job), store.Change{Event: job.Note, Reason: reason, Edit: edit})
	if err == nil {
		w.job = now
	}
	return err
}

// settle undoes what an operation that has ended still owes.
func (w *work) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	if err := w.undo(ctx); err != nil && ctx.Err() == nil {
		w.warn("undo read_only after the end of an operation", err)
	}
}

func isReadOnly(ctx context.Context, db *sql.DB) (on bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTime)
	defer cancel()
	var text string
	if err := db.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&text); err != nil {
		return false, fmt.Errorf("read read_only: %w", err)
	}
	return text != "0" && text != "OFF", nil
}

// setReadOnly waits for statements and locks of others no longer than limit. The connection is one for both statements,
// because the limit belongs to it.
func setReadOnly(ctx context.Context, db *sql.DB, limit time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit+sqlTime)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("set read_only: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	seconds := strconv.Itoa(max(1, int(limit.Seconds())))
	for _, statement := range []string{"SET SESSION lock_wait_timeout=" + seconds, "SET GLOBAL read_only=1"} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("set read_only: %w", err)
		}
	}
	return nil
}

// writers counts the transactions that have changed or locked rows.
func writers(ctx context.Context, db *sql.DB) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTime)
	defer cancel()
	const query = `SELECT COUNT(*) FROM information_schema.INNODB_TRX
		WHERE trx_mysql_thread_id <> CONNECTION_ID() AND (trx_rows_modified > 0 OR trx_rows_locked > 0)`
	if err := db.QueryRowContext(ctx, query).Scan(&n); err != nil {
		return 0, fmt.Errorf("look for running transactions: %w", err)
	}
	return n, nil
}
