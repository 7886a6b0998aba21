package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// A statement of a job goes on on its server when the drydock that gave it is killed: a server notices the loss of a
// connection only when the statement is over. So long statements carry a mark, by which they are found and ended before
// another heavy job has its turn: by whoever begins one here, and by [Runner.Clear] before the lease of a job ends, which
// is what the jobs of the script wait for.

// markText begins the mark; the run of the job follows.
const markText = "drydock run "

// mark is a comment that names the job, for the end of a statement.
func mark(j job.Job) string { return " /* " + markText + j.Run() + " */" }

// errEnding is a connection that was told to end and has not ended yet.
var errEnding = errors.New("the server is still ending what an earlier job left")

// endMarked ends every statement with the mark of run, or any mark for an empty one, but for those of connection own. It
// waits a moment for their end. Errors: [errEnding], and what the server says.
func endMarked(ctx context.Context, db *sql.DB, run string, own int64) (found int, err error) {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for tries := 0; ; tries++ {
		ids, err := marked(ctx, db, run, own)
		if err != nil {
			return found, fmt.Errorf("look for what an earlier job left: %w", err)
		}
		if len(ids) == 0 {
			return found, nil
		}
		found = max(found, len(ids))
		for _, id := range ids {
			if err := killConnection(ctx, db, id); err != nil {
				return found, err
			}
		}
		if pause(ctx, endingGap); ctx.Err() != nil {
			return found, errEnding
		}
	}
}

const endingGap = 50 * time.Millisecond

// marked lists our connections at work on a marked statement; others may speak of the mark. The mark is put together by the server, so that this
// statement does not bear it.
func marked(ctx context.Context, db *sql.DB, run string, own int64) (ids []int64, err error) {
	const end = len(markText) / 2
	rows, err := db.QueryContext(ctx, `SELECT ID FROM information_schema.PROCESSLIST WHERE ID NOT IN (?, CONNECTION_ID())
		AND USER = SUBSTRING_INDEX(USER(), '@', 1) AND LOCATE(CONCAT(?, ?), COALESCE(INFO, '')) > 0`, own, markText[:end], markText[end:]+run)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func killConnection(ctx context.Context, db *sql.DB, id int64) error {
	if _, err := db.ExecContext(ctx, "KILL "+strconv.FormatInt(id, 10)); err != nil && !isNumber(err, erNoSuchThread) {
		return fmt.Errorf("end connection %d: %w", id, err)
	}
	return nil
}

// tidy ends what earlier heavy jobs of drydock left on the server that j, which is claimed, has for itself now. While the
// server is at it, j waits.
func (r *Runner) tidy(ctx context.Context, j job.Job, s *session) bool {
	if task, err := job.TaskByName(j.Task); err != nil || !task.Heavy() {
		return err == nil
	}
	if s == nil {
		return true // it works on the service: a database that is down has no statements
	}
	found, err := endMarked(ctx, s.db, "", s.id)
	if err == nil {
		if found > 0 {
			r.log.Warn("ended a statement that an earlier job had left on the server", "job", j)
		}
		return true
	}
	// A job that waits with this reason keeps its place, and so keeps the script's heavy jobs from the server.
	reason := job.HeldReason + errEnding.Error()
	if !errors.Is(err, errEnding) {
		reason = job.ReasonNoSQL + sqlReason(err)
	}
	r.apply(ctx, j, store.Change{Event: job.Withdraw, From: job.Claimed, Reason: reason})
	r.holdOff(j)
	return false
}

// leftover is a job of ours, begun by a drydock that may be gone, whose server is to be cleared of it.
type leftover struct {
	job     job.Job
	since   time.Time
	looking bool      // in a hand now
	failed  time.Time // zero until a look failed
	cleared time.Time // zero until nothing was left
}

const (
	clearFor   = 5 * time.Second  // a look at a server holds good
	clearAgain = time.Second      // after one that failed
	clearMost  = 10 * time.Minute // a server is tried for a job that nobody waits for
)

// Clear reports whether nothing of an attempt of a local job goes on on its server any more. It does not block: the
// first call makes [Runner.Run] look and end what is there, and a later one tells what came of it. The lease of such a
// job must not end before.
func (r *Runner) Clear(j job.Job) bool {
	if !leaves(j) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.left[j.Run()]
	switch {
	case l == nil:
		r.left[j.Run()] = &leftover{job: j, since: time.Now()}
	case !l.cleared.IsZero() && time.Since(l.cleared) < clearFor:
		return true
	default:
		l.cleared = time.Time{}
	}
	r.wakeUp()
	return false
}

// leaves reports whether a job can leave statements on its server that others must wait for. What is done to the service
// is no statement, and a comparison of several servers only reads.
func leaves(j job.Job) bool { return overSQL(j) && j.Server != (job.Server{}) }

// abandoned notes a job of ours that was ended by others while it was at work. Whoever did it may not be there to stop.
func (r *Runner) abandoned(ev bus.JobEvent) {
	j := ev.Job
	l := r.left[j.Run()]
	switch task, err := job.TaskByName(j.Task); {
	case j.State.Live():
	case err != nil || !task.Heavy() || !leaves(j) || j.Mode != job.Local || ev.Prev != job.Processing || r.runs[j.Run()] != nil:
		delete(r.left, j.Run())
	case l != nil && time.Since(l.cleared) < clearFor: // that is why its lease could end
		delete(r.left, j.Run())
	case l != nil: // what was seen before it went on says nothing
		l.cleared = time.Time{}
	case time.Since(j.Since) < clearMost: // at a start, those of long ago pass by too
		r.left[j.Run()] = &leftover{job: j, since: time.Now()}
	}
}

// leftovers are the jobs whose servers are to be looked at now; they count as being looked at. more says that others may
// have to be soon.
func (r *Runner) leftovers() (out []*leftover, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for run, l := range r.left {
		_, ours := r.clusters[l.job.Cluster]
		switch {
		case !ours:
			delete(r.left, run)
		case l.looking || !l.cleared.IsZero():
		case time.Since(l.failed) < clearAgain:
			more = true
		default:
			l.looking = true
			out = append(out, l)
		}
	}
	return out, more || len(out) > 0
}

// clear looks once at the server of a job and ends what it left there.
func (r *Runner) clear(ctx context.Context, l *leftover) {
	c := r.clusters[l.job.Cluster]
	db := sql.OpenDB(connector(sqlConfig(l.job.Server, c.User, c.Password)))
	defer func() { _ = db.Close() }()
	found, err := endMarked(ctx, db, l.job.Run(), 0)
	j, ok := r.view.Get(l.job.Key())
	awaited := ok && j.Run() == l.job.Run() && j.State.Live()
	if first := r.cleared(l, err, awaited); err != nil && first && ctx.Err() == nil {
		r.log.Warn("look for what a job left on its server", "job", l.job, "err", err)
	}
	if err == nil && found > 0 {
		r.log.Warn("ended a statement that a job had left on its server", "job", l.job)
	}
}

// cleared keeps what came of a look; awaited says that somebody will ask. first is true for the first failure.
func (r *Runner) cleared(l *leftover, err error, awaited bool) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first = l.failed.IsZero()
	l.looking = false
	if err == nil {
		l.cleared = time.Now()
	} else {
		l.failed = time.Now()
	}
	if !awaited && (err == nil || time.Since(l.since) > clearMost) {
		delete(r.left, l.job.Run())
	}
	return first
}
