package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drydock/alert"
	"drydock/bus"
	"drydock/store"
)

// Notifier tells destinations about conditions. Make one with [New]; safe for concurrent use.
type Notifier struct {
	cfg     Config
	log     *slog.Logger
	conn    *bus.Conn
	view    *store.View
	alerts  *store.Alerts
	control *store.Control
	leases  *store.Leases
	secrets *redactor
	setup   atomic.Pointer[setup]
	pinger  *pinger

	now  func() time.Time // the clock, which tests set
	step func(string)     // told before and after what counts when the process dies there; for tests

	mu      sync.Mutex
	ledgers map[string]*ledger   // by destination
	conds   map[string]condition // by [bus.Condition]
	kicks   []chan struct{}      // one place each, one sender at a time (mu), never closed: a worker should look
}

const (
	leaseName  = "_notify"
	leaseTerm  = 15 * time.Second
	leaseAgain = 2 * time.Second // between two tries to get it
	lookEvery  = time.Second
	busTime    = 10 * time.Second
	// failsOpen is how many tries in a row must fail before it is a condition.
	failsOpen = 3
)

// New checks cfg. view need not run yet; it is needed for pings only.
func New(cfg Config, conn *bus.Conn, view *store.View) (*Notifier, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{
		cfg: cfg, log: cfg.Log, conn: conn, view: view, alerts: store.NewAlerts(conn, cfg.Actor), control: store.NewControl(conn),
		leases: store.NewLeases(conn, cfg.Actor, leaseTerm), pinger: newPinger(), now: time.Now, step: func(string) {},
		ledgers: map[string]*ledger{}, conds: map[string]condition{},
	}
	urls := []string{cfg.HeartbeatURL}
	for _, d := range cfg.Destinations {
		n.ledgers[d.Name] = &ledger{}
		urls = append(urls, d.URL)
	}
	n.secrets = newRedactor(urls...)
	return n, n.Reload(cfg)
}

// Reload puts other clusters in force: quiet times and pings. An error leaves the old ones.
func (n *Notifier) Reload(cfg Config) error {
	s, err := newSetup(cfg.Clusters)
	if err == nil {
		n.setup.Store(s)
	}
	return err
}

// Run works until ctx ends (nil), and returns when all it started has ended.
func (n *Notifier) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	failed := make(chan error, 2)                                  // one send by each follower
	conditions, record := make(chan struct{}), make(chan struct{}) // closed by the followers when all is known
	wg.Go(func() {
		failed <- bus.Follow(ctx, n.conn, bus.StreamAlerts, bus.AllAlerts, bus.From{LastPerSubject: true}, n.learn, func() { close(conditions) })
	})
	wg.Go(func() {
		failed <- bus.Follow(ctx, n.conn, bus.StreamNotifications, bus.AllNotifications, bus.From{}, n.recall, func() { close(record) })
	})
	if len(n.setup.Load().pings) > 0 {
		wg.Go(func() { n.runPings(ctx) })
	}
	for _, known := range []chan struct{}{conditions, record} {
		select {
		case err := <-failed: // nil when ctx ended
			return err
		case <-known:
		}
	}
	var workers []*worker // they outlive a lease: an outcome that could not be recorded must not be lost with it
	for _, d := range n.cfg.Destinations {
		workers = append(workers, &worker{n: n, to: d, kick: make(chan struct{}, 1)})
	}
	for ctx.Err() == nil {
		if err := n.leadOnce(ctx, workers); err != nil && !errors.Is(err, store.ErrHeld) && ctx.Err() == nil {
			n.log.Warn("lead the notifications", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(leaseAgain):
		}
	}
	return nil
}

