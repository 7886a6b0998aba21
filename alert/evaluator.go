package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Config is what an evaluator works from.
type Config struct {
	Actor    string        // as whom it writes, "alert@NAME"
	Every    time.Duration // monitoring-ticker; a change of a job is looked at at once
	Clusters []Cluster
	Log      *slog.Logger // nil: nothing is logged
}

// Evaluator judges again and again and publishes the edges. Make one with [New]; safe for concurrent use.
type Evaluator struct {
	actor   string
	log     *slog.Logger
	conn    *bus.Conn
	jobs    *store.Jobs
	view    *store.View
	catalog *store.Catalog
	docs    *store.Docs
	binlogs *store.Binlogs
	alerts  *store.Alerts
	control *store.Control
	every   time.Duration
	setup   atomic.Pointer[[]Cluster]
	now     func() time.Time
	settle  time.Duration // the constant, which tests change

	// kick wakes the loop when a job changed. Senders: the view's goroutines, never closed; one place is enough, because
	// a look sees everything.
	kick chan struct{}
	up   time.Time // set before the loop begins
	fact facts     // the loop's own

	mu    sync.Mutex
	edges map[string]edge // the last edge of every condition, by subject
	last  map[job.Key]Outcome
	signs signs
	fresh map[string]backup // by cluster: backups that the facts may not show yet
	stale bool              // the facts are to be read before the next look
}

// backup is when a backup ended and when we learned of it.
type backup struct{ ended, learned time.Time }

// edge is the last edge of a condition, as far as known here.
type edge struct {
	alert   bus.Alert
	seq     uint64
	learned time.Time
	mine    bool // written by this evaluator
}

// facts is what is read from the bus from time to time.
type facts struct {
	read    time.Time // zero: never
	backups map[string]time.Time
	missing map[string]Missing // backups without an archive
	proofs  map[string]Proof
	scripts map[string]store.ScriptDoc
	off     map[string]store.Switches // by cluster

	asked     time.Time     // when what follows was read; zero: never
	pause     time.Duration // until it is read again, if that is more than serversEvery
	servers   map[string]store.Facts
	heard     freshness
	checksums map[string]store.Checksum
	binlogs   map[string]Binlogs // status and gaps, by cluster
}

const (
	// factsEvery is how often the catalogue and what is known of the scripts are read. A new backup is known at once by
	// its job.
	factsEvery = time.Minute
	factsRead  = 30 * time.Second
	// serversEvery is how often what the servers say of themselves and the comparisons of clusters are read.
	serversEvery = 5 * time.Second
	// serversShare is how many times longer than that took the pause after it is, up to the time after which the servers are asked again.
	serversShare = 30
	// lookGap is the least pause between two looks: a burst of changes costs one.
	lookGap = 100 * time.Millisecond
	// lookShare is how many times longer than a look took the pause after it is: while thousands of jobs change each look
	// is at all of them.
	lookShare = 9
	// paused is a pause between two looks after which we cannot say that we have been listening.
	paused = 10 * time.Second
	// settle is how long the fresh edge of another evaluator is believed against one's own picture, which may lag.
	settle = 5 * time.Second
	// writeTime bounds one edge.
	writeTime = 10 * time.Second
)

