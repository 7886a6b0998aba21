package gateway_test

import (
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

func TestHeavyJobIsNotHandedOutBesideOneThatRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token("api", db1)
	backup := r.offered("api", db1, "mariabackup")
	optimize := r.offered("api", db1, "optimize")
	for _, e := range []job.Event{job.Claim, job.Start} {
		r.apply(optimize.Key(), e, nil)
	}
	before := r.rx.count()
	r.want(r.call("POST", path("api", db1, "/needs/mariabackup"), token, nil), 500, "false")
	if j, _ := r.last(backup.Key()); j.State != job.Queued || !j.Held() || r.rx.count() != before {
		t.Errorf("the backup is %s (%s), %d ports", j.State, j.Reason, r.rx.count()-before)
	}
	// On another server it is nobody's business, and what is not heavy goes out beside it.
	r.offered("api", db2, "mariabackup")
	r.want(r.call("POST", path("api", db2, "/needs/mariabackup"), r.token("api", db2), nil), 200, "true")
	r.offered("api", db1, "errorlog")
	r.want(r.call("POST", path("api", db1, "/needs/errorlog"), token, nil), 200, "true")
}

// Between a dispatcher's look after its offer and a claim lie milliseconds in which the other job can be claimed too.
func TestTwoHeavyJobsAreNeverClaimedTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token("api", db1)
	claims := 0
	for round := range 40 {
		older, younger := "optimize", "mariabackup"
		if round%2 == 1 {
			older, younger = younger, older
		}
		due := time.Now().UTC()
		key := job.Key{Cluster: "api", Server: db1, Task: older}
		first, err := r.jobs.Create(r.ctx(), job.Job{
			State: job.Queued, ID: job.NewID(due, bus.NewMessageID(), key), Cluster: "api", Server: db1, Task: older, Mode: job.API,
			Trigger: job.Trigger{Kind: job.Manual, By: "test"}, Due: due,
		}, "")
		if err != nil {
			t.Fatal(err)
		}
		second := r.offered("api", db1, younger)
		var wg sync.WaitGroup
		got := make([]answer, 2)
		wg.Go(func() { got[0] = r.call("POST", path("api", db1, "/needs/"+younger), token, nil) })
		wg.Go(func() { // as a dispatcher: offered, looked at once more, taken back if it is crowded
			if _, err := r.jobs.Apply(r.ctx(), store.RefOf(first), store.Change{Event: job.Offer}); err != nil {
				t.Error(err)
			}
			got[1] = r.call("POST", path("api", db1, "/needs/"+older), token, nil)
		})
		wg.Wait()
		if got[0].body == "true" && got[1].body == "true" {
			t.Fatalf("round %d: both were handed out", round)
		}
		for i, ref := range []job.Job{second, first} {
			j, _ := r.last(ref.Key())
			if (got[i].body == "true") != (j.State == job.Claimed) {
				t.Errorf("round %d: %s was answered %s and is %s (%s)", round, j.Task, got[i], j.State, j.Reason)
			}
			if j.State == job.Claimed {
				claims++
			}
			r.apply(ref.Key(), job.Cancel, nil)
		}
	}
	t.Logf("%d claims", claims)
	if claims == 0 {
		t.Error("nothing was ever claimed")
	}
}
