package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"drydock/store/attempt"
)

// freeze opens a snapshot of the same state of the table on every server, the primary first in the answers, none when
// the table is gone. The table is locked against writes from the moment when the lock is had until the last replica has
// its snapshot, for lockedFor and a little at most. With still the sums are taken before the lock is given back.
func (c *comparison) freeze(ctx context.Context, t table, with []*side, still bool) (answers []answer, err error) {
	patience := lockedFor + writeTimeout
	if still {
		patience += c.cluster.LockTimeout
	}
	// Should drydock's machine vanish while the table is locked, the server lets go by itself.
	if err := c.session.exec(ctx, fmt.Sprintf("SET SESSION wait_timeout=%d", int(patience.Seconds())+2)); err != nil {
		return nil, err
	}
	if err := c.session.exec(ctx, "LOCK TABLES "+t.quoted()+" READ"); err != nil {
		return nil, errors.Join(lockedOr(err), c.release(ctx))
	}
	defer func() { err = errors.Join(err, c.release(ctx)) }()
	locked, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p, err := c.primary.here(locked, c.session.conn)
	if err != nil {
		return nil, err
	}
	first := c.primary
	if still {
		first = c.locker // a writer that waits for the lock goes before any other reader
	}
	answers = c.each(locked, append([]*side{first}, with...), func(locked context.Context, s *side) answer {
		if s == c.locker {
			return answer{side: s} // a transaction would unlock
		}
		if s != c.primary {
			if err := s.reach(locked, p, lockedFor); err != nil {
				return answer{side: s, err: err}
			}
		}
		absent, err := s.snapshot(locked, t)
		return answer{side: s, absent: absent, err: err}
	})
	if err := c.frozen(ctx, answers); err != nil {
		return nil, err
	}
	if still {
		answers = c.sums(locked, t, answers, c.cluster.LockTimeout)
	}
	return answers, nil
}

// release unlocks. A connection that cannot is closed, which unlocks too.
func (c *comparison) release(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil // the connection is closed already
	}
	for _, statement := range []string{"UNLOCK TABLES", "SET SESSION wait_timeout=28800"} {
		if err := c.session.exec(ctx, statement); err != nil {
			return fmt.Errorf("unlock the table: %w", errors.Join(err, c.session.kill(ctx)))
		}
	}
	return nil
}

// ours reports whether the answer is the primary's.
func (c *comparison) ours(a answer) bool { return a.side == c.primary || a.side == c.locker }

// frozen is an error when a server has no snapshot.
func (c *comparison) frozen(ctx context.Context, answers []answer) error {
	for _, a := range answers {
		switch {
		case a.err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(a.err, errLate), errors.Is(a.err, errLocked):
			return putOff(fmt.Errorf("%s: %w", a.side.server, a.err))
		case c.ours(a):
			return a.err
		default:
			c.lost(a)
			return putOff(fmt.Errorf("%s: %w", a.side.server, a.err))
		}
	}
	return nil
}

// lost gives a replica up whose connection broke; what the server itself refuses is about the table only.
func (c *comparison) lost(a answer) {
	if fatal(context.Background(), a.err) {
		c.drop(a.side.server, "left out from here on: "+sqlReason(a.err))
	}
}

// snapshot begins a transaction that sees the table as it is now, and keeps it from being changed in its form.
func (s *side) snapshot(ctx context.Context, t table) (absent bool, err error) {
	if err := s.session.exec(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"); err != nil {
		return false, err
	}
	var one int
	err = s.session.conn.QueryRowContext(ctx, "SELECT 1 FROM "+t.quoted()+" LIMIT 1").Scan(&one)
	switch {
	case isNumber(err, erNoSuchTable, erBadDB):
		return true, nil
	case isNumber(err, erLockWait):
		return false, errLocked
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	}
	return false, err
}

// thaw ends the snapshots.
func (c *comparison) thaw(ctx context.Context, with []*side) {
	if ctx.Err() != nil {
		return
	}
	for _, a := range c.each(ctx, append([]*side{c.primary}, with...), func(ctx context.Context, s *side) answer {
		return answer{side: s, err: s.session.exec(ctx, "ROLLBACK")}
	}) {
		if a.err != nil && !c.ours(a) && slices.Contains(c.replicas, a.side) {
			c.lost(a)
		}
	}
}

// sums takes the checksum on every server that has the table, each in its snapshot, and ends the snapshot.
func (c *comparison) sums(ctx context.Context, t table, answers []answer, limit time.Duration) []answer {
	sides := make([]*side, len(answers))
	absent := map[*side]bool{}
	for i, a := range answers {
		sides[i], absent[a.side] = a.side, a.absent
	}
	return c.each(ctx, sides, func(ctx context.Context, s *side) answer {
		a := answer{side: s, absent: absent[s]}
		if !a.absent {
			a.sum, a.err = s.sum(ctx, t, limit)
		}
		if a.err == nil {
			a.err = s.session.exec(ctx, "ROLLBACK") // others may wait to change the table's form
		}
		return a
	})
}

// errNoSum is a table that the server would not read to its end.
var errNoSum = errors.New("the server gives no checksum")

// sum reads every row: a table that keeps a checksum of its own might only tell that.
func (s *side) sum(ctx context.Context, t table, limit time.Duration) (string, error) {
	query := "CHECKSUM TABLE " + t.quoted() + " EXTENDED"
	if limit > 0 {
		query = fmt.Sprintf("SET STATEMENT max_statement_time=%g FOR %s", limit.Seconds(), query)
	}
	var name string
	var sum sql.NullString
	err := s.session.conn.QueryRowContext(ctx, query).Scan(&name, &sum)
	if err == nil && !sum.Valid {
		err = errNoSum
		var level, text string
		var code int
		if s.session.conn.QueryRowContext(ctx, "SHOW WARNINGS").Scan(&level, &code, &text) == nil {
			err = fmt.Errorf("%w: %s", errNoSum, text)
		}
	}
	return sum.String, err
}

// giveWay watches whether somebody waits to change the form of the table while it is read: everybody else queues up
// behind that one. After maintenance-lock-timeout the reading is ended, and the table is put off. stop ends the watch.
func (c *comparison) giveWay(ctx context.Context, t table, with []*side) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{}) // closed when the watch has ended
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			sides := append([]*side{c.primary}, with...)
			for _, a := range c.each(ctx, sides, func(ctx context.Context, s *side) answer {
				return answer{side: s, absent: s.crowded(ctx, t, c.cluster.LockTimeout)}
			}) {
				if a.absent {
					c.lines.Add(attempt.Warn, fmt.Sprintf("%s: a statement on %s waits for the table: gives way", t, a.side.server))
					c.each(ctx, sides, func(ctx context.Context, s *side) answer { return answer{side: s, err: s.interrupt(ctx)} })
					return
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// crowded reports whether a statement has waited for the table's metadata lock for so long.
func (s *side) crowded(ctx context.Context, t table, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	var n int
	err := s.session.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.PROCESSLIST
		WHERE STATE LIKE 'Waiting for table metadata lock%' AND TIME >= ? AND LOCATE(?, INFO) > 0`, int(limit.Seconds()), t.name).Scan(&n)
	return err == nil && n > 0
}

// interrupt ends the statement that runs, and leaves the connection.
func (s *side) interrupt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	_, err := s.session.db.ExecContext(ctx, fmt.Sprintf("KILL QUERY %d", s.session.id))
	return err
}
