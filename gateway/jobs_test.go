package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/gateway"
	"drydock/job"
	"drydock/store"
)

func TestNeedsHandsAJobToOneOfManyClients(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	second, _ := start(t, r.cfg, r.deps)
	token := r.token("api", db1)
	for _, task := range []string{"optimize", "mariabackup"} {
		j := r.offered("api", db1, task)
		answers := make([]answer, 12)
		var wg sync.WaitGroup
		for i := range answers {
			addr := r.g.HTTPAddr()
			if i%2 == 1 {
				addr = second.HTTPAddr()
			}
			wg.Go(func() { answers[i] = callAt(t, addr, "POST", path("api", db1, "/needs/"+task), token, nil) })
		}
		wg.Wait()
		yes := 0
		for _, a := range answers {
			switch {
			case a.status == 200 && a.body == "true":
				yes++
			case a.status != 500 || a.body != "false":
				t.Errorf("%s: %s", task, a)
			}
		}
		now, _ := r.last(j.Key())
		if yes != 1 || now.State != job.Claimed {
			t.Errorf("%s: %d clients got the job, it is %s", task, yes, now.State)
		}
		if task == "mariabackup" && (now.Dispatch != job.Dispatch{Receiver: "rx", Address: "10.9.8.7", Port: 4001}) {
			t.Errorf("dispatch %+v", now.Dispatch)
		}
		r.apply(j.Key(), job.Cancel, nil) // the next one has the server for itself
	}
}

func TestTakenJobOfAPIModeHasItsPort(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token("api", db1)
	r.want(r.call("GET", path("api", db1, "/needs/mariabackup"), token, nil), 500, "false")
	r.want(r.call("GET", path("api", db1, "/actions/receive-task/mariabackup"), token, nil), 409, "")
	j := r.offered("api", db1, "mariabackup")
	r.want(r.call("GET", path("api", db1, "/needs/mariabackup"), r.token("api", db1), nil), 200, "true")
	req := r.rx.opened[0]
	if req.Key != j.Key() || req.JobID != j.ID || req.Attempt != 1 || req.Check {
		t.Errorf("asked the receiver %+v", req)
	}
	r.want(r.call("GET", path("api", db1, "/needs/mariabackup"), token, nil), 500, "false")
	if n := r.rx.count(); n != 1 {
		t.Errorf("%d ports were asked for, one for a job that was taken already", n)
	}
	receive := path("api", db1, "/actions/receive-task/mariabackup")
	for range 2 { // may be repeated
		r.want(r.call("POST", receive, token, nil), 200, "RECEIVER_PORT=4001\nRECEIVER_ADDRESS=10.9.8.7")
		out, _ := raw(t, r.g.HTTPAddr(), false, true, shellRequest("POST", receive, token, ""))
		if !strings.HasSuffix(out, "\r\n\r\nRECEIVER_PORT=4001") {
			t.Errorf("a client that knows no address got %q", out)
		}
	}
	r.want(r.call("POST", path("api", db1, "/actions/receive-task/optimize"), token, nil), 200, "NO_RECEIVER_NEEDED")
}

