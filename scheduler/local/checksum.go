package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"drydock/job"
	"drydock/store"
	"drydock/store/attempt"
)

const (
	// catchUpFor is how long a table waits for the replicas before it is locked, and lockedFor how long after.
	catchUpFor = 10 * time.Second
	lockedFor  = 2 * time.Second
	// lateMost is how many tables in a row may wait in vain for a replica before it is left out.
	lateMost = 3
)

// comparison is one run of the task checksum. A table is locked on the primary for the moment in which all servers open
// a snapshot of the same state of it: the replicas are waited for at the primary's position, and as nobody writes to the
// table meanwhile, whatever they apply beyond that is not about it. The sums are then taken in the snapshots, without a
// lock. No replication thread is ever stopped, and nothing is written anywhere.
type comparison struct {
	*work
	primary  *side
	locker   *side // the primary by way of the connection that locks
	replicas []*side
	binlog   filter // what the primary keeps out of its binary log
	late     map[job.Server]int
	doubted  map[pair]bool // differed once
	report   store.Checksum
	judged   map[pair]bool // what this run knows
	began    time.Time
}

// pair is one table of one replica.
type pair struct {
	table  table
	server job.Server
}

// compareServers compares every table of the primary with the same table of its replicas.
func (w *work) compareServers(ctx context.Context) (out outcome, err error) {
	f, err := w.family(ctx, w.cluster, w.job)
	if err != nil {
		return out, err
	}
	if f.primary != w.server {
		return out, fmt.Errorf("the primary changed from %s to %s meanwhile", w.server, f.primary)
	}
	c := &comparison{
		work: w, late: map[job.Server]int{}, doubted: map[pair]bool{}, judged: map[pair]bool{}, began: time.Now().UTC(),
		report: store.Checksum{JobID: w.job.ID, Primary: f.primary},
	}
	for _, s := range sortedServers(f.missing) {
		c.leave(store.Finding{Server: s, What: "left out: " + f.missing[s]})
	}
	if len(f.replicas) == 0 && len(f.missing) == 0 {
		c.report.Complete = true
		return outcome{result: fmt.Sprintf("%s has no replica to compare with", f.primary)}, c.save(ctx)
	}
	defer func() { c.close(ctx, ctx.Err() != nil) }()
	if err := c.open(ctx, f); err != nil {
		return out, err
	}
	err = c.everyTable(ctx)
	c.report.Complete = err == nil
	if e := c.save(ctx); e != nil {
		err = errors.Join(err, e)
	}
	out = c.outcome()
	if err == nil {
		err = c.verdict()
	}
	return out, err
}

