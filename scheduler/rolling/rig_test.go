package rolling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/scheduler"
	"drydock/scheduler/local"
	"drydock/scheduler/orchestrator"
	"drydock/store"
)

func TestMain(m *testing.M) { bustest.Main(m) }

const (
	password = "p'a\"ss"
	ticker   = 100 * time.Millisecond
)

// rig is a bus, a primary with replicas, and a host that restarts them when a job says so.
type rig struct {
	t       *testing.T
	conn    *bus.Conn
	jobs    *store.Jobs // as somebody else
	servers []*mariadbd.Server
	cluster Cluster

	mu        sync.Mutex
	order     []int // the servers in the order of their restarts
	onRestart func(i int) error
	also      []string // tasks that the host does beside restart, by doing nothing
}

// newRig starts a primary, which comes first, and so many replicas of it.
func newRig(t *testing.T, replicas int) *rig {
	t.Helper()
	r := &rig{t: t, conn: bustest.Start(t)}
	r.jobs = store.NewJobs(r.conn, "test", nil)
	r.cluster = Cluster{
		Name: "lab", User: "drydock", Password: password, Lease: time.Minute, MaxLag: 10 * time.Second,
		ScriptTimeout: 30 * time.Second, GateTimeout: time.Minute, WaitTimeout: time.Minute, DrainTimeout: 10 * time.Second, SeedTask: "reseedlogicalmaster",
	}
	for i := range replicas + 1 {
		s := mariadbdtest.Start(t, mariadbd.Options{Password: password, LogBin: true})
		if i > 0 {
			r.replicate(0, s)
		}
		r.servers = append(r.servers, s)
		r.cluster.Servers = append(r.cluster.Servers, job.Server{Host: "127.0.0.1", Port: s.Port()})
	}
	mariadbdtest.Settle(t, r.servers...)
	return r
}

func (r *rig) replicate(from int, s *mariadbd.Server) {
	r.t.Helper()
	if err := mariadbd.Replicate(r.t.Context(), r.servers[from], s); err != nil {
		r.t.Fatal(err)
	}
}

// start runs a scheduler and a runner until stop is called or the test ends.
func (r *rig) start(actor string) (stop func()) {
	r.t.Helper()
	view := store.NewView(r.conn)
	log := bustest.Log(r.t)
	jobs, ledger := store.NewJobs(r.conn, actor, view), store.NewLedger(r.conn, actor)
	sched, err := scheduler.New(scheduler.Config{Actor: actor, Log: log, Clusters: []scheduler.Cluster{{
		Name: "lab", Servers: r.cluster.Servers, Mode: job.SQL, Zone: time.UTC, CatchUp: scheduler.CatchUpNone, MaxLateness: time.Hour,
		Lease: r.cluster.Lease, PickupTimeout: time.Hour, ClaimTimeout: time.Minute, CheckTimeout: time.Minute, Retry: 3,
	}}}, r.conn, jobs, ledger, view)
	if err != nil {
		r.t.Fatal(err)
	}
	var logins []local.Login
	for _, s := range r.cluster.Servers {
		logins = append(logins, local.Login{Cluster: "lab", Server: s, User: "drydock", Password: password})
	}
	facts := local.NewFacts(local.FactsConfig{Servers: logins, Ticker: ticker, Log: log}, store.NewDocs(r.conn))
	runner := New(Config{Actor: actor, Ticker: ticker, Log: log, Clusters: []Cluster{r.cluster}}, r.conn, jobs, ledger, view, facts)
	return bustest.Run(r.t, view.Run, sched.Run, facts.Run, runner.Run)
}

