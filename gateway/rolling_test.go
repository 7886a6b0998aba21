package gateway_test

import (
	"strings"
	"testing"

	"drydock/gateway"
	"drydock/job"
	"drydock/store"
)

func TestAnOperationOnAWholeClusterIsRunPausedResumedAndAborted(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.Grants["dba"] = []string{"db-maintenance"} })
	admin := r.user("admin")
	dba := r.user("dba")
	r.want(r.call("POST", "/api/clusters/sql/jobs/rollingrestart", dba, nil), 403, "")
	r.want(r.call("POST", "/api/clusters/sql/jobs/rollingreprov?confirm=1", dba, nil), 403, "")
	if got := r.call("POST", path("sql", db1, "/jobs/rollingrestart"), admin, nil); got.status != 400 || !strings.Contains(got.body, "whole cluster") {
		t.Errorf("on one server: %s", got)
	}
	if got := r.call("POST", "/api/clusters/sql/jobs/rollingrestart?skip=a/b", admin, nil); got.status != 400 {
		t.Errorf("with a server that is none: %s", got)
	}
	answer := decode[struct {
		Tick string
		Jobs []struct {
			ID     string
			Server job.Server
		}
	}](t, r.call("POST", "/api/clusters/sql/jobs/rollingrestart?skip="+db1.String(), admin, nil))
	if len(answer.Jobs) != 1 || answer.Jobs[0].Server != (job.Server{}) {
		t.Fatalf("%+v", answer)
	}
	ticks, err := r.deps.Ledger.List(r.ctx(), store.TickFilter{Cluster: "sql", Task: "rollingrestart"})
	if err != nil || len(ticks) != 1 || ticks[0].Args[job.ArgSkip] != db1.String() {
		t.Errorf("%+v, %v", ticks, err)
	}
	j, err := r.deps.Jobs.Create(r.ctx(), job.Job{
		State: job.Queued, ID: answer.Jobs[0].ID, Cluster: "sql", Task: "rollingrestart", Mode: job.Local, Due: ticks[0].Due,
	}, "due")
	if err != nil {
		t.Fatal(err)
	}
	at := "/api/jobs/" + j.ID
	r.want(r.call("POST", at+"/pause", dba, nil), 403, "")
	for _, c := range []struct {
		word, want string
	}{{"pause", job.OrderPause}, {"pause", job.OrderPause}, {"resume", ""}} {
		if now := decode[job.Job](t, r.call("POST", at+"/"+c.word, admin, nil)); now.Plan == nil || now.Plan.Order.Word != c.want {
			t.Errorf("after %s: %+v", c.word, now.Plan)
		}
	}
	if now := decode[job.Job](t, r.call("POST", at+"/abort", admin, nil)); now.State != job.Canceled {
		t.Errorf("an operation that had not begun is %s", now.State)
	}
	r.want(r.call("POST", at+"/pause", admin, nil), 409, "")
	if got := r.call("GET", "/api/jobs?cluster=sql&task=rollingrestart", admin, nil); got.status != 200 || !strings.Contains(got.body, j.ID) {
		t.Errorf("%s", got)
	}
}
