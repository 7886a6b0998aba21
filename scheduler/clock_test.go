package scheduler

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestFailedRunNeverDisarmsTheSchedule(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster(hourly("optimize")))
	r.tick("optimize")
	for n := range 3 {
		r.advance(r.setup.Load().plans[slot{"prod", "optimize"}].cal.Next(r.clock()).Sub(r.clock()))
		r.tick("optimize")
		r.deliver()
		if got := len(r.history()); got != (n+1)*2 {
			t.Fatalf("%d jobs after tick %d, want two per tick", got, n+1)
		}
		r.apply(r.last(db1, "optimize"), job.Offer, job.Start, job.Error)
		r.apply(r.last(db2, "optimize"), job.Offer, job.Done, job.Refute)
	}
	want := []bus.Outcome{bus.Armed, bus.Fired, bus.Fired, bus.Fired}
	if got := r.outcomes(); !slices.Equal(got, want) {
		t.Errorf("ledger has %v, want %v", got, want)
	}
}

func TestTicksOfAnAbsenceAreRecordedAndCaughtUp(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	first := newRig(t, conn, testCluster(hourly("optimize")))
	first.tick("optimize")

	// Another process, hours later.
	r := newRig(t, conn, testCluster(hourly("optimize")))
	r.advance(r.setup.Load().plans[slot{"prod", "optimize"}].cal.Next(r.clock()).Sub(r.clock()) + 3*time.Hour + 20*time.Minute)
	r.up = r.clock()
	r.tick("optimize")
	want := []bus.Outcome{bus.Armed, bus.Missed, bus.Missed, bus.Missed, bus.Late}
	if got := r.outcomes(); !slices.Equal(got, want) {
		t.Fatalf("ledger has %v, want %v", got, want)
	}
	late := r.entries()[4]
	r.give(late)
	j := r.want("optimize", job.Queued)
	if j.Trigger.Kind != job.CatchUp || !strings.Contains(j.Reason, "no scheduler ran at") || !j.Due.Equal(late.Due) {
		t.Errorf("the job that makes up for it is %+v", j)
	}
	r.tick("optimize")
	if got := r.outcomes(); len(got) != len(want) {
		t.Errorf("looking again decided again: %v", got)
	}
}

func TestClockSteppingBackFiresNothingTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster(hourly("optimize")))
	r.tick("optimize")
	r.advance(r.setup.Load().plans[slot{"prod", "optimize"}].cal.Next(r.clock()).Sub(r.clock()))
	r.tick("optimize")
	for _, d := range []time.Duration{-time.Hour, 30 * time.Minute, 30 * time.Minute} {
		r.advance(d)
		r.tick("optimize")
	}
	if got, want := r.outcomes(), []bus.Outcome{bus.Armed, bus.Fired}; !slices.Equal(got, want) {
		t.Errorf("ledger has %v, want %v", got, want)
	}
}

// Two schedulers run on one bus, with a worker that does every job at once: each second one entry, each entry one job
// per server, and every job done.
func TestTwoSchedulersStartEachTickOnce(t *testing.T) {
	t.Parallel()
	server, conn := bustest.StartServer(t, bus.ServerConfig{})
	second, err := bus.ConnectInProcess(server, "second", bustest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.NC.Close() })
	c := testCluster(Schedule{Task: "optimize", Spec: "* * * * * *", Enabled: true})
	a, b := newLiveRig(t, conn, "scheduler@a", c), newLiveRig(t, second, "scheduler@b", c)
	work(a)
	stops := []func(){a.background(a.Run), b.background(b.Run)}

	fired := func(out []bus.Outcome) (n int) {
		for _, o := range out {
			if o.Starts() {
				n++
			}
		}
		return n
	}
	bustest.Until(t, 40*time.Second, "four ticks", func() bool { return fired(a.outcomes()) >= 4 })
	for _, stop := range stops {
		stop()
	}
	bustest.Until(t, 15*time.Second, "the worker's end", func() bool {
		return len(a.view.Select(func(j job.Job) bool { return j.State == job.Queued })) == 0
	})

	jobs := map[string]int{}
	for _, j := range a.history() {
		jobs[j.Tick+j.Server.String()]++
	}
	var due time.Time
	for _, e := range a.entries() {
		switch e.Outcome {
		case bus.Armed:
			if !due.IsZero() {
				t.Error("armed twice")
			}
		case bus.Fired, bus.Late, bus.Missed:
			if !due.IsZero() && !e.Due.Equal(due.Add(time.Second)) {
				t.Errorf("tick %v follows %v", e.Due, due)
			}
			if e.Count > 0 {
				t.Errorf("a summary: %+v", e.Tick)
			}
			due = e.Due
		}
	}
	for run, n := range jobs {
		if n != 1 {
			t.Errorf("tick and server %s have %d jobs", run, n)
		}
	}
	if len(jobs) == 0 {
		t.Error("no job ran")
	}
}

// work does every queued job of the rig's bus at once, as the gateway and a script would.
func work(r *rig) {
	view := store.NewView(r.conn)
	jobs := store.NewJobs(r.conn, "gateway@test", view)
	queued := make(chan job.Job, 1000) // more jobs than a test makes
	known := map[string]bool{}         // a note on a queued job, as of what it waits for, is an event of that state, too
	view.OnChange(func(ev bus.JobEvent) {
		if ev.State == job.Queued && !known[ev.Job.ID] {
			known[ev.Job.ID] = true
			queued <- ev.Job
		}
	})
	r.background(view.Run)
	r.background(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case j := <-queued:
				for _, e := range []job.Event{job.Offer, job.Start, job.Done} {
					if _, err := jobs.Apply(ctx, store.RefOf(j), store.Change{Event: e}); err != nil && ctx.Err() == nil {
						return err
					}
				}
			}
		}
	})
}

