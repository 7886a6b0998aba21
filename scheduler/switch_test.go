package scheduler

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// Each tick of a schedule that is switched off must be in the ledger with who did that, when and why; and none of them may be
// run afterwards, by whatever rule for catching up.
func TestTicksOfASwitchedOffScheduleAreSkippedAndNeverMadeUpFor(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time { return mustTime(t, "2026-11-22T"+text+"Z") }
	off := func(from, to string) bus.Switch {
		s := bus.Switch{Cluster: "prod", Task: "optimize", From: at(from), By: "alice", Note: "bug 17"}
		if to != "" {
			s.To = at(to)
		}
		return s
	}
	other := off("00:00:00", "")
	other.Task = "analyze"
	for name, c := range map[string]struct {
		catchUp string
		now     string
		off     store.Switches
		want    []string
	}{
		"another's":                     {CatchUpLast, "03:01:00", store.Switches{other}, []string{"fired 03:01:00"}},
		"off":                           {CatchUpLast, "03:01:00", store.Switches{off("02:00:00", "")}, []string{"skipped 03:01:00"}},
		"since this tick":               {CatchUpLast, "03:01:00", store.Switches{off("03:01:00", "")}, []string{"skipped 03:01:00"}},
		"on at this tick":               {CatchUpLast, "03:01:00", store.Switches{off("02:00:00", "03:01:00")}, []string{"fired 03:01:00"}},
		"on again":                      {CatchUpAll, "03:04:00", store.Switches{off("02:00:00", "03:02:30")}, []string{"skipped 03:01:00", "skipped 03:02:00", "late 03:03:00", "fired 03:04:00"}},
		"off after it was":              {CatchUpAll, "03:02:30", store.Switches{off("03:02:10", "")}, []string{"skipped 03:01:00", "skipped 03:02:00"}},
		"off twice":                     {CatchUpAll, "03:05:00", store.Switches{off("03:01:30", "03:02:30"), off("03:03:30", "03:04:30")}, []string{"late 03:01:00", "skipped 03:02:00", "late 03:03:00", "skipped 03:04:00", "fired 03:05:00"}},
		"the last one is not caught up": {CatchUpLast, "03:04:50", store.Switches{off("03:02:30", "03:04:40")}, []string{"missed 03:01:00", "late 03:02:00", "skipped 03:03:00", "skipped 03:04:00"}},
		"none is":                       {CatchUpLast, "03:02:50", store.Switches{off("03:00:30", "03:02:40")}, []string{"skipped 03:01:00", "skipped 03:02:00"}},
		"a crowd":                       {CatchUpLast, "06:00:00", store.Switches{off("02:00:00", "")}, append([]string{"skipped 03:01:00-04:20:00 x80"}, each("skipped", at("04:21:00"), at("06:00:00"))...)},
		"in a longer absence": {CatchUpNone, "06:30:30", store.Switches{off("05:00:30", "06:29:30")}, slices.Concat([]string{"missed 03:01:00-03:20:00 x20"},
			each("missed", at("03:21:00"), at("05:00:00")), each("skipped", at("05:01:00"), at("06:29:00")), []string{"missed 06:30:00"})},
	} {
		p := planOf(t, "0 * * * * *", "UTC", c.catchUp)
		p.maxLateness = 24 * time.Hour
		now := at(c.now)
		last, got := ledgerOf(p, at("03:00:00")), []bus.Tick{}
		for {
			x, ok := p.decide(last, now, now, c.off)
			if !ok {
				break
			}
			if x.Spec == "" {
				x.Spec, x.Zone = last.Spec, last.Zone
			}
			got, last = append(got, x), x
		}
		if !slices.Equal(brief(got), c.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, brief(got), c.want)
		}
		for _, x := range got {
			if x.Outcome == bus.Skipped && (x.Gate != job.GateOff || !strings.Contains(x.Reason, "switched off ") || !strings.Contains(x.Reason, "by alice: bug 17")) {
				t.Errorf("%s: skipped by %q: %s", name, x.Gate, x.Reason)
			}
			if x.Outcome == bus.Missed && x.Gate == "" {
				t.Errorf("%s: missed without a gate: %s", name, x.Reason)
			}
		}
	}
}

