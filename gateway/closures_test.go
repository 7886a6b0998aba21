package gateway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"drydock/gateway"
	"drydock/job"
	"drydock/store"
)

func TestARunDuringAHoldIsRefusedWithItsReasonUnlessForced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	r.want(r.call("POST", "/api/clusters/sql/hold", admin, []byte(`{"reason":"storage move"}`)), 200, "")
	run := path("sql", db1, "/jobs/optimize")
	for _, to := range []string{run, "/api/clusters/sql/jobs/optimize"} {
		got := r.call("POST", to, admin, nil)
		r.want(got, 409, "")
		for _, want := range []string{"cluster sql is on hold since", "by admin: storage move", "?force=1"} {
			if !strings.Contains(got.body, want) {
				t.Errorf("the answer does not say %q: %s", want, got)
			}
		}
	}
	r.want(r.call("POST", path("api", db1, "/jobs/optimize"), admin, nil), 202, "") // another cluster
	r.want(r.call("POST", run+"?force=1", admin, nil), 202, "")
	ticks, err := r.deps.Ledger.List(r.ctx(), store.TickFilter{Cluster: "sql"})
	if err != nil || len(ticks) != 1 || ticks[0].Trigger != (job.Trigger{Kind: job.Manual, By: "admin", Force: true}) {
		t.Errorf("%+v, %v", ticks, err)
	}
	r.want(r.call("DELETE", "/api/clusters/sql/hold", admin, nil), 200, "")
	r.want(r.call("DELETE", "/api/clusters/sql/hold", admin, nil), 404, "")
	r.want(r.call("POST", run, admin, nil), 202, "")
}

func TestABlackoutIsAddedListedAndRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	r.want(r.call("POST", "/api/blackouts", admin, []byte(`{"from":"tomorrow"}`)), 400, "")
	got := r.call("POST", "/api/blackouts", admin, []byte(`{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"}`))
	r.want(got, 400, "")
	if !strings.Contains(got.body, "ended at 2026-01-02") {
		t.Errorf("the answer does not say what is wrong: %s", got)
	}
	body := fmt.Sprintf(`{"from":%q,"to":%q,"reason":"freeze"}`, time.Now().Add(-time.Minute).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
	b := decode[store.Blackout](t, r.call("POST", "/api/blackouts", admin, []byte(body)))
	if b.ID == "" || b.By != "admin" || b.Reason != "freeze" || b.Cluster != "" {
		t.Fatalf("%+v", b)
	}
	if got := r.call("POST", path("api", db1, "/jobs/optimize"), admin, nil); got.status != 409 || !strings.Contains(got.body, "the fleet is blacked out") {
		t.Errorf("%s", got)
	}
	if all := decode[store.Closures](t, r.call("GET", "/api/closures", admin, nil)); len(all.Blackouts) != 1 || all.Blackouts[0].ID != b.ID || all.Holds == nil {
		t.Errorf("%+v", all)
	}
	r.want(r.call("DELETE", "/api/blackouts/"+b.ID, admin, nil), 200, "")
	r.want(r.call("DELETE", "/api/blackouts/"+b.ID, admin, nil), 404, "")
	r.want(r.call("POST", path("api", db1, "/jobs/optimize"), admin, nil), 202, "")
}

func TestHoldsNeedTheirGrantOnEveryClusterTheyClose(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) {
		c.Grants["dba"] = []string{"db"}
		c.Clusters[0].Grants = map[string][]string{"dba": {"db", "cluster"}}
		c.Clusters[1].Grants = map[string][]string{"viewer": {}}
	})
	dba, viewer, admin := r.user("dba"), r.user("viewer"), r.user("admin")
	r.want(r.call("POST", "/api/clusters/sql/hold", dba, nil), 200, "")
	r.want(r.call("POST", "/api/clusters/api/hold", dba, nil), 403, "")
	r.want(r.call("POST", "/api/hold", dba, nil), 403, "")
	r.want(r.call("POST", "/api/clusters/sql/blackouts", viewer, nil), 403, "")
	r.want(r.call("POST", "/api/clusters/nowhere/hold", admin, nil), 404, "")
	r.want(r.call("POST", "/api/hold", "", nil), 401, "")
	r.want(r.call("POST", "/api/clusters/sql/hold", admin, []byte(`{"reason":`)), 400, "")
	r.want(r.call("POST", "/api/clusters/api/hold", admin, nil), 200, "")
	r.want(r.call("POST", path("api", db1, "/jobs/optimize")+"?force=1", dba, nil), 403, "") // may run, not pass by a hold
	body := fmt.Sprintf(`{"from":%q,"to":%q}`, time.Now().Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
	b := decode[store.Blackout](t, r.call("POST", "/api/blackouts", admin, []byte(body)))
	r.want(r.call("DELETE", "/api/blackouts/"+b.ID, dba, nil), 403, "")
	// A hold of a cluster that one may not see is not there.
	if all := decode[store.Closures](t, r.call("GET", "/api/closures", viewer, nil)); len(all.Holds) != 1 || all.Holds[0].Cluster != "sql" || len(all.Blackouts) != 1 {
		t.Errorf("%+v", all)
	}
}
