package gateway_test

import (
	"strings"
	"testing"

	"drydock/store"
)

func TestAStopIsConfirmedWhereOthersReplicateFromTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	put := func(f store.Facts) {
		if err := r.deps.Docs.Put(r.ctx(), "sql", db1, store.DocFacts, f); err != nil {
			t.Fatal(err)
		}
	}
	put(store.Facts{Up: true, Role: store.RolePrimary, Replicas: 2})
	for _, task := range []string{"stop", "restart"} {
		if got := r.call("POST", path("sql", db1, "/jobs/"+task), admin, nil); got.status != 409 || !strings.Contains(got.body, "confirm=1") {
			t.Errorf("%s: %s", task, got)
		}
	}
	if ticks, _ := r.deps.Ledger.List(r.ctx(), store.TickFilter{}); len(ticks) != 0 {
		t.Errorf("%d ticks", len(ticks))
	}
	r.want(r.call("POST", path("sql", db1, "/jobs/start"), admin, nil), 202, "")
	r.want(r.call("POST", path("sql", db1, "/jobs/stop?confirm=1"), admin, nil), 202, "")
	put(store.Facts{Up: true, Role: store.RoleReplica})
	r.want(r.call("POST", path("sql", db1, "/jobs/restart"), admin, nil), 202, "")
}
