package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/explain"
	"drydock/gateway"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

type runReply struct {
	Tick string
	Jobs []struct {
		ID     string
		Server job.Server
	}
	Skipped []struct {
		Server job.Server
		Reason string
	}
}

func TestRunNowNamesTheJobsThatTheTickWillStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.Clusters[0].BackupServers = []job.Server{db2} })
	admin := r.user("admin")
	got := r.call("POST", path("sql", db1, "/jobs/optimize"), admin, nil)
	r.want(got, 202, "")
	run := decode[runReply](t, got)
	ticks, err := r.deps.Ledger.List(r.ctx(), store.TickFilter{})
	if err != nil || len(ticks) != 1 {
		t.Fatalf("%+v, %v", ticks, err)
	}
	tick := ticks[0]
	if tick.ID != run.Tick || !tick.Outcome.Starts() || tick.Trigger != (job.Trigger{Kind: job.Manual, By: "admin"}) || fmt.Sprint(tick.Servers) != fmt.Sprint([]job.Server{db1}) {
		t.Errorf("tick %+v", tick)
	}
	if want := job.NewID(tick.Due, tick.ID, job.Key{Cluster: "sql", Server: db1, Task: "optimize"}); len(run.Jobs) != 1 || run.Jobs[0].ID != want {
		t.Errorf("jobs %+v, want %s", run.Jobs, want)
	}
	// A backup of the whole cluster runs where backups run; maintenance runs everywhere, and some of it at once.
	for task, want := range map[string]int{"mariabackup": 1, "optimize": 3, "checksum": 1} {
		if run := decode[runReply](t, r.call("POST", "/api/clusters/sql/jobs/"+task, admin, nil)); len(run.Jobs) != want {
			t.Errorf("%s: %+v", task, run)
		}
	}
}

func TestAServerNamedForAJobOfTheWholeClusterIsItsArgument(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := decode[runReply](t, r.call("POST", path("sql", db1, "/jobs/checksum"), r.user("admin"), nil))
	ticks, err := r.deps.Ledger.List(r.ctx(), store.TickFilter{})
	if err != nil || len(ticks) != 1 || fmt.Sprint(ticks[0].Servers) != "[_]" || ticks[0].Args[job.ArgServer] != db1.String() {
		t.Fatalf("%+v, %v", ticks, err)
	}
	want := job.NewID(ticks[0].Due, ticks[0].ID, job.Key{Cluster: "sql", Task: "checksum"})
	if len(run.Jobs) != 1 || run.Jobs[0].ID != want {
		t.Errorf("jobs %+v, want %s", run.Jobs, want)
	}
}

func TestRunNowLeavesALiveJobAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	j := r.offered("sql", db1, "optimize")
	got := r.call("POST", path("sql", db1, "/jobs/optimize"), admin, nil)
	r.want(got, 409, "")
	if !strings.Contains(got.body, j.ID) || !strings.Contains(got.body, "available") {
		t.Errorf("the answer does not say what is in the way: %s", got)
	}
	run := decode[runReply](t, r.call("POST", "/api/clusters/sql/jobs/optimize", admin, nil))
	if len(run.Jobs) != 2 || len(run.Skipped) != 1 || run.Skipped[0].Server != db1 {
		t.Errorf("%+v", run)
	}
	if ticks, _ := r.deps.Ledger.List(r.ctx(), store.TickFilter{}); len(ticks) != 1 {
		t.Errorf("%d ticks", len(ticks))
	}
}