func TestReloadKeepsTheOldConfigurationWhenTheNewOneIsBad(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster(hourly("optimize"), hourly("errorlog")))
	r.tick("optimize")
	r.tick("errorlog")
	bad := testCluster(Schedule{Task: "optimize", Spec: "0 61 * * * *", Enabled: true})
	if err := r.Reload(Config{Actor: "x", Clusters: []Cluster{bad}}); err == nil || !strings.Contains(err.Error(), "minutes") {
		t.Errorf("reload with a bad cron says %v", err)
	}
	if p := r.setup.Load().plans[slot{"prod", "optimize"}]; p.spec != "0 0 * * * *" {
		t.Errorf("the bad spec %q is in force", p.spec)
	}

	// optimize is changed, errorlog leaves.
	if err := r.Reload(Config{Clusters: []Cluster{testCluster(Schedule{Task: "optimize", Spec: "0 30 * * * *", Enabled: true})}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.tick("optimize")
		r.tick("errorlog")
	}
	want := []bus.Outcome{bus.Armed, bus.Armed, bus.Armed, bus.Disarmed}
	if got := r.outcomes(); !slices.Equal(got, want) {
		t.Errorf("ledger has %v, want %v", got, want)
	}
	rep, err := r.next(r.ctx)
	if err != nil || len(rep.Schedules) != 1 {
		t.Errorf("schedules after the reload: %+v, %v", rep.Schedules, err)
	}
}

func TestRunningClockTakesAReloadUp(t *testing.T) {
	t.Parallel()
	r := newLiveRig(t, bustest.Start(t), "scheduler@test", testCluster(hourly("optimize")))
	r.background(r.Run)
	bustest.Until(t, 10*time.Second, "armed", func() bool { return len(r.outcomes()) == 1 })
	if err := r.Reload(Config{Clusters: []Cluster{testCluster(Schedule{Task: "optimize", Spec: "* * * * * *", Enabled: true})}}); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, 10*time.Second, "a tick of the new schedule", func() bool { return slices.Contains(r.outcomes(), bus.Fired) })
}

func TestNextIsAnsweredOverTheBus(t *testing.T) {
	t.Parallel()
	sleeping := Schedule{Task: "mariabackup", Spec: "0 0 1 * * *", Why: "scheduler-db-servers-physical-backup is false"}
	r := newLiveRig(t, bustest.Start(t), "scheduler@test", testCluster(hourly("optimize"), sleeping))
	r.background(r.Run)
	var rep bus.NextReply
	bustest.Until(t, 10*time.Second, "the service with a cursor", func() bool {
		var err error
		rep, err = bus.Request[bus.NextReply](r.ctx, r.conn, bus.SubjectNext, struct{}{})
		return err == nil && len(rep.Schedules) == 2 && !rep.Schedules[1].Cursor.IsZero()
	})
	backup, optimize := rep.Schedules[0], rep.Schedules[1]
	if backup.Task != "mariabackup" || backup.Enabled || backup.Why != sleeping.Why || !slices.Equal(backup.Servers, []job.Server{db2}) {
		t.Errorf("the schedule that is off is %+v", backup)
	}
	if len(optimize.Next) != 5 || optimize.Next[0].Minute() != 0 || !slices.Equal(optimize.Servers, []job.Server{db1, db2}) {
		t.Errorf("the schedule that is on is %+v", optimize)
	}
}

func TestBadConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	for want, harm := range map[string]func(*Cluster){
		"no name":        func(c *Cluster) { c.Name = "" },
		"no servers":     func(c *Cluster) { c.Servers = nil },
		"no time zone":   func(c *Cluster) { c.Zone = nil },
		"mode \"ssh\"":   func(c *Cluster) { c.Mode = "ssh" },
		"catch-up":       func(c *Cluster) { c.CatchUp = "most" },
		"positive":       func(c *Cluster) { c.Lease = 0 },
		"retry -1":       func(c *Cluster) { c.Retry = -1 },
		"backup server":  func(c *Cluster) { c.BackupServers = []job.Server{{Host: "elsewhere", Port: 1}} },
		"unknown task":   func(c *Cluster) { c.Schedules = []Schedule{hourly("vacuum")} },
		"cannot be":      func(c *Cluster) { c.Schedules = []Schedule{hourly("zfssnapback")} },
		"named twice":    func(c *Cluster) { c.Schedules = []Schedule{hourly("optimize"), hourly("optimize")} },
		"day of month":   func(c *Cluster) { c.Schedules = []Schedule{{Task: "optimize", Spec: "0 0 0 32 * *", Enabled: true}} },
		"schedule \"opt": func(c *Cluster) { c.Schedules = []Schedule{{Task: "optimize", Enabled: true}} },
	} {
		c := testCluster()
		harm(&c)
		view := store.NewView(conn)
		_, err := New(Config{Actor: "scheduler@test", Clusters: []Cluster{c}}, conn, store.NewJobs(conn, "x", view), store.NewLedger(conn, "x"), view)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
