package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestMain(m *testing.M) { bustest.Main(m) }

// site is a bus with jobs that the test moves.
type site struct {
	t    *testing.T
	conn *bus.Conn
	jobs *store.Jobs
	cat  *store.Catalog
	docs *store.Docs
	seq  int
}

func newSite(t *testing.T) *site {
	t.Helper()
	conn := bustest.Start(t)
	return &site{t: t, conn: conn, jobs: store.NewJobs(conn, "test", nil), cat: store.NewCatalog(conn), docs: store.NewDocs(conn)}
}

// backup puts a backup of another server into the catalogue.
func (s *site) backup(ended time.Time) {
	s.t.Helper()
	m := store.Manifest{ID: job.NewID(ended, "b", job.Key{}), Cluster: "prod", Server: db2, Task: "mariabackup", Ended: ended}
	if err := s.cat.Put(s.ctx(), m); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) ctx() context.Context { return bustest.Context(s.t) }

// job is a fresh job of the task on db1, taken through the events.
func (s *site) job(task string, events ...job.Event) job.Job {
	s.t.Helper()
	s.seq++
	key := job.Key{Cluster: "prod", Server: db1, Task: task}
	due := time.Now().UTC()
	j, err := s.jobs.Create(s.ctx(), job.Job{
		State: job.Queued, ID: job.NewID(due, fmt.Sprint(s.seq), key), Cluster: "prod", Server: db1, Task: task, Mode: job.API, Due: due,
	}, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return s.apply(j, events...)
}

func (s *site) apply(j job.Job, events ...job.Event) job.Job {
	s.t.Helper()
	for _, e := range events {
		var err error
		if j, err = s.jobs.Apply(s.ctx(), store.RefOf(j), store.Change{Event: e, Reason: "test"}); err != nil {
			s.t.Fatalf("%s: %v", e, err)
		}
	}
	return j
}

// edges reads every edge that was ever published, oldest first, as "code[-task] state".
func (s *site) edges(of string) (out []string) {
	s.t.Helper()
	err := bus.Read(s.ctx(), s.conn, bus.StreamAlerts, bus.AllAlerts, bus.From{}, func(m bus.Meta, a bus.Alert) error {
		if name := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]; strings.HasPrefix(name, of) {
			out = append(out, string(a.State))
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) want(of string, states ...string) {
	s.t.Helper()
	if got := s.edges(of); !slices.Equal(got, states) {
		s.t.Errorf("%s: edges %v, want %v", of, got, states)
	}
}

// eye is an evaluator with a clock that the test sets. It looks when the test says so.
type eye struct {
	*Evaluator
	s    *site
	stop func()

	mu   sync.Mutex
	time time.Time
}

func (s *site) config(actor string) Config {
	c := testCluster()
	c.BackupMaxAge = 24 * time.Hour
	return Config{Actor: actor, Every: 20 * time.Millisecond, Clusters: []Cluster{c}, Log: bustest.Log(s.t)}
}

func (s *site) evaluator(actor string) (*Evaluator, *store.View) {
	s.t.Helper()
	view := store.NewView(s.conn)
	e, err := New(s.config(actor), s.conn, s.jobs, view, s.cat, s.docs)
	if err != nil {
		s.t.Fatal(err)
	}
	return e, view
}

// eye starts an evaluator whose view and edges are followed, without its loop.
func (s *site) eye(actor string) *eye {
	s.t.Helper()
	e, view := s.evaluator(actor)
	y := &eye{Evaluator: e, s: s, time: time.Now()}
	e.now = y.clock
	ctx, cancel := context.WithCancel(context.Background())
	known := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = view.Run(ctx) })
	wg.Go(func() {
		_ = bus.Follow(ctx, s.conn, bus.StreamAlerts, bus.AllAlerts, bus.From{LastPerSubject: true}, e.learn, func() { close(known) })
	})
	<-view.Ready()
	<-known
	e.begin()
	y.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	s.t.Cleanup(y.stop)
	return y
}

func (y *eye) clock() time.Time {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.time
}

func (y *eye) advance(d time.Duration) *eye {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.time = y.time.Add(d)
	return y
}

// sees waits until the evaluator's view shows j.
func (y *eye) sees(j job.Job) *eye {
	y.s.t.Helper()
	bustest.Until(y.s.t, 5*time.Second, "the view shows the job", func() bool {
		v, _ := y.view.Get(j.Key())
		return v.Run() == j.Run() && v.State == j.State
	})
	return y
}

func (y *eye) look() *eye {
	y.s.t.Helper()
	if err := y.runOnce(y.s.ctx()); err != nil {
		y.s.t.Fatal(err)
	}
	return y
}

func TestARestartNeitherRepeatsNorLosesAnEdge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	failed := s.job("errorlog", job.Offer, job.Claim, job.Start, job.Error)
	y := s.eye("alert@a").sees(failed).look().look()
	s.want("DOCK0101-errorlog", "opened")
	y.stop()

	again := s.eye("alert@a").sees(failed).look().look()
	s.want("DOCK0101-errorlog", "opened")
	again.stop()

	good := s.job("errorlog", job.Offer, job.Claim, job.Start, job.Done, job.Pass)
	third := s.eye("alert@a").sees(good).look().look()
	s.want("DOCK0101-errorlog", "opened", "closed")
	bad := s.job("errorlog", job.Offer, job.Claim, job.Start, job.Error)
	third.sees(bad).look().look()
	s.want("DOCK0101-errorlog", "opened", "closed", "opened")
}