func TestRunNowAsksForTheGrantOfTheKind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct {
		user, path string
		want       int
	}{
		{"dba", path("sql", db1, "/jobs/errorlog"), 202},
		{"dba", path("sql", db1, "/jobs/mariabackup"), 403},
		{"dba", path("sql", db1, "/jobs/optimize"), 403},
		{"viewer", path("sql", db1, "/jobs/errorlog"), 403},
		{"nobody", path("sql", db1, "/jobs/errorlog"), 404},         // may not even know the cluster
		{"admin", path("sql", db1, "/jobs/reseedmariabackup"), 409}, // only where somebody confirms
		{"admin", path("sql", db1, "/jobs/reseedlogical"), 409},
		{"admin", path("sql", db1, "/jobs/stop"), 202},
		{"dba", path("sql", db1, "/jobs/stop"), 403},
		{"admin", path("sql", db1, "/jobs/zfssnapback"), 409}, // not confirmed
		{"admin", path("sql", db1, "/jobs/zfssnapback?confirm=1&snapshot=a%20b"), 400},
		{"admin", path("sql", db1, "/jobs/optimize?snapshot=a"), 400},
		{"admin", "/api/clusters/sql/jobs/backupdrill?backup=../x", 400},
		{"admin", "/api/clusters/sql/jobs/backupdrill?backup=01KAQ8AAAAAAAAAAAAAAAAAAAA", 202},
		{"admin", path("sql", db1, "/jobs/backupdrill"), 202},
		{"admin", path("sql", db1, "/jobs/zfssnapback?confirm=1&snapshot=auto-1"), 202},
		{"admin", path("sql", db1, "/jobs/mysqldump"), 202},
		{"admin", path("sql", db1, "/jobs/nonsense"), 404},
		{"admin", path("sql", job.Server{Host: "no", Port: 1}, "/jobs/optimize"), 404},
		{"admin", "/api/clusters/nowhere/jobs/optimize", 404},
	} {
		r.want(r.call("POST", c.path, r.user(c.user), nil), c.want, "")
	}
	// A database host is no operator.
	r.want(r.call("POST", path("sql", db1, "/jobs/optimize"), r.token("sql", db1), nil), 403, "")
	r.want(r.call("POST", path("sql", db1, "/jobs/optimize"), "", seal(db1)), 401, "")
}

func TestJobsAreListedFoundAndCanceled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	a := r.offered("sql", db1, "optimize")
	b := r.offered("api", db2, "errorlog")
	r.apply(b.Key(), job.Claim, nil)
	list := func(query string) []job.Job {
		t.Helper()
		return decode[struct{ Jobs []job.Job }](t, r.call("GET", "/api/jobs"+query, admin, nil)).Jobs
	}
	for query, want := range map[string]int{
		"": 2, "?cluster=sql": 1, "?cluster=api&task=errorlog": 1, "?server=" + db2.String(): 1, "?server=" + db2.Host: 1, "?server=127.0.0.1:1": 0,
		"?server=[fd00::6]:3306": 0, "?state=claimed": 1, "?task=optimize": 1, "?limit=1": 1, "?since=1h": 2, "?since=2026-01-01T00:00:00Z": 2,
	} {
		if got := list(query); len(got) != want {
			t.Errorf("%s: %d jobs, want %d", query, len(got), want)
		}
	}
	for _, query := range []string{"?state=nonsense", "?since=yesterday", "?limit=0", "?limit=x", "?server=h:x"} {
		r.want(r.call("GET", "/api/jobs"+query, admin, nil), 400, "")
	}
	r.want(r.call("GET", "/api/jobs?cluster=nowhere", admin, nil), 404, "")
	if got := decode[job.Job](t, r.call("GET", "/api/jobs/"+a.ID, admin, nil)); got.ID != a.ID || got.State != job.Available {
		t.Errorf("%+v", got)
	}
	r.want(r.call("GET", "/api/jobs/nonsense", admin, nil), 404, "")
	r.want(r.call("DELETE", "/api/jobs/"+a.ID, r.user("dba"), nil), 403, "")
	for range 2 {
		r.want(r.call("DELETE", "/api/jobs/"+a.ID, admin, nil), 200, "")
	}
	if now, _ := r.last(a.Key()); now.State != job.Canceled || now.Reason != "canceled by admin" || now.Steps[len(now.Steps)-1].Actor != "admin" {
		t.Errorf("%+v", now)
	}
	r.apply(b.Key(), job.Error, nil)
	got := r.call("DELETE", "/api/jobs/"+b.ID, admin, nil)
	r.want(got, 409, "")
	if !strings.Contains(got.body, "halted") {
		t.Errorf("%s", got)
	}
}

