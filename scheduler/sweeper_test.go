package scheduler

import (
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
)

func progressOf(j job.Job) bus.Progress {
	return bus.Progress{
		Sign: bus.SignBytes, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt, Type: bus.TypeProgress,
	}
}

func TestJobWithoutSignOfLifeIsHaltedAndOneWithItLives(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	silent, alive := r.started("optimize", job.Offer, job.Start), r.started("mariabackup", job.Offer, job.Start)
	for range 10 {
		r.sweepAfter(time.Minute)
		r.signs.progress(progressOf(alive), r.clock())
	}
	r.want("optimize", job.Processing)
	r.sweepAfter(time.Second)
	if j := r.want("optimize", job.Halted); j.ID != silent.ID || j.Reason != "no sign of life for 10m" {
		t.Errorf("halted because %q", j.Reason)
	}
	r.want("mariabackup", job.Processing)
	r.sweepAfter(10 * time.Minute)
	r.want("mariabackup", job.Halted)
}

func TestSignOfAnOlderAttemptKeepsNothingAlive(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Retry = 1
	r := newRig(t, bustest.Start(t), c)
	first := r.started("optimize", job.Offer, job.Start, job.Error)
	r.apply(first, job.Retry)
	r.apply(r.last(db1, "optimize"), job.Offer, job.Start)
	for range 11 {
		r.advance(time.Minute)
		r.signs.progress(progressOf(first), r.clock())
	}
	r.sweepAfter(0)
	r.want("optimize", job.Halted)
}

// What is remembered of attempts must not grow with the past, and must not be lost for one that waits.
func TestAttemptsThatNoSweepShowsAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.started("optimize", job.Offer, job.Start, job.Cancel)
	waits := r.started("mariabackup", job.Offer)
	first := r.signs.of(waits, r.clock()).first
	r.sweepAfter(signsKept / 2)
	if len(r.signs.runs) < 2 {
		t.Error("forgotten, though it may only be new")
	}
	r.sweepAfter(signsKept)
	if _, known := r.signs.runs[waits.Run()]; !known || len(r.signs.runs) != 1 {
		t.Errorf("%d attempts are remembered, that which waits: %t", len(r.signs.runs), known)
	}
	if now := r.signs.of(waits, r.clock()).first; !now.Equal(first) {
		t.Errorf("it is known since %s, not %s", now, first)
	}
}

func TestSkippedTickIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.started("optimize", job.Offer, job.Start)
	r.advance(9 * time.Minute)
	r.give(r.runNow("optimize", db1)) // skipped: the job is live
	r.sweepAfter(time.Minute + time.Second)
	r.want("optimize", job.Halted)
}

func TestEvidenceIsASignOfLife(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	j := r.started("optimize", job.Offer, job.Start)
	r.advance(9 * time.Minute)
	r.edit(j, func(j *job.Job) { j.Evidence.GTID = "0-1-2" })
	r.sweepAfter(9 * time.Minute)
	r.want("optimize", job.Processing)
}

func TestRestartGivesEveryJobAFullLease(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	first := newRig(t, conn, testCluster())
	first.started("optimize", job.Offer, job.Start)
	first.started("errorlog")
	// hours later
	r := newRigAt(t, conn, first.clock().Add(5*time.Hour), testCluster())
	r.sweepAfter(9*time.Minute + 59*time.Second)
	r.want("optimize", job.Processing)
	r.want("errorlog", job.Queued)
	r.sweepAfter(2 * time.Second)
	r.want("optimize", job.Halted)
	r.want("errorlog", job.Queued)
	r.sweepAfter(time.Hour)
	r.want("errorlog", job.Expired)
}

func TestLostConnectionGivesEveryJobAFullLease(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	j := r.started("optimize", job.Offer, job.Start)
	r.advance(9 * time.Minute)
	r.background(r.runSweeper)
	if err := r.conn.NC.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, 10*time.Second, "a full lease", func() bool { return r.signs.of(j, r.clock()).last.Equal(r.clock()) })
	r.advance(9 * time.Minute)
	bustest.Until(t, 10*time.Second, "the connection", r.conn.NC.IsConnected)
	if err := r.sweep(r.ctx, r.clock()); err != nil {
		t.Fatal(err)
	}
	r.want("optimize", job.Processing)
}

