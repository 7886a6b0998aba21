package restore

import (
	"testing"
	"time"

	"drydock/job"
	"drydock/store"
)

func TestBinlogsAreComparedByTheirNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"binlog.000009", "binlog.000010", true}, {"binlog.999999", "binlog.1000000", true}, {"binlog.000010", "binlog.000010", false},
		{"binlog.000011", "binlog.000010", false}, {"other.000001", "binlog.000010", false}, {"", "binlog.000010", false},
	} {
		if got := earlier(c.a, c.b); got != c.want {
			t.Errorf("earlier(%q, %q) = %t", c.a, c.b, got)
		}
	}
}

func TestThePrimaryIsNamedOnlyWhenThereIsOne(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a, b, c := job.Server{Host: "a", Port: 1}, job.Server{Host: "b", Port: 1}, job.Server{Host: "c", Port: 1}
	r := Request{Server: c, Servers: []job.Server{a, b, c}}
	facts := map[job.Server]store.Facts{
		a: {Up: true, Role: store.RolePrimary, Time: now}, b: {Up: true, Role: store.RoleReplica, Time: now}, c: {Up: true, Role: store.RolePrimary, Time: now},
	}
	if p, ok := primaryFor(r, facts, now); !ok || p != a {
		t.Errorf("%v, %t", p, ok)
	}
	facts[b] = store.Facts{Up: true, Role: store.RolePrimary, Time: now}
	if p, ok := primaryFor(r, facts, now); ok {
		t.Errorf("of two primaries %v was chosen", p)
	}
}

// TestAServerThatIsDownMayStillBeSomebodysPrimary under a name that drydock does not know.
func TestAServerThatIsDownMayStillBeSomebodysPrimary(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a, b := job.Server{Host: "a", Port: 1}, job.Server{Host: "b", Port: 1}
	r := Request{Server: a, Servers: []job.Server{a, b}}
	facts := map[job.Server]store.Facts{
		a: {Time: now}, b: {Up: true, Role: store.RoleReplica, Sources: []store.Source{{From: "10.0.0.1:1"}}, Time: now},
	}
	if err := mayReplace(r, facts, now); err == nil {
		t.Error("replaced")
	}
	facts[a] = store.Facts{Up: true, Role: store.RolePrimary, Variables: map[string]string{"server_id": "7"}, Time: now}
	facts[b].Sources[0].ID = "7"
	if err := mayReplace(r, facts, now); err == nil {
		t.Error("replaced, though the replica, whose threads are stopped, was connected to it")
	}
	facts[b].Sources[0].ID = "8"
	if err := mayReplace(r, facts, now); err != nil {
		t.Error(err)
	}
	facts[a] = store.Facts{Up: true, Role: store.RolePrimary, Time: now, Counted: now.Add(-2 * store.FactsFresh)}
	if err := mayReplace(r, facts, now); err == nil {
		t.Error("replaced, though a replica may have come since they were counted")
	}
	facts[a] = store.Facts{Time: now}
	facts[b] = store.Facts{Up: true, Role: store.RolePrimary, Time: now}
	if err := mayReplace(r, facts, now); err != nil {
		t.Error(err)
	}
}