func sortedServers(m map[job.Server]string) (out []job.Server) {
	for s := range m {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b job.Server) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// open connects to the servers and reads which tables each has. A replica that cannot be worked with is left out.
func (c *comparison) open(ctx context.Context, f family) (err error) {
	if c.primary, err = openSide(ctx, c.cluster, f.primary); err != nil {
		return fmt.Errorf("connect to the primary %s: %w", f.primary, err)
	}
	locker := *c.primary
	c.locker, locker.session = &locker, c.session
	state, err := c.primary.binlogState(ctx, c.session.conn)
	if err != nil {
		return fmt.Errorf("read the state of the binary log: %w", err)
	}
	c.binlog = filterOf(state, "Binlog_")
	if err := c.primary.list(ctx); err != nil {
		return fmt.Errorf("list the tables of %s: %w", f.primary, err)
	}
	for _, s := range f.replicas {
		r, err := openSide(ctx, c.cluster, s)
		if err == nil {
			c.replicas = append(c.replicas, r)
			err = c.watched(ctx, r, r.list)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			c.drop(s, "left out: "+sqlReason(err))
		}
	}
	return c.anybody()
}

// anybody is an error when there is no replica left to compare with.
func (c *comparison) anybody() error {
	if len(c.replicas) > 0 {
		return nil
	}
	var why []string
	for _, f := range slices.Concat(c.report.Left, c.report.Undone) {
		if f.Table == "" {
			why = append(why, f.String())
		}
	}
	return fmt.Errorf("no replica can be compared: %s", strings.Join(why, "; "))
}

// close ends the connections; with kill, what the servers may still be doing on them too.
func (c *comparison) close(ctx context.Context, kill bool) {
	var wg sync.WaitGroup
	for _, s := range append([]*side{c.primary}, c.replicas...) {
		if s == nil {
			continue
		}
		wg.Go(func() { c.part(ctx, s, kill) })
	}
	wg.Wait()
}

func (c *comparison) part(ctx context.Context, s *side, kill bool) {
	if kill {
		if err := s.session.kill(ctx); err != nil {
			c.log.Warn("end the statement of a job", "job", c.job, "server", s.server.String(), "err", err)
		}
	}
	s.session.close()
}

// drop gives a replica up for the rest of the run. It was to be compared, so the run is none without it.
func (c *comparison) drop(s job.Server, why string) {
	f := store.Finding{Server: s, What: why, Seen: time.Now().UTC(), JobID: c.job.ID}
	c.lines.Add(attempt.Error, f.String())
	c.report.Undone = append(c.report.Undone, f)
	c.replicas = slices.DeleteFunc(c.replicas, func(r *side) bool {
		if r.server == s {
			c.part(context.Background(), r, true)
		}
		return r.server == s
	})
}

func (c *comparison) leave(f store.Finding) {
	c.lines.Add(attempt.Warn, f.String())
	c.report.Left = append(c.report.Left, f)
}

// everyTable goes through the tables, once more through those that were put off, and then through those that only
// replicas have.
func (c *comparison) everyTable(ctx context.Context) error {
	todo := c.primary.names()
	for round := range 2 {
		var again []table
		for _, t := range todo {
			if err := c.yield(ctx); err != nil {
				return err
			}
			err := c.compare(ctx, t, round > 0)
			switch {
			case err == nil:
			case fatalOn(ctx, err):
				return fmt.Errorf("%s: %w", t, err)
			case round == 0:
				again = append(again, t)
				c.lines.Add(attempt.Warn, fmt.Sprintf("%s: %v; compared again at the end", t, err))
			default:
				c.undone(t, err)
			}
			if err := c.anybody(); err != nil {
				return err
			}
		}
		todo = again
	}
	return c.extra(ctx)
}

// undone records a table that could not be compared.
func (c *comparison) undone(t table, err error) {
	for p := range c.doubted {
		if p.table == t && !c.judged[p] {
			c.differs(t, p.server, "it differed once, and could not be compared again", true)
		}
	}
	f := store.Finding{Table: t.String(), What: "not compared: " + err.Error(), Seen: time.Now().UTC(), JobID: c.job.ID}
	c.lines.Add(attempt.Error, f.String())
	c.report.Undone = append(c.report.Undone, f)
}

// fatalOn is like [fatal], for the primary's connections: those of the replicas have their own errors.
func fatalOn(ctx context.Context, err error) bool {
	return ctx.Err() != nil || !errors.Is(err, errPutOff) && fatal(ctx, err)
}

// errPutOff marks what may well succeed a little later.
var errPutOff = errors.New("not now")

// later is an error that is an [errPutOff] too.
type later struct{ error }

func (l later) Unwrap() []error { return []error{l.error, errPutOff} }

func putOff(err error) error { return later{err} }

// differs records a difference once it was seen twice. ok is false for the first time: the table is compared again.
func (c *comparison) differs(t table, s job.Server, what string, last bool) (ok bool) {
	p := pair{t, s}
	if !last && !c.doubted[p] {
		c.doubted[p] = true
		return false
	}
	c.judged[p] = true
	f := store.Finding{Table: t.String(), Server: s, What: what, Seen: time.Now().UTC(), JobID: c.job.ID}
	c.lines.Add(attempt.Error, f.String())
	c.report.Differs = append(c.report.Differs, f)
	return true
}

// outcome is the result for people.
func (c *comparison) outcome() (out outcome) {
	r := c.report
	out.result = fmt.Sprintf("%d tables of %s compared with %d replicas: %d differences", r.Tables, r.Primary, len(c.replicas), len(r.Differs))
	for _, x := range []struct {
		list []store.Finding
		what string
	}{{r.Undone, "not compared"}, {r.Unlike, "cannot be told"}, {r.Left, "left out"}} {
		if len(x.list) > 0 {
			out.result += fmt.Sprintf(", %d %s", len(x.list), x.what)
		}
	}
	for _, f := range slices.Concat(r.Differs, r.Undone) {
		if len(out.errors) < errorsKept {
			out.errors = append(out.errors, f.String())
		}
	}
	return out
}

// verdict is the error of a run in which not everything was the same.
func (c *comparison) verdict() error {
	r := c.report
	switch {
	case len(r.Differs) > 0:
		return errors.New(store.Findings(r.Differs))
	case len(r.Undone) > 0:
		return fmt.Errorf("%d tables or replicas could not be compared: %s", len(r.Undone), r.Undone[0])
	}
	return nil
}

// save writes the document of the cluster. What an earlier run found stays for what this one did not look at.
func (c *comparison) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), busTimeout)
	defer cancel()
	now := c.report
	now.Began, now.Ended = c.began, time.Now().UTC()
	for _, r := range c.replicas {
		now.Replicas = append(now.Replicas, r.server)
	}
	return c.docs.EditChecksum(ctx, c.job.Cluster, func(doc *store.Checksum) {
		next := now
		next.Differs = slices.Clone(now.Differs)
		for _, f := range doc.Differs {
			if c.stands(f) {
				next.Differs = append(next.Differs, f)
			}
		}
		*doc = next
	})
}

// stands reports whether an earlier finding is still all that is known.
func (c *comparison) stands(f store.Finding) bool {
	if !slices.Contains(c.cluster.Servers, f.Server) || f.Server == c.report.Primary {
		return false
	}
	for p := range c.judged {
		if p.server == f.Server && p.table.String() == f.Table {
			return false
		}
	}
	if !c.report.Complete {
		return true
	}
	// Dropped on both sides meanwhile?
	for _, r := range c.replicas {
		if r.server == f.Server {
			return c.primary.has(f.Table) || r.has(f.Table)
		}
	}
	return true
}

func (s *side) has(name string) bool {
	for t := range s.tables {
		if t.String() == name {
			return true
		}
	}
	return false
}
