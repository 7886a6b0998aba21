package duty

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go.(*Conn).Close.func1"))
}

const soon = 30 * time.Second

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

type rig struct {
	t    *testing.T
	conn *bus.Conn
	jobs *store.Jobs
	seen uint64
}

func newRig(t *testing.T) *rig {
	conn := bustest.Start(t)
	return &rig{t: t, conn: conn, jobs: store.NewJobs(conn, "test", nil)}
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
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{view.Run, r.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				g.t.Error(err)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	g.t.Cleanup(stop)
	return stop
}

func (g *rig) queue(task string) job.Job {
	g.t.Helper()
	g.seen++
	due := time.Now().UTC()
	k := job.Key{Cluster: "lab", Task: task}
	j, err := g.jobs.Create(bustest.Context(g.t), job.Job{
		State: job.Queued, ID: job.NewID(due, fmt.Sprint(g.seen), k), Cluster: "lab", Task: task, Mode: job.ByReceiver, Due: due, Seen: g.seen,
	}, "due")
	if err != nil {
		g.t.Fatal(err)
	}
	return j
}

func (g *rig) when(j job.Job, what string, ok func(job.Job) bool) (now job.Job) {
	g.t.Helper()
	bustest.Until(g.t, soon, what, func() bool {
		var err error
		if now, _, err = g.jobs.Last(bustest.Context(g.t), j.Key()); err != nil {
			g.t.Fatal(err)
		}
		return ok(now)
	})
	return now
}

func TestWhatTheWorkFindsWrongIsNoSuccess(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start("rcv",
		worker{"archivecheck", true, func(context.Context, *Work) (Result, error) {
			return Result{Tool: "x", Text: "looked", Finding: "rotten"}, nil
		}},
		worker{"archiveprune", true, func(context.Context, *Work) (Result, error) { return Result{Text: "half"}, errors.New("no room") }})
	j := g.when(g.queue("archivecheck"), "the work is done", func(j job.Job) bool { return j.State == job.Finished })
	task, _ := job.TaskByName(j.Task)
	if v := job.Judge(task, j, false); v.Event != job.Refute || !strings.Contains(v.Reason, "rotten") || j.Evidence.Tool != "x" {
		t.Errorf("judged %+v by %+v", v, j.Evidence)
	}
	j = g.when(g.queue("archiveprune"), "the work has failed", func(j job.Job) bool { return !j.State.Live() })
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
	j := g.queue("archivecheck")
	<-began
	if _, err := g.jobs.Apply(bustest.Context(t), store.Ref{Key: j.Key()}, store.Change{Event: job.Cancel, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errEnded) {
		t.Errorf("ended by %v", err)
	}
	j = g.queue("archivecheck")
	<-began
	stop()
	<-ended
	if now := g.when(j, "it is cut", func(j job.Job) bool { return !j.State.Live() }); now.State != job.Halted || now.Reason != errStopped.Error() {
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
		j := g.when(g.queue("archivecheck"), "the work is done", func(j job.Job) bool { return j.State == job.Finished })
		if j.Dispatch.Receiver != "b" {
			t.Errorf("done by %s", j.Dispatch.Receiver)
		}
		if _, err := g.jobs.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Pass}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTwoWorkersOfOneTaskAreRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	if _, err := New(Config{}, g.conn, g.jobs, store.NewView(g.conn), worker{task: "x"}, worker{task: "x"}); err == nil {
		t.Error("which of them does it?")
	}
}
