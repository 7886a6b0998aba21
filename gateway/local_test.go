package gateway_test

import (
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// TestNoScriptTouchesWhatDrydockDoesItself: an older script may still report an optimize, by its name or without one.
func TestNoScriptTouchesWhatDrydockDoesItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, cluster := range []string{"sql", "api"} {
		key := job.Key{Cluster: cluster, Server: db1, Task: "optimize"}
		due := time.Now().UTC()
		if _, err := r.jobs.Create(r.ctx(), job.Job{State: job.Queued, ID: job.NewID(due, "t", key), Cluster: cluster, Server: db1, Task: "optimize", Mode: job.Local, Due: due}, ""); err != nil {
			t.Fatal(err)
		}
		for _, e := range []job.Event{job.Offer, job.Claim, job.Start} {
			j := r.apply(key, e, nil)
			token := r.token(cluster, db1)
			r.want(r.call("POST", path(cluster, db1, "/needs/optimize"), token, seal(db1)), 500, "false")
			if got := r.call("POST", path(cluster, db1, "/jobs-pending"), token, seal(db1)); got.status != 200 || strings.Contains(got.body, "task optimize") {
				t.Errorf("pending: %s", got)
			}
			for _, word := range []string{"processing", "done", "error"} {
				r.want(r.call("POST", path(cluster, db1, "/actions/job-state/optimize/"+word), token, seal(db1)), 200, "true")
				named := seal(db1, `"job":"`+j.ID+`"`)
				r.want(r.call("POST", path(cluster, db1, "/actions/job-state/optimize/"+word), token, named), 409, "")
			}
			if now, _ := r.last(key); now.State != j.State || len(now.Steps) != len(j.Steps) {
				t.Errorf("%s: a script made a %s job %s (%s)", cluster, j.State, now.State, now.Reason)
			}
		}
	}
}

func TestDispatcherLeavesDrydocksOwnJobsAloneAndCountsThem(t *testing.T) {
	for _, mode := range []job.Mode{job.SQL, job.API} {
		t.Run(string(mode), func(t *testing.T) {
			y := newYard(t)
			own := y.queue(y.addr(), "analyze", 1)
			_, err := y.jobs.Apply(bustest.Context(t), store.RefOf(own), store.Change{Event: job.Note, Edit: func(j *job.Job) { j.Mode = job.Local }})
			if err != nil {
				t.Fatal(err)
			}
			y.start(y.cluster(mode))
			other := y.queue(y.addr(), "optimize", 2)
			y.awaitThat(other, "held", func(j job.Job) bool { return j.Held() && strings.Contains(j.Reason, own.ID) })
			y.apply(own, job.Offer)
			y.await(y.queue(y.addr(), "sqlerrorlog", 3), job.Available)
			if now := y.last(own); now.State != job.Available || now.Dispatch != (job.Dispatch{}) {
				t.Errorf("the dispatcher made it %s with %+v", now.State, now.Dispatch)
			}
			y.apply(own, job.Claim, job.Start, job.Error)
			y.await(other, job.Available)
		})
	}
}
