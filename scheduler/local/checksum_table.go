package local

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"
	"time"

	"drydock/job"
	"drydock/store"
)

// shape is what makes the checksums of two tables comparable.
type shape struct{ engine, format, columns string }

// snapshots reports whether a transaction sees the table as it was when it began.
func (s shape) snapshots() bool { return s.engine == "INNODB" || s.engine == "ROCKSDB" }

// list reads the tables of the server, one schema after the other.
func (s *side) list(ctx context.Context) error {
	s.tables = map[table]shape{}
	schemas, err := s.rows(ctx, "SELECT SCHEMA_NAME, '', '', '' FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ("+notOurs+")")
	if err != nil {
		return err
	}
	for _, schema := range schemas {
		sums := map[string]hash.Hash{}
		columns, err := s.rows(ctx, `SELECT TABLE_NAME, CONCAT_WS('|', COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE), COALESCE(COLLATION_NAME, ''), ''
			FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, ORDINAL_POSITION`, schema[0])
		if err != nil {
			return err
		}
		for _, c := range columns {
			if sums[c[0]] == nil {
				sums[c[0]] = sha256.New()
			}
			fmt.Fprintf(sums[c[0]], "%s\x00%s\x00", c[1], c[2])
		}
		tables, err := s.rows(ctx, `SELECT TABLE_NAME, UPPER(COALESCE(ENGINE, '')), COALESCE(ROW_FORMAT, ''), '' FROM information_schema.TABLES
			WHERE TABLE_SCHEMA = ? AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')`, schema[0])
		if err != nil {
			return err
		}
		for _, t := range tables {
			sh := shape{engine: t[1], format: t[2]}
			if sum := sums[t[0]]; sum != nil {
				sh.columns = hex.EncodeToString(sum.Sum(nil)[:8])
			}
			s.tables[table{schema[0], t[0]}] = sh
		}
	}
	return nil
}

func (s *side) rows(ctx context.Context, query string, args ...any) (out [][4]string, err error) {
	rows, err := s.session.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r [4]string
		if err := rows.Scan(&r[0], &r[1], &r[2], &r[3]); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// names are the tables of the server in order.
func (s *side) names() (out []table) {
	for t := range s.tables {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b table) int { return strings.Compare(a.String(), b.String()) })
	return out
}

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
	return c.judge(t, sh, answers, still, last)
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
	for _, a := range c.each(with, func(s *side) answer { return answer{side: s, err: s.reach(ctx, p, catchUpFor)} }) {
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
func (c *comparison) each(sides []*side, ask func(*side) answer) []answer {
	out := make([]answer, len(sides))
	var wg sync.WaitGroup
	for i, s := range sides {
		wg.Go(func() { out[i] = ask(s) })
	}
	wg.Wait()
	return out
}

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
	answers = c.each(append([]*side{first}, with...), func(s *side) answer {
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
	for _, a := range c.each(append([]*side{c.primary}, with...), func(s *side) answer {
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
	return c.each(sides, func(s *side) answer {
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

const erStatementTimeout = 1969

// judge compares the answers, of which the first is the primary's.
func (c *comparison) judge(t table, sh shape, answers []answer, still, last bool) error {
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

func (c *comparison) unlike(t table, s job.Server, what string) {
	f := store.Finding{Table: t.String(), Server: s, What: what, Seen: time.Now().UTC(), JobID: c.job.ID}
	c.lines.add(levelWarn, f.String())
	c.report.Unlike = append(c.report.Unlike, f)
}

func (c *comparison) noSum(a answer) error {
	if !c.ours(a) {
		c.lost(a)
	} else if fatal(context.Background(), a.err) && !errors.Is(a.err, errNoSum) {
		return a.err
	}
	return putOff(fmt.Errorf("%s: %w", a.side.server, lockedOr(a.err)))
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
	if there, err := exists(ctx, r.session.conn, t); err != nil || !there {
		return false, err
	}
	there, err := exists(ctx, c.session.conn, t)
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
			for _, a := range c.each(sides, func(s *side) answer { return answer{side: s, absent: s.crowded(ctx, t, c.cluster.LockTimeout)} }) {
				if a.absent {
					c.lines.add(levelWarn, fmt.Sprintf("%s: a statement on %s waits for the table: gives way", t, a.side.server))
					c.each(sides, func(s *side) answer { return answer{side: s, err: s.interrupt(ctx)} })
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
