package local

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
)

func TestMain(m *testing.M) { bustest.Main(m) }

const password = `p'a"s s$w\o%r&d é#`

// rig is a bus, some real servers and what a test adds to them.
type rig struct {
	t       *testing.T
	conn    *bus.Conn
	jobs    *store.Jobs // as somebody else
	docs    *store.Docs
	cluster Cluster
	dbs     []*sql.DB
	ticks   int
	workDir string
	args    map[string]string // of the jobs to come
}

func newRig(t *testing.T, servers ...*mariadbd.Server) *rig {
	t.Helper()
	conn := bustest.Start(t)
	r := &rig{t: t, conn: conn, jobs: store.NewJobs(conn, "test", nil), docs: store.NewDocs(conn), workDir: t.TempDir()}
	r.cluster = Cluster{Name: "lab", User: "drydock", Password: password, Lease: time.Minute, LockTimeout: time.Second}
	for _, s := range servers {
		r.add(s)
	}
	return r
}

func (r *rig) add(s *mariadbd.Server) {
	r.t.Helper()
	r.cluster.Servers = append(r.cluster.Servers, job.Server{Host: "127.0.0.1", Port: s.Port()})
	db, err := s.DB()
	if err != nil {
		r.t.Fatal(err)
	}
	r.dbs = append(r.dbs, db)
	r.t.Cleanup(func() { _ = db.Close() })
}

func server(t *testing.T, extra ...string) *mariadbd.Server {
	t.Helper()
	return mariadbdtest.Start(t, mariadbd.Options{Password: password, LogBin: true, Extra: extra})
}

// start runs a runner and its facts until stop is called or the test ends.
func (r *rig) start(actor string) (stop func()) {
	r.t.Helper()
	_, stop = r.runner(actor)
	return stop
}

// runner is start for who needs the runner itself.
func (r *rig) runner(actor string) (runner *Runner, stop func()) {
	r.t.Helper()
	view := store.NewView(r.conn)
	var logins []Login
	for _, s := range r.cluster.Servers {
		logins = append(logins, Login{Cluster: "lab", Server: s, User: "drydock", Password: password})
	}
	log := bustest.Log(r.t)
	facts := NewFacts(FactsConfig{Servers: logins, Ticker: 200 * time.Millisecond, Log: log}, r.docs)
	runner = New(Config{Actor: actor, Ticker: 200 * time.Millisecond, WorkDir: r.workDir, Bind: "127.0.0.1", Address: "127.0.0.1", Log: log, Clusters: []Cluster{r.cluster}},
		r.conn, store.NewJobs(r.conn, actor, view), view, r.docs, facts)
	stop = bustest.Run(r.t, view.Run, facts.Run, runner.Run)
	return runner, stop
}

// queue creates a job on server i, as the fan-out does.
func (r *rig) queue(i int, task string, mode job.Mode) job.Job {
	r.t.Helper()
	return r.queueAs(i, task, mode, job.Manual)
}

// queueAs is queue for a trigger.
func (r *rig) queueAs(i int, task string, mode job.Mode, kind job.TriggerKind) job.Job {
	r.t.Helper()
	return r.create(job.Key{Cluster: "lab", Server: r.cluster.Servers[i], Task: task}, mode, kind, nil)
}

// ask creates a job that drydock does, on any server or on the whole cluster.
func (r *rig) ask(task string, s job.Server, args map[string]string) job.Job {
	r.t.Helper()
	return r.create(job.Key{Cluster: "lab", Server: s, Task: task}, job.Local, job.Manual, args)
}

