package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"drydock/bus"
)

// worker tells one destination. It alone waits for it.
type worker struct {
	n    *Notifier
	to   Destination
	kick chan struct{} // a condition changed; sender: the notifier, one place, never closed

	mu    sync.Mutex        // held during a try
	owed  *bus.Notification // the outcome of a try that could not be recorded yet
	since time.Time         // when something to tell was seen first; zero: nothing is
	alien alien
}

// alien is another process's intent without an outcome.
type alien struct {
	id    string    // of the intent; empty: none
	until time.Time // that process may be at it
}

// errBusy is returned while another process may still be sending.
var errBusy = errors.New("the process that led before may still be sending to it")

func (w *worker) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := w.runOnce(ctx); err != nil && !errors.Is(err, errBusy) && ctx.Err() == nil {
			w.n.log.Warn("notify", "destination", w.to.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.kick:
		}
	}
}

// runOnce looks whether there is something to tell, and tries to when it is time.
func (w *worker) runOnce(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.settle(ctx); err != nil {
		return err
	}
	if w.last().State == bus.TrySent { // whoever recorded that may have ended before it closed the condition
		if err := w.n.setFailing(ctx, w.to.Name, false, ""); err != nil {
			return err
		}
	}
	now := w.n.now()
	items, retryAt, err := w.due(ctx, now)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		w.since = time.Time{}
		return nil
	}
	if w.since.IsZero() {
		w.since = now
	}
	if now.Before(w.since.Add(w.n.cfg.GroupWait)) || now.Before(retryAt) {
		return nil
	}
	w.since = time.Time{}
	m := compose(w.to.Name, items)
	intent := bus.Notification{Notification: m.ID, Title: m.Title, Text: m.Text, Told: []bus.Told{}}
	for _, it := range items {
		intent.Told = append(intent.Told, bus.Told{Kind: it.kind, Condition: it.name, Seq: it.seq})
	}
	_, err = w.try(ctx, m, intent)
	return err
}

// due is what to tell now, and before when a destination that failed is left alone.
func (w *worker) due(ctx context.Context, now time.Time) ([]item, time.Time, error) {
	n := w.n
	n.mu.Lock()
	l := n.ledgers[w.to.Name]
	items, retryAt := due(w.to, l.told, n.conds, n.cfg.Repeat, n.setup.Load(), now), l.retryAt()
	n.mu.Unlock()
	if !asks(items) {
		return unacknowledged(items, nil, now), retryAt, nil
	}
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	acks, err := n.control.Acks(ctx)
	return unacknowledged(items, acks, now), retryAt, err
}

// settle records what an earlier try has left open: ours, whose outcome could not be written, or that of a process which
// ended in between. One that only lost the lease, because the bus was away, gets the time to bring its try to an end.
// Errors: [errBusy].
func (w *worker) settle(ctx context.Context) error {
	if err := w.pay(ctx); err != nil {
		return err
	}
	last := w.last()
	if last.State != bus.TrySending {
		return nil
	}
	if last.Actor != w.n.cfg.Actor {
		if w.alien.id != last.ID {
			w.alien = alien{last.ID, w.n.now().Add(w.to.Timeout + killGrace)}
		}
		if w.n.now().Before(w.alien.until) {
			return errBusy
		}
	}
	last.State, last.Error = bus.TryUnknown, "the process that sent it ended before the outcome was recorded"
	if err := w.record(ctx, last); err != nil && !errors.Is(err, bus.ErrConflict) {
		return err
	}
	return nil
}

// pay records the outcome that could not be. The caller holds mu.
func (w *worker) pay(ctx context.Context) error {
	if w.owed == nil {
		return nil
	}
	if err := w.record(ctx, *w.owed); err != nil && !errors.Is(err, bus.ErrConflict) {
		return err
	}
	w.owed = nil
	return nil
}

func (w *worker) last() bus.Notification {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	return w.n.ledgers[w.to.Name].last
}

// try writes the intent, sends, and writes the outcome. Only who wrote the intent sends. A stop of drydock lets a try end.
func (w *worker) try(ctx context.Context, m Message, x bus.Notification) (bus.Notification, error) {
	n := w.n
	n.mu.Lock()
	fails := n.ledgers[w.to.Name].fails
	n.mu.Unlock()
	x.State, x.Destination, x.Try = bus.TrySending, w.to.Name, fails+1
	n.step("intent")
	if err := w.record(ctx, x); err != nil {
		if errors.Is(err, bus.ErrConflict) {
			return x, nil // another process leads now, or the follower lags: the next look decides
		}
		return x, err
	}
	n.step("send")
	ctx = context.WithoutCancel(ctx)
	err := n.deliver(ctx, w.to, m)
	n.step("outcome")
	x.State = bus.TrySent
	if err != nil {
		x.Error = err.Error()
	}
	if err != nil && !errors.Is(err, errPartly) {
		x.State = bus.TryFailed
	}
	if err := w.record(ctx, x); err != nil && !errors.Is(err, bus.ErrConflict) {
		w.owed = &x
		return x, err
	}
	n.step("recorded")
	return x, w.report(ctx, x, fails+1)
}

// report logs the outcome of a try, and keeps the condition about the destination.
func (w *worker) report(ctx context.Context, x bus.Notification, fails int) error {
	switch {
	case x.State == bus.TrySent && x.Error == "":
		w.n.log.Info("notified", "destination", w.to.Name, "notification", x.Notification, "conditions", len(x.Told), "title", x.Title)
	default:
		w.n.log.Warn("notify", "destination", w.to.Name, "notification", x.Notification, "state", string(x.State), "attempt", x.Try, "err", x.Error)
	}
	if x.State == bus.TrySent {
		return w.n.setFailing(ctx, w.to.Name, false, "")
	}
	if !x.Test && fails >= failsOpen {
		return w.n.setFailing(ctx, w.to.Name, true, x.Error)
	}
	return nil
}

// record appends to the destination's subject, if nobody else did since we read it.
func (w *worker) record(ctx context.Context, x bus.Notification) error {
	n := w.n
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	x.Type, x.ID, x.Actor, x.Time = bus.TypeNotification, bus.NewMessageID(), n.cfg.Actor, n.now().UTC()
	n.mu.Lock()
	last := n.ledgers[w.to.Name].seq
	n.mu.Unlock()
	seq, err := n.conn.Append(ctx, bus.StreamNotifications, bus.NotificationSubject(w.to.Name), x.ID, last, x)
	if err != nil {
		return fmt.Errorf("record a notification to %s: %w", w.to.Name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ledgers[w.to.Name].apply(seq, x)
	return nil
}

// test sends a message that says it is one, whatever the routes.
func (w *worker) test(ctx context.Context, by string) (bus.Notification, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.settle(ctx); err != nil {
		return bus.Notification{}, err
	}
	m := Message{
		ID: bus.NewMessageID(), Destination: w.to.Name, Severity: bus.SeverityInfo, Test: true, Conditions: []Condition{},
		Title: "drydock: test message", Text: plain("This is a test of the destination "+w.to.Name+", asked for by "+by+".") + "\n",
	}
	x, err := w.try(ctx, m, bus.Notification{Notification: m.ID, Title: m.Title, Text: m.Text, Test: true, Told: []bus.Told{}})
	if err == nil && x.State == bus.TrySending {
		err = errors.New("somebody else notifies this destination now; try again")
	}
	return x, err
}