func TestUsersSeeOnlyTheirClusters(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) {
		c.Users["one"] = "1"
		c.Clusters[1].Grants = map[string][]string{"one": {"db"}}
	})
	hidden := r.offered("sql", db1, "optimize")
	seen := r.offered("api", db1, "optimize")
	one := r.user("one")
	r.want(r.call("GET", "/api/clusters", one, nil), 200, `{"clusters":[{"name":"api","mode":"api","servers":3}]}`)
	if got := decode[struct{ Jobs []job.Job }](t, r.call("GET", "/api/jobs", one, nil)).Jobs; len(got) != 1 || got[0].ID != seen.ID {
		t.Errorf("%+v", got)
	}
	for _, p := range []string{"/api/jobs/" + hidden.ID, "/api/jobs/" + hidden.ID + "/log", "/api/jobs?cluster=sql", "/api/clusters/sql/servers", "/api/ticks?cluster=sql", "/api/backups?cluster=sql"} {
		r.want(r.call("GET", p, one, nil), 404, "")
	}
	r.want(r.call("DELETE", "/api/jobs/"+hidden.ID, one, nil), 404, "")
	// A database host sees nothing here.
	r.want(r.call("GET", "/api/clusters", r.token("api", db1), nil), 403, "")
	r.want(r.call("GET", "/api/jobs/"+seen.ID, r.token("api", db1), nil), 403, "")
}

