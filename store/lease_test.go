package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/store"
)

func TestLeaseIsHeldByOneUntilItStandsStill(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	ctx := bustest.Context(t)
	const term = 200 * time.Millisecond
	a, b := store.NewLeases(c, "scheduler@a", term), store.NewLeases(c, "scheduler@b", term)
	held, err := a.Take(ctx, "db1", 22, "_ssh")
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * term); time.Now().Before(end); {
		if _, err := b.Take(ctx, "db1", 22, "_ssh"); !errors.Is(err, store.ErrHeld) {
			t.Fatalf("a renewed lease was taken: %v", err)
		}
		if err := held.Renew(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if other, err := b.Take(ctx, "db2", 22, "_ssh"); err != nil {
		t.Errorf("another host: %v", err)
	} else if err := other.Release(ctx); err != nil {
		t.Error(err)
	}

	var taken *store.Lease // nobody renews it any more
	bustest.Until(t, 10*time.Second, "taken over", func() bool {
		taken, err = b.Take(ctx, "db1", 22, "_ssh")
		return err == nil
	})
	if err := held.Renew(ctx); !errors.Is(err, store.ErrLost) {
		t.Errorf("renew after it was lost: %v", err)
	}
	if held.Release(ctx) == nil {
		t.Error("the lease of another was given back")
	}
	if err := taken.Renew(ctx); err != nil {
		t.Error(err)
	}
	if err := taken.Release(ctx); err != nil {
		t.Error(err)
	}
	again, err := a.Take(ctx, "db1", 22, "_ssh")
	if err != nil {
		t.Fatalf("after it was given back: %v", err)
	}
	if _, err := store.NewLeases(c, "scheduler@a", time.Hour).Take(ctx, "db1", 22, "_ssh"); err != nil {
		t.Errorf("the same owner after a crash: %v", err)
	}
	if err := again.Renew(ctx); err != nil { // the same owner: no harm
		t.Error(err)
	}
}

// Of two processes that take a lease which was just given back one is late. Servers that keep copies say so in another way than one
// alone: it was an error in the log, as if a host could not be reached.
func TestALeaseThatWasGivenBackIsHeldByOneOnABusWithCopies(t *testing.T) {
	t.Parallel()
	c := bustest.StartCluster(t, bus.BucketState)
	ctx := bustest.Context(t)
	both := []*store.Leases{store.NewLeases(c, "scheduler@a", time.Hour), store.NewLeases(c, "scheduler@b", time.Hour)}
	for round := range 20 {
		var wg sync.WaitGroup
		var got [2]*store.Lease
		var errs [2]error
		for i, l := range both {
			wg.Go(func() { got[i], errs[i] = l.Take(ctx, "db1", 22, "_ssh") })
		}
		wg.Wait()
		for i, lease := range got {
			other := errs[1-i]
			if lease == nil {
				continue
			}
			if err := lease.Release(ctx); err != nil {
				t.Fatal(err)
			}
			if !errors.Is(other, store.ErrHeld) {
				t.Fatalf("round %d: the other one got %v", round, other)
			}
		}
	}
}

// What another process has written is in the way before it can be read, on servers that keep copies: ten tries in a row were over
// meanwhile, and an operator was told that the bus is busy.
func TestManyWhoChangeOneDocumentAllGetTheirTurnOnABusWithCopies(t *testing.T) {
	t.Parallel()
	c := bustest.StartCluster(t, bus.BucketControl)
	ctx := bustest.Context(t)
	const writers, each = 3, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			control, now := store.NewControl(c), time.Now()
			for range each {
				if _, err := control.AddBlackout(ctx, store.Blackout{Cluster: "prod", From: now, To: now.Add(time.Hour), By: "ops"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// Unlike drydock's own, the bucket of this test is read from any of the copies, which may lag.
	bustest.Until(t, 20*time.Second, "every blackout is there", func() bool {
		all, err := store.NewControl(c).Closures(ctx)
		return err == nil && len(all.Blackouts) == writers*each
	})
}
