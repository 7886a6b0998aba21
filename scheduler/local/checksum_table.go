package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"drydock/job"
	"drydock/store"
	"drydock/store/attempt"
)

// answer is what one server says of a table.
type answer struct {
	side   *side
	absent bool
	sum    string
	err    error
}

// compare compares one table of the primary with the replicas. An error puts it off, or, the last time, is the end of
// it; what differs stands in the report then.
func (c *comparison) compare(ctx context.Context, t table, last bool) error {
	sh := c.primary.tables[t]
	var with []*side
	for _, r := range c.replicas {
		if c.binlog.excludes(t) || slices.ContainsFunc(r.filters, func(f filter) bool { return f.excludes(t) }) {
			c.judged[pair{t, r.server}] = true
			if !last {
				c.leave(store.Finding{Table: t.String(), Server: r.server, What: "left out: a replication filter keeps it away"})
			}
			continue
		}
		with = append(with, r)
	}
	if len(with) == 0 {
		return nil
	}
	if slices.Contains(unfit, sh.engine) {
		c.leave(store.Finding{Table: t.String(), What: "left out: its engine " + sh.engine + " stores nothing to compare"})
		return nil
	}
	still := !sh.snapshots() // the lock stays until the sums are taken
	for _, r := range with {
		other, there := r.tables[t]
		still = still || there && !other.snapshots()
	}
	if still && !c.allMariaDB(with) {
		c.leave(store.Finding{Table: t.String(), What: "left out: its engine has no snapshots, and this server no limit for how long it would stay locked"})
		return nil
	}
	if err := c.catchUp(ctx, with); err != nil {
		return err
	}
	answers, err := c.freeze(ctx, t, with, still)
	defer c.thaw(ctx, with)
	if err != nil || answers == nil {
		return err
	}
	if !still {
		stop := c.giveWay(ctx, t, with)
		answers = c.sums(ctx, t, answers, 0)
		stop()
	}
	return c.judge(t, sh, answers, last)
}

func (c *comparison) allMariaDB(with []*side) bool {
	return c.primary.mariadb() && !slices.ContainsFunc(with, func(r *side) bool { return !r.mariadb() })
}

// catchUp waits, with nothing locked, until the replicas are where the primary is now, so that the wait with the lock is
// short. A replica that cannot keep up is given up at some point, or every table would wait for it.
func (c *comparison) catchUp(ctx context.Context, with []*side) error {
	p, err := c.primary.here(ctx, c.session.conn)
	if err != nil {
		return err
	}
	var failed error
	for _, a := range c.each(ctx, with, func(ctx context.Context, s *side) answer { return answer{side: s, err: s.reach(ctx, p, catchUpFor)} }) {
		switch {
		case a.err == nil:
			c.late[a.side.server] = 0
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(a.err, errLate):
			failed = putOff(fmt.Errorf("%s: %w", a.side.server, a.err))
			if c.late[a.side.server]++; c.late[a.side.server] >= lateMost {
				c.drop(a.side.server, fmt.Sprintf("left out from here on: %v, %d times in a row", a.err, lateMost))
			}
		default:
			failed = putOff(fmt.Errorf("%s: %w", a.side.server, a.err))
			c.drop(a.side.server, "left out from here on: "+sqlReason(a.err))
		}
	}
	return failed
}

// each asks several servers at the same time.
func (c *comparison) each(ctx context.Context, sides []*side, ask func(context.Context, *side) answer) []answer {
	out := make([]answer, len(sides))
	var wg sync.WaitGroup
	for i, s := range sides {
		wg.Go(func() {
			err := c.watched(ctx, s, func(ctx context.Context) error {
				out[i] = ask(ctx, s)
				return out[i].err
			})
			out[i].err = err
		})
	}
	wg.Wait()
	return out
}

// watched runs f, which asks s, and ends it when s is a replica that has not answered otherwise for a lease: a sum takes
// as long as it takes, and a server that hangs keeps its connections. The primary is watched by [Runner.pulse].
func (c *comparison) watched(ctx context.Context, s *side, f func(context.Context) error) error {
	if s == c.primary || s == c.locker {
		return f(ctx)
	}
	within, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{}) // closed when the watch has ended
	go func() {
		defer close(done)
		every := min(max(c.cluster.Lease/4, 250*time.Millisecond), 5*time.Second)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for heard := time.Now(); ; {
			select {
			case <-within.Done():
				return
			case <-tick.C:
			}
			if c.facts.Answers(within, c.job.Cluster, s.server, every/2) {
				heard = time.Now()
			}
			if time.Since(heard) > c.cluster.Lease {
				cancel(errSilent)
			}
		}
	}()
	err := f(within)
	if err != nil && errors.Is(context.Cause(within), errSilent) {
		err = errSilent
	}
	cancel(nil)
	<-done
	return err
}

