package rolling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/scheduler/orchestrator"
	"drydock/store"
)

// Config is what a [Runner] works from.
type Config struct {
	Actor    string        // as whom it writes, "scheduler@NAME"
	Ticker   time.Duration // monitoring-ticker: how often a step that waits looks again
	Log      *slog.Logger
	Clusters []Cluster
}

// Cluster is one cluster of a [Config].
type Cluster struct {
	Name            string
	Servers         []job.Server
	User, Password  string        // db-servers-credential
	Lease           time.Duration // scheduler-jobs-lease: signs of life come several times as often
	MaxLag          time.Duration // maintenance-max-lag, 0 = no limit
	PreScript       string        // rolling-pre-script, an executable file; empty: none
	PostScript      string        // rolling-post-script
	ScriptTimeout   time.Duration // rolling-script-timeout
	GateTimeout     time.Duration // rolling-gate-timeout
	WaitTimeout     time.Duration // rolling-wait-timeout, for the jobs that run
	PrimaryReadOnly bool          // rolling-primary-read-only
	DrainTimeout    time.Duration // rolling-drain-timeout
	SeedTask        string        // rolling-reprov-seed, the task that fills a server that was made anew
	// Orchestrator reprovisions; nil with the reason in NoOrchestrator.
	Orchestrator   orchestrator.Orchestrator
	NoOrchestrator error
}

// Facts tells what servers say about themselves, no older than age; package local has it.
type Facts interface {
	Fresh(ctx context.Context, cluster string, s job.Server, age time.Duration) (store.Facts, error)
}

// Runner does the rolling operations. Make one with [New].
type Runner struct {
	actor    string
	ticker   time.Duration
	log      *slog.Logger
	clusters map[string]Cluster
	conn     *bus.Conn
	jobs     *store.Jobs
	ledger   *store.Ledger
	view     *store.View
	control  *store.Control
	facts    Facts
	leases   *store.Leases
	kick     chan struct{} // from the view to Run; one is as good as many, never closed

	mu   sync.Mutex
	busy map[string]chan struct{} // by cluster that is attended to: tells that something happened there; never closed
}

const (
	lookAgain = time.Second      // while there is something to do
	lookIdle  = time.Minute      // otherwise, should a change have been missed
	leaseTerm = 15 * time.Second // after which a worker that stands still is taken to be gone
	leaseName = "_rolling"
	busTime   = 10 * time.Second
	// undoTime is how long the end of an operation waits for a server whose read_only is to be undone. It is tried further
	// after the end.
	undoTime = 30 * time.Second
)

// New registers with the view, so it must be called before the view runs. jobs and ledger write as cfg.Actor, which no
// other process may be called.
func New(cfg Config, conn *bus.Conn, jobs *store.Jobs, ledger *store.Ledger, view *store.View, facts Facts) *Runner {
	r := &Runner{
		actor: cfg.Actor, ticker: cfg.Ticker, log: cfg.Log, clusters: map[string]Cluster{}, conn: conn, jobs: jobs, ledger: ledger,
		view: view, control: store.NewControl(conn), facts: facts, leases: store.NewLeases(conn, cfg.Actor, leaseTerm),
		kick: make(chan struct{}, 1), busy: map[string]chan struct{}{},
	}
	for _, c := range cfg.Clusters {
		r.clusters[c.Name] = c
	}
	view.OnChange(r.observe)
	return r
}

// observe is told of every change of a job: an order to an operation, or the end of a job that one waits for.
func (r *Runner) observe(ev bus.JobEvent) {
	r.mu.Lock()
	wake := r.busy[ev.Job.Cluster]
	r.mu.Unlock()
	poke(wake) // nil while nobody attends to the cluster
	if ev.Job.Server == (job.Server{}) {
		poke(r.kick)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run does operations until ctx ends. What is in hand then is left where it stands, for whoever takes it up.
func (r *Runner) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.view.Ready():
	}
	var hands sync.WaitGroup
	defer hands.Wait()
	for {
		next := r.look(ctx, &hands)
		select {
		case <-ctx.Done():
			return nil
		case <-r.kick:
		case <-time.After(next):
		}
	}
}

