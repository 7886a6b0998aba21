package local

import (
	"context"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
)

// atWork are the marked statements that a server is at work on.
const atWork = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%drydock run%' AND ID <> CONNECTION_ID()"

// leave makes a server work on a statement of a job whose drydock is gone.
func (r *rig) leave(i int, j job.Job) {
	r.t.Helper()
	conn := r.sql(i)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		var n int
		_ = conn.QueryRowContext(ctx, "SELECT SLEEP(600)"+mark(j)).Scan(&n) // killed, in one way or another
	}()
	r.t.Cleanup(func() { cancel(); <-done })
	bustest.Until(r.t, 10e9, "the statement runs", func() bool { return r.value(i, atWork) != "0" })
}

func TestWhatADeadDrydockLeftEndsBeforeTheNextHeavyJobBegins(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	r.sql(0, shop, "CREATE TABLE shop.a (i INT)")
	r.leave(0, job.Job{ID: "01OLD", Attempt: 1})
	r.start("scheduler@a")
	r.do(0, "schemamonitor") // in nobody's way
	if n := r.value(0, atWork); n != "1" {
		t.Errorf("a task that is not heavy ended it: %s", n)
	}
	if j := r.do(0, "optimize"); !j.Evidence.Completed {
		t.Errorf("%+v", j.Evidence)
	}
	if n := r.value(0, atWork); n != "0" {
		t.Errorf("%s statements went on beside the job", n)
	}
}

func TestClearEndsTheStatementsOfOneJobOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	runner, stop := r.runner("scheduler@a")
	defer stop()
	j := r.queue(0, "optimize", job.API) // so that nobody takes it
	r.apply(j, job.Offer, job.Claim, job.Start)
	j.Mode = job.Local
	other := j
	other.ID += "X"
	r.leave(0, other)
	bustest.Until(t, 10e9, "nothing is left", func() bool { return runner.Clear(j) })
	if n := r.value(0, atWork); n != "1" {
		t.Errorf("of another job %s statements go on", n)
	}
	r.leave(0, j)
	bustest.Until(t, 20e9, "the second look finds it", func() bool { return runner.Clear(j) && r.value(0, atWork) == "1" })
}

func TestACanceledJobOfADeadDrydockLeavesNoStatement(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	j := r.queue(0, "optimize", job.Local)
	r.apply(j, job.Offer, job.Claim, job.Start)
	r.leave(0, r.last(j))
	r.start("scheduler@a")
	r.apply(j, job.Cancel)
	bustest.Until(t, 10e9, "its statement is ended", func() bool { return r.value(0, atWork) == "0" })
}

func TestAServerThatCannotBeAskedIsNotClear(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	j := job.Job{ID: "01OLD", Attempt: 1, Cluster: "lab", Server: job.Server{Host: "127.0.0.1", Port: 1}, Task: "optimize", Mode: job.Local}
	runner, stop := r.runner("scheduler@a")
	defer stop()
	begun := time.Now()
	for time.Since(begun) < 3*time.Second {
		if runner.Clear(j) {
			t.Fatal("clear")
		}
		pause(t.Context(), 50*time.Millisecond)
	}
}

func TestAnEndedJobIsLookedAtOnceMoreUnlessItJustWas(t *testing.T) {
	t.Parallel()
	j := job.Job{ID: "J", Attempt: 1, Server: job.Server{Host: "db1", Port: 3306}, Task: "optimize", Mode: job.Local, State: job.Canceled, Since: time.Now()}
	for name, c := range map[string]struct {
		before *leftover
		looks  bool
	}{
		"nobody asked before":        {nil, true},
		"nothing was found just now": {&leftover{job: j, cleared: time.Now()}, false},
		"it went on since":           {&leftover{job: j, cleared: time.Now().Add(-clearFor)}, true},
		"no answer so far":           {&leftover{job: j, failed: time.Now().Add(-time.Minute)}, true},
	} {
		r := &Runner{clusters: map[string]Cluster{"": {}}, left: map[string]*leftover{}, runs: map[string]context.CancelCauseFunc{}}
		if c.before != nil {
			r.left[j.Run()] = c.before
		}
		r.abandoned(bus.JobEvent{Job: j, Prev: job.Processing})
		out, _ := r.leftovers()
		if (len(out) > 0) != c.looks || !c.looks && len(r.left) > 0 {
			t.Errorf("%s: looks %v, keeps %d", name, len(out) > 0, len(r.left))
		}
	}
}