func TestServersTicksBackupsAndAlertsAreListed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	j := r.offered("sql", db1, "optimize")
	type servers struct {
		Servers []struct {
			Host string
			Jobs []job.Job
		}
	}
	if got := decode[servers](t, r.call("GET", "/api/clusters/sql/servers", admin, nil)); len(got.Servers) != 3 || len(got.Servers[0].Jobs) != 1 || got.Servers[0].Jobs[0].ID != j.ID || got.Servers[1].Jobs == nil {
		t.Errorf("%+v", got)
	}
	r.want(r.call("POST", path("api", db1, "/jobs/optimize"), admin, nil), 202, "")
	r.want(r.call("POST", path("sql", db2, "/jobs/optimize"), admin, nil), 202, "")
	ticks := func(query string) []bus.Tick {
		return decode[struct{ Ticks []bus.Tick }](t, r.call("GET", "/api/ticks"+query, admin, nil)).Ticks
	}
	if all := ticks(""); len(all) != 2 || all[0].Cluster != "sql" || len(ticks("?cluster=api")) != 1 || len(ticks("?limit=1")) != 1 {
		t.Errorf("%+v", all)
	}
	for i, s := range []job.Server{db1, db2} {
		if err := r.deps.Catalog.Put(r.ctx(), store.Manifest{ID: fmt.Sprint("B", i), Cluster: "sql", Server: s, Task: "mariabackup", Ended: time.Now().Add(-30 * 24 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	backups := func(query string) []store.Manifest {
		return decode[struct{ Backups []store.Manifest }](t, r.call("GET", "/api/backups"+query, admin, nil)).Backups
	}
	if all := backups(""); len(all) != 2 || all[0].ID != "B1" || len(backups("?server="+db1.String())) != 1 || len(backups("?cluster=api")) != 0 || len(backups("?since=1h")) != 0 || len(backups("?limit=1")) != 1 {
		t.Errorf("%+v", all)
	}
	r.want(r.call("GET", "/api/alerts", admin, nil), 200, `{"alerts":[]}`)
	log := store.NewAlerts(r.conn, "alert@test")
	for _, a := range []bus.Alert{
		{State: bus.AlertOpened, Code: "DOCK0101", Cluster: "sql", Server: db1, Task: "errorlog"},
		{State: bus.AlertOpened, Code: "WARN0101", Cluster: "api"},
		{State: bus.AlertClosed, Code: "WARN0072", Cluster: "api", Server: db2, Task: "optimize"},
	} {
		if _, _, err := log.Append(r.ctx(), bus.AlertSubject(a.Cluster, a.Server.Host, a.Server.Port, a.Code), 0, a); err != nil {
			t.Fatal(err)
		}
	}
	alerts := func(query, token string) (out string) {
		for _, a := range decode[struct{ Alerts []bus.Alert }](t, r.call("GET", "/api/alerts"+query, token, nil)).Alerts {
			out += a.Code + " "
		}
		return out
	}
	for query, want := range map[string]string{
		"": "WARN0101 DOCK0101 ", "?cluster=api": "WARN0101 ", "?server=" + db1.String(): "DOCK0101 ", "?task=optimize": "", "?limit=1": "WARN0101 ",
		"?all=1": "WARN0072 WARN0101 DOCK0101 ", "?all=1&cluster=api&since=1h": "WARN0072 WARN0101 ", "?all=1&since=0s": "", "?all=0": "WARN0101 DOCK0101 ",
	} {
		if got := alerts(query, admin); got != want {
			t.Errorf("alerts%s lists %q, want %q", query, got, want)
		}
	}
	r.want(r.call("GET", "/api/alerts?all=maybe", admin, nil), 400, "")
	r.want(r.call("GET", "/readyz", "", nil), 200, `{"status":"ready"}`)
}

func TestSchedulesComeFromTheSchedulerOrNotAtAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	r.want(r.call("GET", "/api/schedules", admin, nil), 503, "")
	sub, err := r.conn.NC.Subscribe(bus.SubjectNext, func(m *nats.Msg) {
		data, _ := json.Marshal(bus.NextReply{Schedules: []bus.ScheduleInfo{{Cluster: "sql", Task: "optimize"}, {Cluster: "gone", Task: "optimize"}}})
		_ = m.Respond(data)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	got := decode[bus.NextReply](t, r.call("GET", "/api/schedules", admin, nil))
	if len(got.Schedules) != 2 || got.Schedules[0].Task != "optimize" {
		t.Errorf("%+v", got)
	}
	if got := decode[bus.NextReply](t, r.call("GET", "/api/schedules", r.user("nobody"), nil)); len(got.Schedules) != 0 {
		t.Errorf("%+v", got)
	}
}

// "Why did it not run?" is asked when no scheduler runs too; and who may not see a cluster does not learn by it what is there.
func TestExplainAnswersWithoutASchedulerAndOnlyWhoMaySee(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	r.want(r.call("POST", path("sql", db1, "/jobs/optimize"), admin, nil), 202, "")
	got := decode[explain.Explanation](t, r.call("GET", "/api/clusters/sql/explain/optimize", admin, nil))
	if len(got.Ticks) != 1 || got.Ticks[0].By != explain.ByPerson || len(got.Ticks[0].Behind) != 1 || got.Next == nil {
		t.Errorf("%+v", got)
	}
	for query, status := range map[string]int{
		"optimize?at=2h&within=3h": 200, "optimize?at=yesterday": 400, "optimize?within=-1h": 400, "optimize?within=9000h": 400, "nothing": 404,
	} {
		r.want(r.call("GET", "/api/clusters/sql/explain/"+query, admin, nil), status, "")
	}
	r.want(r.call("GET", "/api/clusters/gone/explain/optimize", admin, nil), 404, "")
	r.want(r.call("GET", "/api/clusters/sql/explain/optimize", r.user("nobody"), nil), 404, "")
	r.want(r.call("GET", "/api/clusters/sql/explain/optimize", "", nil), 401, "")
}

func TestLogOfAJobHoldsItsOwnLinesInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	earlier := r.offered("sql", db1, "optimize")
	r.apply(earlier.Key(), job.Start, nil)
	r.log(earlier, "of the earlier one")
	r.apply(earlier.Key(), job.Error, nil)
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	r.log(j, "one", "[ERROR] two", "three")
	type log struct {
		Job   string
		State job.State
		Lines []struct{ Level, Text string }
	}
	got := decode[log](t, r.call("GET", "/api/jobs/"+j.ID+"/log", admin, nil))
	if got.Job != j.ID || got.State != job.Processing || fmt.Sprint(got.Lines) != "[{INFO one} {ERROR [ERROR] two} {INFO three}]" {
		t.Errorf("%+v", got)
	}
	if old := r.call("GET", "/api/jobs/"+earlier.ID+"/log", admin, nil); !strings.Contains(old.body, "of the earlier one") || strings.Contains(old.body, "three") {
		t.Errorf("%s", old)
	}
}

// log posts lines as drydock's own script does.
func (r *rig) log(j job.Job, lines ...string) {
	r.t.Helper()
	text, _ := json.Marshal(strings.Join(lines, "\n"))
	body := seal(j.Server, fmt.Sprintf(`"job":%q`, j.ID), fmt.Sprintf(`"attempt":%d`, j.Attempt), `"log":`+string(text))
	r.want(r.call("POST", path(j.Cluster, j.Server, "/write-log/"+j.Task), "", body), 200, "true")
}

// sse is one event of a stream.
type sse struct{ name, data string }

// followed opens the event stream of a job and gives its events, until it ends.
func (r *rig) followed(ctx context.Context, id string) <-chan sse {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+r.g.HTTPAddr().String()+"/api/jobs/"+id+"/log?follow=1", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.user("admin"))
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if ct := res.Header.Get("Content-Type"); res.StatusCode != 200 || ct != "text/event-stream" {
		r.t.Fatalf("%d %s", res.StatusCode, ct)
	}
	out := make(chan sse, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(out)
		defer res.Body.Close()
		var e sse
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			switch name, value, _ := strings.Cut(s.Text(), ": "); name {
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "":
				if e.name != "" {
					out <- e
				}
				e = sse{}
			}
		}
	}()
	r.t.Cleanup(func() { <-done })
	return out
}

// next waits for an event that mentions text.
func next(t *testing.T, events <-chan sse, name, text string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the stream ended before %s %s", name, text)
			}
			if strings.Contains(e.data, "comes late") {
				t.Errorf("a line of another job: %+v", e)
			}
			if e.name == name && strings.Contains(e.data, text) {
				return
			}
		case <-timeout:
			t.Fatalf("no event %s %s", name, text)
		}
	}
}

