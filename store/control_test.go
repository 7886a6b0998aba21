package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestHoldsOfFleetAndClusterAreSeparateAndSettingTwiceKeepsTheFirst(t *testing.T) {
	t.Parallel()
	ctx, c := bustest.Context(t), store.NewControl(bustest.Start(t))
	if all, err := c.Closures(ctx); err != nil || len(all.Holds)+len(all.Blackouts) != 0 {
		t.Fatalf("%+v, %v", all, err)
	}
	first, err := c.SetHold(ctx, store.Hold{Cluster: "prod", Reason: "move", By: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.SetHold(ctx, store.Hold{Cluster: "prod", Reason: "move", By: "alice"}); err != nil || again != first {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := c.SetHold(ctx, store.Hold{Cluster: "prod", Reason: "longer move", By: "bob"}); err != nil {
		t.Error(err)
	}
	if _, err := c.SetHold(ctx, store.Hold{By: "carol"}); err != nil {
		t.Error(err)
	}
	all, err := c.Closures(ctx)
	if err != nil || len(all.Holds) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if h, ok := all.Hold("test"); !ok || h.By != "carol" {
		t.Errorf("the fleet's hold is not on every cluster: %+v", h)
	}
	if lifted, err := c.LiftHold(ctx, ""); err != nil || lifted.By != "carol" {
		t.Errorf("%+v, %v", lifted, err)
	}
	if _, err := c.LiftHold(ctx, ""); !errors.Is(err, store.ErrNoClosure) {
		t.Errorf("lifting none: %v", err)
	}
	all, _ = c.Closures(ctx)
	if why, shut := all.Shut("prod", time.Now()); !shut || why == "" {
		t.Error("the cluster's own hold was lifted with the fleet's")
	}
	if why, shut := all.Shut("test", time.Now()); shut {
		t.Error(why)
	}
}

func TestBlackoutsAreCheckedAndFoundByTime(t *testing.T) {
	t.Parallel()
	ctx, c := bustest.Context(t), store.NewControl(bustest.Start(t))
	now := time.Now()
	for _, b := range []store.Blackout{
		{}, {From: now}, {To: now.Add(time.Hour)}, {From: now.Add(2 * time.Hour), To: now.Add(time.Hour)},
		{From: now.Add(-2 * time.Hour), To: now.Add(-time.Hour)}, {From: now.Add(time.Hour), To: now.Add(time.Hour)},
	} {
		if _, err := c.AddBlackout(ctx, b); !errors.Is(err, store.ErrBlackout) {
			t.Errorf("%+v: %v", b, err)
		}
	}
	add := func(cluster string, from, to time.Duration) store.Blackout {
		t.Helper()
		b, err := c.AddBlackout(ctx, store.Blackout{Cluster: cluster, From: now.Add(from), To: now.Add(to), By: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	late, fleet, longer := add("prod", 5*time.Hour, 6*time.Hour), add("", 0, time.Hour), add("prod", time.Minute, 2*time.Hour)
	all, err := c.Closures(ctx)
	if err != nil || len(all.Blackouts) != 3 || all.Blackouts[0].ID != fleet.ID || all.Blackouts[2].ID != late.ID {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, x := range []struct {
		cluster string
		at      time.Duration
		want    string
	}{
		{"prod", 0, fleet.ID}, {"test", 30 * time.Minute, fleet.ID}, {"prod", 30 * time.Minute, longer.ID},
		{"prod", time.Hour, longer.ID}, {"test", time.Hour, ""}, {"prod", 2 * time.Hour, ""}, {"prod", -time.Second, ""},
	} {
		if b, ok := all.Blackout(x.cluster, now.Add(x.at)); b.ID != x.want || ok != (x.want != "") {
			t.Errorf("%s at %s: %+v, %v", x.cluster, x.at, b, ok)
		}
	}
	if _, err := c.RemoveBlackout(ctx, longer.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.RemoveBlackout(ctx, longer.ID); !errors.Is(err, store.ErrNoClosure) {
		t.Errorf("removing it twice: %v", err)
	}
}

func TestConcurrentOrdersAreAllKept(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	ctx := bustest.Context(t)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			c := store.NewControl(conn)
			if _, err := c.SetHold(ctx, store.Hold{Cluster: fmt.Sprint("c", i), By: "x"}); err != nil {
				t.Error(err)
			}
			err := c.Places(ctx, "prod", func(p *store.Places) (bool, error) {
				p.Taken = append(p.Taken, store.Place{Run: fmt.Sprint(i)})
				return true, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := store.NewControl(conn).Closures(ctx)
	if err != nil || len(all.Holds) != 6 {
		t.Errorf("%+v, %v", all, err)
	}
	_ = store.NewControl(conn).Places(ctx, "prod", func(p *store.Places) (bool, error) {
		if len(p.Taken) != 6 {
			t.Errorf("%+v", p)
		}
		return false, nil
	})
}

func TestAForcedRunSaysSoInTickAndReason(t *testing.T) {
	t.Parallel()
	tick, err := store.NewLedger(bustest.Start(t), "gw").RunForced(context.Background(), "prod", "optimize", nil, "dba")
	if err != nil || tick.Trigger != (job.Trigger{Kind: job.Manual, By: "dba", Force: true}) || tick.Reason != "forced by dba" {
		t.Errorf("%+v, %v", tick, err)
	}
}
