package gateway_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/gateway"
	"drydock/gateway/jobtable"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
)

// never is a poll interval that a test does not live to see: what happens then is due to a kick.
const never = time.Hour

const often = 50 * time.Millisecond

// yard is a bus, a database and a receiver, for dispatchers to work between.
type yard struct {
	*testing.T
	conn *bus.Conn
	jobs *store.Jobs
	docs *store.Docs
	pool *fakePool
	srv  *mariadbd.Server // nil where the test needs none
	db   *sql.Conn        // as the script on the host
}

func newYard(t *testing.T) *yard {
	y := newYardWithoutDB(t)
	y.srv = mariadbdtest.Start(t, mariadbd.Options{Password: "pa'ss w$rd"})
	db, err := y.srv.DB()
	if err != nil {
		t.Fatal(err)
	}
	if y.db, err = db.Conn(bustest.Context(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = y.db.Close(); _ = db.Close() })
	return y
}

func newYardWithoutDB(t *testing.T) *yard {
	t.Parallel()
	conn := bustest.Start(t)
	return &yard{
		T: t, conn: conn, jobs: store.NewJobs(conn, "test", nil), docs: store.NewDocs(conn), pool: newFakePool(t, conn, 8),
	}
}

func (y *yard) addr() job.Server { return job.Server{Host: "127.0.0.1", Port: y.srv.Port()} }

func (y *yard) cluster(mode job.Mode, servers ...job.Server) gateway.DispatchConfig {
	c := gateway.DispatchCluster{Name: "prod", Mode: mode, User: "nobody", Servers: servers}
	if y.srv != nil {
		c.User, c.Password, c.Servers = y.srv.User(), y.srv.Password(), append(servers, y.addr())
	}
	return gateway.DispatchConfig{Clusters: []gateway.DispatchCluster{c}, Address: "10.0.0.1", Poll: never, Log: bustest.Log(y.T)}
}

func polling(cfg gateway.DispatchConfig, every time.Duration) gateway.DispatchConfig {
	cfg.Poll = every
	return cfg
}

// start runs a dispatcher, as a process of its own, until stop is called or the test ends.
func (y *yard) start(cfg gateway.DispatchConfig) (stop func()) {
	y.Helper()
	stop, _ = y.startBlindable(cfg)
	return stop
}

// startBlindable is [yard.start] with a way to freeze the dispatcher's picture of the jobs.
func (y *yard) startBlindable(cfg gateway.DispatchConfig) (stop, blind func()) {
	y.Helper()
	view := store.NewView(y.conn)
	d, err := gateway.NewDispatcher(cfg, y.conn, store.NewJobs(y.conn, "gateway@test", view), view, y.docs)
	if err != nil {
		y.Fatal(err)
	}
	return bustest.Run(y.T, d.Run), bustest.Run(y.T, view.Run)
}

var dueAt = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// queue starts the job of a task that is due n minutes after three.
func (y *yard) queue(server job.Server, task string, n int) job.Job {
	y.Helper()
	key := job.Key{Cluster: "prod", Server: server, Task: task}
	due := dueAt.Add(time.Duration(n) * time.Minute)
	j, err := y.jobs.Create(bustest.Context(y.T), job.Job{
		State: job.Queued, ID: job.NewID(due, "tick", key), Cluster: "prod", Server: server, Task: task, Due: due, Mode: job.SQL,
	}, "")
	if err != nil {
		y.Fatal(err)
	}
	return j
}

func (y *yard) apply(j job.Job, events ...job.Event) job.Job {
	y.Helper()
	for _, e := range events {
		next, err := y.jobs.Apply(bustest.Context(y.T), store.RefOf(j), store.Change{Event: e, Reason: "by the test"})
		if err != nil {
			y.Fatal(err)
		}
		j = next
	}
	return j
}

// last is the job of the slot of j, now.
func (y *yard) last(j job.Job) job.Job {
	y.Helper()
	now, _, err := y.jobs.Last(bustest.Context(y.T), j.Key())
	if err != nil {
		y.Fatal(err)
	}
	return now
}

// await waits until the job of the slot of j is in a state.
func (y *yard) await(j job.Job, want job.State) job.Job {
	y.Helper()
	return y.awaitThat(j, "job is "+string(want), func(now job.Job) bool { return now.State == want })
}

func (y *yard) awaitThat(j job.Job, what string, ok func(job.Job) bool) (now job.Job) {
	y.Helper()
	defer func() {
		if y.Failed() {
			y.Logf("%s is %s (%s), dispatch %+v", j.Task, now.State, now.Reason, now.Dispatch)
		}
	}()
	bustest.Until(y.T, 20*time.Second, what, func() bool {
		now = y.last(j)
		return ok(now)
	})
	return now
}

