package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"drydock/bus"
	"drydock/internal/bustest"
)

// Jobs of a large fleet are written in groups. A group in which one expectation fails must neither write that one nor lose
// the others, and the sequence that a caller gets must be its own message's: the next change is made on it.
func TestWritesOfACrowdAreEachComparedAndSwapped(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	const slots = 100
	rounds := []int{1, 3, 1} // writers for each slot: a group without rivals is written as one, and what is told then is what the next builds on
	var seqs [slots]atomic.Uint64
	var lost atomic.Int32
	write := func(slot int, last uint64, n int) {
		seq, err := c.Append(ctx, bus.StreamJobs, bus.JobSubject("c", "h", slot, "optimize"), bus.NewMessageID(), last, note{n})
		switch {
		case err == nil:
			if !seqs[slot].CompareAndSwap(last, seq) {
				t.Errorf("slot %d: two won", slot)
			}
		case errors.Is(err, bus.ErrConflict):
			lost.Add(1)
		default:
			t.Error(err)
		}
	}
	for round, writers := range rounds {
		var wg sync.WaitGroup
		for slot := range slots {
			last := seqs[slot].Load()
			for range writers {
				wg.Go(func() { write(slot, last, 1000*round+slot) })
			}
		}
		wg.Wait()
	}
	if want := int32(2 * slots); lost.Load() != want {
		t.Errorf("%d lost, want %d", lost.Load(), want)
	}
	for slot := range slots {
		v, seq, err := bus.Last[note](ctx, c, bus.StreamJobs, bus.JobSubject("c", "h", slot, "optimize"))
		if err != nil || seq != seqs[slot].Load() || v.N != 2000+slot {
			t.Errorf("slot %d: %v at %d, %v; told %d", slot, v, seq, err, seqs[slot].Load())
		}
	}
	if n, err := c.LastSeq(ctx, bus.StreamJobs); err != nil || n != 3*slots {
		t.Errorf("%d messages, %v; want %d", n, err, 3*slots)
	}
	grouped := 0
	stream, err := c.JS.Stream(ctx, bus.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(3 * slots) {
		m, err := stream.GetMsg(ctx, seq+1)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("Nats-Batch-Id") != "" {
			grouped++
		}
	}
	if grouped < slots { // of the two rounds without rivals nearly all; otherwise every group fell back to single writes
		t.Errorf("only %d messages were written in groups", grouped)
	}
}

// One writer of a group that is late must not make hundreds of others write one by one: each of them would pay for a sync.
func TestOneConflictInACrowdDoesNotScatterIt(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	const slots, late = 400, 200
	subject := func(slot int) string { return bus.JobSubject("c", "h", slot, "optimize") }
	if _, err := c.Append(ctx, bus.StreamJobs, subject(late), bus.NewMessageID(), 0, note{1}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for slot := range slots {
		wg.Go(func() {
			_, err := c.Append(ctx, bus.StreamJobs, subject(slot), bus.NewMessageID(), 0, note{slot})
			if errors.Is(err, bus.ErrConflict) != (slot == late) || slot != late && err != nil {
				t.Errorf("slot %d: %v", slot, err)
			}
		})
	}
	wg.Wait()
	stream, err := c.JS.Stream(ctx, bus.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.LastSeq; n != slots {
		t.Errorf("%d messages, want %d", n, slots)
	}
	alone := 0
	for seq := range uint64(slots) {
		m, err := stream.GetMsg(ctx, seq+1)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("Nats-Batch-Id") == "" {
			alone++
		}
	}
	if alone > slots/4 { // those around the late one, and who came first
		t.Errorf("%d of %d messages were written alone", alone, slots)
	}
}

// An older drydock on the same bus declares the stream without batches. Then each message must be written all the same, and a group
// must not be tried again and again, in smaller and smaller parts.
func TestACrowdThatMayNotWriteInGroupsTriesEachOnce(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	stream, err := c.JS.Stream(ctx, bus.StreamTasks)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.AllowAtomicPublish = false
	if _, err := c.JS.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	const slots = 400
	before := c.NC.Stats().OutMsgs
	var wg sync.WaitGroup
	for slot := range slots {
		wg.Go(func() {
			if _, err := c.Append(ctx, bus.StreamTasks, bus.TaskSubject(fmt.Sprintf("c%d", slot), "optimize"), bus.NewMessageID(), 0, note{slot}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// A message each, and one more for each group, of three at least.
	if n := c.NC.Stats().OutMsgs - before; n > slots+slots/3+1 {
		t.Errorf("%d messages were sent for %d appends", n, slots)
	}
	if n, err := c.LastSeq(ctx, bus.StreamTasks); err != nil || n != slots {
		t.Errorf("%d messages, %v; want %d", n, err, slots)
	}
}

// A caller that gives up while others lead must not leave the line without a leader: nobody would ever write again.
func TestACallerThatGivesUpHoldsUpNobody(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	var wg sync.WaitGroup
	for slot := range 200 {
		wg.Go(func() {
			own, cancel := context.WithCancel(ctx)
			defer cancel()
			if slot%2 == 0 {
				go cancel() // now or a moment later
			}
			_, err := c.Append(own, bus.StreamJobs, bus.JobSubject("c", "h", slot, "optimize"), bus.NewMessageID(), 0, note{slot})
			if err != nil && slot%2 == 1 {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := c.Append(ctx, bus.StreamJobs, bus.JobSubject("c", "h", 1000, "optimize"), bus.NewMessageID(), 0, note{1}); err != nil {
		t.Error(err)
	}
}