// A client that knows no address would stream to a host where nobody listens for it, if another host's receiver was picked.
func TestAClientThatStreamsToTheHostOfTheAPIGetsTheReceiverThere(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.Receiver = "here" })
	token := r.token("api", db1)
	take := func(agent, want string) {
		t.Helper()
		j := r.offered("api", db1, "mariabackup")
		req, err := http.NewRequest("POST", "http://"+r.g.HTTPAddr().String()+path("api", db1, "/needs/mariabackup"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", agent)
		req.Header.Set("Authorization", "Bearer "+token)
		r.want(do(t, req), 200, "true")
		if now, _ := r.last(j.Key()); now.Dispatch.Receiver != want {
			t.Errorf("%s is to stream to %s, want %s", agent, now.Dispatch.Receiver, want)
		}
		r.apply(j.Key(), job.Cancel, nil)
	}
	take("curl", "rx") // there is none here
	_, err := r.conn.NC.Subscribe(bus.ReceiverSubject("here", bus.VerbOpen), func(m *nats.Msg) {
		answer, _ := json.Marshal(bus.OpenReply{Receiver: "here", Address: "10.0.1.5", Port: 4002})
		_ = m.Respond(answer)
	})
	if err = errors.Join(err, r.conn.NC.Flush()); err != nil {
		t.Fatal(err)
	}
	take("curl", "here")
	take("drydock-dbjobs/1", "rx") // it knows the address of any
}

func TestJobWithoutAFreePortGoesBackToTheQueue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.rx.refuse(bus.CodeExhausted, "every port is taken: 4001 by ...")
	j := r.offered("api", db1, "mariabackup")
	token := r.token("api", db1)
	r.want(r.call("POST", path("api", db1, "/needs/mariabackup"), token, nil), 500, "false")
	if now, _ := r.last(j.Key()); now.State != job.Queued || now.Reason != "no free port in the pool" {
		t.Errorf("the job is %s: %s", now.State, now.Reason)
	}
	r.apply(j.Key(), job.Offer, nil)
	r.rx.refuse(bus.CodeRefused, "no such server here")
	r.want(r.call("POST", path("api", db1, "/needs/mariabackup"), token, nil), 500, "false")
	if now, _ := r.last(j.Key()); now.State != job.Available || !strings.Contains(now.Reason, "no such server here") {
		t.Errorf("the job is %s: %s", now.State, now.Reason)
	}
	r.rx.leave()
	r.want(r.call("POST", path("api", db1, "/needs/mariabackup"), token, nil), 500, "false")
	if now, _ := r.last(j.Key()); now.State != job.Queued || now.Reason != "no receiver answers" {
		t.Errorf("the job is %s: %s", now.State, now.Reason)
	}
}

func TestNeedsOfSQLModeConsumesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	needs := path("sql", db1, "/needs/optimize")
	r.want(r.call("GET", needs, "", seal(db1)), 500, "false")
	j := r.offered("sql", db1, "optimize")
	for _, e := range []job.Event{"", job.Start, job.Wait} {
		if e != "" {
			r.apply(j.Key(), e, nil)
		}
		for range 2 {
			r.want(r.call("GET", needs, "", seal(db1)), 200, "true")
		}
	}
	r.apply(j.Key(), job.Done, nil)
	r.want(r.call("GET", needs, "", seal(db1)), 500, "false")
	if now, _ := r.last(j.Key()); now.State != job.Finished || r.rx.count() != 0 {
		t.Errorf("the job is %s, %d ports were asked for", now.State, r.rx.count())
	}
}

func TestEveryRouteAnswersGetAndPostAlikeAndTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	b := r.offered("sql", db1, "mariabackup")
	r.apply(b.Key(), job.Offer, func(j *job.Job) { j.Dispatch.Port = 4002 })
	for _, c := range []struct{ path, want string }{
		{path("sql", db1, "/needs/optimize"), "true"},
		{path("sql", db1, "/needs/errorlog"), "false"},
		{path("sql", db1, "/needs/main"), "false"},
		{path("sql", db1, "/needs/print-defaults"), "false"},
		{path("sql", db1, "/needs/jobs-check"), "true"},
		{path("sql", db1, "/needs/jobs-upgrade"), "false"},
		{"/api/clusters/sql/jobs-log-level/optimize/ERROR", "true"},
		{"/api/clusters/sql/jobs-log-level/optimize/DEBUG", "false"},
		{path("sql", db1, "/actions/receive-task/mariabackup"), "RECEIVER_PORT=4002"},
		{path("sql", db1, "/actions/receive-task/optimize"), "NO_RECEIVER_NEEDED"},
		{path("sql", db1, "/actions/job-state/optimize/processing"), "true"},
		{path("sql", db1, "/actions/job-state/optimize/waiting"), "true"},
		{path("sql", db1, "/actions/job-state/optimize/done"), "true"},
		{path("sql", db1, "/actions/job-state/optimize/error"), "true"},
		{path("sql", db1, "/write-log/optimize"), "true"},
		{path("sql", db1, "/actions/heartbeat/optimize"), "ok"},
		{path("sql", db1, "/actions/job-result/"+j.ID), "failed"},
		{path("sql", db1, "/actions/job-result/nonsense"), "unknown job"},
		{path("sql", db1, "/jobs-pending"), "drydock 1\nmode sql\nbatch 7\nlog-level WARN\nheartbeat 10\ntask mariabackup " + b.ID + " 1\njobs-check\n"},
		{path("sql", db1, "/dbu"), ""},
	} {
		var first answer
		for i, method := range []string{"GET", "POST", "GET", "POST"} {
			got := r.call(method, c.path, "", seal(db1))
			if i == 0 {
				first = got
			}
			if got.status != first.status || got.body != first.body || c.want != "" && got.body != c.want {
				t.Errorf("%s %s: got %s, first %s, want %q", method, c.path, got, first, c.want)
			}
		}
	}
}

