package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/gateway"
	"drydock/job"
	"drydock/store"
)

// Who may not hold a cluster may not stop its backups for good either; and a switch of what there is not must say so instead of
// being kept for a schedule that never comes.
func TestSwitchingASchedule(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.Clusters[1].Grants = map[string][]string{"viewer": {}} })
	admin, viewer := r.user("admin"), r.user("viewer")
	const off = "/api/clusters/sql/schedules/optimize/off"
	if got := r.call("POST", off, admin, nil); got.status != 503 {
		t.Errorf("without a scheduler: %s", got)
	}
	sub, err := r.conn.NC.Subscribe(bus.SubjectNext, func(m *nats.Msg) { // in place of a scheduler
		data, _ := json.Marshal(bus.NextReply{Schedules: []bus.ScheduleInfo{{Cluster: "sql", Task: "optimize", Enabled: true}, {Cluster: "sql", Task: "analyze", Why: "monitoring-scheduler is false"}}})
		_ = m.Respond(data)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for path, want := range map[string]struct {
		token  string
		status int
		says   string
	}{
		off: {viewer, 403, "cluster-hold"},
		"/api/clusters/api/schedules/optimize/off":     {viewer, 404, "unknown cluster"},
		"/api/clusters/nowhere/schedules/optimize/off": {admin, 404, "unknown cluster"},
		"/api/clusters/sql/schedules/nothing/off":      {admin, 404, "unknown task"},
		"/api/clusters/sql/schedules/analyze/off":      {admin, 404, "off by the configuration: monitoring-scheduler is false"},
		"/api/clusters/sql/schedules/mariabackup/off":  {admin, 404, "has none for mariabackup"},
		"/api/clusters/sql/schedules/optimize/off?x=1": {"", 401, ""},
	} {
		if got := r.call("POST", path, want.token, nil); got.status != want.status || !strings.Contains(got.body, want.says) {
			t.Errorf("POST %s: %s, want %d %q", path, got, want.status, want.says)
		}
	}
	if got := r.call("DELETE", off, admin, nil); got.status != 409 || !strings.Contains(got.body, "is not switched off") {
		t.Errorf("on while it is on: %s", got)
	}
	r.want(r.call("POST", off, admin, []byte(`{"note":`)), 400, "")
	if got := r.call("POST", off, admin, []byte(`{"note":"`+strings.Repeat("x", 600)+`"}`)); got.status != 400 || !strings.Contains(got.body, "600 bytes") {
		t.Errorf("a long note: %s", got)
	}
	s := decode[bus.Switch](t, r.call("POST", off, admin, []byte(`{"note":"bug 17"}`)))
	if s.By != "admin" || s.Note != "bug 17" || time.Since(s.From) > time.Minute || !s.To.IsZero() {
		t.Errorf("%+v", s)
	}
	if got := r.call("POST", off, admin, []byte(`{"note":"another"}`)); got.status != 409 || !strings.Contains(got.body, "by admin: bug 17 already") {
		t.Errorf("off twice: %s", got)
	}
	// A run by hand is no tick of the schedule.
	r.want(r.call("POST", path("sql", db1, "/jobs/optimize"), admin, nil), 202, "")
	if s := decode[bus.Switch](t, r.call("DELETE", off, admin, nil)); s.OnBy != "admin" || s.To.IsZero() {
		t.Errorf("%+v", s)
	}
	acts, err := store.NewAudits(r.conn, "test").List(r.ctx(), store.AuditFilter{Cluster: "sql"})
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]bus.Audit{}
	for _, a := range acts {
		if a.Outcome == bus.AuditDone {
			done[a.Verb] = a
		}
	}
	if a := done["schedule-off"]; a.Target != "optimize" || a.User != "admin" || a.Reason != "bug 17" {
		t.Errorf("the audit has %+v", a)
	}
	if a := done["schedule-on"]; a.Target != "optimize" || !strings.Contains(a.Detail, "bug 17") {
		t.Errorf("the audit has %+v", a)
	}
}

// Whoever looks why a backup did not run must see that it has begun, without loading the page again.
func TestTheExplanationFollowsTicksAndJobs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser().login("admin", "repman")
	page := b.get("/explain/sql/mariabackup").body
	live := liveOf(t, page)
	all, ok := b.until(r.ctx(), live, "asked for by alice", func() {
		if _, err := r.deps.Ledger.RunNow(r.ctx(), "sql", "mariabackup", nil, "alice"); err != nil {
			t.Error(err)
		}
	})
	if !ok || !strings.Contains(all, "part-ticks") {
		t.Errorf("a tick did not come:\n%s", all)
	}
	ticks, err := r.deps.Ledger.List(r.ctx(), store.TickFilter{Cluster: "sql"})
	if err != nil || len(ticks) != 1 {
		t.Fatalf("%+v, %v", ticks, err)
	}
	live = liveOf(t, b.get("/explain/sql/mariabackup").body)
	key := job.Key{Cluster: "sql", Server: db1, Task: "mariabackup"}
	all, ok = b.until(r.ctx(), live, "&gt; processing", func() {
		fresh := job.Job{State: job.Queued, ID: job.NewID(ticks[0].Due, ticks[0].ID, key), Cluster: key.Cluster, Server: key.Server, Task: key.Task, Mode: job.API, Due: ticks[0].Due, Tick: ticks[0].ID, Trigger: ticks[0].Trigger}
		if _, err := r.deps.Jobs.Create(r.ctx(), fresh, "asked for by alice"); err != nil {
			t.Error(err)
		}
		r.apply(key, job.Offer, nil)
		r.apply(key, job.Start, nil)
	})
	if !ok {
		t.Errorf("the states of its job did not come:\n%s", all)
	}
}
