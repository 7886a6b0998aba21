package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"drydock/bus"
	"drydock/gateway/jobtable"
	"drydock/job"
	"drydock/store"
)

// DispatchConfig is what a [Dispatcher] needs. Fields without "optional" are required.
type DispatchConfig struct {
	Clusters []DispatchCluster
	// Address stands in the rows of tasks that stream nothing (optional: the server's own host).
	Address string
	Poll    time.Duration // how often rows of running jobs are read (optional: 2 s, as monitoring-ticker)
	Frugal  bool          // no connection to a server is kept
	Log     *slog.Logger  // component and so on are the caller's
}

// DispatchCluster is one cluster of a [DispatchConfig].
type DispatchCluster struct {
	Name           string
	Mode           job.Mode // scheduler-jobs-mode
	User, Password string   // db-servers-credential
	Servers        []job.Server
}

// Dispatcher brings queued jobs to the servers (maintenance.txt section 6.1.8): as rows of the jobs table, which it also
// follows to their end, or as offers that the API hands out. Every server has a worker of its own, which lives while
// there is something to do, so that one dead database holds up no other.
//
// Several dispatchers may work on the same servers. All they do is idempotent: reservations and rows belong to a run,
// and every change of a job is compare-and-swap.
type Dispatcher struct {
	conn    *bus.Conn
	jobs    *store.Jobs
	view    *store.View
	docs    *store.Docs
	log     *slog.Logger
	poll    time.Duration
	address string
	frugal  bool
	turns   chan struct{} // where no connection is kept, a token per server whose rows are looked at; else nil
	targets map[targetName]*target
	work    background    // the workers; begins nothing before and after [Dispatcher.Run]
	leaves  chan struct{} // a token per server whose jobs table is being looked for, to leave it

	mu sync.Mutex // guards woken, active and again of the targets
}

type targetName struct {
	cluster string
	server  job.Server
}

const (
	defaultPoll = 2 * time.Second
	leaveWidth  = 64 // servers at a time: nobody waits for it, and all at once would be as many connections as servers
	// frugalWidth is how many servers have their rows looked at at a time where there are too few files for a connection to each: what falls due
	// on all of them in the same second would need as many as if they were kept.
	frugalWidth = 512
)

// NewDispatcher checks the configuration and registers with the view, so it must be called before the view runs.
// Errors: [ErrConfig].
func NewDispatcher(cfg DispatchConfig, conn *bus.Conn, jobs *store.Jobs, view *store.View, docs *store.Docs) (*Dispatcher, error) {
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.Log == nil || cfg.Poll < 0 {
		return nil, fmt.Errorf("%w: the dispatcher needs a log and a positive time between polls", ErrConfig)
	}
	for _, c := range cfg.Clusters {
		if c.Mode != job.SQL && c.Mode != job.API {
			return nil, fmt.Errorf("%w: cluster %s has mode %q", ErrConfig, c.Name, c.Mode)
		}
	}
	d := &Dispatcher{
		conn: conn, jobs: jobs, view: view, docs: docs, log: cfg.Log, poll: cfg.Poll, address: cfg.Address, frugal: cfg.Frugal,
		targets: map[targetName]*target{}, leaves: make(chan struct{}, leaveWidth),
	}
	if d.frugal {
		d.turns = make(chan struct{}, frugalWidth)
	}
	for _, c := range cfg.Clusters {
		for _, s := range c.Servers {
			d.targets[targetName{c.Name, s}] = newTarget(d, c, s)
		}
	}
	view.OnChange(func(ev bus.JobEvent) {
		if t := d.targets[targetName{ev.Job.Cluster, ev.Job.Server}]; t != nil {
			d.wake(t)
		}
	})
	return d, nil
}

// Run dispatches until ctx ends. It begins when the view is complete.
func (d *Dispatcher) Run(ctx context.Context) error {
	select {
	case <-d.view.Ready():
	case <-ctx.Done():
	}
	d.work.start(ctx)
	for _, t := range d.targets {
		d.wake(t) // for what happened before, also what a crash left half done
	}
	<-ctx.Done()
	d.work.stop()
	for _, t := range d.targets {
		d.takeWake(t) // no timer is left
	}
	var errs []error
	for _, t := range d.targets {
		errs = append(errs, t.closeTable())
	}
	return errors.Join(errs...)
}

// wake makes the worker of t look at its server soon, starting it if need be. It returns at once.
func (d *Dispatcher) wake(t *target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.woken = true
	d.begin(t)
}

// begin starts the worker of t unless it runs. The caller holds mu.
func (d *Dispatcher) begin(t *target) {
	if !t.active {
		t.active = d.work.run(t.loop)
	}
}

// rest ends the worker of t unless it was woken meanwhile, for wait, or until it is woken when that is [idle]. Of a server whose jobs only
// wait there is no goroutine: thousands of them have such jobs at the same time.
func (d *Dispatcher) rest(t *target, wait time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.woken {
		return false
	}
	t.active = false
	if wait != idle {
		var again *time.Timer
		again = time.AfterFunc(wait, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if t.again == again { // else it was woken meanwhile
				d.begin(t)
			}
		})
		t.again = again
	}
	return true
}

