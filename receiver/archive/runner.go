package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Runner does the jobs of mode [job.ByReceiver] and orders those that are missing. Make one with [New].
type Runner struct {
	name     string
	log      *slog.Logger
	clusters map[string]Cluster
	turns    map[string]*turns // by repository
	conn     *bus.Conn
	jobs     *store.Jobs
	ledger   *store.Ledger
	view     *store.View
	catalog  *store.Catalog
	logs     *bus.Batcher
	kick     chan struct{} // from the view to Run; one is as good as many, never closed
	up       time.Time     // set before Run looks

	mu     sync.Mutex
	busy   map[job.Key]bool
	runs   map[string]context.CancelCauseFunc // by run: ends the work on a job that is ours
	fresh  map[place]bool                     // servers with something new in the catalogue, or whose archive job ended
	orders map[string]order                   // by backup id
}

// place is one server of one cluster.
type place struct {
	cluster string
	server  job.Server
}

const (
	lookAgain  = 2 * time.Second // at jobs that wait, at the latest
	lookGap    = 20 * time.Millisecond
	busTimeout = 10 * time.Second
	// orderAll is how often the whole catalogue is read for what is not archived.
	orderAll = 5 * time.Minute
)

// New registers with the view, so it must be called before the view runs. jobs and ledger write as cfg.Actor.
func New(cfg Config, conn *bus.Conn, jobs *store.Jobs, ledger *store.Ledger, view *store.View, catalog *store.Catalog) *Runner {
	r := &Runner{
		name: cfg.Name, log: cfg.Log, clusters: map[string]Cluster{}, turns: map[string]*turns{},
		conn: conn, jobs: jobs, ledger: ledger, view: view, catalog: catalog, logs: bus.NewBatcher(conn, bus.StreamLogs),
		kick: make(chan struct{}, 1), busy: map[job.Key]bool{}, runs: map[string]context.CancelCauseFunc{},
		fresh: map[place]bool{}, orders: map[string]order{},
	}
	for _, c := range cfg.Clusters {
		c.Repository = c.ready(cfg.DataDir)
		r.clusters[c.Name] = c
		if r.turns[c.Location] == nil {
			r.turns[c.Location] = newTurns()
		}
	}
	view.OnChange(r.observe)
	return r
}

// observe is told of every change of a job: of backups that came, of work to do, and of the end of ours by somebody else.
func (r *Runner) observe(ev bus.JobEvent) {
	j := ev.Job
	ours := j.Mode == job.ByReceiver
	r.mu.Lock()
	if end := r.runs[j.Run()]; end != nil && (j.State == job.Finished || !j.State.Live()) {
		end(errEnded)
	}
	if j.State == job.Success && j.Backup != "" || ours && !j.State.Live() {
		r.fresh[place{j.Cluster, j.Server}] = true
	} else if !ours {
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
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
	r.up = time.Now()     // after it: what was cut is ordered again at once
	var ordered time.Time // when the whole catalogue was read
	for ctx.Err() == nil {
		if time.Since(ordered) > orderAll && r.orderMissing(ctx, place{}) {
			ordered = time.Now()
		}
		r.orderFresh(ctx)
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

// cutLost ends the jobs that an earlier process of this name had in hand: its restic died with it.
func (r *Runner) cutLost(ctx context.Context) {
	for _, j := range r.view.Select(func(j job.Job) bool {
		return j.Mode == job.ByReceiver && j.State.Running() && j.Dispatch.Receiver == r.name
	}) {
		r.apply(ctx, j, store.Change{Event: job.Cut, Reason: "cut by a restart of the receiver"})
	}
}

// look gives every job that is for us into a hand of its own.
func (r *Runner) look(ctx context.Context, hands *sync.WaitGroup) {
	for _, j := range r.view.Select(func(j job.Job) bool {
		return j.Mode == job.ByReceiver && (j.State == job.Queued && !j.Gated() || j.State == job.Available)
	}) {
		c, ok := r.clusters[j.Cluster]
		if !ok || !r.begin(j.Key()) {
			continue
		}
		hands.Go(func() {
			defer r.end(j.Key())
			r.attend(ctx, c, j)
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
func (r *Runner) attend(ctx context.Context, c Cluster, j job.Job) {
	backups, mine, err := r.meant(ctx, j)
	if err != nil {
		r.log.Warn("look what a job is about", "job", j, "err", err)
		pause(ctx, time.Second)
		return
	}
	if !mine {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mine(j.Run(), cancel) // before it is taken: from then on anybody may end it
	defer r.mine(j.Run(), nil)
	if j, ok := r.take(ctx, j); ok {
		r.log.Info("job started", "job", j)
		r.work(ctx, c, j, backups)
	}
}

// meant lists the backups that a job is to archive here, oldest first. mine is false when another receiver has them. A job
// without anything to archive is anybody's.
func (r *Runner) meant(ctx context.Context, j job.Job) (list []store.Manifest, mine bool, err error) {
	if j.Task != taskArchive {
		return nil, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	all, err := r.catalog.List(ctx, j.Cluster, j.Server)
	if err != nil {
		return nil, false, err
	}
	wanted := j.Args[argBackup]
	all = slices.DeleteFunc(all, func(m store.Manifest) bool {
		return wanted != "" && m.ID != wanted || wanted == "" && len(m.Archives) > 0
	})
	slices.Reverse(all)
	for _, m := range all {
		if m.Receiver != r.name {
			continue
		}
		if m.Path, err = filepath.Abs(m.Path); err != nil { // a snapshot has no other paths
			return nil, false, err
		}
		list = append(list, m)
	}
	return list, len(list) > 0 || len(all) == 0, nil
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

// apply gives an event to exactly this attempt of a job; ok says that it was taken in.
func (r *Runner) apply(ctx context.Context, j job.Job, ch store.Change) (now job.Job, ok bool) {
	now, err := r.jobs.Apply(ctx, store.RefOf(j), ch)
	switch {
	case err == nil:
		return now, true
	case store.Late(err):
		r.log.Info("too late for the job", "job", j, "event", ch.Event, "err", err)
	default:
		r.log.Warn("record a change of a job", "job", j, "event", ch.Event, "err", err)
	}
	return j, false
}

// turns lets a few backups, or one that needs the repository for itself, work on it at a time: what this process starts
// need not meet as locks.
type turns struct {
	places chan struct{} // an element per taken place
	alone  chan struct{} // one element while somebody wants all places
}

// atOnce is how many backups one process archives in one repository at a time; the others wait.
const atOnce = 2

func newTurns() *turns {
	return &turns{places: make(chan struct{}, atOnce), alone: make(chan struct{}, 1)}
}

// enter waits for a place, or for all of them; waiting is called when there is something to wait for. leave must be called
// unless there is an error.
func (t *turns) enter(ctx context.Context, all bool, waiting func()) (leave func(), err error) {
	taken := map[chan struct{}]int{}
	leave = func() {
		for from, n := range taken {
			for range n {
				<-from
			}
		}
	}
	want := []chan struct{}{t.places}
	if all {
		want = append([]chan struct{}{t.alone}, slices.Repeat(want, atOnce)...)
	}
	told := false
	for _, c := range want {
		select {
		case c <- struct{}{}:
			taken[c]++
			continue
		default:
		}
		if !told {
			told = true
			waiting()
		}
		select {
		case c <- struct{}{}:
			taken[c]++
		case <-ctx.Done():
			leave()
			return nil, fmt.Errorf("wait for the repository: %w", context.Cause(ctx))
		}
	}
	return leave, nil
}
