package duty

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
	"drydock/store/attempt"
)

// Config is what a [Runner] works from.
type Config struct {
	Name   string // of this receiver, as manifests have it
	Log    *slog.Logger
	Leases map[string]time.Duration // scheduler-jobs-lease of every cluster: signs of life come several times as often
}

// Runner does the jobs of mode [job.ByReceiver]. Make one with [New].
type Runner struct {
	name    string
	log     *slog.Logger
	leases  map[string]time.Duration
	workers map[string]Worker // by task
	begins  []Beginner
	orders  []Orderer
	conn    *bus.Conn
	jobs    *store.Jobs
	view    *store.View
	logs    *bus.Batcher
	kick    chan struct{} // from the view to Run; one is as good as many, never closed

	mu   sync.Mutex
	busy map[job.Key]bool
	runs map[string]context.CancelCauseFunc // by run: ends the work on a job that is ours
}

const (
	lookAgain  = 2 * time.Second // at jobs that wait, at the latest
	lookGap    = 20 * time.Millisecond
	busTimeout = 10 * time.Second
)

// New registers with the view, so it must be called before the view runs. Two workers of one task are a mistake.
func New(cfg Config, conn *bus.Conn, jobs *store.Jobs, view *store.View, workers ...Worker) (*Runner, error) {
	r := &Runner{
		name: cfg.Name, log: cfg.Log, leases: cfg.Leases, workers: map[string]Worker{},
		conn: conn, jobs: jobs, view: view, logs: bus.NewBatcher(conn, bus.StreamLogs),
		kick: make(chan struct{}, 1), busy: map[job.Key]bool{}, runs: map[string]context.CancelCauseFunc{},
	}
	for _, w := range workers {
		for _, task := range w.Tasks() {
			if r.workers[task] != nil {
				return nil, fmt.Errorf("two workers do the task %s", task)
			}
			r.workers[task] = w
		}
		if b, ok := w.(Beginner); ok {
			r.begins = append(r.begins, b)
		}
		if o, ok := w.(Orderer); ok {
			r.orders = append(r.orders, o)
		}
	}
	view.OnChange(r.observe)
	return r, nil
}

// observe is told of every change of a job: of work to do, and of the end of ours by somebody else.
func (r *Runner) observe(ev bus.JobEvent) {
	j := ev.Job
	r.mu.Lock()
	if end := r.runs[j.Run()]; end != nil && (j.State == job.Finished || !j.State.Live()) {
		end(errEnded)
	}
	r.mu.Unlock()
	news := j.Mode == job.ByReceiver
	for _, o := range r.orders {
		if o.Observe(ev) {
			news = true
		}
	}
	if !news {
		return
	}
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// errEnded is why work stops whose job is no longer live: it was canceled, or its lease ran out.
var errEnded = errors.New("the job has ended")

// errStopped is why work stops when this process does.
var errStopped = errors.New("drydock was stopped while it worked")

// Run does jobs until ctx ends, and returns when those in hand are ended too.
func (r *Runner) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.view.Ready():
	}
	logging, stopLogging := context.WithCancel(context.WithoutCancel(ctx))
	var writer, hands sync.WaitGroup
	writer.Go(func() { _ = r.logs.Run(logging) }) // never fails
	r.cutLost(ctx)
	for _, b := range r.begins {
		b.Begin(ctx)
	}
	for ctx.Err() == nil {
		for _, o := range r.orders {
			o.Order(ctx)
		}
		r.look(ctx, &hands)
		select {
		case <-ctx.Done():
		case <-r.kick:
			pause(ctx, lookGap)
		case <-time.After(lookAgain):
		}
	}
	hands.Wait()
	stopLogging()
	writer.Wait()
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// cutLost ends the jobs that an earlier process of this name had in hand: what worked on them died with it.
func (r *Runner) cutLost(ctx context.Context) {
	for _, j := range r.view.Select(func(j job.Job) bool {
		return j.Mode == job.ByReceiver && j.State.Running() && j.Dispatch.Receiver == r.name
	}) {
		r.apply(ctx, j, store.Change{Event: job.Cut, Reason: "cut by a restart of the receiver"})
	}
}

// look gives every job that may be for us into a hand of its own.
func (r *Runner) look(ctx context.Context, hands *sync.WaitGroup) {
	for _, last := range r.view.Among([]job.State{job.Queued, job.Available}, func(j *job.Job) bool {
		return j.Mode == job.ByReceiver && (j.State == job.Available || !j.Gated())
	}) {
		j := *last
		worker := r.workers[j.Task]
		if _, ok := r.leases[j.Cluster]; !ok || worker == nil || !r.begin(j.Key()) {
			continue
		}
		hands.Go(func() {
			defer r.end(j.Key())
			r.attend(ctx, worker, j)
		})
	}
}

// begin is false while the slot's job is in another hand.
func (r *Runner) begin(k job.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[k] {
		return false
	}
	r.busy[k] = true
	return true
}

func (r *Runner) end(k job.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, k)
}

// attend does a job, if it is ours to do.
func (r *Runner) attend(ctx context.Context, worker Worker, j job.Job) {
	deed, err := plan(ctx, worker, j)
	var none nothing
	if errors.As(err, &none) {
		r.skip(ctx, j, none.Error())
		return
	}
	if err != nil {
		r.log.Warn("look what a job is about", "job", j, "err", err)
		pause(ctx, time.Second)
		return
	}
	if deed == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mine(j.Run(), cancel) // before it is taken: from then on anybody may end it
	defer r.mine(j.Run(), nil)
	if j, ok := r.take(ctx, j); ok {
		r.log.Info("job started", "job", j)
		r.work(ctx, deed, j)
	}
}

func plan(ctx context.Context, worker Worker, j job.Job) (Deed, error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	return worker.Plan(ctx, j)
}

// skip ends a job that there is nothing to do for.
func (r *Runner) skip(ctx context.Context, j job.Job, reason string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), busTimeout)
	defer cancel()
	ok := true
	if j.State == job.Available { // of a process that died as it took it
		j, ok = r.apply(ctx, j, store.Change{Event: job.Withdraw, From: job.Available, Reason: reason})
	}
	if ok {
		r.apply(ctx, j, store.Change{Event: job.Skip, From: job.Queued, Reason: reason})
	}
}

func (r *Runner) mine(run string, cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel == nil {
		delete(r.runs, run)
		return
	}
	r.runs[run] = cancel
}

// take makes the job ours: offered, claimed and started. ok is false when somebody else was first.
func (r *Runner) take(ctx context.Context, j job.Job) (job.Job, bool) {
	// A stop must not leave it halfway.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), busTimeout)
	defer cancel()
	ok := true
	if j.State == job.Queued {
		j, ok = r.apply(ctx, j, store.Change{Event: job.Offer, From: job.Queued})
	}
	reason := "done by receiver " + r.name
	if ok {
		j, ok = r.apply(ctx, j, store.Change{Event: job.Claim, From: job.Available, Reason: reason, Edit: func(j *job.Job) {
			j.Dispatch = job.Dispatch{Receiver: r.name}
		}})
	}
	if ok {
		j, ok = r.apply(ctx, j, store.Change{Event: job.Start, From: job.Claimed, Reason: reason, Edit: func(j *job.Job) { j.Reason = "" }})
	}
	return j, ok
}

func (r *Runner) apply(ctx context.Context, j job.Job, ch store.Change) (now job.Job, ok bool) {
	return attempt.Apply(ctx, r.jobs, r.log, j, ch)
}