// A switch is obeyed by whichever scheduler comes, after a restart and a reload too, and let go by the tick after it ended.
func TestASwitchHoldsForEverySchedulerAndOutlivesReloadsAndRestarts(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	often := Schedule{Task: "optimize", Spec: "* * * * * *", Enabled: true}
	still := Schedule{Task: "analyze", Spec: "* * * * * *", Enabled: false, Why: "scheduler-db-servers-analyze is false"}
	c := testCluster(often, still)
	a := newLiveRig(t, conn, "scheduler@a", c)
	control := store.NewControl(conn)
	off := bus.Switch{Cluster: "prod", Task: "optimize", By: "alice", Note: "bug 17"}
	if _, err := control.SwitchOff(a.ctx, off); !errors.Is(err, bus.ErrNobody) {
		t.Errorf("without a scheduler: %v", err)
	}
	stop := a.background(a.Run)
	byOff := func(e bus.Tick) bool { return e.Outcome == bus.Skipped && e.Gate == job.GateOff }
	var mu sync.Mutex
	var ledger []bus.Tick
	a.background(func(ctx context.Context) error {
		return bus.Follow(ctx, conn, bus.StreamTasks, bus.AllTasks, bus.From{}, func(_ bus.Meta, e bus.Tick) error {
			mu.Lock()
			defer mu.Unlock()
			ledger = append(ledger, e)
			return nil
		}, nil)
	})
	count := func(which func(bus.Tick) bool) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range ledger {
			if which(e) {
				n++
			}
		}
		return n
	}
	bustest.Until(t, 30*time.Second, "a tick", func() bool { return count(func(e bus.Tick) bool { return e.Outcome.Starts() }) > 0 })
	for task, want := range map[string]string{"analyze": "scheduler-db-servers-analyze is false", "reseedlogical": "has none for reseedlogical"} {
		if _, err := control.SwitchOff(a.ctx, bus.Switch{Cluster: "prod", Task: task, By: "alice"}); !errors.Is(err, store.ErrNoSchedule) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", task, err)
		}
	}
	if _, err := control.SwitchOn(a.ctx, "prod", "optimize", "bob"); !errors.Is(err, store.ErrSwitched) {
		t.Errorf("on while it is on: %v", err)
	}
	was, err := control.SwitchOff(a.ctx, off)
	if err != nil || was.From.IsZero() || !was.To.IsZero() {
		t.Fatalf("%+v, %v", was, err)
	}
	if again, err := control.SwitchOff(a.ctx, off); err != nil || again != was {
		t.Errorf("asked for twice: %+v, %v", again, err)
	}
	other := off
	other.By = "bob"
	if _, err := control.SwitchOff(a.ctx, other); !errors.Is(err, store.ErrSwitched) || !strings.Contains(err.Error(), "by alice") {
		t.Errorf("by another: %v", err)
	}
	skipped := func() {
		t.Helper()
		had := count(byOff)
		bustest.Until(t, 30*time.Second, "one more tick is skipped", func() bool { return count(byOff) >= had+1 })
	}
	skipped()
	if err := a.Reload(Config{Actor: "scheduler@a", Clusters: []Cluster{c}}); err != nil {
		t.Fatal(err)
	}
	skipped()
	rep, err := a.next(a.ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rep.Schedules, func(s bus.ScheduleInfo) bool { return s.Task == "optimize" })
	if s := rep.Schedules[i]; s.Switch == nil || *s.Switch != was || !s.Enabled || len(s.Next) != 5 || len(s.Barred) != 5 || s.Barred[0].Gate != job.GateOff || s.Barred[0].Waits {
		t.Errorf("it is told as %+v", s)
	}
	stop()
	b := newLiveRig(t, conn, "scheduler@b", c)
	b.background(b.Run)
	skipped()
	ended, err := control.SwitchOn(context.Background(), "prod", "optimize", "bob")
	if err != nil || ended.OnBy != "bob" || ended.By != "alice" {
		t.Fatalf("%+v, %v", ended, err)
	}
	ranAgain := func(e bus.Tick) bool { return e.Outcome.Starts() && e.Time.After(ended.To) }
	bustest.Until(t, 30*time.Second, "a tick after it", func() bool { return count(ranAgain) > 0 })
	mu.Lock()
	defer mu.Unlock()
	for _, e := range ledger {
		if wasOff := !e.Due.Before(was.From) && e.Due.Before(ended.To); wasOff != byOff(e) {
			t.Errorf("%s %s (%s), off from %s to %s", e.Due, e.Outcome, e.Reason, was.From, ended.To)
		}
	}
}