func TestFollowedJobShowsLinesAndStatesToItsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	earlier := r.offered("sql", db1, "optimize")
	r.apply(earlier.Key(), job.Cancel, nil)
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	r.log(earlier, "a line that comes late")
	r.log(j, "before")
	events := r.followed(r.ctx(), j.ID)
	next(t, events, "log", `"before"`)
	r.log(j, "during")
	next(t, events, "log", `"during"`)
	r.apply(j.Key(), job.Done, nil)
	next(t, events, "state", `"state":"finished"`)
	r.apply(j.Key(), job.Pass, nil)
	next(t, events, "state", `"state":"success"`)
	r.log(j, "the last line")
	next(t, events, "log", `"the last line"`)
	next(t, events, "end", `"success"`)
	if e, ok := <-events; ok {
		t.Errorf("after the end: %+v", e)
	}
}

func TestFollowedJobThatIsRetriedGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	r.apply(j.Key(), job.Cut, nil)
	r.apply(j.Key(), job.Retry, nil) // a halted state in the history is not the end
	events := r.followed(r.ctx(), j.ID)
	next(t, events, "state", `"state":"halted"`)
	next(t, events, "state", `"state":"queued"`)
	r.apply(j.Key(), job.Cancel, nil)
	next(t, events, "end", `"canceled"`)
}

func TestStopEndsEventStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "optimize")
	events := r.followed(r.ctx(), j.ID)
	next(t, events, "state", `"state":"available"`)
	begun := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("stopped after %s", took)
	}
	for range events { // ends
	}
}

// A thousand consumers of a stream are all that the bus has, for drydock's own followers too: whoever may read would end them all.
func TestFollowersLeaveConsumersForDrydock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "optimize")
	places := r.g.Follows()
	for range cap(places) {
		places <- struct{}{}
	}
	r.want(r.call("GET", "/api/jobs/"+j.ID+"/log?follow=1", r.user("admin"), nil), http.StatusTooManyRequests, "")
	<-places
	ctx, cancel := context.WithCancel(r.ctx())
	events := r.followed(ctx, j.ID)
	next(t, events, "state", `"state":"available"`)
	cancel()
	bustest.Until(t, 10*time.Second, "the one who left makes room", func() bool { return len(places) == cap(places)-1 })
}

func TestFollowerThatLeavesIsForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "optimize")
	ctx, cancel := context.WithCancel(r.ctx())
	events := r.followed(ctx, j.ID)
	next(t, events, "state", `"state":"available"`)
	cancel()
	for range events {
	}
	// goleak finds the followers that would go on; the gateway must stop without them too.
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}
