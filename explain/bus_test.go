package explain_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/explain"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/scheduler"
	"drydock/store"
	"drydock/window"
)

func TestMain(m *testing.M) { bustest.Main(m) }

// What a scheduler writes is what the reasons are told apart by: should it name another gate, or describe in other words what a
// job waits for, what it decided would be put down to something else. So a real one decides here, and every message named
// must be in its stream.
func TestWhatARealSchedulerDecidedIsExplained(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // each explanation reads the bus, on a machine that may be busy
	defer cancel()
	began := time.Now()
	cluster := func(name, spec string) scheduler.Cluster {
		return scheduler.Cluster{
			Name: name, Servers: []job.Server{{Host: "10.0.1.5", Port: 3306}}, Mode: job.API, Zone: time.UTC, CatchUp: scheduler.CatchUpLast,
			MaxLateness: time.Hour, Lease: time.Minute, PickupTimeout: time.Hour, ClaimTimeout: time.Minute, CheckTimeout: time.Minute,
			Schedules: []scheduler.Schedule{
				{Task: "mariabackup", Spec: spec, Enabled: true},
				{Task: "optimize", Spec: spec, Why: "monitoring-scheduler is off"},
			},
		}
	}
	const often, rarely = "* * * * * *", "0 0 0 1 1 *"
	down, busy, held, shut := cluster("down", "0 * * * * *"), cluster("busy", often), cluster("held", often), cluster("shut", often)
	off := cluster("off", often)
	refused := cluster("refused", often)
	refused.Refuse = map[string]string{"mariabackup": "backup-physical-type is xtrabackup"}
	tomorrow := strings.ToLower(began.UTC().AddDate(0, 0, 2).Weekday().String()[:3])
	var err error
	if shut.Windows, err = window.Parse(tomorrow + " 00:00-01:00"); err != nil {
		t.Fatal(err)
	}
	waits := cluster("waits", rarely)
	waits.Windows = shut.Windows

	ledger := store.NewLedger(conn, "scheduler@before")
	// One ran ten minutes ago and was not there since.
	if _, _, _, err := ledger.Update(ctx, "down", "mariabackup", func(bus.Tick) (bus.Tick, bool) {
		past := began.Add(-10 * time.Minute).UTC()
		return bus.Tick{Outcome: bus.Armed, Due: past, Cursor: past, Spec: "0 * * * * *", Zone: "UTC", Reason: "switched on"}, true
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.NewControl(conn).SetHold(ctx, store.Hold{Cluster: "held", By: "alice", Reason: "storage move"}); err != nil {
		t.Fatal(err)
	}
	// Another cluster was looked after a minute ago: that no scheduler wrote anything would not be true.
	if _, _, _, err := ledger.Update(ctx, "elsewhere", "mariabackup", func(bus.Tick) (bus.Tick, bool) {
		return bus.Tick{Outcome: bus.Armed, Due: began.UTC(), Cursor: began.UTC(), Spec: rarely, Zone: "UTC", Reason: "switched on"}, true
	}); err != nil {
		t.Fatal(err)
	}
	stop := run(t, conn, down, busy, held, shut, refused, waits, off)
	bustest.Until(t, 30*time.Second, "the schedule is switched off", func() bool {
		_, err := store.NewControl(conn).SwitchOff(ctx, bus.Switch{Cluster: "off", Task: "mariabackup", By: "carol", Note: "bug 17"})
		return err == nil
	})

	find := func(cluster, task string, outcome bus.Outcome, by explain.Decider, text string) (last explain.Explanation) {
		t.Helper()
		bustest.Until(t, 2*time.Minute, cluster+": "+string(outcome)+" by "+string(by), func() bool {
			var err error
			if last, err = explain.Of(ctx, conn, cluster, task, began.Add(-20*time.Minute), time.Now()); err != nil {
				t.Fatal(err)
			}
			for _, x := range last.Ticks {
				if x.Outcome == outcome && x.By == by && strings.Contains(x.Why, text) {
					return true
				}
			}
			return false
		})
		for _, x := range last.Ticks {
			if x.Why == "" || x.By == "" {
				t.Errorf("no answer for %+v", x)
			}
			for _, m := range x.Behind {
				if s, err := conn.JS.Stream(ctx, m.Stream); err != nil {
					t.Error(err)
				} else if _, err := s.GetMsg(ctx, m.Seq); err != nil {
					t.Errorf("message %d of %s: %v", m.Seq, m.Stream, err)
				}
			}
		}
		return last
	}
	find("down", "mariabackup", bus.Missed, explain.ByCatchUp, "no scheduler ran")
	find("down", "mariabackup", bus.Late, explain.ByPickup, "waits to be offered since")
	find("busy", "mariabackup", bus.Skipped, explain.ByRunning, "is still queued")
	find("held", "mariabackup", bus.Skipped, explain.ByHold, "storage move")
	find("shut", "mariabackup", bus.Skipped, explain.ByWindow, tomorrow)
	find("refused", "mariabackup", bus.Fired, explain.ByConfig, "xtrabackup") // skipped a minute later, unless another scheduler knows better
	if e := find("off", "mariabackup", bus.Skipped, explain.ByOff, "by carol: bug 17"); len(e.Next) == 0 || e.Next[0].By != explain.ByOff {
		t.Errorf("what comes is told as %+v", e.Next)
	}
	find("busy", "optimize", explain.Off, explain.ByOff, "monitoring-scheduler")
	find("nowhere", "mariabackup", explain.Off, explain.ByConfig, "no schedule")
	if _, err := ledger.RunNow(ctx, "waits", "mariabackup", nil, "bob"); err != nil {
		t.Fatal(err)
	}
	find("waits", "mariabackup", bus.Fired, explain.ByPickup, "asked for by bob")
	stop()
	find("busy", "mariabackup", explain.Undecided, explain.ByAbsence, "no scheduler answers")
}

// run starts a scheduler; stop waits for its end.
func run(t *testing.T, conn *bus.Conn, clusters ...scheduler.Cluster) (stop func()) {
	t.Helper()
	const actor = "scheduler@test"
	view := store.NewView(conn)
	s, err := scheduler.New(scheduler.Config{Actor: actor, Log: bustest.Log(t), Clusters: clusters}, conn,
		store.NewJobs(conn, actor, view), store.NewLedger(conn, actor), view)
	if err != nil {
		t.Fatal(err)
	}
	return bustest.Run(t, view.Run, s.Run)
}