// New checks cfg; view must not run yet.
func New(cfg Config, conn *bus.Conn, jobs *store.Jobs, view *store.View, catalog *store.Catalog, docs *store.Docs) (*Evaluator, error) {
	if cfg.Actor == "" || cfg.Every <= 0 {
		return nil, errors.New("configure the conditions: an actor and a positive time between looks are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Evaluator{
		actor: cfg.Actor, log: cfg.Log, conn: conn, jobs: jobs, view: view, catalog: catalog, docs: docs, every: cfg.Every,
		binlogs: store.NewBinlogs(conn), alerts: store.NewAlerts(conn, cfg.Actor), control: store.NewControl(conn), now: time.Now, settle: settle, kick: make(chan struct{}, 1),
		edges: map[string]edge{}, last: map[job.Key]Outcome{}, signs: signs{runs: map[string]sign{}},
		fresh: map[string]backup{}, fact: facts{heard: freshness{}},
	}
	if err := e.Reload(cfg); err != nil {
		return nil, err
	}
	view.OnChange(e.observe)
	return e, nil
}

// Reload puts other clusters in force (SIGHUP). An error leaves the old ones. Actor, Every and Log stay.
func (e *Evaluator) Reload(cfg Config) error {
	for _, c := range cfg.Clusters {
		if c.Name == "" || c.Lease <= 0 || c.PickupTimeout <= 0 || c.BackupMaxAge < 0 {
			return fmt.Errorf("configure the conditions of cluster %q: name, lease and pickup-timeout must be set, no time negative", c.Name)
		}
	}
	clusters := append([]Cluster(nil), cfg.Clusters...)
	e.setup.Store(&clusters)
	return nil
}

// observe is told of every change of a job, per slot in order. It returns at once.
func (e *Evaluator) observe(ev bus.JobEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.signs.change(ev, e.now())
	k := ev.Job.Key()
	_, known := e.last[k]
	if out, ok := outcomeOf(ev.Job); ok && (judged(ev.Job.State) || !known) {
		e.last[k] = out
	}
	if j := ev.Job; j.State == job.Success && j.Backup != "" {
		e.fresh[j.Cluster] = backup{j.Since, e.now()}
	}
	e.stale = e.stale || ev.Job.Task == taskArchive && ev.State == job.Success || ev.Job.Task == taskDrill && !ev.State.Live() // the catalogue has changed
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// Run works until ctx ends (nil), and returns when all it started has ended. It waits for the view first.
func (e *Evaluator) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-e.view.Ready():
	}
	sub, err := bus.Listen(e.conn, bus.AllProgress, func(p bus.Progress) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.signs.progress(p, e.now())
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := sub.Unsubscribe(); err != nil {
			e.log.Debug("unsubscribe from signs of life", "err", err)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	caughtUp := make(chan struct{}) // closed by the follower when every last edge is known
	failed := make(chan error, 1)   // one send by the follower
	wg.Go(func() {
		failed <- bus.Follow(ctx, e.conn, bus.StreamAlerts, bus.AllAlerts, bus.From{LastPerSubject: true}, e.learn,
			func() { close(caughtUp) })
	})
	select {
	case <-caughtUp:
		return e.loop(ctx)
	case err := <-failed:
		return err
	}
}

// loop looks at every tick and at every change.
func (e *Evaluator) loop(ctx context.Context) error {
	e.begin()
	tick := time.NewTicker(e.every)
	defer tick.Stop()
	reconnects, looked := e.conn.NC.Stats().Reconnects, time.Now()
	for {
		begun := time.Now()
		connected := e.conn.NC.IsConnected()
		if n := e.conn.NC.Stats().Reconnects; !connected || n != reconnects || time.Since(looked) > paused+e.every {
			e.renew()
			reconnects = n
		}
		if connected {
			if err := e.runOnce(ctx); err != nil && ctx.Err() == nil {
				e.log.Warn("look at the conditions", "err", err)
			}
		}
		gap := min(max(lookGap, lookShare*time.Since(begun)), paused/2)
		looked = time.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-e.kick:
			select {
			case <-ctx.Done():
			case <-time.After(gap):
			}
		}
	}
}

// begin marks the moment from which on what is told is news.
func (e *Evaluator) begin() {
	e.up = e.now()
	e.renew()
}

func (e *Evaluator) renew() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.signs.renew(e.now())
}

// learn takes an edge from the bus. Another evaluator may have read the facts later than we did. What stands under our
// name before we begin is of an earlier life, whose picture was not ahead of ours.
func (e *Evaluator) learn(m bus.Meta, a bus.Alert) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.Seq > e.edges[m.Subject].seq {
		own := a.Actor == e.actor
		e.edges[m.Subject] = edge{alert: a, seq: m.Seq, learned: e.now(), mine: own && !e.signs.listening}
		e.stale = e.stale || !own && factual(a.Code)
	}
	return nil
}
