package bus_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
)

// To start the jobs of ten thousand servers takes longer than the bus waits for a word. Without one a second hand would begin the same
// tick, or the first would have to give it up and begin again.
func TestWhatTakesLongInALaneIsKept(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	words, err := c.NC.SubscribeSync("$JS.ACK." + bus.StreamTasks + ".test.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Record(ctx, bus.StreamTasks, bus.TaskSubject("c", "optimize"), bus.NewMessageID(), note{1}); err != nil {
		t.Fatal(err)
	}
	release, done := make(chan struct{}), make(chan error, 1) // closed when the bus was told; of the worker
	go func() {
		done <- bus.WorkInLanes(ctx, c, bus.StreamTasks, "test", bus.AllTasks, bus.Lanes[note]{Of: func(note) string { return "a" }}, func(context.Context, bus.Meta, note) error {
			<-release
			return nil
		})
	}()
	for i, want := range []string{"+WPI", "+ACK"} {
		m, err := words.NextMsgWithContext(ctx)
		if err != nil || string(m.Data) != want {
			t.Fatalf("the bus is told %v (%v), want %s", m, err, want)
		}
		if i == 0 {
			close(release)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The ticks of one schedule must be taken in their order, one that takes long must not hold up the others, and thousands at once must
// not be thousands of hands.
func TestLanesKeepTheirOrderAndWaitForNoOther(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const lanes, each, width = 12, 4, 3
	for n := range each {
		for lane := range lanes {
			if err := c.Record(ctx, bus.StreamTasks, bus.TaskSubject("c", "optimize"), bus.NewMessageID(), note{100*n + lane}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var (
		mu         sync.Mutex
		got        [lanes][]int
		total      int
		busy, most int
		release    = make(chan struct{}) // closed when all but the slow lane are through
		done       = make(chan error, 1)
	)
	by := bus.Lanes[note]{Width: width, Of: func(n note) string { return string(rune('a' + n.N%100)) }}
	go func() {
		done <- bus.WorkInLanes(ctx, c, bus.StreamTasks, "test", bus.AllTasks, by, func(_ context.Context, _ bus.Meta, n note) error {
			mu.Lock()
			busy++
			most = max(most, busy)
			mu.Unlock()
			if n.N == 0 {
				<-release
			}
			mu.Lock()
			defer mu.Unlock()
			busy--
			got[n.N%100] = append(got[n.N%100], n.N/100)
			if total++; total == (lanes-1)*each {
				close(release)
			}
			return nil
		})
	}()
	bustest.Until(t, 20*time.Second, "all are handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return total == lanes*each
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if most > width {
		t.Errorf("%d at a time, want %d at most", most, width)
	}
	for lane, order := range got {
		if !slices.IsSorted(order) || len(order) != each {
			t.Errorf("lane %d: %v", lane, order)
		}
	}
}