func TestReportsOfAJobAreIdempotentAndKeepTheirFacts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("api", db1, "optimize")
	token := r.token("api", db1)
	r.want(r.call("POST", path("api", db1, "/needs/optimize"), token, nil), 200, "true")
	named := []string{fmt.Sprintf(`"job":%q`, j.ID), `"attempt":1`}
	report := func(word string, status int, members ...string) {
		t.Helper()
		got := r.call("POST", path("api", db1, "/actions/job-state/optimize/"+word), token, seal(db1, append(named, members...)...))
		r.want(got, status, "")
	}
	report("processing", 200)
	report("processing", 200)
	facts := []string{`"exit":[0,0,1]`, `"bytes":123456`, `"sha256":"` + strings.Repeat("AB", 32) + `"`, `"result":"first\nlast"`, `"restore":{"from":"x","n":[1, 2]}`}
	report("done", 200, facts...)
	now, seq := r.last(j.Key())
	e := now.Evidence
	if now.State != job.Finished || fmt.Sprint(e.Exit) != "[0 0 1]" || e.Sent == nil || *e.Sent != 123456 || e.SentSHA256 != strings.Repeat("ab", 32) || e.Result != "first\nlast" {
		t.Errorf("%s, evidence %+v", now.State, e)
	}
	var restore any
	if err := json.Unmarshal(e.Restore, &restore); err != nil || fmt.Sprint(restore) != "map[from:x n:[1 2]]" {
		t.Errorf("restore %s", e.Restore)
	}
	report("done", 200, facts...)
	if _, again := r.last(j.Key()); again != seq {
		t.Error("the repeated report was written again")
	}
	r.apply(j.Key(), job.Pass, nil)
	report("done", 200, `"exit":[9]`, `"result":"other"`)
	report("error", 409)
	report("processing", 409)
	if now, _ := r.last(j.Key()); now.State != job.Success || fmt.Sprint(now.Evidence.Exit) != "[0 0 1]" || now.Evidence.Result != "first\nlast" {
		t.Errorf("after the end: %s, evidence %+v", now.State, now.Evidence)
	}
}

func TestRestoreInABodyThatIsNotSealedIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("api", db1, "optimize")
	r.apply(j.Key(), job.Claim, nil)
	got := r.call("POST", path("api", db1, "/actions/job-state/optimize/processing"), r.token("api", db1), []byte(`{"restore":{"backup":"b1"}}`))
	r.want(got, 200, "true")
	if now, _ := r.last(j.Key()); string(now.Evidence.Restore) != `{"backup":"b1"}` {
		t.Errorf("restore %s", now.Evidence.Restore)
	}
}

func TestErrorReportSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "mariabackup")
	r.apply(j.Key(), job.Start, nil)
	got := r.call("POST", path("sql", db1, "/actions/job-state/mariabackup/error"), "", seal(db1, `"exit":[1,0]`, `"result":"copying\nCan't open file\n"`))
	r.want(got, 200, "true")
	if now, _ := r.last(j.Key()); now.State != job.Halted || now.Reason != "the script reported an error, exit status [1 0]: Can't open file" || fmt.Sprint(now.Evidence.Exit) != "[1 0]" {
		t.Errorf("%s: %s, %+v", now.State, now.Reason, now.Evidence)
	}
}

func TestEndLineInTheReportIsProofToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "mariabackup")
	r.apply(j.Key(), job.Start, nil)
	got := r.call("POST", path("sql", db1, "/actions/job-state/mariabackup/done"), "", seal(db1, `"result":"[00] 2026-11-22 10:00:00 completed OK!\n"`))
	r.want(got, 200, "true")
	if now, _ := r.last(j.Key()); !now.Evidence.Completed {
		t.Errorf("a script that pushes warnings only cannot prove its backup: %+v", now.Evidence)
	}
}

func TestLateReportChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := func(cluster, task, word string) answer {
		return r.call("POST", path(cluster, db1, "/actions/job-state/"+task+"/"+word), r.token(cluster, db1), nil)
	}
	r.want(old("api", "optimize", "done"), 200, "true") // there never was a job

	first := r.offered("api", db1, "optimize")
	r.apply(first.Key(), job.Claim, nil)
	r.apply(first.Key(), job.Start, nil)
	r.apply(first.Key(), job.Cut, nil)
	r.want(old("api", "optimize", "done"), 200, "true")
	if now, _ := r.last(first.Key()); now.State != job.Halted {
		t.Errorf("a halted job is %s after a late done", now.State)
	}
	r.apply(first.Key(), job.Retry, nil)
	r.apply(first.Key(), job.Offer, nil)
	for _, word := range []string{"processing", "done", "error"} {
		r.want(old("api", "optimize", word), 200, "true")
	}
	named := seal(db1, fmt.Sprintf(`"job":%q`, first.ID), `"attempt":1`)
	r.want(r.call("POST", path("api", db1, "/actions/job-state/optimize/done"), r.token("api", db1), named), 409, "")
	if now, _ := r.last(first.Key()); now.State != job.Available || now.Attempt != 2 {
		t.Errorf("the second attempt is %s after late reports of the first", now.State)
	}
	// In sql mode the row may have been taken before the dispatcher sees it: the beginning is believed, the end is not.
	o := r.offered("sql", db1, "optimize")
	r.want(old("sql", "optimize", "done"), 200, "true")
	if now, _ := r.last(o.Key()); now.State != job.Available {
		t.Errorf("an offered job is %s after a report that names none", now.State)
	}
	r.want(old("sql", "optimize", "processing"), 200, "true")
	if now, _ := r.last(o.Key()); now.State != job.Processing {
		t.Errorf("the job is %s", now.State)
	}
}

func TestHugeReportDoesNotBurdenTheJob(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	result, _ := json.Marshal(strings.Repeat("é", 100_000) + "the end")
	r.want(r.call("POST", path("sql", db1, "/actions/job-state/optimize/done"), "", seal(db1, `"result":`+string(result))), 200, "true")
	now, _ := r.last(j.Key())
	if n := len(now.Evidence.Result); n > 16<<10 || n < 16000 || !strings.HasSuffix(now.Evidence.Result, "éthe end") || !strings.HasPrefix(now.Evidence.Result, "é") {
		t.Errorf("%d bytes of result: %.20q...", n, now.Evidence.Result)
	}
	large := `"restore":{"x":"` + strings.Repeat("x", 70_000) + `"}`
	r.want(r.call("POST", path("sql", db1, "/actions/job-state/optimize/done"), "", seal(db1, large)), 413, "")
}

func TestPendingListsWhatWaitsInTheOrderOfTheClients(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token("api", db1)
	o := r.offered("api", db1, "optimize")
	e := r.offered("api", db1, "errorlog")
	m := r.offered("api", db1, "mariabackup")
	r.apply(m.Key(), job.Cut, nil)
	r.apply(m.Key(), job.Retry, nil)
	r.apply(m.Key(), job.Offer, nil)
	taken := r.offered("api", db1, "slowquery")
	r.apply(taken.Key(), job.Claim, nil)
	r.offered("api", db2, "auditlog")
	head := "drydock 1\nmode api\nbatch 7\nlog-level WARN\nheartbeat 10\n"
	tasks := "task mariabackup " + m.ID + " 2\ntask errorlog " + e.ID + " 1\ntask optimize " + o.ID + " 1\n"
	got := r.call("POST", path("api", db1, "/jobs-pending"), token, nil)
	r.want(got, 200, head+tasks+"jobs-check\n")
	if ct := got.header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("content type %s", ct)
	}
	if r.rx.count() != 0 {
		t.Error("looking asked for a port")
	}
}

func TestHeartbeatStopsAJobThatWasEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	beat := func(id string, attempt int) answer {
		return r.call("POST", path("sql", db1, "/actions/heartbeat/optimize"), "", seal(db1, fmt.Sprintf(`"job":%q`, id), fmt.Sprintf(`"attempt":%d`, attempt)))
	}
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	r.want(beat(j.ID, 1), 200, "ok")
	r.want(beat(j.ID, 2), 200, "stop")
	r.want(beat(job.NewID(j.Due, "other", j.Key()), 1), 200, "stop")
	r.apply(j.Key(), job.Cancel, nil)
	r.want(beat(j.ID, 1), 200, "stop")
	r.want(r.call("POST", path("sql", db1, "/actions/heartbeat/nonsense"), "", seal(db1)), 404, "")
}

