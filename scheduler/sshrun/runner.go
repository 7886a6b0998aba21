package sshrun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"drydock/store"
)

const (
	leaseName    = "_ssh"
	leaseTimeout = 10 * time.Second // for one word with the bus
	longWait     = 5 * time.Minute  // for a free session
	// longestNap bounds how long the clock sleeps, because a wall clock can be set.
	longestNap = 30 * time.Second
)

// LeaseTerm is how long after the death of a scheduler another one opens sessions to the hosts that it was busy with.
const LeaseTerm = 30 * time.Second

// Runner opens the sessions. Make one with [New]; safe for concurrent use.
type Runner struct {
	log    *slog.Logger
	leases *store.Leases
	now    func() time.Time

	setup    atomic.Pointer[setup]
	reloaded chan struct{} // Reload sends, Run receives; one waiting signal is enough
	slots    chan struct{} // one element per open session; its length is the limit
	health   *health

	mu     sync.Mutex
	queues map[host]*queue // of hosts with something to do
	warned time.Time       // that sessions are short
	work   sync.WaitGroup  // one per queue
}

// setup is one configuration, ready for use. It is never changed.
type setup struct {
	Config
	schedules []schedule
}

// queue is what is to be done on one host, one after the other.
type queue struct {
	running targetKey
	waiting []target
}

// New checks cfg and prepares a runner, which does nothing as long as no cluster is enabled.
func New(cfg Config, leases *store.Leases) (*Runner, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	schedules, err := cfg.schedules()
	if err != nil {
		return nil, err
	}
	r := &Runner{
		log: cfg.Log, leases: leases, now: time.Now, reloaded: make(chan struct{}, 1),
		slots: make(chan struct{}, cfg.Concurrency), health: newHealth(cfg.Log), queues: map[host]*queue{},
	}
	r.setup.Store(&setup{cfg, schedules})
	return r, nil
}

// Reload puts another configuration in force (SIGHUP) for the sessions to come. An error leaves the old one in force.
// Log and Concurrency stay as they were.
func (r *Runner) Reload(cfg Config) error {
	schedules, err := cfg.schedules()
	if err != nil {
		return err
	}
	r.setup.Store(&setup{cfg, schedules})
	select {
	case r.reloaded <- struct{}{}:
	default: // Run has not looked since the last one; it will find this
	}
	return nil
}

// Run works until ctx ends and returns nil when every session is closed. Scripts that run then go on by themselves: a
// restart of drydock must not end a backup of hours.
func (r *Runner) Run(ctx context.Context) error {
	defer r.work.Wait()
	r.layAll()
	last := r.now()
	for {
		timer := time.NewTimer(r.nap(last))
		select {
		case <-ctx.Done():
			timer.Stop()
			if n := len(r.slots); n > 0 {
				r.log.Info("stopping: scripts that still run go on without their sessions", "sessions", n)
			}
			return nil
		case <-r.reloaded:
			r.layAll()
		case <-timer.C:
		}
		timer.Stop()
		now := r.now()
		r.fire(ctx, last, now)
		last = now
	}
}

// nap is how long nothing falls due.
func (r *Runner) nap(last time.Time) time.Duration {
	wait := longestNap
	for _, s := range r.setup.Load().schedules {
		if next := s.calendar.Next(last); !next.IsZero() {
			wait = min(wait, max(0, next.Sub(r.now())))
		}
	}
	return wait
}

// fire asks for a session to every server of the clusters that have a tick in (last, now]. Several missed ticks are as
// good as one: the script does whatever is waiting.
func (r *Runner) fire(ctx context.Context, last, now time.Time) {
	for _, s := range r.setup.Load().schedules {
		next := s.calendar.Next(last)
		if next.IsZero() || next.After(now) {
			continue
		}
		for _, server := range s.cluster.Servers {
			r.ask(ctx, target{s.cluster, server})
		}
	}
}

// ask queues a session unless one to the same server is waiting or open: ticks do not pile up.
func (r *Runner) ask(ctx context.Context, t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.queues[t.host()]
	if q == nil {
		q = &queue{}
		r.queues[t.host()] = q
		r.work.Go(func() { r.serve(ctx, t.host(), q) })
	}
	if q.running == t.key() {
		return
	}
	for _, w := range q.waiting {
		if w.key() == t.key() {
			return
		}
	}
	q.waiting = append(q.waiting, t)
}