// errSilent is a replica that hangs.
var errSilent = errors.New("the server has not answered for scheduler-jobs-lease")

const erStatementTimeout = 1969

// judge compares the answers, of which the first is the primary's.
func (c *comparison) judge(t table, sh shape, answers []answer, last bool) error {
	ours := answers[0]
	if ours.err != nil && !isNumber(ours.err, erStatementTimeout) {
		return c.noSum(ours)
	}
	if ours.absent {
		return nil // dropped since the tables were listed
	}
	var failed error
	for _, a := range answers[1:] {
		p := pair{t, a.side.server}
		there, known := a.side.tables[t]
		switch {
		case isNumber(a.err, erStatementTimeout) || isNumber(ours.err, erStatementTimeout):
			c.leave(store.Finding{Table: t.String(), What: fmt.Sprintf("left out: its engine %s has no snapshots, and reading it takes longer than maintenance-lock-timeout = %s", sh.engine, c.cluster.LockTimeout)})
			return nil
		case a.err != nil:
			failed = errors.Join(failed, c.noSum(a))
		case a.absent:
			failed = errors.Join(failed, c.found(t, a.side.server, "the table is missing there", last))
		case a.sum == ours.sum:
			c.judged[p] = true
		case known && (there.columns != sh.columns || there.format != sh.format):
			c.unlike(t, a.side.server, "its columns or row format are others there, so the checksums cannot be compared")
		case a.side.series != c.primary.series:
			c.unlike(t, a.side.server, fmt.Sprintf("the checksums differ, but %s and %s may count differently", c.primary.series, a.side.series))
		default:
			failed = errors.Join(failed, c.found(t, a.side.server, "the rows differ", last))
		}
	}
	if failed == nil {
		c.report.Tables++
	}
	return failed
}

// errDiffers is a difference that was seen once.
var errDiffers = errors.New("differs")

func (c *comparison) found(t table, s job.Server, what string, last bool) error {
	if c.differs(t, s, what, last) {
		return nil
	}
	return putOff(fmt.Errorf("%s: %s: %w", s, what, errDiffers))
}

// unlike records what cannot be told, once: the table may be compared again for the sake of another replica.
func (c *comparison) unlike(t table, s job.Server, what string) {
	if slices.ContainsFunc(c.report.Unlike, func(f store.Finding) bool { return f.Table == t.String() && f.Server == s }) {
		return
	}
	f := store.Finding{Table: t.String(), Server: s, What: what, Seen: time.Now().UTC(), JobID: c.job.ID}
	c.lines.Add(attempt.Warn, f.String())
	c.report.Unlike = append(c.report.Unlike, f)
}

// noSum is the error of a table that a server would not read.
func (c *comparison) noSum(a answer) error {
	if !c.ours(a) {
		c.lost(a)
	} else if fatal(context.Background(), a.err) && !errors.Is(a.err, errNoSum) {
		return a.err
	}
	err := a.err
	if isNumber(err, erLockWait) {
		err = errLocked
	}
	return putOff(fmt.Errorf("%s: %w", a.side.server, err))
}

// extra looks for tables that only a replica has: at the primary's position, and still not on the primary after it.
func (c *comparison) extra(ctx context.Context) error {
	for _, r := range slices.Clone(c.replicas) {
		if r.many {
			c.leave(store.Finding{Server: r.server, What: "it has several sources: tables of its own are not looked at"})
			continue
		}
		for _, t := range r.names() {
			if _, ours := c.primary.tables[t]; ours || c.binlog.excludes(t) || slices.ContainsFunc(r.filters, func(f filter) bool { return f.excludes(t) }) {
				continue
			}
			only, err := c.onlyThere(ctx, r, t)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				c.undone(t, fmt.Errorf("%s: %w", r.server, err))
			case only:
				c.differs(t, r.server, "the table is only there, not on the primary", true)
			}
		}
	}
	return nil
}

func (c *comparison) onlyThere(ctx context.Context, r *side, t table) (bool, error) {
	if there, err := exists(ctx, c.session.conn, t); err != nil || there {
		return false, err
	}
	p, err := c.primary.here(ctx, c.session.conn)
	if err == nil {
		err = r.reach(ctx, p, catchUpFor)
	}
	if err != nil {
		return false, err
	}
	var there bool
	err = c.watched(ctx, r, func(ctx context.Context) (err error) {
		there, err = exists(ctx, r.session.conn, t)
		return err
	})
	if err != nil || !there {
		return false, err
	}
	there, err = exists(ctx, c.session.conn, t)
	return !there, err
}

func exists(ctx context.Context, conn querier, t table) (bool, error) {
	rows, err := conn.QueryContext(ctx, "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?", t.schema, t.name)
	if err != nil {
		return false, err
	}
	defer func() { _ = rows.Close() }()
	return rows.Next(), rows.Err()
}
