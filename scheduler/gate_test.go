package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
	"drydock/window"
)

// night is prod with windows from 22:00 to 05:00, and a Monday's noon, which is outside.
func night(t *testing.T, policy string, schedules ...Schedule) (Cluster, time.Time) {
	t.Helper()
	w, err := window.Parse("mon-fri 22:00-05:00")
	if err != nil {
		t.Fatal(err)
	}
	c := testCluster(schedules...)
	c.Windows, c.WindowPolicy = w, policy
	return c, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
}

// due is a tick that a schedule asked for, as it comes from the ledger.
func (r *rig) due(task string, servers ...job.Server) entry {
	r.t.Helper()
	now := r.now().UTC()
	_, _, _, err := r.ledger.Update(r.ctx, "prod", task, func(bus.Tick) (bus.Tick, bool) {
		return bus.Tick{Outcome: bus.Fired, Due: now, Servers: servers, Trigger: job.Trigger{Kind: job.Cron}}, true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	all := r.entries()
	return all[len(all)-1]
}

// gates sets the clock forward and opens and shuts gates.
func (r *rig) gates(d time.Duration) {
	r.t.Helper()
	if err := r.openGates(r.ctx, r.advance(d)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) hold(cluster, reason string) {
	r.t.Helper()
	if _, err := r.control.SetHold(r.ctx, store.Hold{Cluster: cluster, Reason: reason, By: "alice"}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) lift(cluster string) {
	r.t.Helper()
	if _, err := r.control.LiftHold(r.ctx, cluster); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) wantGate(srv job.Server, task string, want job.Gate) job.Job {
	r.t.Helper()
	j := r.last(srv, task)
	if j.State != job.Queued || j.Gate != want {
		r.t.Fatalf("job of %s is %s behind gate %q (%s), want queued behind %q", srv, j.State, j.Gate, j.Reason, want)
	}
	return j
}

func TestTickOutsideTheWindowsIsOneSkippedEntryAndNoRedeliveryStartsIt(t *testing.T) {
	t.Parallel()
	c, noon := night(t, "")
	r := newRigAt(t, bustest.Start(t), noon, c)
	e := r.due("optimize")
	r.give(e)
	all := r.entries()
	if len(all) != 2 || len(r.history()) != 0 {
		t.Fatalf("ledger has %v and there are %d jobs", r.outcomes(), len(r.history()))
	}
	s := all[1]
	if s.Outcome != bus.Skipped || len(s.Servers) != 0 || !s.Due.Equal(e.Due) || s.Trigger.Kind != job.Cron ||
		!strings.Contains(s.Reason, `"mon-fri 22:00-05:00"`) || !strings.Contains(s.Reason, "2026-11-23 22:00:00 UTC") || !strings.Contains(s.Reason, "skip") {
		t.Errorf("skip is %+v", s.Tick)
	}
	// The acknowledgement was lost; when the tick comes again the window is open.
	r.advance(11 * time.Hour)
	r.give(e)
	if len(r.history()) != 0 || len(r.entries()) != 2 {
		t.Errorf("the skipped tick was started after all: %v", r.history())
	}
}

func TestTickInsideTheWindowsAndRunsByHandBegin(t *testing.T) {
	t.Parallel()
	c, noon := night(t, "")
	r := newRigAt(t, bustest.Start(t), noon, c)
	r.give(r.runNow("optimize", db1))
	r.wantGate(db1, "optimize", "")
	r.advance(10 * time.Hour)
	r.give(r.due("errorlog", db1))
	r.wantGate(db1, "errorlog", "")
	// Due in the window's last second and looked at after it.
	r.advance(7*time.Hour - time.Second)
	e := r.due("slowquery", db1)
	r.advance(3 * time.Second)
	r.give(e)
	r.gates(0)
	r.wantGate(db1, "slowquery", "")
}

func TestWaitingJobIsLetGoOnceWhenTheWindowOpensAndNeverExpires(t *testing.T) {
	t.Parallel()
	c, noon := night(t, WindowWait)
	conn := bustest.Start(t)
	r, other := newRigAt(t, conn, noon, c), newRigAt(t, conn, noon, c)
	r.give(r.due("optimize", db1))
	waiting := r.wantGate(db1, "optimize", job.GateWindow)
	if !strings.Contains(waiting.Reason, "2026-11-23 22:00:00 UTC") {
		t.Errorf("reason is %q", waiting.Reason)
	}
	if _, err := r.jobs.Apply(r.ctx, store.RefOf(waiting), store.Change{Event: job.Offer}); err == nil {
		t.Error("a job that waits for its window was offered")
	}
	r.sweepAfter(9 * time.Hour) // far beyond the time to pick it up
	r.gates(0)
	before := r.wantGate(db1, "optimize", job.GateWindow)
	if !before.Updated.Equal(waiting.Updated) {
		t.Error("a wait without news was written into the log")
	}
	// Two schedulers see the window open.
	other.advance(10 * time.Hour)
	bustest.Until(t, 10*time.Second, "the other scheduler sees the job", func() bool { return len(other.view.Select(func(j job.Job) bool { return j.Gated() })) == 1 })
	r.gates(time.Hour)
	other.gates(0)
	r.gates(0)
	free := r.wantGate(db1, "optimize", "")
	if !free.Ready.Equal(r.now()) || free.Reason != "" {
		t.Errorf("job is %+v", free)
	}
	if n := r.events(db1, "optimize"); n != 2 { // created, let go
		t.Errorf("%d entries in the log of the job, want 2", n)
	}
	r.sweepAfter(c.PickupTimeout - time.Minute)
	r.want("optimize", job.Queued)
	r.sweepAfter(2 * time.Minute)
	r.want("optimize", job.Expired)
}

// events counts the entries of a slot.
func (r *rig) events(srv job.Server, task string) (n int) {
	r.t.Helper()
	err := bus.Read(r.ctx, r.conn, bus.StreamJobs, bus.JobSubject("prod", srv.Host, srv.Port, task), bus.From{}, func(bus.Meta, bus.JobEvent) error {
		n++
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestJobThatDidNotBeginBeforeTheWindowClosedFollowsThePolicy(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]job.State{WindowSkip: job.Skipped, WindowWait: job.Queued} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			c, noon := night(t, policy)
			r := newRigAt(t, bustest.Start(t), noon.Add(16*time.Hour), c) // 04:00
			r.give(r.due("optimize", db1))
			r.wantGate(db1, "optimize", "")
			r.gates(59 * time.Minute)
			r.wantGate(db1, "optimize", "")
			r.gates(2 * time.Minute)
			if j := r.want("optimize", want); !strings.Contains(j.Reason, "outside maintenance-windows") || (j.Gate == job.GateWindow) != (want == job.Queued) {
				t.Errorf("job is %+v", j)
			}
			// One that was offered is called back first.
			r.advance(23 * time.Hour)
			r.give(r.due("slowquery", db1))
			r.apply(r.last(db1, "slowquery"), job.Offer)
			r.gates(2 * time.Hour)
			r.gates(time.Second)
			if j := r.want("slowquery", want); (j.Gate == job.GateWindow) != (want == job.Queued) {
				t.Errorf("job is %+v", j)
			}
			// One that a person asked for may begin.
			r.give(r.runNow("errorlog", db1))
			r.apply(r.last(db1, "errorlog"), job.Offer)
			r.gates(0)
			r.want("errorlog", job.Available)
		})
	}
}

func TestHoldOutlivesARestartAndIsLiftedForAllThatWaits(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	c := testCluster()
	c.WindowPolicy = WindowWait
	first := newRig(t, conn, c)
	first.give(first.runNow("errorlog", db1))
	first.hold("", "storage move")
	first.give(first.due("optimize"))

	r := newRig(t, conn, c) // another process, later
	r.gates(24 * time.Hour)
	r.sweepAfter(0)
	for _, j := range []job.Job{r.wantGate(db1, "optimize", job.GateHold), r.wantGate(db2, "optimize", job.GateHold), r.wantGate(db1, "errorlog", job.GateHold)} {
		if !strings.Contains(j.Reason, "the fleet is on hold since") || !strings.Contains(j.Reason, "by alice: storage move") {
			t.Errorf("reason of %s is %q", j.Task, j.Reason)
		}
	}
	// The cluster's own hold stays when the fleet's is lifted.
	r.hold("prod", "and this")
	r.hold("other", "not ours")
	r.lift("")
	r.gates(0)
	if j := r.wantGate(db1, "optimize", job.GateHold); !strings.Contains(j.Reason, "cluster prod is on hold") {
		t.Errorf("reason is %q", j.Reason)
	}
	r.lift("prod")
	r.gates(0)
	r.wantGate(db1, "optimize", "")
	r.wantGate(db2, "optimize", "")
	r.wantGate(db1, "errorlog", "")
}

func TestOfferThatNobodyTookIsCalledBackWhenTheClusterCloses(t *testing.T) {
	t.Parallel()
	c, noon := night(t, "")
	r := newRigAt(t, bustest.Start(t), noon.Add(16*time.Hour), c) // 04:00
	for _, task := range []string{"optimize", "errorlog", "slowquery"} {
		r.give(r.due(task, db1))
		r.apply(r.last(db1, task), job.Offer)
	}
	row := r.edit(r.last(db1, "errorlog"), func(j *job.Job) { j.Dispatch.Row = 7 })
	r.apply(r.last(db1, "slowquery"), job.Start)
	r.hold("", "storage move")
	r.gates(0)
	if j := r.wantGate(db1, "optimize", job.GateHold); !strings.Contains(j.Reason, "storage move") {
		t.Errorf("job is %+v", j)
	}
	// The row is the dispatcher's to take away; until then nobody can claim the job.
	if j := r.want("errorlog", job.Available); !j.CalledBack() || !strings.Contains(j.Reason, "storage move") {
		t.Errorf("job is %+v", j)
	}
	if _, err := r.jobs.Apply(r.ctx, store.RefOf(row), store.Change{Event: job.Claim}); err == nil {
		t.Error("a job that is called back was claimed")
	}
	r.want("slowquery", job.Processing) // what runs goes on
	r.lift("")
	r.gates(0)
	if j := r.want("errorlog", job.Available); j.Gate != "" || j.Reason != "" {
		t.Errorf("job is %+v", j)
	}
	r.wantGate(db1, "optimize", "")
	r.hold("", "again")
	r.gates(0)
	if j := r.apply(r.last(db1, "errorlog"), job.Withdraw); j.Gate != job.GateHold {
		t.Errorf("job is %+v", j)
	}
	// A script may be quicker than the dispatcher.
	r.lift("")
	r.gates(0)
	r.apply(r.last(db1, "optimize"), job.Offer)
	r.edit(r.last(db1, "optimize"), func(j *job.Job) { j.Dispatch.Row = 8 })
	r.hold("", "")
	r.gates(0)
	if j := r.apply(r.last(db1, "optimize"), job.Start); j.Gate != "" {
		t.Errorf("job is %+v", j)
	}
}

func TestRunByHandDuringAHoldIsRefusedUnlessForced(t *testing.T) {
	t.Parallel()
	c, noon := night(t, WindowWait)
	r := newRigAt(t, bustest.Start(t), noon, c)
	r.hold("prod", "")
	r.give(r.runNow("optimize", db1, db2)) // the hold came between the question and the tick
	all := r.entries()
	s := all[len(all)-1]
	if len(r.history()) != 0 || s.Outcome != bus.Skipped || !slices.Equal(s.Servers, []job.Server{db1, db2}) || !strings.Contains(s.Reason, "on hold") {
		t.Fatalf("skip is %+v, jobs %v", s.Tick, r.history())
	}
	r.give(all[0]) // again: nothing more is written
	if n := len(r.entries()); n != 2 {
		t.Errorf("%d entries", n)
	}
	if _, err := r.ledger.RunForced(r.ctx, "prod", "optimize", []job.Server{db1}, "alice"); err != nil {
		t.Fatal(err)
	}
	all = r.entries()
	r.give(all[len(all)-1])
	r.gates(time.Minute)
	r.wantGate(db1, "optimize", "")
}

func TestBlackoutClosesFromItsBeginningToItsEnd(t *testing.T) {
	t.Parallel()
	c := testCluster()
	r := newRig(t, bustest.Start(t), c)
	b, err := r.control.AddBlackout(r.ctx, store.Blackout{From: r.now().Add(time.Hour), To: r.now().Add(2 * time.Hour), Reason: "freeze", By: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	r.give(r.due("optimize", db1))
	r.wantGate(db1, "optimize", "")
	r.gates(time.Hour)
	r.wantGate(db1, "optimize", job.GateBlackout)
	r.give(r.due("errorlog", db1))
	if all := r.entries(); all[len(all)-1].Outcome != bus.Skipped || !strings.Contains(all[len(all)-1].Reason, "by bob: freeze") {
		t.Errorf("entry is %+v", all[len(all)-1].Tick)
	}
	r.gates(59 * time.Minute)
	r.wantGate(db1, "optimize", job.GateBlackout)
	r.gates(time.Minute)
	r.wantGate(db1, "optimize", "")
	if _, err := r.control.RemoveBlackout(r.ctx, b.ID); err != nil {
		t.Error(err)
	}
}

// five is prod with five servers that are all backed up.
func five(limit int) Cluster {
	c := testCluster()
	c.Servers, c.BackupServers, c.MaxBackups = nil, nil, limit
	for i := range 5 {
		c.Servers = append(c.Servers, job.Server{Host: fmt.Sprintf("10.0.1.%d", i+1), Port: 3306})
	}
	return c
}

func TestNoMoreBackupsRunThanAllowedWhateverSchedulersSee(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	c := five(2)
	rigs := []*rig{newRig(t, conn, c), newRig(t, conn, c)}
	r := rigs[0]
	r.give(r.due("mariabackup"))
	r.give(r.due("optimize")) // no backup: not counted
	jobs := func() (free, gated []job.Job) {
		for _, s := range c.Servers {
			r.wantOptimize(s)
			switch j := r.last(s, "mariabackup"); {
			case !j.State.Live():
			case j.Gated():
				if j.Gate != job.GateLimit || !strings.Contains(j.Reason, "2 backups of the cluster at a time") {
					t.Fatalf("job is %+v", j)
				}
				gated = append(gated, j)
			default:
				free = append(free, j)
			}
		}
		return free, gated
	}
	for round := 0; round < 5; round++ {
		for range 2 {
			done := make(chan error, len(rigs))
			for _, x := range rigs {
				go func() { done <- x.openGates(x.ctx, x.now()) }()
			}
			for range rigs {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
		}
		free, gated := jobs()
		want := min(2, 5-round)
		if len(free) != want || len(gated) != 5-round-want {
			t.Fatalf("round %d: %d may run and %d wait, want %d to run", round, len(free), len(gated), want)
		}
		for _, g := range gated { // in the order of their ids
			if g.ID < free[len(free)-1].ID && g.ID < free[0].ID {
				t.Errorf("%s was passed over", g.ID)
			}
		}
		r.apply(free[0], job.Offer, job.Start, job.Done, job.Pass)
		bustest.Until(t, 10*time.Second, "the other scheduler sees the end", func() bool {
			j, _ := rigs[1].view.Get(free[0].Key())
			return j.State == job.Success
		})
	}
}

func (r *rig) wantOptimize(s job.Server) {
	r.t.Helper()
	r.wantGate(s, "optimize", "")
}

func TestRetriedBackupQueuesForAPlaceAgainAndNotDuringAHold(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Retry, c.MaxBackups = 3, 1
	r := newRig(t, bustest.Start(t), c)
	r.give(r.runNow("mariabackup", db1))
	r.gates(0)
	j := r.apply(r.last(db1, "mariabackup"), job.Offer, job.Start)
	r.give(r.runNow("mariabackup", db2))
	r.gates(0)
	r.wantGate(db2, "mariabackup", job.GateLimit)
	r.apply(j, job.Error)
	r.hold("prod", "")
	r.sweepAfter(time.Minute)
	r.want("mariabackup", job.Halted) // not while the cluster is closed
	r.lift("prod")
	r.sweepAfter(time.Second)
	r.wantGate(db1, "mariabackup", job.GateLimit)
	r.gates(0)
	r.wantGate(db1, "mariabackup", "") // its id is older
	r.wantGate(db2, "mariabackup", job.GateLimit)
}

var someTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A splay longer than the window would keep the servers at its end from ever running.
func TestSplayIsSharedOutOverAShorterWindow(t *testing.T) {
	t.Parallel()
	c, noon := night(t, WindowWait)
	opens := c.Windows.Opens(noon, c.Zone)
	span := c.Windows.Closes(opens, c.Zone).Sub(opens)
	c.Splay = 10 * span
	for i := range 200 {
		k := job.Key{Cluster: "prod", Server: job.Server{Host: fmt.Sprintf("db%d", i), Port: 3306}, Task: "mariabackup"}
		if d := c.delay(k, opens); d >= span {
			t.Fatalf("%s begins %s after the opening of a window of %s", k, d, span)
		}
	}
}

func TestSplayIsTheSameEveryDayAndSpreadOverItsSpan(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Splay = 10 * time.Minute
	buckets := make([]int, 10)
	for i := range 1000 {
		k := job.Key{Cluster: "prod", Server: job.Server{Host: fmt.Sprintf("db%d.example.com", i), Port: 3306}, Task: "mariabackup"}
		d := c.delay(k, someTime)
		if d != c.delay(k, someTime) || d < 0 || d >= c.Splay {
			t.Fatalf("delay of %s is %s", k, d)
		}
		buckets[d/time.Minute]++
	}
	for i, n := range buckets {
		if n < 60 || n > 140 {
			t.Errorf("%d of 1000 begin in minute %d: %v", n, i, buckets)
		}
	}
	if d := (Cluster{}).delay(job.Key{}, someTime); d != 0 {
		t.Errorf("delay %s without a splay", d)
	}
}

func TestSplayedJobIsCreatedAtItsTickAndOfferedLater(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Splay = time.Hour
	r := newRig(t, bustest.Start(t), c)
	e := r.due("optimize")
	r.give(e)
	delay := c.delay(job.Key{Cluster: "prod", Server: db1, Task: "optimize"}, e.Due)
	j := r.wantGate(db1, "optimize", job.GateSplay)
	if !j.NotBefore.Equal(e.Due.Add(delay)) || !strings.Contains(j.Reason, "scheduler-splay = 1h") || !strings.Contains(j.Reason, stamp(j.NotBefore, time.UTC)) {
		t.Fatalf("job is %+v, want a delay of %s", j, delay)
	}
	r.give(r.runNow("errorlog", db1)) // who asks by hand is not kept waiting
	r.wantGate(db1, "errorlog", "")
	r.gates(delay - time.Second)
	r.wantGate(db1, "optimize", job.GateSplay)
	r.gates(time.Second)
	if j := r.wantGate(db1, "optimize", ""); !j.Ready.Equal(r.now()) {
		t.Errorf("job is %+v", j)
	}
}

func TestWhatWaitedForAWindowIsSpreadWhenItOpens(t *testing.T) {
	t.Parallel()
	c, noon := night(t, WindowWait)
	c.Splay = 10 * time.Minute
	r := newRigAt(t, bustest.Start(t), noon, c)
	r.give(r.due("optimize"))
	r.wantGate(db1, "optimize", job.GateWindow)
	r.gates(10 * time.Hour)
	j := r.wantGate(db1, "optimize", job.GateSplay)
	if !j.NotBefore.Equal(r.now().Add(c.delay(j.Key(), r.now()))) {
		t.Errorf("not before %s", j.NotBefore)
	}
	r.gates(time.Second)
	if again := r.last(db1, "optimize"); again.Gated() && !again.NotBefore.Equal(j.NotBefore) {
		t.Errorf("the delay moved from %s to %s", j.NotBefore, again.NotBefore)
	}
	r.gates(10 * time.Minute)
	r.wantGate(db1, "optimize", "")
	r.wantGate(db2, "optimize", "")
}

func TestNextTellsWhatIsClosedAndWhichTicksFallOutside(t *testing.T) {
	t.Parallel()
	c, noon := night(t, WindowWait, Schedule{Task: "optimize", Spec: "0 0 21,23 * * *", Enabled: true})
	r := newRigAt(t, bustest.Start(t), noon, c)
	ask := func() bus.ScheduleInfo {
		t.Helper()
		rep, err := r.next(r.ctx)
		if err != nil || len(rep.Schedules) != 1 {
			t.Fatalf("%+v, %v", rep, err)
		}
		return rep.Schedules[0]
	}
	at := func(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 0, 0, 0, time.UTC) }
	got := ask()
	if got.Windows != "mon-fri 22:00-05:00" || got.Policy != "wait" || !strings.Contains(got.Closed, "outside") || !got.Opens.Equal(at(23, 22)) ||
		!slices.Equal(got.Outside, []time.Time{at(23, 21), at(24, 21), at(25, 21)}) {
		t.Errorf("%+v", got)
	}
	barred := func(gate job.Gate, due ...time.Time) {
		t.Helper()
		got := ask().Barred
		if !slices.EqualFunc(got, due, func(b bus.Barred, at time.Time) bool {
			return b.Due.Equal(at) && b.Gate == gate && b.Waits && b.Reason != ""
		}) {
			t.Errorf("barred are %+v", got)
		}
	}
	barred(job.GateWindow, got.Outside...)
	r.advance(11 * time.Hour)
	if got := ask(); got.Closed != "" || !got.Opens.IsZero() {
		t.Errorf("%+v", got)
	}
	r.hold("", "storage move")
	if got := ask(); !strings.Contains(got.Closed, "storage move") || !got.Opens.IsZero() {
		t.Errorf("%+v", got)
	}
	barred(job.GateHold, ask().Next...)
}
