package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const (
	tickWidth   = 32  // ticks at a time: many small clusters are as many ticks, and one may take long
	fanoutWidth = 256 // jobs of a tick created at a time: their writes share syncs
	listWidth   = 64  // servers of all ticks that are asked for their tables at a time
	// fanoutTimeout and fanoutEach, for each server of the cluster, bound the work on one tick: a bus that refuses must not hold it for
	// good. A stop waits for fanoutTimeout at most.
	fanoutTimeout = 25 * time.Second
	fanoutEach    = 20 * time.Millisecond
	// closuresFor is how long a tick goes by what was closed when it looked: thousands of servers take it longer, and who holds a
	// cluster must not see jobs begin all that time.
	closuresFor = time.Second
	// fanoutPatience is the least age at which a tick is too old to start jobs, however small scheduler-max-lateness is.
	fanoutPatience = time.Minute
	// overlap is how much earlier than its tick a job may seem to be, on another machine's clock.
	overlap = time.Minute
)

// runFanout turns the ticks of the ledger into jobs. All schedulers of a bus share the work. Those of one ledger are taken in their
// order.
func (s *Scheduler) runFanout(ctx context.Context) error {
	byTask := bus.Lanes[bus.Tick]{Width: tickWidth, Of: func(t bus.Tick) string {
		if !t.Outcome.Starts() {
			return ""
		}
		return t.Cluster + "/" + t.Task
	}}
	return bus.WorkInLanes(ctx, s.conn, bus.StreamTasks, bus.DurableFanout, bus.AllTasks, byTask, s.fanout)
}

// skip says why a tick starts nothing on a server; the zero Server stands for the whole cluster.
type skip struct {
	server job.Server
	gate   job.Gate // what decided it
	reason string
	final  bool // nobody can know better
}

// fanout starts the jobs of one tick. It may be called again for a tick that is done in part or in whole: a slot
// remembers the last tick that was decided for it, and a skipped entry has an id that comes from the tick.
func (s *Scheduler) fanout(ctx context.Context, m bus.Meta, t bus.Tick) error {
	if !t.Outcome.Starts() {
		return nil
	}
	c, known := s.cluster(t.Cluster)
	ctx, cancel := onward(ctx, fanoutTimeout+time.Duration(len(c.Servers))*fanoutEach)
	defer cancel()
	servers, skips := s.resolve(c, known, t)
	var err error
	choose := len(servers) > 0 && len(t.Servers) == 0 && isLogical(t.Task)
	if choose {
		if servers, t.Reason, skips, err = s.chooseSource(ctx, m, t, c); err != nil {
			return err
		}
	}
	recorded, err := s.recordedSkips(ctx, m, t)
	if err != nil {
		return err
	}
	if slices.Contains(recorded, job.Server{}) || choose && len(recorded) > 0 {
		servers, skips = nil, nil // the whole tick was skipped
	}
	for _, srv := range recorded { // decided, but perhaps the slot was not told
		servers = slices.DeleteFunc(servers, func(x job.Server) bool { return x == srv })
		skips = slices.DeleteFunc(skips, func(x skip) bool { return x.server == srv })
		if err := s.markSeen(ctx, m, t, srv); err != nil {
			return err
		}
	}
	if len(skips) > 0 && !skips[0].final && s.now().Sub(t.Time) < fanoutPatience {
		// Another scheduler on this bus may know better, such as one that was reloaded with a new server; or a server that
		// was not fit will be.
		err, skips = fmt.Errorf("leave tick %s to another scheduler: %s", t.ID, skips[0].reason), nil
	}
	closures, e := s.control.Closures(ctx)
	if e != nil {
		return errors.Join(err, e)
	}
	var refused []skip
	if gate, reason := c.refuses(closures, t, s.now()); gate != "" && len(servers) > 0 {
		refused = s.turnAway(t, servers, skip{gate: gate, reason: reason})
	} else {
		refused, e = s.startAll(ctx, m, t, c, closures, servers)
		err = errors.Join(err, e)
	}
	for _, sk := range append(skips, refused...) {
		err = errors.Join(err, s.recordSkip(ctx, m, t, sk))
	}
	return err
}

// onward is for work that was begun and is brought to its end on shutdown: left half done it would come back only after the bus's
// patience. It ends after bound, and fanoutTimeout after ctx.
func onward(ctx context.Context, bound time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-work.Done():
		case <-time.After(fanoutTimeout):
			cancel()
		}
	})
	return work, func() {
		stop()
		cancel()
	}
}