// serve works through the queue of one host and ends with it.
func (r *Runner) serve(ctx context.Context, h host, q *queue) {
	for {
		r.mu.Lock()
		q.running = targetKey{}
		if len(q.waiting) == 0 || ctx.Err() != nil {
			delete(r.queues, h)
			r.mu.Unlock()
			return
		}
		t := q.waiting[0]
		q.waiting, q.running = q.waiting[1:], t.key()
		r.mu.Unlock()
		r.visit(ctx, t)
	}
}

// visit waits for a slot, takes the host's lease and runs one session.
func (r *Runner) visit(ctx context.Context, t target) {
	asked := time.Now()
	select {
	case <-ctx.Done():
		return
	case r.slots <- struct{}{}:
	}
	defer func() { <-r.slots }()
	began := time.Now()
	r.crowded(t, began.Sub(asked))
	res, err := r.leased(ctx, t)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, store.ErrHeld):
		r.log.Debug("left to another scheduler", "cluster", t.cluster.Name, "server", t.server.String(), "err", err)
	default:
		r.health.report(t, res, err, time.Since(began))
	}
}

// crowded warns, once an hour, that a host had to wait long because of the limit.
func (r *Runner) crowded(t target, waited time.Duration) {
	if waited < longWait {
		return
	}
	r.mu.Lock()
	again := time.Since(r.warned) >= repeatEvery
	if again {
		r.warned = time.Now()
	}
	r.mu.Unlock()
	if again {
		r.log.Warn("hosts wait for a free session: see scheduler-jobs-ssh-max-sessions", "cluster", t.cluster.Name,
			"server", t.server.String(), "waited", waited.Round(time.Second), "limit", cap(r.slots))
	}
}

func (r *Runner) leased(ctx context.Context, t target) (result, error) {
	h := t.host()
	take, cancel := context.WithTimeout(ctx, leaseTimeout)
	lease, err := r.leases.Take(take, h.name, h.port, leaseName)
	cancel()
	if err != nil {
		return result{}, err
	}
	ctx, end := context.WithCancelCause(ctx)
	var held sync.WaitGroup
	held.Go(func() { r.hold(ctx, end, lease) })
	res, err := r.session(ctx, t)
	end(nil)
	held.Wait()
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	defer cancel()
	if err := lease.Release(release); err != nil {
		r.log.Debug("give the host's lease back", "host", h.String(), "err", err) // it runs out by itself
	}
	return res, err
}

// hold renews the lease until ctx ends, and ends it when the lease is lost: another process may open a session then.
func (r *Runner) hold(ctx context.Context, end context.CancelCauseFunc, lease *store.Lease) {
	tick := time.NewTicker(r.leases.Term() / 4)
	defer tick.Stop()
	good := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		renew, cancel := context.WithTimeout(ctx, r.leases.Term()/4)
		err := lease.Renew(renew)
		cancel()
		switch {
		case err == nil:
			good = began
		case ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrLost), time.Since(good) > r.leases.Term()/2:
			end(fmt.Errorf("the session was closed: %w", err))
			return
		}
	}
}

// session logs in and runs the script once.
func (r *Runner) session(ctx context.Context, t target) (result, error) {
	script, err := t.cluster.script()
	if err != nil {
		return result{}, err
	}
	cfg := r.setup.Load().Config
	input, err := feed(cfg.Environment(*t.cluster, t.server), script)
	if err != nil {
		return result{}, err
	}
	// The connection ends with the context that run asks, not with its parent: a parent that ends tells its children one
	// after the other, and a connection that is told first is gone before anybody can say why.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, err := dial(ctx, t.host(), t.cluster.Login)
	if err != nil {
		return result{}, err
	}
	var alive sync.WaitGroup
	alive.Go(func() { keepAlive(ctx, client) })
	defer func() {
		cancel(nil)
		_ = client.Close() // an open keep-alive ends with the connection
		alive.Wait()
	}()
	until, stop := within(ctx, t.cluster.Timeout)
	defer stop()
	return run(ctx, until, client, order{command: command, input: input, secrets: cfg.secrets(*t.cluster)})
}