func (y *yard) exec(stmt string, args ...any) int64 {
	y.Helper()
	res, err := y.db.ExecContext(bustest.Context(y.T), stmt, args...)
	if err != nil {
		y.Fatalf("%s: %v", stmt, err)
	}
	n, _ := res.RowsAffected()
	return n
}

// claim is what drydock's own script does with a row; it reports whether it got it.
func (y *yard) claim(task string) bool {
	y.Helper()
	return y.exec("UPDATE replication_manager_schema.jobs SET state=1, result='processing' WHERE task=? AND state=0 AND done=0", task) == 1
}

// finish is the script's end of a row.
func (y *yard) finish(task string, state, done int, result string) {
	y.Helper()
	y.exec("UPDATE replication_manager_schema.jobs SET state=?, done=?, end=NOW(), result=? WHERE task=?", state, done, result, task)
}

// row is `state|done|port|server` of a task's row, "" when there is none, and "no table".
func (y *yard) row(task string) string {
	y.Helper()
	var out string
	err := y.db.QueryRowContext(bustest.Context(y.T), "SELECT CONCAT_WS('|', state, done, port, server) FROM replication_manager_schema.jobs WHERE task=?", task).Scan(&out)
	switch {
	case err == sql.ErrNoRows:
		return ""
	case err != nil && (strings.Contains(err.Error(), "1146") || strings.Contains(err.Error(), "1049")):
		return "no table"
	case err != nil:
		y.Fatal(err)
	}
	return out
}

func (y *yard) awaitRow(task, want string) {
	y.Helper()
	got := ""
	bustest.Until(y.T, 20*time.Second, "row of "+task+" is "+want, func() bool {
		got = y.row(task)
		return strings.HasPrefix(got, want) && (want != "" || got == "")
	})
}

// kick changes something about a job, as the receiver does when a stream closes.
func (y *yard) kick(j job.Job) {
	y.Helper()
	_, err := y.jobs.Apply(bustest.Context(y.T), store.RefOf(j), store.Change{Event: job.Note, Edit: func(j *job.Job) {
		j.Stream = &job.Stream{Closed: time.Now(), Complete: true}
	}})
	if err != nil {
		y.Fatal(err)
	}
}

// fakePool stands for the receivers: size ports from 4000 on, one per run.
type fakePool struct {
	mu   sync.Mutex
	size int
	runs map[string]int
	// asked, if not nil, sees every request before it is answered.
	asked func(bus.OpenRequest)
}