// look gives every cluster with something to do into a hand of its own, and says when to look again at the latest.
func (r *Runner) look(ctx context.Context, hands *sync.WaitGroup) time.Duration {
	next := lookIdle
	jobs := r.view.Select(func(j job.Job) bool { return isOperation(j) && (underway(j) || owes(j)) })
	slices.SortFunc(jobs, func(a, b job.Job) int {
		if underway(a) != underway(b) { // a server that stays down must not keep the next operation from its turn
			if underway(a) {
				return -1
			}
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	for _, j := range jobs {
		c, ok := r.clusters[j.Cluster]
		if !ok {
			continue // another scheduler's, or nobody's until it is configured again
		}
		next = lookAgain
		wake := make(chan struct{}, 1)
		r.mu.Lock()
		_, taken := r.busy[c.Name]
		if !taken {
			r.busy[c.Name] = wake
		}
		r.mu.Unlock()
		if taken {
			continue
		}
		hands.Go(func() {
			defer func() {
				r.mu.Lock()
				delete(r.busy, c.Name)
				r.mu.Unlock()
			}()
			r.attend(ctx, &work{Runner: r, cluster: c, job: j, wake: wake})
		})
	}
	return next
}

func isOperation(j job.Job) bool {
	t, err := job.TaskByName(j.Task)
	return err == nil && t.Kind == job.KindRolling && j.Server == job.Server{}
}

// underway reports whether there is work on the operation.
func underway(j job.Job) bool {
	return j.State.Live() && !j.Gated() && j.State != job.Finished
}

// owes reports whether an operation that has ended left a server read-only.
func owes(j job.Job) bool { return !j.State.Live() && j.Plan.Owes() }

// attend does what is to be done on an operation, alone.
func (r *Runner) attend(ctx context.Context, w *work) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lease, err := r.take(ctx, w.cluster.Name)
	if err != nil {
		if !errors.Is(err, store.ErrHeld) && ctx.Err() == nil {
			r.log.Warn("take up a rolling operation", "job", w.job, "err", err)
		}
		return
	}
	stop := r.keep(ctx, cancel, lease, w.job)
	defer stop()
	last, _, err := r.jobs.Last(ctx, w.job.Key()) // the view may lag
	if err != nil || last.ID != w.job.ID {
		return
	}
	w.job = last
	switch {
	case owes(last):
		w.settle(ctx)
	case !underway(last):
	case last.State == job.Processing:
		if w.takeUp(ctx) {
			w.run(ctx)
		}
	case w.begin(ctx):
		w.run(ctx)
	}
}

func (r *Runner) take(ctx context.Context, cluster string) (*store.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	return r.leases.Take(ctx, cluster, 0, leaseName)
}

// keep renews the lease and gives signs of life of j until stop is called, which gives the lease back. A lease that is
// lost, or could not be renewed for its term, ends the work.
func (r *Runner) keep(ctx context.Context, end context.CancelCauseFunc, lease *store.Lease, j job.Job) (stop func()) {
	pulsing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{}) // closed when the pulse has ended
	go func() {
		defer close(done)
		tick := time.NewTicker(min(max(r.clusters[j.Cluster].Lease/4, 250*time.Millisecond), leaseTerm/3))
		defer tick.Stop()
		renewed := time.Now()
		for {
			select {
			case <-pulsing.Done():
				return
			case <-tick.C:
			}
			limit, stopLimit := context.WithTimeout(pulsing, leaseTerm/3)
			err := lease.Renew(limit)
			stopLimit()
			switch {
			case err == nil:
				renewed = time.Now()
				r.sign(j)
			case errors.Is(err, store.ErrLost), time.Since(renewed) > leaseTerm:
				end(errLost)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		release, stopRelease := context.WithTimeout(context.WithoutCancel(ctx), busTime)
		defer stopRelease()
		if err := lease.Release(release); err != nil {
			r.log.Debug("give back the lease of a rolling operation", "job", j, "err", err)
		}
	}
}

// errLost is why work stops that somebody else does now.
var errLost = errors.New("another scheduler works on it")

func (r *Runner) sign(j job.Job) {
	err := r.conn.Publish(bus.ProgressSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task), bus.Progress{
		Sign: bus.SignHeartbeat, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt,
		Type: bus.TypeProgress, Time: time.Now().UTC(),
	})
	if err != nil {
		r.log.Warn("tell of a sign of life", "job", j, "err", err)
	}
}

// ask asks every server of a cluster anew.
func (r *Runner) ask(ctx context.Context, c Cluster) (answers, error) {
	type answer struct {
		server job.Server
		facts  store.Facts
		err    error
	}
	got := make(chan answer, len(c.Servers)) // one send each, nobody waits
	for _, s := range c.Servers {
		go func() {
			f, err := r.facts.Fresh(ctx, c.Name, s, r.ticker/2)
			got <- answer{s, f, err}
		}()
	}
	out, errs := answers{}, []error(nil)
	for range c.Servers {
		a := <-got
		out[a.server], errs = a.facts, append(errs, a.err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("ask the servers of cluster %s: %w", c.Name, err)
	}
	return out, nil
}