func TestRunningSweeperHearsSignsOnTheBus(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Lease = 3 * time.Second
	r := newLiveRig(t, bustest.Start(t), "scheduler@test", c)
	r.started("optimize", job.Offer, job.Start)
	alive := r.started("mariabackup", job.Offer, job.Start)
	r.background(r.Run)
	bustest.Until(t, 20*time.Second, "the silent one's end", func() bool {
		if err := r.conn.Publish(bus.ProgressSubject("prod", db1.Host, db1.Port, "mariabackup"), progressOf(alive)); err != nil {
			t.Fatal(err)
		}
		return r.last(db1, "optimize").State == job.Halted
	})
	r.want("mariabackup", job.Processing)
}

func TestNobodyTookIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.started("errorlog")
	waiting := r.started("mariabackup", job.Offer, job.Withdraw)
	offered := r.started("optimize", job.Offer)
	r.sweepAfter(30 * time.Minute)
	r.want("optimize", job.Available)
	// Claimed and released in turn: the hour does not begin again each time.
	r.apply(offered, job.Claim)
	r.sweepAfter(2*time.Minute + time.Second)
	if j := r.want("optimize", job.Available); !strings.Contains(j.Reason, "no sign of life for 2m") {
		t.Errorf("released because %q", j.Reason)
	}
	r.sweepAfter(28 * time.Minute)
	for task, reason := range map[string]string{
		"errorlog":    "not offered within 1h: asked for by alice",
		"mariabackup": "not offered within 1h: test",
		"optimize":    "no script on 10.0.1.5:3306 asked for it within 1h",
	} {
		if j := r.want(task, job.Expired); j.Reason != reason {
			t.Errorf("%s expired because %q, want %q", task, j.Reason, reason)
		}
	}
	if j := r.last(db1, "mariabackup"); j.ID != waiting.ID {
		t.Error("another job took the slot")
	}
}

func TestHaltedJobIsTriedAgainAsOftenAsAllowed(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Retry = 2
	r := newRig(t, bustest.Start(t), c)
	r.started("optimize", job.Offer, job.Start, job.Error)
	r.sweepAfter(time.Second)
	r.want("optimize", job.Halted)
	r.sweepAfter(retryAfter)
	if j := r.want("optimize", job.Queued); j.Attempt != 2 || j.Reason != "attempt 2 of 3, after halted: test" {
		t.Errorf("attempt %d because %q", j.Attempt, j.Reason)
	}
	r.apply(r.last(db1, "optimize"), job.Offer, job.Done, job.Refute)
	r.sweepAfter(2*retryAfter + time.Second)
	if j := r.want("optimize", job.Queued); j.Attempt != 3 {
		t.Errorf("attempt %d", j.Attempt)
	}
	r.sweepAfter(time.Hour + time.Second) // nobody takes it
	r.want("optimize", job.Expired)
	r.sweepAfter(retryAtMost)
	r.want("optimize", job.Expired)
}

func TestOldOrSuccessfulOrCanceledJobIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := testCluster()
	c.Retry = 1
	for name, tc := range map[string]struct {
		j    job.Job
		want bool
	}{
		"halted":         {job.Job{State: job.Halted, Attempt: 1, Server: db1, Since: now.Add(-time.Minute)}, true},
		"failed":         {job.Job{State: job.Failed, Attempt: 1, Server: db1, Since: now.Add(-time.Minute)}, true},
		"expired":        {job.Job{State: job.Expired, Attempt: 1, Server: db1, Since: now.Add(-time.Minute)}, true},
		"just now":       {job.Job{State: job.Halted, Attempt: 1, Server: db1, Since: now}, false},
		"yesterday":      {job.Job{State: job.Halted, Attempt: 1, Server: db1, Since: now.Add(-24 * time.Hour)}, false},
		"second attempt": {job.Job{State: job.Halted, Attempt: 2, Server: db1, Since: now.Add(-time.Minute)}, false},
		"canceled":       {job.Job{State: job.Canceled, Attempt: 1, Server: db1, Since: now.Add(-time.Minute)}, false},
		"success":        {job.Job{State: job.Success, Attempt: 1, Server: db1, Since: now.Add(-time.Minute)}, false},
		"live":           {job.Job{State: job.Processing, Attempt: 1, Server: db1, Since: now.Add(-time.Minute)}, false},
		"server is gone": {job.Job{State: job.Halted, Attempt: 1, Server: job.Server{Host: "x"}, Since: now.Add(-time.Minute)}, false},
	} {
		if _, got := retry(tc.j, c, now); got != tc.want {
			t.Errorf("%s: tried again %v, want %v", name, got, tc.want)
		}
	}
}

