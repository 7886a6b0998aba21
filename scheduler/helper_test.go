package scheduler

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestMain(m *testing.M) { bustest.Main(m) }

var (
	db1 = job.Server{Host: "10.0.1.5", Port: 3306}
	db2 = job.Server{Host: "10.0.1.6", Port: 3306}
)

func testCluster(schedules ...Schedule) Cluster {
	return Cluster{
		Name: "prod", Servers: []job.Server{db1, db2}, BackupServers: []job.Server{db2}, Mode: job.API, Zone: time.UTC,
		CatchUp: CatchUpLast, MaxLateness: time.Hour, Schedules: schedules,
		Lease: 10 * time.Minute, PickupTimeout: time.Hour, ClaimTimeout: 2 * time.Minute, CheckTimeout: time.Minute,
	}
}

func hourly(task string) Schedule { return Schedule{Task: task, Spec: "0 0 * * * *", Enabled: true} }

// rig is a scheduler on a real bus, with a clock that the test sets.
type rig struct {
	*Scheduler
	t   *testing.T
	ctx context.Context

	mu   sync.Mutex
	time time.Time
}

func newRig(t *testing.T, conn *bus.Conn, clusters ...Cluster) *rig {
	t.Helper()
	return newRigAt(t, conn, time.Now().UTC(), clusters...)
}

func newRigAt(t *testing.T, conn *bus.Conn, at time.Time, clusters ...Cluster) *rig {
	t.Helper()
	r := &rig{t: t, ctx: bustest.Context(t), time: at}
	r.start("scheduler@test", conn, r.clock, clusters)
	r.up = at
	return r
}

// newLiveRig goes by the real clock.
func newLiveRig(t *testing.T, conn *bus.Conn, actor string, clusters ...Cluster) *rig {
	t.Helper()
	r := &rig{t: t, ctx: bustest.Context(t)}
	r.start(actor, conn, time.Now, clusters)
	return r
}

func (r *rig) start(actor string, conn *bus.Conn, now func() time.Time, clusters []Cluster) {
	r.t.Helper()
	view := store.NewView(conn)
	cfg := Config{Actor: actor, Log: bustest.Log(r.t), Clusters: clusters}
	s, err := New(cfg, conn, store.NewJobs(conn, actor, view), store.NewLedger(conn, actor), view)
	if err != nil {
		r.t.Fatal(err)
	}
	s.now = now
	r.Scheduler = s
	r.background(view.Run)
	select {
	case <-view.Ready():
	case <-r.ctx.Done():
		r.t.Fatal("the view did not become ready")
	}
}

// background runs f until the test ends or stop is called.
func (r *rig) background(f func(context.Context) error) (stop func()) {
	r.t.Helper()
	return bustest.Run(r.t, f)
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.time
}

func (r *rig) advance(d time.Duration) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.time = r.time.Add(d)
	return r.time
}

// tick decides what is due in the task's schedule.
func (r *rig) tick(task string) {
	r.t.Helper()
	if err := r.look(r.ctx, r.setup.Load().plans[slot{"prod", task}]); err != nil {
		r.t.Fatal(err)
	}
}

type entry struct {
	bus.Tick
	meta bus.Meta
}

// entries reads the whole ledger of the cluster, oldest first.
func (r *rig) entries() (out []entry) {
	r.t.Helper()
	err := bus.Read(r.ctx, r.conn, bus.StreamTasks, bus.AllTasks, bus.From{}, func(m bus.Meta, t bus.Tick) error {
		out = append(out, entry{t, m})
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) outcomes() (out []bus.Outcome) {
	r.t.Helper()
	for _, e := range r.entries() {
		out = append(out, e.Outcome)
	}
	return out
}

// deliver gives every entry of the ledger to the fan-out, as the bus does after it lost every acknowledgement.
func (r *rig) deliver() {
	r.t.Helper()
	for _, e := range r.entries() {
		r.give(e)
	}
}

// give hands an entry to the fan-out, as written now: the store goes by the real clock.
func (r *rig) give(e entry) {
	r.t.Helper()
	e.Time = r.now()
	if err := r.fanout(r.ctx, e.meta, e.Tick); err != nil {
		r.t.Fatal(err)
	}
}

// runNow records a request by hand and returns its entry.
func (r *rig) runNow(task string, servers ...job.Server) entry {
	r.t.Helper()
	asked, err := r.ledger.RunNow(r.ctx, "prod", task, servers, "alice")
	if err != nil {
		r.t.Fatal(err)
	}
	all := r.entries()
	i := slices.IndexFunc(all, func(e entry) bool { return e.ID == asked.ID }) // a scheduler may be ticking meanwhile
	return all[i]
}

// started is a fresh job of the task on db1, taken through the events.
func (r *rig) started(task string, events ...job.Event) job.Job {
	r.t.Helper()
	r.give(r.runNow(task, db1))
	return r.apply(r.last(db1, task), events...)
}

func (r *rig) apply(j job.Job, events ...job.Event) job.Job {
	r.t.Helper()
	for _, e := range events {
		next, err := r.jobs.Apply(r.ctx, store.RefOf(j), store.Change{Event: e, Reason: "test", Actor: "gateway@test"})
		if err != nil {
			r.t.Fatalf("%s: %v", e, err)
		}
		j = next
	}
	return j
}

// edit adds facts to a job.
func (r *rig) edit(j job.Job, f func(*job.Job)) job.Job {
	r.t.Helper()
	next, err := r.jobs.Apply(r.ctx, store.RefOf(j), store.Change{Event: job.Note, Edit: f, Actor: "receiver@test"})
	if err != nil {
		r.t.Fatal(err)
	}
	return next
}

func (r *rig) last(srv job.Server, task string) job.Job {
	r.t.Helper()
	j, _, err := r.jobs.Last(r.ctx, job.Key{Cluster: "prod", Server: srv, Task: task})
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

func (r *rig) history() []job.Job {
	r.t.Helper()
	all, err := r.jobs.List(r.ctx, store.Filter{Limit: 10_000})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// sweepAfter sets the clock forward and sweeps.
func (r *rig) sweepAfter(d time.Duration) {
	r.t.Helper()
	if err := r.sweep(r.ctx, r.advance(d)); err != nil {
		r.t.Fatal(err)
	}
}

// want fails the test when the job on db1 is not in this state.
func (r *rig) want(task string, s job.State) job.Job {
	r.t.Helper()
	j := r.last(db1, task)
	if j.State != s {
		r.t.Fatalf("job is %s (%s), want %s", j.State, j.Reason, s)
	}
	return j
}