// takeWake takes in that t was woken, before its worker looks at the server, and ends its timer.
func (d *Dispatcher) takeWake(t *target) (woken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	woken, t.woken = t.woken, false
	if t.again != nil {
		t.again.Stop()
		t.again = nil
	}
	return woken
}

// target is one server that jobs are brought to. What may change from leaving on belongs to its worker; the table too, in api mode to
// [target.leaveSQL].
type target struct {
	*Dispatcher
	name    targetName
	mode    job.Mode
	open    func() *jobtable.Table
	table   *jobtable.Table // nil in api mode, but while it leaves the other
	woken   bool            // something happened that its worker did not look at yet
	active  bool            // a worker runs
	again   *time.Timer     // begins it again
	leaving bool            // api mode: what sql mode left behind is being cleared
	held    time.Duration   // how long a look left a held job alone
	looked  time.Time       // when the last look ended
	rows    *rowKeeper
}

func newTarget(d *Dispatcher, c DispatchCluster, s job.Server) *target {
	t := &target{Dispatcher: d, name: targetName{c.Name, s}, mode: c.Mode}
	t.open = func() *jobtable.Table {
		table := jobtable.Open(s, c.User, c.Password)
		if d.frugal || c.Mode == job.API { // a server may be left for as long as its database refuses it
			table.Rest()
		}
		return table
	}
	if c.Mode == job.SQL {
		t.table = t.open()
	}
	t.rows = newRowKeeper(t)
	return t
}

func (t *target) closeTable() error {
	if t.table == nil {
		return nil
	}
	defer func() { t.table = nil }()
	return t.table.Close()
}

const (
	idle    = -1                    // nothing to do until woken
	lookGap = 20 * time.Millisecond // between two looks, so that a burst of changes costs one
)

// loop looks at the server until there is nothing to do, or not yet.
func (t *target) loop(ctx context.Context) {
	for {
		pause(ctx, lookGap-time.Since(t.looked))
		if t.takeWake(t) {
			t.held = 0
		}
		wait := t.runOnce(ctx)
		t.looked = time.Now()
		if ctx.Err() != nil || t.rest(t, wait) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// runOnce does what can be done now and says when to look again.
func (t *target) runOnce(ctx context.Context) time.Duration {
	// What drydock does itself is brought to nobody; its jobs only keep the server busy, and hold asks the log about that. What was offered
	// through the API is followed by nobody here.
	jobs, held := t.hold(ctx, t.view.OfServer(t.name.cluster, t.name.server, func(j *job.Job) bool {
		return j.Mode.Script() && (t.mode == job.SQL || j.State == job.Queued)
	}))
	next := time.Duration(idle)
	if held {
		t.held = min(max(2*t.held, heldFor), heldAtMost)
		next = t.held
	} else {
		t.held = 0
	}
	if t.mode == job.API {
		return sooner(next, t.offerAll(ctx, jobs))
	}
	return sooner(next, t.rows.look(ctx, jobs))
}

// sooner is the nearer of two waits, either of which may be [idle].
func sooner(a, b time.Duration) time.Duration {
	if a == idle || b != idle && b < a {
		return b
	}
	return a
}

// apply gives an event to exactly this attempt of a job. What the job has moved past is no error: it is logged and
// changes nothing. ok says that the job is as the event wants it.
func (t *target) apply(ctx context.Context, j job.Job, ch store.Change) (now job.Job, ok bool) {
	// A stop must not cut a change that follows something already done outside.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), busTimeout)
	defer cancel()
	now, err := t.jobs.Apply(ctx, store.RefOf(j), ch)
	switch {
	case err == nil:
		return now, true
	case errors.Is(err, job.ErrTransition), errors.Is(err, store.ErrStale):
		t.log.Info("too late for the job", "job", j, "event", ch.Event, "err", err)
	default:
		t.log.Warn("record a change of a job", "job", j, "event", ch.Event, "err", err)
	}
	return now, false
}

const busTimeout = 5 * time.Second

// explain records why a queued job is not offered yet, when that is news.
func (t *target) explain(ctx context.Context, j job.Job, reason string) {
	if j.Reason == reason {
		return
	}
	t.log.Info("job waits", "job", j, "reason", reason)
	t.apply(ctx, j, store.Change{Event: job.Note, Reason: reason, Edit: func(j *job.Job) {
		if j.State == job.Queued && !j.Gated() {
			j.Reason = reason
		}
	}})
}

// The reasons of waiting that others look for.
const (
	reasonNowAPI = "the dispatch mode is api now"
	reasonNowSQL = "the dispatch mode is sql now"
)

// againAfter is how long a job waits for a port before it is tried again.
const againAfter = 3 * time.Second