func TestNewJobOfTheSlotIsNotReplacedByARetry(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Retry = 1
	r := newRig(t, bustest.Start(t), c)
	old := r.started("optimize", job.Offer, job.Start, job.Error)
	r.give(r.runNow("optimize", db1))
	// What the sweeper would do with a view that lags.
	ch, due := retry(old, c, r.advance(time.Minute))
	if !due {
		t.Fatal("no retry is due")
	}
	if err := r.changeUnlessMoved(r.ctx, old, ch); err != nil {
		t.Fatal(err)
	}
	if err := r.change(r.ctx, old, ch); err != nil {
		t.Fatal(err)
	}
	if j := r.want("optimize", job.Queued); j.ID == old.ID {
		t.Error("the old job took the slot back")
	}
}

func TestAJobThatWaitsForAnotherOfItsServerDoesNotExpire(t *testing.T) {
	t.Parallel()
	c := Cluster{PickupTimeout: time.Hour, Servers: []job.Server{{}}}
	now := time.Now()
	old := sign{first: now.Add(-5 * time.Hour), last: now.Add(-5 * time.Hour)}
	held := job.Job{State: job.Queued, Reason: job.HeldReason + "mariabackup has the server"}
	if ch, due := overdue(held, c, old, now); due {
		t.Errorf("behind a backup of five hours it is %s: %s", ch.Event, ch.Reason)
	}
	gone := held
	gone.Server = job.Server{Host: "gone", Port: 1}
	if ch, due := overdue(gone, c, old, now); !due || ch.Event != job.Expire {
		t.Error("a held job of a server that was taken out of the configuration lives for ever")
	}
	calledBack := job.Job{State: job.Available, Gate: job.GateHold}
	if ch, due := overdue(calledBack, c, old, now); due {
		t.Errorf("an offer called back by a hold is %s", ch.Event)
	}
	released := job.Job{State: job.Available, Ready: now.Add(-time.Minute)}
	if ch, due := overdue(released, c, old, now); due {
		t.Errorf("a minute after the backup it is %s: %s", ch.Event, ch.Reason)
	}
	released.Ready = now.Add(-2 * time.Hour)
	if _, due := overdue(released, c, old, now); !due {
		t.Error("nobody took it for two hours, and it does not expire")
	}
}

// The statement of a drydock that was killed goes on on the server: the next heavy job must not begin beside it.
func TestLeaseOfDrydocksOwnJobEndsWhenItsServerIsClear(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	var clear bool
	var asked []string
	r.clear = func(j job.Job) bool { asked = append(asked, j.Task); return clear }
	r.started("mariabackup", job.Offer, job.Start) // the script's: nothing to ask a server about
	own := r.edit(r.started("optimize", job.Offer, job.Start), func(j *job.Job) { j.Mode = job.Local })
	r.sweepAfter(10*time.Minute + time.Second)
	r.want("mariabackup", job.Halted)
	r.want("optimize", job.Processing)
	if len(asked) != 1 || asked[0] != "optimize" {
		t.Errorf("asked about %v", asked)
	}
	clear = true
	r.sweepAfter(time.Second)
	r.want("optimize", job.Halted)

	// A server that is gone for good does not keep the job for ever.
	clear = false
	r.apply(own, job.Retry)
	r.apply(r.last(db1, "optimize"), job.Offer, job.Start)
	r.sweepAfter(10*time.Minute + time.Second)
	r.want("optimize", job.Processing)
	r.sweepAfter(testCluster().PickupTimeout)
	r.want("optimize", job.Halted)
}

func TestWhatAPersonAskedForIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	server := job.Server{Host: "db1", Port: 3306}
	c := Cluster{Servers: []job.Server{server}, Retry: 3, MaxLateness: time.Hour}
	for task, want := range map[string]bool{"optimize": true, "stop": false, "start": false, "restart": false, "zfssnapback": false} {
		j := job.Job{Task: task, Server: server, State: job.Halted, Attempt: 1, Since: now.Add(-time.Minute)}
		if _, due := retry(j, c, now); due != want {
			t.Errorf("%s: tried again %v", task, due)
		}
	}
}

func TestAJobOfTheWholeClusterIsNoServerThatIsGone(t *testing.T) {
	t.Parallel()
	c := testCluster()
	now := time.Now()
	held := job.Job{State: job.Queued, Reason: job.HeldReason + "x", Cluster: c.Name, Task: "checksum", Created: now.Add(-100 * time.Hour)}
	if ch, yes := overdue(held, c, sign{first: now.Add(-100 * time.Hour), last: now.Add(-100 * time.Hour)}, now); yes {
		t.Errorf("one that waits for another job is ended: %+v", ch)
	}
	if !c.has("checksum", job.Server{}) || c.has("optimize", job.Server{Host: "gone", Port: 1}) {
		t.Error("the whole cluster is none of its own, or a stranger is")
	}
}
