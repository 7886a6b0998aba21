package store_test

import (
	"errors"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestOrdersAreKeptRepeatableAndAnAbortIsFinal(t *testing.T) {
	t.Parallel()
	ctx, s := bustest.Context(t), store.NewJobs(bustest.Start(t), "a", nil)
	due := time.Now().UTC()
	key := job.Key{Cluster: "prod", Task: "rollingrestart"}
	j, err := s.Create(ctx, job.Job{State: job.Queued, ID: job.NewID(due, "t", key), Cluster: "prod", Task: key.Task, Mode: job.Local, Due: due}, "due")
	if err != nil {
		t.Fatal(err)
	}
	order := func(word string) job.Job {
		t.Helper()
		j, err := s.Order(ctx, j, word, "alice")
		if err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		return j
	}
	first := order(job.OrderPause)
	if again := order(job.OrderPause); again.Plan.Order != first.Plan.Order || again.Plan.Order.By != "alice" {
		t.Errorf("%+v", again.Plan.Order)
	}
	resumed := order(job.OrderResume)
	if order(job.OrderResume).Plan.Order != (job.Order{}) {
		t.Error("still paused")
	}
	if resumed.Ready.IsZero() {
		t.Error("the time for which it may wait for other jobs counts on during the pause")
	}
	apply(t, s, j, job.Offer, job.Start)
	if j := order(job.OrderAbort); j.State != job.Processing || j.Plan.Order.Word != job.OrderAbort {
		t.Errorf("an operation that has begun is %s, order %+v", j.State, j.Plan.Order)
	}
	for _, word := range []string{job.OrderPause, job.OrderResume} {
		if _, err := s.Order(ctx, j, word, "bob"); !errors.Is(err, store.ErrOrder) {
			t.Errorf("%s after an abort: %v", word, err)
		}
	}
	apply(t, s, j, job.Cancel)
	if j := order(job.OrderAbort); j.State != job.Canceled {
		t.Error(j.State)
	}
	if _, err := s.Order(ctx, j, job.OrderPause, "bob"); !errors.Is(err, store.ErrOrder) {
		t.Errorf("pause after the end: %v", err)
	}
	if _, err := s.Order(ctx, create(t, s, 1), job.OrderPause, "bob"); !errors.Is(err, store.ErrOrder) {
		t.Errorf("pause of another task: %v", err)
	}
}

func TestAnOrderWithANameIsGivenOnce(t *testing.T) {
	t.Parallel()
	ctx, l := bustest.Context(t), store.NewLedger(bustest.Start(t), "a")
	o := store.Order{Cluster: "prod", Task: "restart", ID: "X-1-restart", Due: time.Now().UTC().Truncate(time.Millisecond), Servers: []job.Server{slot.Server}}
	first, err := l.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.RunNow(ctx, "prod", "restart", nil, "bob"); err != nil { // so that it is not the last any more
		t.Fatal(err)
	}
	again, err := l.Run(ctx, o)
	if err != nil || again.Time != first.Time {
		t.Errorf("%+v, %v", again, err)
	}
	ticks, err := l.List(ctx, store.TickFilter{Cluster: "prod", Task: "restart"})
	if err != nil || len(ticks) != 2 || ticks[1].Outcome != bus.Fired || ticks[1].ID != o.ID || !ticks[1].Due.Equal(o.Due) {
		t.Errorf("%+v, %v", ticks, err)
	}
}