func newFakePool(t *testing.T, conn *bus.Conn, size int) *fakePool {
	p := &fakePool{size: size, runs: map[string]int{}}
	svc, err := micro.AddService(conn.NC, micro.Config{Name: bus.ReceiverService, Version: "0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.AddEndpoint("open", micro.HandlerFunc(p.open), micro.WithEndpointSubject(bus.SubjectReceiverOpen)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Stop() })
	return p
}

func (p *fakePool) resize(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = n
}

func (p *fakePool) open(r micro.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	req := fromJSON[bus.OpenRequest](r.Data())
	if p.asked != nil {
		p.asked(req)
	}
	run := job.RunName(req.JobID, req.Attempt)
	port, ok := p.runs[run]
	switch {
	case !ok && len(p.runs) >= p.size:
		_ = r.Error(bus.CodeExhausted, fmt.Sprintf("all %d ports are in use", p.size), nil)
		return
	case !ok:
		port = 4000 + len(p.runs)
		p.runs[run] = port
	}
	_ = r.RespondJSON(bus.OpenReply{Receiver: "r1", Address: "10.0.0.9", Port: port})
}

func TestJobIsOfferedFollowedAndItsRowClosed(t *testing.T) {
	y := newYard(t)
	y.start(polling(y.cluster(job.SQL), often))
	j := y.queue(y.addr(), "errorlog", 1)
	j = y.await(j, job.Available)
	if want := (job.Dispatch{Receiver: "r1", Address: "10.0.0.9", Port: 4000, Row: j.Dispatch.Row}); j.Dispatch != want || j.Dispatch.Row == 0 || j.Mode != job.SQL {
		t.Errorf("dispatch is %+v in mode %s", j.Dispatch, j.Mode)
	}
	if got := y.row("errorlog"); got != "0|0|4000|10.0.0.9" {
		t.Errorf("row is %s", got)
	}
	plain := y.await(y.queue(y.addr(), "optimize", 1), job.Available)
	if got := y.row("optimize"); got != "0|0|0|10.0.0.1" || plain.Dispatch.Port != 0 {
		t.Errorf("the row of a task without a stream is %s, dispatch %+v", got, plain.Dispatch)
	}
	if !y.claim("errorlog") {
		t.Fatal("no row to claim")
	}
	y.await(j, job.Processing)
	y.finish("errorlog", 3, 1, "sent 12 bytes\nall well")
	j = y.await(j, job.Finished)
	if j.Evidence.Result != "sent 12 bytes\nall well" {
		t.Errorf("result is %q", j.Evidence.Result)
	}
	y.apply(j, job.Pass)
	y.awaitRow("errorlog", "4|1")
	next := y.await(y.queue(y.addr(), "errorlog", 2), job.Available)
	if next.Dispatch.Row == j.Dispatch.Row || !strings.HasPrefix(y.row("errorlog"), "0|0") {
		t.Errorf("the next job has row %d after %d, %s", next.Dispatch.Row, j.Dispatch.Row, y.row("errorlog"))
	}
}

func TestEveryEndReachesTheRow(t *testing.T) {
	y := newYard(t)
	y.start(polling(y.cluster(job.SQL), often))
	for i, tc := range []struct {
		name  string
		end   func(j job.Job) // from processing
		state job.State
		row   string
	}{
		{"refuted", func(j job.Job) { y.finish("optimize", 3, 1, ""); y.await(j, job.Finished); y.apply(j, job.Refute) }, job.Failed, "6|1"},
		{"failed by the script, done 0", func(job.Job) { y.finish("optimize", 5, 0, "x\nERROR: table t is broken\nbye") }, job.Halted, "5|0"},
		{"lease ran out", func(j job.Job) { y.apply(j, job.Cut) }, job.Halted, "5|0"},
		{"canceled", func(j job.Job) { y.apply(j, job.Cancel) }, job.Canceled, "5|0"},
		{"success before the row says so", func(j job.Job) { y.apply(j, job.Done, job.Pass); y.finish("optimize", 3, 1, "") }, job.Success, "4|1"},
	} {
		j := y.await(y.queue(y.addr(), "optimize", i), job.Available)
		if !y.claim("optimize") {
			t.Fatalf("%s: no row to claim", tc.name)
		}
		y.await(j, job.Processing)
		tc.end(j)
		j = y.await(j, tc.state)
		y.awaitRow("optimize", tc.row)
		if strings.HasPrefix(tc.name, "failed by the script") && !strings.Contains(j.Reason, "table t is broken") {
			t.Errorf("the reason does not say what broke: %q", j.Reason)
		}
	}
}

// TestDoneIsAppliedAtOnceWhenTheStreamCloses has no polls to rely on.
func TestDoneIsAppliedAtOnceWhenTheStreamCloses(t *testing.T) {
	y := newYard(t)
	y.start(y.cluster(job.SQL))
	for i := range 5 {
		j := y.await(y.queue(y.addr(), "errorlog", i), job.Available)
		y.claim("errorlog")
		y.finish("errorlog", 3, 1, "")
		y.kick(j)
		y.await(j, job.Finished)
		y.apply(j, job.Pass)
		y.awaitRow("errorlog", "4|1")
	}
}

// TestCrashBetweenInsertAndOfferLeavesOneRow finds rows that a process wrote just before it died.
func TestCrashBetweenInsertAndOfferLeavesOneRow(t *testing.T) {
	y := newYard(t)
	table := jobtable.Open(y.addr(), y.srv.User(), y.srv.Password())
	defer table.Close()
	if err := table.Setup(bustest.Context(t)); err != nil {
		t.Fatal(err)
	}
	jobs := map[string]job.State{"errorlog": job.Available, "slowquery": job.Processing, "optimize": job.Finished}
	ids := map[string]int64{}
	for task := range jobs {
		j := y.queue(y.addr(), task, 1)
		row, err := table.Insert(bustest.Context(t), j, "10.0.0.8", 3999)
		if err != nil {
			t.Fatal(err)
		}
		ids[task] = row
	}
	y.claim("slowquery")
	y.finish("optimize", 3, 1, "")
	y.start(polling(y.cluster(job.SQL), often))
	for task, want := range jobs {
		j := y.await(job.Job{Cluster: "prod", Server: y.addr(), Task: task}, want)
		if j.Dispatch.Row != ids[task] {
			t.Errorf("%s: row %d became %d", task, ids[task], j.Dispatch.Row)
		}
	}
	if got := y.row("errorlog"); !strings.Contains(got, "10.0.0.9") {
		t.Errorf("the row still names the dead process's port: %s", got)
	}
}

func TestTwoDispatchersOfferEachJobOnce(t *testing.T) {
	y := newYard(t)
	y.start(polling(y.cluster(job.SQL), often))
	y.start(polling(y.cluster(job.SQL), often))
	tasks := []string{"errorlog", "slowquery", "auditlog", "sqlerrorlog", "optimize"}
	for round := range 3 {
		for _, task := range tasks {
			y.queue(y.addr(), task, round)
		}
		for _, task := range tasks {
			j := y.await(job.Job{Cluster: "prod", Server: y.addr(), Task: task}, job.Available)
			if !y.claim(task) {
				t.Errorf("%s: no row", task)
			}
			y.await(j, job.Processing)
			y.finish(task, 3, 1, "")
			j = y.await(j, job.Finished)
			var steps []string
			for _, s := range j.Steps {
				steps = append(steps, string(s.State))
			}
			if got := strings.Join(steps, " "); got != "queued available processing finished" {
				t.Errorf("%s went %s", task, got)
			}
			y.apply(j, job.Pass)
			y.awaitRow(task, "4|1")
		}
		y.pool.resize(len(y.pool.runs) + 8)
	}
}

func TestADeadDatabaseBlocksNoOtherAndSaysWhyOnce(t *testing.T) {
	y := newYard(t)
	if err := y.srv.Kill(); err != nil {
		t.Fatal(err)
	}
	dead := y.addr()
	other := mariadbdtest.Start(t, mariadbd.Options{Password: y.srv.Password()})
	y.start(polling(y.cluster(job.SQL, job.Server{Host: "127.0.0.1", Port: other.Port()}), often))
	held := y.queue(dead, "optimize", 1)
	y.await(y.queue(job.Server{Host: "127.0.0.1", Port: other.Port()}, "optimize", 1), job.Available)
	y.awaitThat(held, "the reason is given", func(j job.Job) bool { return strings.HasPrefix(j.Reason, "database unreachable: dial") })
	second := y.queue(dead, "slowquery", 1)
	y.awaitThat(second, "a job that comes meanwhile gets the reason", func(j job.Job) bool { return strings.HasPrefix(j.Reason, "database unreachable") })
	if err := y.srv.Restart(bustest.Context(t)); err != nil {
		t.Fatal(err)
	}
	j := y.await(held, job.Available)
	if j.Reason != "" {
		t.Errorf("an offered job still has the reason %q", j.Reason)
	}
	if notes := y.messages(held); notes != 3 {
		t.Errorf("the log has %d messages of the job; want queued, the reason once, offered", notes)
	}
	y.await(second, job.Available)
}

// messages counts what the log has of the slot of j.
func (y *yard) messages(j job.Job) (n int) {
	y.Helper()
	err := bus.Read(bustest.Context(y.T), y.conn, bus.StreamJobs, bus.JobSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task), bus.From{},
		func(bus.Meta, bus.JobEvent) error { n++; return nil })
	if err != nil {
		y.Fatal(err)
	}
	return n
}

func TestExhaustedPoolQueuesAndNeverOffersAStalePort(t *testing.T) {
	y := newYard(t)
	y.pool.resize(1)
	y.start(polling(y.cluster(job.SQL), often))
	first := y.await(y.queue(y.addr(), "errorlog", 1), job.Available)
	second := y.queue(y.addr(), "slowquery", 1)
	y.awaitThat(second, "the reason is given", func(j job.Job) bool { return j.Reason == "no free port in the pool" && j.State == job.Queued })
	if got := y.row("slowquery"); got != "" {
		t.Errorf("a job without a port has row %s", got)
	}
	// A receiver that lost its port withdraws the job; the row must not keep the old port while the pool is full.
	y.pool.mu.Lock()
	y.pool.runs = map[string]int{"somebody else's": 4000}
	y.pool.mu.Unlock()
	y.apply(first, job.Withdraw)
	y.awaitRow("errorlog", "")
	y.pool.resize(8)
	y.await(first, job.Available)
	y.await(second, job.Available)
	if got := y.row("errorlog"); strings.Contains(got, "|4000|") {
		t.Errorf("the row names another job's port: %s", got)
	}
}

func TestCanceledOfferCannotBeTaken(t *testing.T) {
	y := newYard(t)
	y.start(y.cluster(job.SQL))
	j := y.await(y.queue(y.addr(), "optimize", 1), job.Available)
	y.apply(j, job.Cancel)
	y.awaitRow("optimize", "5|0")
	if y.claim("optimize") {
		t.Error("a script took a canceled job")
	}
	// The script was quicker than the cancel: its row ends all the same, and its own end finds nothing to change.
	j = y.await(y.queue(y.addr(), "optimize", 2), job.Available)
	y.claim("optimize")
	y.apply(j, job.Cancel)
	y.awaitRow("optimize", "5|0")
	if n := y.exec("UPDATE replication_manager_schema.jobs SET state=3, done=1 WHERE task='optimize' AND state IN (1,2)"); n != 0 {
		t.Error("the script ended a canceled job as finished")
	}
	if now := y.last(j); now.State != job.Canceled {
		t.Errorf("the job is %s", now.State)
	}
}

// TestAJobThatEndsWhileItIsOfferedLeavesNoRowToTake cancels it between the reservation and the row.
func TestAJobThatEndsWhileItIsOfferedLeavesNoRowToTake(t *testing.T) {
	y := newYard(t)
	y.pool.asked = func(req bus.OpenRequest) {
		if _, err := y.jobs.Apply(context.Background(), store.Ref{Key: req.Key}, store.Change{Event: job.Cancel}); err != nil {
			t.Error(err)
		}
	}
	y.start(y.cluster(job.SQL))
	y.queue(y.addr(), "errorlog", 1)
	y.awaitRow("errorlog", "5|0")
}

// shut puts a job that has not begun behind a gate, or opens it.
func (y *yard) shut(k job.Key, gate job.Gate) {
	y.Helper()
	_, err := y.jobs.Apply(context.Background(), store.Ref{Key: k}, store.Change{Event: job.Note, Edit: func(j *job.Job) {
		if j.State == job.Queued || j.State == job.Available {
			j.Gate = gate
		}
	}})
	if err != nil {
		y.Error(err)
	}
}

func TestAnOfferThatIsCalledBackLosesItsRowUnlessAScriptIsQuicker(t *testing.T) {
	y := newYard(t)
	y.start(polling(y.cluster(job.SQL), often))
	j := y.await(y.queue(y.addr(), "errorlog", 1), job.Available)
	taken := y.await(y.queue(y.addr(), "slowquery", 1), job.Available)
	if !y.claim("slowquery") {
		t.Fatal("no row")
	}
	y.shut(taken.Key(), job.GateHold)
	y.shut(j.Key(), job.GateHold)
	y.awaitThat(j, "it is back in the queue", job.Job.Gated)
	if row := y.row("errorlog"); row != "" {
		t.Errorf("there is still a row: %s", row)
	}
	if j := y.await(taken, job.Processing); j.Gate != "" {
		t.Errorf("what runs is behind a gate: %+v", j)
	}
}

// TestAGateShutWhileAJobIsOfferedLeavesNoRowToTake: a hold comes between the reservation and the row.
func TestAGateShutWhileAJobIsOfferedLeavesNoRowToTake(t *testing.T) {
	y := newYard(t)
	var once sync.Once
	y.pool.asked = func(req bus.OpenRequest) { once.Do(func() { y.shut(req.Key, job.GateHold) }) }
	y.start(y.cluster(job.SQL))
	j := y.queue(y.addr(), "errorlog", 1)
	y.awaitThat(j, "the gate is shut", job.Job.Gated)
	y.awaitRow("errorlog", "")
	y.shut(j.Key(), "")
	y.await(j, job.Available)
	y.awaitRow("errorlog", "0|0")
}

func TestAGatedJobIsLeftAloneAndKeepsNoOtherFromGoingFirst(t *testing.T) {
	for _, mode := range []job.Mode{job.SQL, job.API} {
		t.Run(string(mode), func(t *testing.T) {
			y := newYard(t)
			first, second := y.queue(y.addr(), "optimize", 1), job.Job{}
			y.shut(first.Key(), job.GateWindow)
			y.start(polling(y.cluster(mode), often))
			second = y.await(y.queue(y.addr(), "mariabackup", 2), job.Available)
			if now := y.last(first); !now.Gated() || now.Reason != "" {
				t.Errorf("the gated job is %+v", now)
			}
			// Its gate opens: now it waits for the other heavy job.
			y.shut(first.Key(), "")
			y.awaitThat(first, "it says what it waits for", func(j job.Job) bool { return j.Held() && !j.Gated() })
			y.apply(second, job.Cancel)
			y.await(first, job.Available)
		})
	}
}

// TestAnOutdatedPictureOffersNothing: the dispatcher does not hear that a job was canceled.
func TestAnOutdatedPictureOffersNothing(t *testing.T) {
	y := newYard(t)
	y.pool.resize(0)
	_, blind := y.startBlindable(polling(y.cluster(job.SQL), often))
	canceled, other := y.queue(y.addr(), "errorlog", 1), y.queue(y.addr(), "slowquery", 1)
	for _, j := range []job.Job{canceled, other} {
		y.awaitThat(j, "it waits for a port", func(j job.Job) bool { return j.Reason != "" })
	}
	blind()
	y.apply(canceled, job.Cancel)
	y.pool.resize(8)
	y.await(other, job.Available) // it comes after errorlog in a round
	if got := y.row("errorlog"); got != "" {
		t.Errorf("a canceled job got row %s", got)
	}
}

// TestARowReportedDoneElsewhereIsLeftToItsScript: drydock's script calls first and writes its row afterwards.
func TestARowReportedDoneElsewhereIsLeftToItsScript(t *testing.T) {
	y := newYard(t)
	y.start(polling(y.cluster(job.SQL), often))
	j := y.await(y.queue(y.addr(), "optimize", 1), job.Available)
	y.claim("optimize")
	y.apply(y.await(j, job.Processing), job.Done, job.Pass)
	y.await(y.queue(y.addr(), "errorlog", 1), job.Available) // a round has passed
	if n := y.exec("UPDATE replication_manager_schema.jobs SET state=3, done=1, result='all' WHERE task='optimize' AND state IN (1,2)"); n != 1 {
		t.Errorf("the script found its row %s", y.row("optimize"))
	}
	y.awaitRow("optimize", "4|1")
}

// TestAServerWithNothingToDoIsNotAsked: a fleet must not be polled for jobs that ended long ago.
func TestAServerWithNothingToDoIsNotAsked(t *testing.T) {
	y := newYard(t)
	y.start(polling(y.cluster(job.SQL), often))
	j := y.await(y.queue(y.addr(), "optimize", 1), job.Available)
	y.finish("optimize", 3, 1, "")
	y.apply(y.await(j, job.Finished), job.Pass)
	y.awaitRow("optimize", "4|1")
	before := y.selects()
	<-time.After(20 * often) // what must not happen has no event to wait for
	if n := y.selects() - before; n > 2 {
		t.Errorf("%d queries in the time of 20 polls", n)
	}
}

// selects counts the queries of the server so far.
func (y *yard) selects() (n int) {
	y.Helper()
	var name string
	if err := y.db.QueryRowContext(bustest.Context(y.T), "SHOW GLOBAL STATUS LIKE 'Com_select'").Scan(&name, &n); err != nil {
		y.Fatal(err)
	}
	return n
}

// TestAJobHaltedAfterItsScriptWasDoneDoesNotLookChecked: state 3 would tell other tools that the checks are still to come.
func TestAJobHaltedAfterItsScriptWasDoneDoesNotLookChecked(t *testing.T) {
	y := newYard(t)
	y.start(y.cluster(job.SQL))
	j := y.await(y.queue(y.addr(), "optimize", 1), job.Available)
	y.finish("optimize", 3, 1, "")
	y.apply(j, job.Cut)
	y.awaitRow("optimize", "6|1")
}

func TestAForeignLiveRowIsNeverOverwritten(t *testing.T) {
	y := newYard(t)
	y.start(polling(y.cluster(job.SQL), often))
	y.await(y.queue(y.addr(), "errorlog", 1), job.Available) // the table is there
	y.exec("INSERT INTO replication_manager_schema.jobs (task, server, port, state, payload) VALUES ('optimize', 'x', 1, 1, NULL)," +
		` ('slowquery', 'x', 1, 0, '{"drydock":1,"job":"01ABCDEFGHJKMNPQRSTVWXYZ01","attempt":1}')`) // of another drydock
	j, other := y.queue(y.addr(), "optimize", 1), y.queue(y.addr(), "slowquery", 1)
	for _, j := range []job.Job{j, other} {
		y.awaitThat(j, "the reason is given", func(j job.Job) bool { return strings.Contains(j.Reason, "live row of another program") })
	}
	if got := y.row("optimize") + " " + y.row("slowquery"); got != "1|0|1|x 0|0|1|x" {
		t.Errorf("the foreign rows are %s", got)
	}
	y.finish("optimize", 3, 1, "")
	y.finish("slowquery", 5, 0, "")
	y.await(j, job.Available)
	y.await(other, job.Available)
}

// TestALeftRowOfAnEndedAttemptGivesWay: the row of a job that ended while the database was down is still live.
func TestALeftRowOfAnEndedAttemptGivesWay(t *testing.T) {
	y := newYard(t)
	stop := y.start(y.cluster(job.SQL))
	first := y.await(y.queue(y.addr(), "optimize", 5), job.Available)
	y.claim("optimize")
	second := y.await(y.queue(y.addr(), "errorlog", 5), job.Available)
	stop() // nobody is there to settle the rows
	y.apply(first, job.Start, job.Cut, job.Retry)
	y.apply(second, job.Cancel)
	earlier := y.queue(y.addr(), "errorlog", 1) // caught up: due before the job that was canceled
	y.start(polling(y.cluster(job.SQL), often))
	j := y.await(first, job.Available)
	if j.Attempt != 2 || !strings.HasPrefix(y.row("optimize"), "0|0") {
		t.Errorf("attempt %d is offered with row %s", j.Attempt, y.row("optimize"))
	}
	if j := y.await(earlier, job.Available); j.ID != earlier.ID {
		t.Errorf("job %s is offered, not %s", j.ID, earlier.ID)
	}
}

func TestADeletedRowIsOfferedAgainOrCutsTheJob(t *testing.T) {
	y := newYard(t)
	y.start(polling(y.cluster(job.SQL), often))
	offered, taken := y.queue(y.addr(), "errorlog", 1), y.queue(y.addr(), "optimize", 1)
	offered = y.await(offered, job.Available)
	y.await(taken, job.Available)
	y.claim("optimize")
	y.await(taken, job.Processing)
	y.exec("DROP TABLE replication_manager_schema.jobs") // as a restored backup would
	if j := y.await(taken, job.Halted); !strings.Contains(j.Reason, "was deleted") {
		t.Errorf("the reason is %q", j.Reason)
	}
	y.awaitRow("errorlog", "0|0")
	y.await(offered, job.Available)
}

func TestSwitchToAPIFollowsWhatRunsThenDropsTheTable(t *testing.T) {
	y := newYard(t)
	stop := y.start(y.cluster(job.SQL))
	offered := y.await(y.queue(y.addr(), "errorlog", 1), job.Available)
	running := y.await(y.queue(y.addr(), "optimize", 1), job.Available)
	y.claim("optimize")
	stop()
	stop = y.start(polling(y.cluster(job.API), often))
	j := y.awaitThat(offered, "the job is offered without a row", func(j job.Job) bool {
		return j.State == job.Available && j.Dispatch == job.Dispatch{} && j.Mode == job.API
	})
	y.await(running, job.Processing)
	// A fleet of ten thousand in api mode had ten thousand connections, and its bus no file left to open.
	y.awaitNoConnection("while a row is followed")
	if got := y.row("errorlog"); got != "" {
		t.Errorf("a job that the API offers still has row %s: it could run twice", got)
	}
	y.finish("optimize", 3, 1, "ok")
	y.await(running, job.Finished)
	y.apply(running, job.Pass)
	y.awaitRow("optimize", "no table")
	y.exec("USE replication_manager_schema") // it is kept
	var doc store.DispatchDoc
	bustest.Until(t, 10*time.Second, "the switch is remembered", func() bool {
		ok, err := y.docs.Get(bustest.Context(t), "prod", y.addr(), store.DocDispatch, &doc)
		return err == nil && ok && doc == store.DispatchDoc{Mode: job.API}
	})
	y.awaitNoConnection("after that")
	stop()

	y.start(y.cluster(job.SQL)) // and back
	j = y.awaitThat(j, "the job has a row", func(j job.Job) bool { return j.State == job.Available && j.Dispatch.Row != 0 })
	if j.Mode != job.SQL || !strings.HasPrefix(y.row("errorlog"), "0|0|40") {
		t.Errorf("mode %s, row %s", j.Mode, y.row("errorlog"))
	}
}

func (y *yard) awaitNoConnection(when string) {
	y.Helper()
	bustest.Until(y.T, 10*time.Second, "no connection is kept "+when, func() bool {
		var n int
		err := y.db.QueryRowContext(bustest.Context(y.T), "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Daemon'").Scan(&n)
		return err == nil && n == 0
	})
}

// Where too few files may be open, what falls due on all servers in the same second must not connect to all of them.
func TestFrugalDispatchConnectsToFewServersAtATime(t *testing.T) {
	const servers, turns = 6, 2
	y := newYardWithoutDB(t)
	conns := make(chan net.Conn, 100) // to the databases, which say nothing; more than there can be
	var wg sync.WaitGroup
	defer wg.Wait()
	var cfg []job.Server
	for range servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		cfg = append(cfg, job.Server{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port})
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				conns <- c
			}
		})
	}
	frugal := y.cluster(job.SQL, cfg...)
	frugal.Frugal = true
	view := store.NewView(y.conn)
	d, err := gateway.NewDispatcher(frugal, y.conn, store.NewJobs(y.conn, "gateway@test", view), view, y.docs)
	if err != nil {
		t.Fatal(err)
	}
	d.Turns(turns)
	for _, s := range cfg {
		y.queue(s, "optimize", 1)
	}
	bustest.Run(t, d.Run)
	bustest.Run(t, view.Run)
	asked, patience := map[string]bool{}, bustest.Context(t)
	open := []net.Conn{<-conns, <-conns}
	select {
	case c := <-conns:
		c.Close()
		t.Error("a third server is asked beside two")
	case <-time.After(time.Second): // what must not happen has no event to wait for
	}
	for _, c := range open {
		asked[c.LocalAddr().String()] = true
		c.Close()
	}
	for len(asked) < servers { // each has its turn
		select {
		case c := <-conns:
			asked[c.LocalAddr().String()] = true
			c.Close()
		case <-patience.Done():
			t.Fatalf("only %d of %d servers were asked", len(asked), servers)
		}
	}
}

