package notify

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func (h *hook) pinged() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.paths...)
}

// Two servers share a switch: that one of them is well must not hide that the other is not.
func TestPingsSayStartFailAndSuccessAndHideNoFailure(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	cfg := r.config("alert@a")
	cfg.Clusters = []Cluster{{Name: "prod", PingURL: h.URL + "/ping/{cluster}-{task}?rid=1"}}
	view := store.NewView(r.conn)
	n, err := New(cfg, r.conn, view)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Run(t, view.Run, n.Run)
	count := 0
	run := func(s job.Server, events ...job.Event) {
		t.Helper()
		count++
		j := r.ran("prod", s, fmt.Sprint(count), events...)
		bustest.Until(t, soon, "the view shows it", func() bool {
			v, _ := view.Get(j.Key())
			return v.ID == j.ID && v.State == j.State
		})
	}
	want := func(paths ...string) {
		t.Helper()
		for i, p := range paths {
			paths[i] = "/ping/prod-optimize" + p + "?rid=1"
		}
		bustest.Until(t, soon, fmt.Sprintf("the pings are %v", paths), func() bool { return slices.Equal(h.pinged(), paths) })
	}
	good, bad := []job.Event{job.Offer, job.Claim, job.Start, job.Done, job.Pass}, []job.Event{job.Offer, job.Claim, job.Start, job.Error}
	run(db1, good...)
	want("/start", "")
	run(db2, bad...)
	want("/start", "", "/start", "/fail")
	run(db1, good...)
	want("/start", "", "/start", "/fail", "/start")
	run(db2, good...)
	want("/start", "", "/start", "/fail", "/start", "/start", "")
}

// ran puts a job of a cluster's server through these events; tick names it.
func (r *rig) ran(cluster string, s job.Server, tick string, events ...job.Event) job.Job {
	r.t.Helper()
	jobs, due := store.NewJobs(r.conn, "test", nil), time.Now().UTC()
	key := job.Key{Cluster: cluster, Server: s, Task: "optimize"}
	j, err := jobs.Create(bustest.Context(r.t), job.Job{
		State: job.Queued, ID: job.NewID(due, tick, key), Cluster: cluster, Server: s, Task: "optimize", Mode: job.API, Due: due,
	}, "")
	for _, e := range events {
		if err == nil {
			j, err = jobs.Apply(bustest.Context(r.t), store.RefOf(j), store.Change{Event: e, Reason: "test"})
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

// A web server that takes connections and says nothing must not hold up the switches of other clusters: they would alarm.
func TestADeadPingHostHoldsUpItsOwnClusterOnly(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	asked, gone := make(chan struct{}, 100), make(chan struct{}, 100) // one send for each request
	dead := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		asked <- struct{}{}
		<-q.Context().Done()
		gone <- struct{}{}
	}))
	t.Cleanup(dead.Close) // after the notifier, which it waits for
	cfg := r.config("alert@a")
	cfg.Clusters = []Cluster{{Name: "lost", PingURL: dead.URL}, {Name: "prod", PingURL: h.URL + "/{server}"}}
	view := store.NewView(r.conn)
	n, err := New(cfg, r.conn, view)
	if err != nil {
		t.Fatal(err)
	}
	n.pinger.client.Timeout = time.Hour
	bustest.Run(t, view.Run, n.Run)
	good := []job.Event{job.Offer, job.Claim, job.Start, job.Done, job.Pass}
	r.ran("lost", db1, "1", good...)
	select {
	case <-asked:
	case <-time.After(soon):
		t.Fatal("it is not pinged")
	}
	for i := range 3 {
		r.ran("prod", db2, fmt.Sprint(i), good...)
		bustest.Until(t, soon, "the other cluster is pinged", func() bool {
			return strings.Count(strings.Join(h.pinged(), " ")+" ", "3306 ") == i+1
		})
	}
	if len(gone) != 0 {
		t.Error("the ping to the dead host ended before")
	}
}