// learn takes the last edge of a condition in.
func (n *Notifier) learn(m bus.Meta, a bus.Alert) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := bus.Condition(m.Subject)
	if m.Seq > n.conds[name].seq {
		n.conds[name] = condition{a, m.Seq}
		for _, kick := range n.kicks {
			select {
			case kick <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

// recall takes what was recorded in, here or elsewhere.
func (n *Notifier) recall(m bus.Meta, x bus.Notification) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.ledgers[x.Destination]; l != nil {
		l.apply(m.Seq, x)
	}
	return nil
}

// leadOnce works as long as the lease is ours. Errors: [store.ErrHeld] when it is somebody else's.
func (n *Notifier) leadOnce(ctx context.Context, workers []*worker) error {
	for _, w := range workers { // what is owed does not wait for the lease: who has it waits for that
		w.mu.Lock()
		err := w.pay(ctx)
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
	lease, err := n.takeLease(ctx)
	if err != nil {
		return err
	}
	n.log.Debug("this process notifies")
	leading, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { w.run(leading) })
	}
	n.listen(workers)
	wg.Go(func() { n.serveTests(leading, workers) })
	if n.cfg.HeartbeatURL != "" {
		wg.Go(func() { n.beat(leading) })
	}
	n.forget(leading)
	err = n.keep(leading, lease)
	end()
	wg.Wait()
	n.listen(nil)
	release, stop := context.WithTimeout(context.WithoutCancel(ctx), busTime)
	defer stop()
	if err := lease.Release(release); err != nil {
		n.log.Debug("give back the lease of the notifications", "err", err)
	}
	return err
}

func (n *Notifier) takeLease(ctx context.Context) (*store.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	return n.leases.Take(ctx, "", 0, leaseName)
}

// listen wakes these workers when a condition changes.
func (n *Notifier) listen(workers []*worker) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kicks = nil
	for _, w := range workers {
		n.kicks = append(n.kicks, w.kick)
	}
}

// keep renews the lease until ctx ends (nil) or it is lost.
func (n *Notifier) keep(ctx context.Context, lease *store.Lease) error {
	tick := time.NewTicker(leaseTerm / 3)
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		limit, stop := context.WithTimeout(ctx, leaseTerm/3)
		err := lease.Renew(limit)
		stop()
		switch {
		case err == nil:
			renewed = time.Now()
		case errors.Is(err, store.ErrLost), time.Since(renewed) > leaseTerm:
			return fmt.Errorf("renew the lease: %w", err)
		}
	}
}

// failureOf is the condition that a destination cannot be notified.
func failureOf(destination string) string {
	return bus.Condition(bus.AlertSubject(bus.NoCluster, "", 0, alert.NotificationsFail.Name+"-"+destination))
}

// setFailing opens or closes the condition that a destination cannot be notified.
func (n *Notifier) setFailing(ctx context.Context, destination string, failing bool, why string) error {
	name := failureOf(destination)
	n.mu.Lock()
	last := n.conds[name]
	n.mu.Unlock()
	open := last.alert.State == bus.AlertOpened
	if open == failing {
		return nil
	}
	edge := last.alert
	edge.State = bus.AlertClosed
	if failing {
		edge = bus.Alert{
			State: bus.AlertOpened, Code: alert.NotificationsFail.Name, Severity: alert.NotificationsFail.Severity,
			Text: fmt.Sprintf("notifications to %s fail: %s", destination, why), Since: n.now().UTC(),
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), busTime)
	defer cancel()
	subject := bus.AlertSubject(bus.NoCluster, "", 0, alert.NotificationsFail.Name+"-"+destination)
	edge, seq, err := n.alerts.Append(ctx, subject, last.seq, edge)
	if errors.Is(err, bus.ErrConflict) {
		return nil // the follower brings what stands there; the next try looks again
	}
	if err != nil {
		return fmt.Errorf("record that notifications to %s fail: %w", destination, err)
	}
	n.log.Log(ctx, slog.LevelWarn, "condition "+string(edge.State), "code", edge.Code, "text", edge.Text)
	return n.learn(bus.Meta{Subject: subject, Seq: seq}, edge)
}

// forget closes the conditions of destinations that are not configured any more.
func (n *Notifier) forget(ctx context.Context) {
	n.mu.Lock()
	names := slices.Collect(maps.Keys(n.conds))
	n.mu.Unlock()
	prefix := failureOf("")
	for _, name := range names {
		destination, ok := strings.CutPrefix(name, prefix)
		if !ok || n.ledgers[destination] != nil {
			continue
		}
		if err := n.setFailing(ctx, destination, false, ""); err != nil {
			n.log.Warn("close the condition of a destination that is gone", "err", err)
		}
	}
}