// resolve lists the servers that the tick means, and those it means in vain.
func (s *Scheduler) resolve(c Cluster, known bool, t bus.Tick) (servers []job.Server, skips []skip) {
	task, err := job.TaskByName(t.Task)
	switch {
	case !known:
		return nil, []skip{{gate: job.GateConfig, reason: fmt.Sprintf("%s has no cluster %q in its configuration", s.actor, t.Cluster)}}
	case err != nil:
		return nil, []skip{{gate: job.GateConfig, reason: fmt.Sprintf("there is no task %q", t.Task)}}
	case !task.Built:
		return nil, []skip{{gate: job.GateConfig, reason: fmt.Sprintf("this version cannot run the task %q", t.Task)}}
	}
	if reason := c.Refuse[t.Task]; reason != "" {
		return nil, []skip{{gate: job.GateConfig, reason: reason}}
	}
	meant := t.Servers
	if len(meant) == 0 {
		meant = c.targets(task)
	}
	for _, srv := range meant {
		switch {
		case task.Whole && srv == (job.Server{}), !task.Whole && c.member(srv):
			servers = append(servers, srv)
		case task.Whole:
			skips = append(skips, skip{server: srv, gate: job.GateConfig, reason: fmt.Sprintf("%s works on a whole cluster, not on one server", task.Name)})
		default:
			skips = append(skips, skip{server: srv, gate: job.GateConfig, reason: fmt.Sprintf("%s has no server %s in its configuration of cluster %q", s.actor, srv, t.Cluster)})
		}
	}
	return servers, skips
}

// startAll creates the job of every server, several at a time. refused are those that get none, with the reason: also those that are left
// when the cluster is closed meanwhile.
func (s *Scheduler) startAll(ctx context.Context, m bus.Meta, t bus.Tick, c Cluster, closures store.Closures, servers []job.Server) (refused []skip, err error) {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		room = make(chan struct{}, fanoutWidth) // a token per job being created
		age  = s.now().Sub(t.Time)              // once: to start thousands of jobs takes its time, and nobody was absent
		read = s.now()
		late []skip
	)
	for i, srv := range servers {
		room <- struct{}{}
		if s.now().Sub(read).Abs() > closuresFor {
			now, e := s.control.Closures(ctx)
			if e != nil {
				<-room
				wg.Wait()
				return refused, errors.Join(err, e) // who knows what is on hold: the tick comes again for those that are left
			}
			closures, read = now, s.now()
			if gate, reason := c.refuses(closures, t, s.now()); gate != "" {
				late = skip{gate: gate, reason: reason}.each(servers[i:])
				break
			}
		}
		shut := closures
		wg.Go(func() {
			defer func() { <-room }()
			no, e := s.start(ctx, m, t, c, shut, srv, age)
			mu.Lock()
			defer mu.Unlock()
			if no.gate != "" {
				refused = append(refused, no)
			}
			if err == nil {
				err = e // the first is enough: the others will be like it
			}
		})
	}
	wg.Wait()
	for _, sk := range late {
		if j, ok := s.view.Get(job.Key{Cluster: t.Cluster, Server: sk.server, Task: t.Task}); !ok || j.Seen != m.Seq { // else decided before
			refused = append(refused, sk)
		}
	}
	return refused, err
}

// start creates the job of one server, unless that was done before. The tick had that age when it was begun. A skip with a gate comes back
// when there must not be a job.
func (s *Scheduler) start(ctx context.Context, m bus.Meta, t bus.Tick, c Cluster, closures store.Closures, srv job.Server, age time.Duration) (no skip, err error) {
	refuse := func(gate job.Gate, format string, args ...any) (skip, error) {
		return skip{server: srv, gate: gate, reason: fmt.Sprintf(format, args...)}, nil
	}
	key := job.Key{Cluster: t.Cluster, Server: srv, Task: t.Task}
	if last, ok := s.view.Get(key); ok && last.Seen == m.Seq {
		return no, nil // decided before the tick came again, and the view shows nothing that is not in the log
	}
	if age > max(c.MaxLateness, fanoutPatience) {
		// Decided in time, but then nobody was there to start it. Also the way in which the whole ledger of last year
		// comes again when the bus has lost what it knew of us.
		last, _, err := s.jobs.Last(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNone) {
			return no, err
		}
		if last.Seen >= m.Seq {
			return no, nil
		}
		return refuse(job.GateAbsence, "decided %s ago and not started since: no scheduler ran, and that is more than scheduler-max-lateness = %s",
			span(age), span(c.MaxLateness))
	}
	if last, ok := s.view.Get(key); ok && last.Plan.Owes() && !last.State.Live() {
		// Its plan is all that knows of it.
		return refuse(job.GateRolling, "job %s left a server read-only, and that is not undone yet: the server does not answer", last.Run())
	}
	fresh, reason := c.enqueue(job.Job{
		State: job.Queued, ID: job.NewID(t.Due, t.ID, key), Cluster: t.Cluster, Server: srv, Task: t.Task, Mode: c.mode(t.Task),
		Trigger: t.Trigger, Due: t.Due, Tick: t.ID, Args: t.Args, Seen: m.Seq,
	}, t, closures, s.now())
	if op, ok := s.operation(c, closures, s.now()); ok && minds(op, fresh) && fresh.Gate == "" {
		fresh.Gate, reason = job.GateRolling, behind(op)
	}
	s.list(ctx, c, fresh)
	j, err := s.jobs.Create(ctx, fresh, reason)
	switch {
	case errors.Is(err, store.ErrSeen) && j.Seen > m.Seq && j.Tick != t.ID:
		if begun, err := s.overtaken(ctx, m, key, t); begun || err != nil {
			return no, err
		}
		return refuse(job.GateRunning, "a later tick was started first")
	case errors.Is(err, store.ErrSeen):
		return no, nil
	case errors.Is(err, store.ErrLive):
		return refuse(job.GateRunning, "job %s is still %s since %s", j.Run(), j.State, stamp(j.Since, c.Zone))
	case err != nil:
		return no, err
	}
	s.log.Info("job queued", "job", j, "trigger", t.Trigger.Kind)
	return no, nil
}