func TestPingsThatFailComeAgainAndOldOnesDoNot(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	h.answer(http.StatusServiceUnavailable)
	cfg := r.config("alert@a")
	cfg.Clusters = []Cluster{{Name: "prod", PingURL: h.URL + "/{server}"}}
	n, err := New(cfg, r.conn, store.NewView(r.conn))
	if err != nil {
		t.Fatal(err)
	}
	n.now = r.now
	ev := bus.JobEvent{State: job.Success, Event: job.Pass, Job: job.Job{Cluster: "prod", Server: db1, Task: "optimize", State: job.Success}}
	try := func(when time.Time) error { return n.pingJob(bustest.Context(t), bus.Meta{Time: when}, ev) }
	if err := try(r.now()); err == nil || strings.Contains(err.Error(), h.URL) {
		t.Errorf("a failed ping: %v", err)
	}
	if err := try(r.now()); err == nil || len(h.pinged()) != 1 {
		t.Errorf("asked %d times at once", len(h.pinged()))
	}
	h.answer(http.StatusOK)
	r.advance(pingPause)
	if err := try(r.now()); err != nil || h.pinged()[1] != "/10.0.1.5-3306" {
		t.Errorf("%v, %v", err, h.pinged())
	}
	if err := try(r.now().Add(-2 * pingAge)); err != nil || len(h.pinged()) != 2 {
		t.Errorf("an old one: %v, %v", err, h.pinged())
	}
}

// A ping that comes late must not hide what is known by then: neither a failure nor that the job ended.
func TestALatePingHidesNothingNewer(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	cfg := r.config("alert@a")
	cfg.Clusters = []Cluster{{Name: "prod", PingURL: h.URL + "/{server}"}}
	view := store.NewView(r.conn)
	n, err := New(cfg, r.conn, view)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Run(t, view.Run)
	last := r.ran("prod", db1, "2", job.Offer, job.Claim, job.Start, job.Error)
	key := last.Key()
	bustest.Until(t, soon, "the view shows that it failed", func() bool { v, _ := view.Get(key); return v.State == job.Halted })
	before := last
	before.ID, before.Created, before.State = job.NewID(time.Now(), "1", key), last.Created.Add(-time.Minute), job.Success
	for name, ev := range map[string]bus.JobEvent{
		"the success before it": {State: job.Success, Event: job.Pass, Job: before},
		"its beginning":         {State: job.Processing, Event: job.Start, Job: last},
	} {
		if err := n.pingJob(bustest.Context(t), bus.Meta{Time: time.Now()}, ev); err != nil || len(h.pinged()) != 0 {
			t.Errorf("%s: %v, %v", name, err, h.pinged())
		}
	}
	if err := n.pingJob(bustest.Context(t), bus.Meta{Time: time.Now()}, bus.JobEvent{State: job.Halted, Event: job.Error, Job: last}); err != nil || len(h.pinged()) != 1 {
		t.Errorf("its failure: %v, %v", err, h.pinged())
	}
}

// Pings that go on although nothing is scheduled any more are worse than none.
func TestTheHeartbeatStopsWithTheScheduler(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	cfg := r.config("alert@a")
	cfg.HeartbeatURL, cfg.HeartbeatEvery = h.URL+"/beat", time.Hour
	n, err := New(cfg, r.conn, store.NewView(r.conn))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.beatOnce(bustest.Context(t)); err == nil || len(h.pinged()) != 0 {
		t.Errorf("without a scheduler: %v, %v", err, h.pinged())
	}
	svc, err := micro.AddService(r.conn.NC, micro.Config{Name: bus.SchedulerService, Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.AddEndpoint("next", micro.HandlerFunc(func(q micro.Request) { _ = q.RespondJSON(bus.NextReply{}) }), micro.WithEndpointSubject(bus.SubjectNext)); err != nil {
		t.Fatal(err)
	}
	if err := n.beatOnce(bustest.Context(t)); err != nil || !slices.Equal(h.pinged(), []string{"/beat"}) {
		t.Errorf("with one: %v, %v", err, h.pinged())
	}
	if err := svc.Stop(); err != nil {
		t.Fatal(err)
	}
}
