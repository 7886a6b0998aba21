package scheduler

import (
	"errors"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestTheOperationThatHasAClusterForItself(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	op := func(id string, s job.State, by job.TriggerKind) job.Job {
		return job.Job{ID: id, Cluster: "prod", Task: "rollingrestart", State: s, Trigger: job.Trigger{Kind: by}}
	}
	paused := op("A", job.Queued, job.Manual)
	paused.Plan = &job.Plan{Order: job.Order{Word: job.OrderPause}}
	forced := op("A", job.Queued, job.Manual)
	forced.Trigger.Force = true
	held := store.Closures{Holds: []store.Hold{{Cluster: "prod"}}}
	for name, c := range map[string]struct {
		live     []job.Job
		closures store.Closures
		want     string
	}{
		"none":                       {nil, store.Closures{}, ""},
		"the oldest that waits":      {[]job.Job{op("B", job.Queued, job.Manual), op("A", job.Queued, job.Manual)}, store.Closures{}, "A"},
		"one that was begun":         {[]job.Job{op("A", job.Queued, job.Manual), op("B", job.Processing, job.Cron)}, store.Closures{}, "B"},
		"not while it is held":       {[]job.Job{op("A", job.Queued, job.Manual)}, held, ""},
		"forced in a hold":           {[]job.Job{forced}, held, "A"},
		"begun before the hold":      {[]job.Job{op("A", job.Processing, job.Cron)}, held, "A"},
		"not while it is outside":    {[]job.Job{op("A", job.Queued, job.Cron), op("B", job.Queued, job.Manual)}, store.Closures{}, "B"},
		"not paused before it began": {[]job.Job{paused}, store.Closures{}, ""},
	} {
		cluster, _ := night(t, WindowWait)
		got, ok := cluster.firstOperation(c.live, c.closures, noon)
		if got.ID != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, want %q", name, got.ID, c.want)
		}
	}
}

// roll has a job of the whole cluster, as the fan-out makes it.
func (r *rig) roll(task string) job.Job {
	r.t.Helper()
	e := r.due(task)
	if err := r.fanout(r.ctx, e.meta, e.Tick); err != nil {
		r.t.Fatal(err)
	}
	j, ok := r.view.Get(job.Key{Cluster: "prod", Task: task})
	if !ok {
		r.t.Fatalf("there is no job of %s on the whole cluster", task)
	}
	return j
}

func (r *rig) of(k job.Key) job.Job {
	r.t.Helper()
	j, _, err := r.jobs.Last(r.ctx, k)
	if err != nil && !errors.Is(err, store.ErrNone) {
		r.t.Fatal(err)
	}
	return j
}

func TestJobsOfAClusterWaitBehindItsRollingOperationAndItsStepsDoNot(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	before := r.due("optimize", db1)
	if err := r.fanout(r.ctx, before.meta, before.Tick); err != nil {
		t.Fatal(err)
	}
	offered := r.due("errorlog", db1)
	if err := r.fanout(r.ctx, offered.meta, offered.Tick); err != nil {
		t.Fatal(err)
	}
	log := job.Key{Cluster: "prod", Server: db1, Task: "errorlog"}
	if _, err := r.jobs.Apply(r.ctx, store.Ref{Key: log}, store.Change{Event: job.Offer}); err != nil {
		t.Fatal(err)
	}
	op := r.roll("rollingrestart")
	if op.Mode != job.Local || op.Gate != "" || op.Server != (job.Server{}) {
		t.Errorf("%+v", op)
	}
	r.advance(time.Millisecond)
	second := r.roll("rollingreprov")
	after := r.due("analyze", db1)
	if err := r.fanout(r.ctx, after.meta, after.Tick); err != nil {
		t.Fatal(err)
	}
	if j := r.of(job.Key{Cluster: "prod", Server: db1, Task: "analyze"}); j.Gate != job.GateRolling {
		t.Errorf("a job that came later is behind %q", j.Gate)
	}
	step, err := r.ledger.Run(r.ctx, store.Order{
		Cluster: "prod", Task: "restart", ID: op.ID + "-1-restart", Due: r.now(), Servers: []job.Server{db1}, Trigger: job.Trigger{Kind: job.Rolling, By: op.ID},
	})
	if err != nil {
		t.Fatal(err)
	}
	all := r.entries()
	if err := r.fanout(r.ctx, all[len(all)-1].meta, step); err != nil {
		t.Fatal(err)
	}
	r.hold("prod", "storage move") // which keeps no step that is begun
	r.gates(time.Second)
	r.lift("prod")
	r.gates(time.Second)
	for _, c := range []struct {
		key   job.Key
		state job.State
		gate  job.Gate
	}{
		{job.Key{Cluster: "prod", Server: db1, Task: "optimize"}, job.Queued, job.GateRolling},
		{log, job.Queued, job.GateRolling},
		{second.Key(), job.Queued, job.GateRolling},
		{job.Key{Cluster: "prod", Server: db1, Task: "restart"}, job.Queued, ""},
		{op.Key(), job.Queued, ""},
	} {
		if j := r.of(c.key); j.State != c.state || j.Gate != c.gate {
			t.Errorf("%s is %s behind %q (%s), want %s behind %q", c.key, j.State, j.Gate, j.Reason, c.state, c.gate)
		}
	}
	if _, err := r.jobs.Apply(r.ctx, store.RefOf(op), store.Change{Event: job.Cancel}); err != nil {
		t.Fatal(err)
	}
	r.gates(time.Second)
	if j := r.of(second.Key()); j.Gate != "" {
		t.Errorf("the second operation is behind %q", j.Gate)
	}
	if j := r.of(log); j.Gate != job.GateRolling || !strings.Contains(j.Reason, second.ID) {
		t.Errorf("behind %q: %s", j.Gate, j.Reason)
	}
}