func TestAFailureBehindALiveJobIsFoundAfterARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.job("errorlog", job.Offer, job.Claim, job.Start, job.Error)
	s.job("errorlog", job.Cancel)
	live := s.job("errorlog", job.Offer)
	s.eye("alert@a").sees(live).look()
	s.want("DOCK0101-errorlog", "opened")
}

func TestTheClosingEdgeRepeatsWhatOpened(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	j := s.job("mariabackup", job.Offer)
	y := s.eye("alert@a").sees(j).look()
	y.sees(s.apply(j, job.Claim, job.Start, job.Cancel)).look()
	list, err := store.NewAlerts(s.conn, "test").List(s.ctx(), store.AlertFilter{History: true, Cluster: "prod", Server: db1, Task: "mariabackup"})
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	closed, opened := list[0], list[1]
	if opened.State != bus.AlertOpened || opened.Code != "WARN0073" || opened.JobID != j.ID || opened.Actor != "alert@a" || opened.Type != bus.TypeAlert {
		t.Errorf("opened: %+v", opened)
	}
	if closed.State != bus.AlertClosed || closed.Text != opened.Text || !closed.Since.Equal(opened.Since) || closed.JobID != opened.JobID || closed.ID == opened.ID {
		t.Errorf("closed: %+v", closed)
	}
}

func TestAnEvaluatorThatLagsDoesNotUndoAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good := s.job("errorlog", job.Offer, job.Claim, job.Start, job.Done, job.Pass)
	slow := s.eye("alert@slow").sees(good).look()
	slow.stop() // its picture stands still; what others write it still learns
	bad := s.job("errorlog", job.Offer, job.Claim, job.Start, job.Error)
	s.eye("alert@fast").sees(bad).look()
	subject := bus.AlertSubject("prod", db1.Host, db1.Port, "DOCK0101-errorlog")
	last, seq, err := bus.Last[bus.Alert](s.ctx(), s.conn, bus.StreamAlerts, subject)
	if err != nil {
		t.Fatal(err)
	}
	_ = slow.learn(bus.Meta{Subject: subject, Seq: seq}, last)
	slow.advance(settle - time.Second).look()
	s.want("DOCK0101-errorlog", "opened")
	slow.advance(2 * time.Second).look() // by now it is no lag any more
	s.want("DOCK0101-errorlog", "opened", "closed")
}

func TestTwoEvaluatorsPublishEachEdgeOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, actor := range []string{"alert@a", "alert@b"} {
		e, view := s.evaluator(actor)
		e.settle = 300 * time.Millisecond
		bustest.Run(t, view.Run, e.Run)
	}
	const rounds = 4
	for i := range rounds {
		s.job("errorlog", job.Offer, job.Claim, job.Start, job.Error)
		bustest.Until(t, 10*time.Second, "the failure is published", func() bool { return len(s.edges("DOCK0101")) == 2*i+1 })
		s.job("errorlog", job.Offer, job.Claim, job.Start, job.Done, job.Pass)
		bustest.Until(t, 10*time.Second, "its end is published", func() bool { return len(s.edges("DOCK0101")) == 2*i+2 })
	}
	want := slices.Repeat([]string{"opened", "closed"}, rounds)
	s.want("DOCK0101", want...)
}

func TestSilenceOpensAndASignCloses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	y := s.eye("alert@a")
	j := s.job("errorlog", job.Offer, job.Claim, job.Start)
	y.sees(j).advance(4 * time.Minute).look()
	s.want("DOCK0102")
	y.advance(2 * time.Minute).look().look()
	s.want("DOCK0102", "opened")
	y.stop()

	// A new process has heard nothing yet: that is no reason to call the job alive.
	again := s.eye("alert@a").sees(j).advance(time.Minute).look()
	s.want("DOCK0102", "opened")
	again.mu.Lock()
	now := again.time
	again.mu.Unlock()
	again.Evaluator.mu.Lock()
	again.signs.progress(bus.Progress{JobID: j.ID, Attempt: 1}, now)
	again.Evaluator.mu.Unlock()
	again.look()
	s.want("DOCK0102", "opened", "closed")
}