func TestHeartbeatBelievesTheLogBeforeItStopsAnybody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	// A picture that stands still, as one that lags does: it shows none of what other gateways write.
	still, ctx := store.NewView(r.conn), r.ctx()
	ctx, freeze := context.WithCancel(ctx)
	frozen := make(chan error, 1)
	go func() { frozen <- still.Run(ctx) }()
	<-still.Ready()
	freeze()
	<-frozen
	deps := r.deps
	deps.View, deps.Jobs = still, store.NewJobs(r.conn, "gateway@other", nil)
	g, _ := start(t, r.cfg, deps)
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	body := seal(db1, fmt.Sprintf(`"job":%q`, j.ID), `"attempt":1`)
	r.want(callAt(t, g.HTTPAddr(), "POST", path("sql", db1, "/actions/heartbeat/optimize"), "", body), 200, "ok")
	r.apply(j.Key(), job.Cancel, nil)
	r.want(callAt(t, g.HTTPAddr(), "POST", path("sql", db1, "/actions/heartbeat/optimize"), "", body), 200, "stop")
}

func TestGatewayThatKnowsNoJobsYetSaysNeitherNoNorUnknown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	deps := r.deps
	deps.View = store.NewView(r.conn) // never run
	g, _ := start(t, r.cfg, deps)
	for _, p := range []string{"/actions/heartbeat/optimize", "/needs/optimize", "/jobs-pending", "/actions/job-result/x"} {
		if got := callAt(t, g.HTTPAddr(), "POST", path("sql", db1, p), "", seal(db1)); got.status != 503 {
			t.Errorf("%s: %s", p, got)
		}
	}
	if got := callAt(t, g.HTTPAddr(), "GET", "/readyz", "", nil); got.status != 503 || !strings.Contains(got.body, "jobs") {
		t.Errorf("readyz: %s", got)
	}
	r.want(callAt(t, g.HTTPAddr(), "GET", "/healthz", "", nil), 200, `{"status":"ok","version":"1.2.3"}`)
}

func TestJobResultTellsOnlyItsOwnServer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Cancel, nil)
	next := r.offered("sql", db1, "optimize") // the first one has left the slot
	result := func(s job.Server, id string) answer {
		return r.call("GET", path("sql", s, "/actions/job-result/"+id), "", seal(s))
	}
	r.want(result(db1, j.ID), 200, "canceled")
	r.want(result(db1, next.ID), 200, "available")
	r.want(result(db2, j.ID), 404, "unknown job")
	r.want(result(db1, job.NewID(j.Due, "never", j.Key())), 404, "unknown job")
	r.want(result(db1, "x"), 404, "unknown job")
}

func TestSlowReceiverCostsNoClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	// A receiver that never answers: the client must have its answer in time, and the job must stay to be had.
	r.rx.mu.Lock()
	j := r.offered("api", db1, "mariabackup")
	got := r.call(http.MethodPost, path("api", db1, "/needs/mariabackup"), r.token("api", db1), nil)
	r.rx.mu.Unlock()
	r.want(got, 500, "false")
	if now, _ := r.last(j.Key()); now.State != job.Available || !strings.Contains(now.Reason, "did not answer in time") {
		t.Errorf("the job is %s: %s", now.State, now.Reason)
	}
}

func TestJobWhoseTakerHasLeftIsOfferedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("api", db1, "mariabackup")
	g, err := gateway.New(r.cfg, r.deps)
	if err != nil {
		t.Fatal(err)
	}
	g.AnswerBy(0) // every answer comes too late
	run(t, g)
	token := r.token("api", db1)
	needs := path("api", db1, "/needs/mariabackup")
	if out, _ := raw(t, g.HTTPAddr(), false, true, shellRequest("POST", needs, token, "")); !strings.HasPrefix(out, "HTTP/1.1 500 ") || !strings.HasSuffix(out, "\r\n\r\nfalse") {
		t.Errorf("%q", out)
	}
	if now, _ := r.last(j.Key()); now.State != job.Available || now.Dispatch != (job.Dispatch{}) {
		t.Errorf("the job is %s, dispatch %+v", now.State, now.Dispatch)
	}
	// Clients that wait longer get it.
	r.want(callAt(t, g.HTTPAddr(), "POST", needs, token, nil), 200, "true")
}
