package duty

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/jobtest"
	"drydock/job"
	"drydock/store"
)

func TestMain(m *testing.M) { bustest.Main(m) }

// worker does one task as its deed says.
type worker struct {
	task string
	mine bool
	deed Deed
}

func (w worker) Tasks() []string { return []string{w.task} }

func (w worker) Plan(context.Context, job.Job) (Deed, error) {
	if !w.mine {
		return nil, nil
	}
	return w.deed, nil
}

// rig is a bus. The test plays the scheduler.
type rig struct {
	*jobtest.Scheduler
	t    *testing.T
	conn *bus.Conn
}

func newRig(t *testing.T) *rig {
	conn := bustest.Start(t)
	return &rig{jobtest.New(t, conn, "lab", job.Server{}), t, conn}
}

// start runs the duties of a receiver until stop is called or the test ends.
func (g *rig) start(name string, workers ...Worker) (stop func()) {
	g.t.Helper()
	view := store.NewView(g.conn)
	r, err := New(Config{Name: name, Log: bustest.Log(g.t), Leases: map[string]time.Duration{"lab": time.Minute}}, g.conn,
		store.NewJobs(g.conn, "receiver@"+name, view), view, workers...)
	if err != nil {
		g.t.Fatal(err)
	}
	return bustest.Run(g.t, view.Run, r.Run)
}

func TestWhatTheWorkFindsWrongIsNoSuccess(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start("rcv",
		worker{"archivecheck", true, func(context.Context, *Work) (Result, error) {
			return Result{Tool: "x", Text: "looked", Finding: "rotten"}, nil
		}},
		worker{"archiveprune", true, func(context.Context, *Work) (Result, error) { return Result{Text: "half"}, errors.New("no room") }})
	j := g.When(g.Queue("archivecheck", nil), "the work is done", func(j job.Job) bool { return j.State == job.Finished })
	task, _ := job.TaskByName(j.Task)
	if v := job.Judge(task, j, false); v.Event != job.Refute || !strings.Contains(v.Reason, "rotten") || j.Evidence.Tool != "x" {
		t.Errorf("judged %+v by %+v", v, j.Evidence)
	}
	j = g.When(g.Queue("archiveprune", nil), "the work has failed", func(j job.Job) bool { return !j.State.Live() })
	if j.State != job.Halted || j.Reason != "no room" || j.Evidence.Result != "half" {
		t.Errorf("the job is %s: %s; %+v", j.State, j.Reason, j.Evidence)
	}
}

func TestWorkEndsWithItsJobAndWithDrydock(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	began, ended := make(chan struct{}, 2), make(chan error, 2) // one each per job
	w := worker{"archivecheck", true, func(ctx context.Context, w *Work) (Result, error) {
		w.Note("busy")
		began <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return Result{}, ctx.Err()
	}}
	stop := g.start("rcv", w)
	j := g.Queue("archivecheck", nil)
	<-began
	if _, err := g.Jobs.Apply(bustest.Context(t), store.Ref{Key: j.Key()}, store.Change{Event: job.Cancel, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errEnded) {
		t.Errorf("ended by %v", err)
	}
	j = g.Queue("archivecheck", nil)
	<-began
	stop()
	<-ended
	if now := g.When(j, "it is cut", func(j job.Job) bool { return !j.State.Live() }); now.State != job.Halted || now.Reason != errStopped.Error() {
		t.Errorf("the job is %s: %s", now.State, now.Reason)
	}
}

func TestAJobOfAnotherReceiverIsLeftToIt(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	did := func(context.Context, *Work) (Result, error) { return Result{}, nil }
	g.start("a", worker{"archivecheck", false, did})
	g.start("b", worker{"archivecheck", true, did})
	for range 3 {
		j := g.When(g.Queue("archivecheck", nil), "the work is done", func(j job.Job) bool { return j.State == job.Finished })
		if j.Dispatch.Receiver != "b" {
			t.Errorf("done by %s", j.Dispatch.Receiver)
		}
		if _, err := g.Jobs.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Pass}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTwoWorkersOfOneTaskAreRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	if _, err := New(Config{}, g.conn, g.Jobs, store.NewView(g.conn), worker{task: "x"}, worker{task: "x"}); err == nil {
		t.Error("which of them does it?")
	}
}