func TestAWholeClusterIsNoServerAndAServerNoWholeCluster(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.advance(2 * fanoutPatience) // no other scheduler may know better
	for task, server := range map[string]job.Server{"rollingrestart": db1, "optimize": {}} {
		_, skips := r.resolve(testCluster(), true, r.due(task, server).Tick)
		if len(skips) != 1 {
			t.Errorf("%s on %s: %+v", task, server, skips)
		}
	}
}

func TestAnOperationLeftAloneIsNotEndedAndNoneOfItsStepsTriedAgain(t *testing.T) {
	t.Parallel()
	c, now := testCluster(), time.Now()
	c.Retry = 3
	long := sign{first: now.Add(-100 * time.Hour), state: now.Add(-100 * time.Hour), last: now.Add(-100 * time.Hour)}
	for _, s := range []job.State{job.Queued, job.Available, job.Claimed, job.Processing} {
		if ch, due := overdue(job.Job{State: s, Task: "rollingrestart"}, c, long, now); due {
			t.Errorf("%s: %+v", s, ch)
		}
	}
	for _, j := range []job.Job{
		{State: job.Halted, Task: "rollingrestart", Attempt: 1, Since: now.Add(-time.Minute)},
		{State: job.Halted, Task: "reseedlogical", Server: db1, Attempt: 1, Since: now.Add(-time.Minute), Trigger: job.Trigger{Kind: job.Rolling, By: "x"}},
	} {
		if ch, due := retry(j, c, now); due {
			t.Errorf("%s: %+v", j.Task, ch)
		}
	}
}

func TestAnOperationThatOwesIsNotForgottenForTheNext(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	op := r.roll("rollingrestart")
	for _, ch := range []store.Change{
		{Event: job.Note, Edit: func(j *job.Job) { j.Plan = &job.Plan{Stages: []job.Stage{{Server: db1, ReadOnly: true}}} }}, {Event: job.Cancel},
	} {
		if _, err := r.jobs.Apply(r.ctx, store.RefOf(op), ch); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(time.Second)
	if next := r.roll("rollingrestart"); next.ID != op.ID {
		t.Error("the next operation took the place of one that has to undo read_only")
	}
	all := r.entries()
	if e := all[len(all)-1]; !strings.Contains(e.Reason, "read-only") {
		t.Errorf("%s: %s", e.Outcome, e.Reason)
	}
}

func TestARetryUnderAnOperationWaitsForIt(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Retry = 1
	r := newRig(t, bustest.Start(t), c)
	e := r.due("optimize", db1)
	if err := r.fanout(r.ctx, e.meta, e.Tick); err != nil {
		t.Fatal(err)
	}
	key := job.Key{Cluster: "prod", Server: db1, Task: "optimize"}
	for _, ev := range []job.Event{job.Offer, job.Start, job.Error} {
		if _, err := r.jobs.Apply(r.ctx, store.Ref{Key: key}, store.Change{Event: ev}); err != nil {
			t.Fatal(err)
		}
	}
	r.roll("rollingrestart")
	r.sweepAfter(2 * retryAfter)
	if j := r.of(key); j.Attempt != 2 || j.State != job.Queued || j.Gate != job.GateRolling {
		t.Errorf("attempt %d is %s behind %q (%s)", j.Attempt, j.State, j.Gate, j.Reason)
	}
}

func TestTheArchiveAndAnOperationDoNotWaitForOneAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.roll("rollingrestart")
	for _, c := range []struct {
		task   string
		server []job.Server
	}{{"archive", []job.Server{db1}}, {"archivecheck", nil}} {
		e := r.due(c.task, c.server...)
		if err := r.fanout(r.ctx, e.meta, e.Tick); err != nil {
			t.Fatal(err)
		}
		r.gates(time.Second)
		key := job.Key{Cluster: "prod", Task: c.task}
		if c.server != nil {
			key.Server = db1
		}
		if j := r.of(key); j.State != job.Queued || j.Gate != "" {
			t.Errorf("%s is %s behind %q", c.task, j.State, j.Gate)
		}
	}
}