// host does the restart jobs of the servers as the script on their hosts would, by really stopping and starting them.
func (r *rig) host() {
	r.t.Helper()
	view := store.NewView(r.conn)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	view.OnChange(func(ev bus.JobEvent) {
		i := slices.Index(r.cluster.Servers, ev.Job.Server)
		mine := ev.Job.Task == "restart" || slices.Contains(r.also, ev.Job.Task)
		if i < 0 || !mine || ev.Job.State != job.Queued || ev.Job.Gated() {
			return
		}
		wg.Go(func() { r.do(ctx, i, ev.Job) })
	})
	wg.Go(func() { _ = view.Run(ctx) })
	r.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func (r *rig) do(ctx context.Context, i int, j job.Job) {
	apply := func(e job.Event, reason string) bool {
		_, err := r.jobs.Apply(ctx, store.RefOf(j), store.Change{Event: e, Reason: reason})
		return err == nil
	}
	if !apply(job.Offer, "") || !apply(job.Start, "") {
		return
	}
	var err error
	if j.Task == "restart" {
		err = r.restart(ctx, i)
	}
	if err != nil {
		apply(job.Error, err.Error())
		return
	}
	apply(job.Done, "")
}

func (r *rig) restart(ctx context.Context, i int) error {
	r.mu.Lock()
	r.order = append(r.order, i)
	hook := r.onRestart
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := r.servers[i].Restart(ctx)
	if hook != nil {
		err = errors.Join(err, hook(i))
	}
	return err
}

// restarts are the servers in the order of their restarts.
func (r *rig) restarts() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.order)
}

// ask orders a task on the whole cluster, by hand.
func (r *rig) ask(task string, args map[string]string) {
	r.t.Helper()
	_, err := store.NewLedger(r.conn, "test").Run(bustest.Context(r.t), store.Order{
		Cluster: "lab", Task: task, Args: args, Trigger: job.Trigger{Kind: job.Manual, By: "test"}, Reason: "asked for by test",
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// last is the newest job of a task, of the whole cluster or of server i.
func (r *rig) last(k job.Key) job.Job {
	r.t.Helper()
	j, _, err := r.jobs.Last(bustest.Context(r.t), k)
	if err != nil && !errors.Is(err, store.ErrNone) {
		r.t.Fatal(err)
	}
	return j
}

func whole(task string) job.Key { return job.Key{Cluster: "lab", Task: task} }

// await waits until the operation fits.
func (r *rig) await(task, what string, fits func(job.Job) bool) (j job.Job) {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s is %s (%s), plan %s", task, j.State, j.Reason, told(j))
		}
	}()
	bustest.Until(r.t, 90*time.Second, task+" is "+what, func() bool {
		j = r.last(whole(task))
		return fits(j)
	})
	return j
}

func (r *rig) awaitState(task string, s job.State) job.Job {
	r.t.Helper()
	return r.await(task, string(s), func(j job.Job) bool { return j.State == s })
}

// awaitPhase waits until server i is in a phase of its turn.
func (r *rig) awaitPhase(task string, i int, phase string) job.Job {
	r.t.Helper()
	return r.await(task, fmt.Sprintf("in %s of server %d", phase, i), func(j job.Job) bool {
		if !j.State.Live() && j.ID != "" {
			r.t.Fatalf("it is %s (%s) and was to reach %s of server %d, plan %s", j.State, j.Reason, phase, i, told(j))
		}
		s, ok := r.stage(j, i)
		return ok && s.Phase == phase
	})
}

func (r *rig) stage(j job.Job, i int) (job.Stage, bool) {
	if j.Plan == nil {
		return job.Stage{}, false
	}
	at := slices.IndexFunc(j.Plan.Stages, func(s job.Stage) bool { return s.Server == r.cluster.Servers[i] })
	if at < 0 {
		return job.Stage{}, false
	}
	return j.Plan.Stages[at], true
}

// told is a plan for people.
func told(j job.Job) (text string) {
	if j.Plan == nil {
		return "none"
	}
	for _, s := range j.Plan.Stages {
		text += fmt.Sprintf("\n  %s %s %s %s %s", s.Server, s.Role, s.State, s.Phase, s.Reason)
	}
	return text
}

func (r *rig) db(i int) *sql.DB {
	r.t.Helper()
	db, err := r.servers[i].DB()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (r *rig) sql(i int, statement string) {
	r.t.Helper()
	if _, err := r.db(i).ExecContext(r.t.Context(), statement); err != nil {
		r.t.Fatalf("%s: %v", statement, err)
	}
}

func (r *rig) readOnly(i int) bool {
	r.t.Helper()
	var on bool
	if err := r.db(i).QueryRowContext(r.t.Context(), "SELECT @@GLOBAL.read_only").Scan(&on); err != nil {
		r.t.Fatal(err)
	}
	return on
}

// remake is an orchestrator that empties a server when it is told to make it anew.
type remake struct {
	orchestrator.Orchestrator
	do func(ctx context.Context, s job.Server) error
}

func (o remake) Reprovision(ctx context.Context, t orchestrator.Target) error {
	return o.do(ctx, t.Server)
}