// TestAPIModeNeedsNoDatabase has a listener in the database's place, which sees every attempt to connect.
func TestAPIModeNeedsNoDatabase(t *testing.T) {
	y := newYardWithoutDB(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialed := make(chan struct{}, 100) // one per connection, more than there can be
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dialed <- struct{}{}
			c.Close()
		}
	})
	defer wg.Wait()
	defer l.Close()
	server := job.Server{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}

	stop := y.start(y.cluster(job.API, server))
	j := y.await(y.queue(server, "mariabackup", 1), job.Available)
	if j.Dispatch != (job.Dispatch{}) || j.Mode != job.API {
		t.Errorf("offered with %+v in mode %s", j.Dispatch, j.Mode)
	}
	<-dialed // nobody knows yet whether sql mode left a table there
	stop()

	for len(dialed) > 0 {
		<-dialed
	}
	if err := y.docs.Put(bustest.Context(t), "prod", server, store.DocDispatch, store.DispatchDoc{Mode: job.API}); err != nil {
		t.Fatal(err)
	}
	y.start(y.cluster(job.API, server))
	y.await(y.queue(server, "errorlog", 1), job.Available)
	// A client claimed the backup and found the pool empty.
	if _, err := y.jobs.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Withdraw, Reason: "no free port in the pool"}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	y.await(j, job.Available)
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("a job without a port was offered again after %s: its client would ask in a circle", took)
	}
	if len(dialed) > 0 {
		t.Error("SQL in api mode")
	}
}

