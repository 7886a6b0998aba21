package bus_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/internal/bustest"
)

// A receiver that had the whole of a stream asked for its job while a server of the bus stopped, and gave all of the ten minutes that it
// had for the publication to a question that nobody would answer. Repetitions waited behind it.
func TestAQuestionThatNobodyAnswersIsGivenUpLongBeforeTheWork(t *testing.T) {
	t.Parallel()
	s, own := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0"})
	var still atomic.Bool
	c, err := bus.ConnectRemote(bus.Remote{URL: "nats://" + swallowing(t, s.Addr(), &still), User: "drydock", Password: "test"}, "t", bustest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.NC.Close()
	const work = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), work)
	defer cancel()
	kv, err := c.Bucket(ctx, bus.BucketState)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Append(ctx, bus.StreamTasks, subject, bus.NewMessageID(), 0, note{1}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := bus.Last[note](ctx, c, bus.StreamTasks, subject); err != nil {
		t.Fatal(err)
	}
	still.Store(true)
	questions := map[string]func() error{
		"the last message": func() error { _, _, err := bus.Last[note](ctx, c, bus.StreamTasks, subject); return err },
		"the last of some": func() error { _, err := bus.LastOfEach[note](ctx, c, bus.StreamTasks, []string{subject}); return err },
		"the last before": func() error {
			_, _, err := bus.LastBefore[note](ctx, c, bus.StreamTasks, subject, time.Now())
			return err
		},
		"a write":               func() error { _, err := c.Append(ctx, bus.StreamTasks, subject, "a", 1, note{2}); return err },
		"a record":              func() error { return c.Record(ctx, bus.StreamAlerts, "drydock.alert.c.x", "r", note{3}) },
		"a sequence":            func() error { _, err := c.LastSeq(ctx, bus.StreamTasks); return err },
		"a value":               func() error { _, err := kv.Get(ctx, "x"); return err },
		"a value put":           func() error { _, err := kv.Put(ctx, "x", nil); return err },
		"a value made":          func() error { _, err := kv.Create(ctx, "x", nil); return err },
		"a value changed":       func() error { _, err := kv.Update(ctx, "x", nil, 1); return err },
		"a value deleted":       func() error { return kv.Delete(ctx, "x") },
		"whether it is there":   func() error { return c.Ready(ctx) },
		"a service":             func() error { _, err := bus.Request[note](t.Context(), c, bus.SubjectNext, note{}); return err },
		"a bucket not open yet": func() error { _, err := c.Bucket(ctx, bus.BucketControl); return err },
	}
	var wg sync.WaitGroup
	for what, ask := range questions {
		wg.Go(func() {
			begun := time.Now()
			if err := ask(); err == nil || errors.Is(err, bus.ErrNotFound) {
				t.Errorf("%s: answered %v", what, err)
			}
			if took := time.Since(begun); took > time.Minute*bustest.Patience {
				t.Errorf("%s: given up after %s", what, took)
			}
		})
	}
	wg.Wait()
}

// Twenty batches of log lines waited for one answer each, one after the other, and all that came after them behind.
func TestAGroupThatNobodyAnswersWaitsOnce(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	if _, err := c.NC.Subscribe("silence", func(*nats.Msg) {}); err != nil { // without a listener there is an answer
		t.Fatal(err)
	}
	logs := bus.NewBatcher(c, bus.StreamLogs)
	bustest.Run(t, logs.Run)
	begun := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := logs.Put(t.Context(), "silence", bus.NewMessageID(), note{}); err == nil {
				t.Error("acknowledged")
			}
		})
	}
	wg.Wait()
	if took := time.Since(begun); took > time.Minute*bustest.Patience {
		t.Errorf("given up after %s", took)
	}
}

// One client's batch that the bus does not take, being too large, must not refuse those of the others that came with it.
func TestAMessageThatIsTooLargeSpoilsNoOther(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	logs := bus.NewBatcher(c, bus.StreamLogs)
	bustest.Run(t, logs.Run)
	large := strings.Repeat("x", int(c.NC.MaxPayload()))
	var wg sync.WaitGroup
	for i := range 60 {
		var v any = note{i}
		if i%3 == 0 {
			v = large
		}
		wg.Go(func() {
			if err := logs.Put(t.Context(), bus.LogSubject("c", "10.0.0.1", 3306, "errorlog", "info"), bus.NewMessageID(), v); (err == nil) != (i%3 != 0) {
				t.Errorf("message %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// A follower that stands still on a connection that works leaves jobs queued for as long as it does: its consumer is there, gives signs
// of life, and sends nothing.
func TestAFollowerThatStandsStillBeginsAnew(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	got, caught, done := make(chan int, 10), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- bus.Follow(following, c, bus.StreamTasks, bus.AllTasks, bus.From{},
			func(_ bus.Meta, n note) error { got <- n.N; return nil }, func() { close(caught) })
	}()
	<-caught
	stream, err := c.JS.Stream(ctx, bus.StreamTasks)
	if err != nil {
		t.Fatal(err)
	}
	paused := 0
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		if _, err := stream.PauseConsumer(ctx, name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		paused++
	}
	if err := names.Err(); err != nil || paused != 1 {
		t.Fatalf("%d consumers are paused, %v", paused, err)
	}
	for want := range 2 {
		if _, err := c.Append(ctx, bus.StreamTasks, subject, bus.NewMessageID(), uint64(want), note{want}); err != nil {
			t.Fatal(err)
		}
		select {
		case n := <-got:
			if n != want {
				t.Errorf("got %d, want %d", n, want)
			}
		case <-ctx.Done():
			t.Fatal("nothing comes")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// "There is no such message" was the answer of a question that had no time.
func TestAQuestionWithoutTimeIsNotAnsweredWithNothing(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	if _, err := c.Append(ctx, bus.StreamTasks, subject, bus.NewMessageID(), 0, note{1}); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithDeadline(ctx, time.Now())
	defer cancel()
	if _, _, err := bus.LastBefore[note](over, c, bus.StreamTasks, subject, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// A read that does not know where the end is takes half for all, or waits for what does not come.
func TestAReadEndsWithTheLastMessage(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	for n := range 3 {
		if _, err := c.Append(ctx, bus.StreamTasks, subject, bus.NewMessageID(), uint64(n), note{n}); err != nil {
			t.Fatal(err)
		}
	}
	var read []int
	err := bus.Read(ctx, c, bus.StreamTasks, bus.AllTasks, bus.From{Seq: 2}, func(_ bus.Meta, n note) error { read = append(read, n.N); return nil })
	if err != nil || len(read) != 2 || read[1] != 2 {
		t.Errorf("read %v, %v", read, err)
	}
	if _, err := c.Append(ctx, bus.StreamTasks, bus.TaskSubject("c", "other"), bus.NewMessageID(), 0, note{9}); err != nil {
		t.Fatal(err)
	}
	for what, from := range map[string]bus.From{"after all": {Seq: 4}, "since now": {Since: time.Now().Add(time.Minute)}} {
		begun := time.Now()
		err := bus.Read(ctx, c, bus.StreamTasks, "drydock.task.*.optimize", from, func(m bus.Meta, _ note) error { t.Errorf("%s: got %d", what, m.Seq); return nil })
		if took := time.Since(begun); err != nil || took > time.Second*bustest.Patience {
			t.Errorf("%s: %v after %s", what, err, took)
		}
	}
}