func TestARunningEvaluatorHearsTheSignsOnTheBus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	e, view := s.evaluator("alert@a")
	c := testCluster()
	c.Lease = 600 * time.Millisecond
	if err := e.Reload(Config{Clusters: []Cluster{c}}); err != nil {
		t.Fatal(err)
	}
	bustest.Run(t, view.Run, e.Run)
	j := s.job("errorlog", job.Offer, job.Claim, job.Start)
	bustest.Until(t, 10*time.Second, "silence opens the condition", func() bool { return len(s.edges("DOCK0102")) == 1 })
	bustest.Until(t, 10*time.Second, "a sign closes it", func() bool {
		err := s.conn.Publish(bus.ProgressSubject("prod", db1.Host, db1.Port, j.Task), bus.Progress{JobID: j.ID, Attempt: 1})
		return err == nil && len(s.edges("DOCK0102")) == 2
	})
}

func BenchmarkALookAtAThousandServers(b *testing.B) {
	s := Snapshot{Now: noon, Clusters: []Cluster{testCluster()}, Open: map[string]bool{}}
	s.Clusters[0].Servers = nil
	for i := range 1000 {
		server := job.Server{Host: fmt.Sprintf("db%d.example.com", i), Port: 3306}
		s.Clusters[0].Servers = append(s.Clusters[0].Servers, server)
		for _, t := range job.Tasks()[:8] {
			slot := slotOf(t.Name, job.Success, "")
			slot.Job.Server = server
			s.Slots = append(s.Slots, slot)
		}
	}
	for b.Loop() {
		Holding(s)
	}
}

func TestASkippedTickIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	y := s.eye("alert@a")
	j := s.job("errorlog", job.Offer, job.Claim, job.Start)
	y.sees(j).look().advance(6 * time.Minute)
	if err := s.jobs.Seen(s.ctx(), j.Key(), 99); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, 5*time.Second, "the note came", func() bool { v, _ := y.view.Get(j.Key()); return v.Seen == 99 })
	y.look()
	s.want("DOCK0102", "opened")
}

func TestANewBackupClosesWhatWasOverdueAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.backup(time.Now().Add(-25 * time.Hour))
	y := s.eye("alert@a").look()
	s.want("DOCK0201", "opened")
	j := s.job("mariabackup", job.Offer, job.Claim, job.Start, job.Done)
	j, err := s.jobs.Apply(s.ctx(), store.RefOf(j), store.Change{Event: job.Pass, Edit: func(j *job.Job) { j.Backup = j.ID }})
	if err != nil {
		t.Fatal(err)
	}
	y.sees(j).look().look() // by its job: the catalogue is not read again so soon
	s.want("DOCK0201", "opened", "closed")
}

func TestTheCatalogueIsReadAgainAfterAMinute(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.backup(time.Now())
	c := Cluster{Name: "empty", Servers: []job.Server{db2}, Lease: time.Minute, PickupTimeout: time.Hour}
	y := s.eye("alert@a")
	if err := y.Reload(Config{Clusters: []Cluster{testCluster(), c}}); err != nil {
		t.Fatal(err)
	}
	y.look()
	s.want("WARN0101", "opened")
	if err := s.cat.Put(s.ctx(), store.Manifest{ID: "B", Cluster: "empty", Server: db2, Ended: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := s.docs.Put(s.ctx(), "prod", db1, store.DocScript, store.ScriptDoc{Checked: time.Now(), Upgrade: true}); err != nil {
		t.Fatal(err)
	}
	y.advance(factsEvery / 2).look()
	s.want("DOCK0401")
	y.advance(factsEvery).look()
	s.want("WARN0101", "opened", "closed")
	s.want("DOCK0401", "opened")
}

func TestAServerThatLeavesClosesAndAForeignClusterStays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bad := s.job("errorlog", job.Offer, job.Claim, job.Start, job.Error)
	y := s.eye("alert@a").sees(bad).look()
	cfg := s.config("alert@a")
	cfg.Clusters[0].Name = "other"
	if err := y.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	y.look()
	s.want("DOCK0101", "opened")
	cfg = s.config("alert@a")
	cfg.Clusters[0].Servers = []job.Server{db2}
	if err := y.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	y.look()
	s.want("DOCK0101", "opened", "closed")
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"no actor": func(c *Config) { c.Actor = "" },
		"no time":  func(c *Config) { c.Every = 0 },
		"no lease": func(c *Config) { c.Clusters[0].Lease = 0 },
		"negative": func(c *Config) { c.Clusters[0].BackupMaxAge = -1 },
	} {
		cfg := Config{Actor: "a", Every: time.Second, Clusters: []Cluster{testCluster()}}
		change(&cfg)
		if _, err := New(cfg, nil, nil, store.NewView(nil), nil, nil); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 5 {
		e, view := s.evaluator("alert@a")
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = view.Run(ctx) })
		done := make(chan error, 1)
		wg.Go(func() { done <- e.Run(ctx) })
		<-view.Ready()
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		wg.Wait()
	}
}