func (r *rig) create(k job.Key, mode job.Mode, kind job.TriggerKind, args map[string]string) job.Job {
	r.t.Helper()
	r.ticks++
	if args == nil {
		args = r.argsFor(k.Server)
	}
	due := time.Now().UTC().Add(time.Duration(r.ticks) * time.Millisecond)
	j, err := r.jobs.Create(bustest.Context(r.t), job.Job{
		State: job.Queued, ID: job.NewID(due, "t", k), Cluster: k.Cluster, Server: k.Server, Task: k.Task, Mode: mode, Due: due,
		Args: args, Seen: uint64(r.ticks), Trigger: job.Trigger{Kind: kind},
	}, "due")
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

// argsFor are the arguments of a reseed that was confirmed, unless the test says otherwise.
func (r *rig) argsFor(s job.Server) map[string]string {
	if r.args != nil {
		return r.args
	}
	return map[string]string{job.ArgConfirm: s.String()}
}

func (r *rig) apply(j job.Job, events ...job.Event) {
	r.t.Helper()
	for _, e := range events {
		if _, err := r.jobs.Apply(bustest.Context(r.t), store.RefOf(j), store.Change{Event: e, Reason: "test"}); err != nil {
			r.t.Fatalf("%s: %v", e, err)
		}
	}
}

func (r *rig) last(j job.Job) job.Job {
	r.t.Helper()
	now, _, err := r.jobs.Last(bustest.Context(r.t), j.Key())
	if err != nil {
		r.t.Fatal(err)
	}
	return now
}

// await waits until the job fits.
func (r *rig) await(j job.Job, what string, fits func(job.Job) bool) (now job.Job) {
	r.t.Helper()
	return r.awaitIn(j, 2*time.Minute, what, fits)
}

func (r *rig) awaitIn(j job.Job, patience time.Duration, what string, fits func(job.Job) bool) (now job.Job) {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s is %s (%s), evidence %+v", j.Task, now.State, now.Reason, now.Evidence)
		}
	}()
	bustest.Until(r.t, patience, j.Task+" is "+what, func() bool {
		now = r.last(j)
		return fits(now)
	})
	return now
}

func (r *rig) awaitState(j job.Job, s job.State) job.Job {
	r.t.Helper()
	return r.await(j, string(s), func(j job.Job) bool { return j.State == s })
}

// do runs a task to its end on server i and closes the job, as the closer would.
func (r *rig) do(i int, task string) job.Job {
	r.t.Helper()
	j := r.queue(i, task, job.Local)
	j = r.awaitState(j, job.Finished)
	r.apply(j, job.Pass)
	return j
}

// logged are the lines of a job, with their levels.
func (r *rig) logged(j job.Job) string {
	r.t.Helper()
	var out []string
	err := bus.Read(bustest.Context(r.t), r.conn, bus.StreamLogs, bus.AllLogs, bus.From{}, func(_ bus.Meta, b bus.LogBatch) error {
		for _, l := range b.Lines {
			if b.JobID == j.ID {
				out = append(out, b.Level+" "+l)
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

// sql gives statements to server i over one connection, which lives until the test ends.
func (r *rig) sql(i int, statements ...string) *sql.Conn {
	r.t.Helper()
	conn, err := r.dbs[i].Conn(bustest.Context(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	for _, s := range statements {
		if _, err := conn.ExecContext(bustest.Context(r.t), s); err != nil {
			r.t.Fatalf("%s: %v", s, err)
		}
	}
	return conn
}

// value is the first column of the only row.
func (r *rig) value(i int, query string) string {
	r.t.Helper()
	var v sql.NullString
	if err := r.dbs[i].QueryRowContext(bustest.Context(r.t), query).Scan(&v); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
	return v.String
}

// busy keeps three threads of server i running until stop is called or the test ends.
func (r *rig) busy(i int) (stop func()) {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	r.t.Cleanup(wg.Wait)
	r.t.Cleanup(stop)
	for range 3 {
		wg.Go(func() { _, _ = r.dbs[i].ExecContext(ctx, "SELECT SLEEP(60)") })
	}
	bustest.Until(r.t, 10e9, "the server is busy", func() bool {
		return r.value(i, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(60)'") == "3"
	})
	return stop
}