// Nothing wakes the worker of a server when a job of the whole cluster ends: it must look again by itself, or the jobs that waited for
// that one would wait for good.
func TestAJobThatWaitsForOneOfTheWholeClusterIsLookedAtAgain(t *testing.T) {
	y := newYardWithoutDB(t)
	server := job.Server{Host: "127.0.0.1", Port: 1}
	whole := y.apply(y.queue(job.Server{}, "checksum", 1), job.Offer, job.Start)
	waits := y.queue(server, "mariabackup", 2)
	looks, err := y.conn.NC.SubscribeSync("$JS.API.DIRECT.GET." + bus.StreamJobs) // each asks the log for the heavy jobs of the server
	if err != nil {
		t.Fatal(err)
	}
	y.start(y.cluster(job.API, server))
	y.awaitThat(waits, "it says what it waits for", job.Job.Held)
	for range 2 { // its own word of waiting wakes it once more
		if _, err := looks.NextMsgWithContext(bustest.Context(t)); err != nil {
			t.Fatalf("no look at the log: %v", err)
		}
	}
	y.apply(whole, job.Cancel)
	y.await(waits, job.Available)
}

// TestARowThatMovesIsASignOfLife: a client without a heartbeat writes nothing but its row.
func TestARowThatMovesIsASignOfLife(t *testing.T) {
	y := newYard(t)
	signs := make(chan bus.Progress, 100) // more than the test makes
	sub, err := bus.Listen(y.conn, bus.AllProgress, func(p bus.Progress) { signs <- p })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	y.start(polling(y.cluster(job.SQL), often))
	j := y.await(y.queue(y.addr(), "optimize", 1), job.Available)
	y.claim("optimize")
	y.await(j, job.Processing)
	for len(signs) > 0 {
		<-signs
	}
	y.exec("UPDATE replication_manager_schema.jobs SET result='processing: table 3 of 7'")
	select {
	case p := <-signs:
		if p.Sign != bus.SignRow || p.JobID != j.ID || p.Attempt != 1 {
			t.Errorf("sign is %+v", p)
		}
	case <-time.After(10 * time.Second):
		t.Error("no sign")
	}
}

func fromJSON[T any](data []byte) (v T) {
	if err := json.Unmarshal(data, &v); err != nil {
		panic(err)
	}
	return v
}