// overtaken reports whether a tick whose slot has decided a later one had started its job before that. Otherwise the later
// one came first, as after a failed try, and it starts none.
func (s *Scheduler) overtaken(ctx context.Context, m bus.Meta, key job.Key, t bus.Tick) (begun bool, err error) {
	past, err := s.jobs.List(ctx, store.Filter{Cluster: key.Cluster, Server: key.Server, Task: key.Task, Since: m.Time.Add(-overlap), Limit: 1 << 20})
	return slices.ContainsFunc(past, func(j job.Job) bool { return j.Tick == t.ID }), err
}

func startReason(t bus.Tick, c Cluster) string {
	if t.Reason != "" {
		return t.Reason
	}
	return "due at " + stamp(t.Due, c.Zone)
}

// recordedSkips lists the servers for which the tick is recorded as skipped already. Without it, a crash between that
// entry and the mark in the slot could have the tick both skipped and started.
func (s *Scheduler) recordedSkips(ctx context.Context, m bus.Meta, t bus.Tick) ([]job.Server, error) {
	subject := bus.TaskSubject(t.Cluster, t.Task)
	_, last, err := bus.Last[bus.Tick](ctx, s.conn, bus.StreamTasks, subject)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, err
	}
	if last <= m.Seq {
		return nil, nil // nothing was written since
	}
	var out []job.Server
	err = bus.Read(ctx, s.conn, bus.StreamTasks, subject, bus.From{Seq: m.Seq + 1}, func(_ bus.Meta, e bus.Tick) error {
		if e.Outcome != bus.Skipped || !strings.HasPrefix(e.ID, "skip-"+t.ID+"-") {
			return nil
		}
		if e.ID == bus.SkipID(t.ID, job.Server{}) {
			out = append(out, job.Server{})
		}
		out = append(out, e.Servers...)
		return nil
	})
	if err == nil {
		err = ctx.Err() // a reading that was cut short proves nothing
	}
	if err != nil {
		return nil, fmt.Errorf("read what became of tick %s: %w", t.ID, err)
	}
	return out, nil
}

// recordSkip writes the reason into the ledger, then tells the slot.
func (s *Scheduler) recordSkip(ctx context.Context, m bus.Meta, t bus.Tick, sk skip) error {
	entry := bus.Tick{
		Outcome: bus.Skipped, ID: bus.SkipID(t.ID, sk.server), Due: t.Due, Gate: sk.gate, Reason: sk.reason, Trigger: t.Trigger,
		Lateness: s.now().Sub(t.Due).Seconds(),
	}
	entry.Servers = t.Servers // for all of them
	if sk.server != (job.Server{}) {
		entry.Servers = []job.Server{sk.server}
	}
	if _, _, _, err := s.ledger.Update(ctx, t.Cluster, t.Task, func(bus.Tick) (bus.Tick, bool) { return entry, true }); err != nil {
		return fmt.Errorf("record that tick %s starts nothing on %s: %w", t.ID, sk.server, err)
	}
	s.log.Warn("tick skipped", "cluster", t.Cluster, "server", sk.server, "task", t.Task, "due", t.Due, "reason", sk.reason)
	return s.markSeen(ctx, m, t, sk.server)
}

// markSeen tells the slot that the tick is decided. A slot without any job remembers nothing; the entry itself must do.
func (s *Scheduler) markSeen(ctx context.Context, m bus.Meta, t bus.Tick, srv job.Server) error {
	if srv == (job.Server{}) {
		return nil
	}
	err := s.jobs.Seen(ctx, job.Key{Cluster: t.Cluster, Server: srv, Task: t.Task}, m.Seq)
	if errors.Is(err, store.ErrNone) {
		return nil
	}
	return err
}
