package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"drydock/bus"
	"drydock/job"
)

// Ledger reads and extends the tick ledgers, one per (cluster, task). Safe for concurrent use.
type Ledger struct {
	c     *bus.Conn
	actor string
}

// NewLedger writes as actor.
func NewLedger(c *bus.Conn, actor string) *Ledger { return &Ledger{c, actor} }

// Update appends what decide makes of the ledger's last entry (the zero Tick for a new ledger), unless decide answers
// false. decide runs again when somebody else wrote first. It need not set Type, ID, Time, Actor, Cluster or Task; where
// it leaves Cursor, Spec and Zone empty, those of the last entry are carried on. written is false when decide declined.
func (l *Ledger) Update(ctx context.Context, cluster, task string, decide func(last bus.Tick) (bus.Tick, bool)) (t bus.Tick, seq uint64, written bool, err error) {
	subject := bus.TaskSubject(cluster, task)
	for range casTries {
		last, lastSeq, err := bus.Last[bus.Tick](ctx, l.c, bus.StreamTasks, subject)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return bus.Tick{}, 0, false, err
		}
		t, ok := decide(last)
		if !ok {
			return last, lastSeq, false, nil
		}
		t.Type, t.Time, t.Actor, t.Cluster, t.Task = bus.TypeTick, time.Now().UTC(), l.actor, cluster, task
		if t.ID == "" {
			t.ID = bus.NewMessageID()
		}
		if t.Cursor.IsZero() {
			t.Cursor = last.Cursor
		}
		if t.Spec == "" && t.Outcome != bus.Disarmed {
			t.Spec, t.Zone = last.Spec, last.Zone
		}
		seq, err := l.c.Append(ctx, bus.StreamTasks, subject, t.ID, lastSeq, t)
		if errors.Is(err, bus.ErrConflict) {
			continue
		}
		return t, seq, err == nil, err
	}
	return bus.Tick{}, 0, false, fmt.Errorf("extend ledger of %s/%s: %w", cluster, task, ErrBusy)
}

// Order is a request for jobs outside any schedule.
type Order struct {
	Cluster, Task string
	// ID and Due name the order, so that giving it again changes nothing; empty for a new one that is due now.
	ID      string
	Due     time.Time
	Servers []job.Server      // empty: all that the task's schedule targets
	Args    map[string]string // for every job ([job.Job.Args])
	Trigger job.Trigger
	Reason  string
}

// ByHand is the order of a person. With force it knows of the hold or the blackout.
func ByHand(cluster, task string, servers []job.Server, args map[string]string, by string, force bool) Order {
	o := Order{
		Cluster: cluster, Task: task, Servers: servers, Args: args, Reason: "asked for by " + by,
		Trigger: job.Trigger{Kind: job.Manual, By: by, Force: force},
	}
	if force {
		o.Reason = "forced by " + by
	}
	return o
}

// RunNow records a request by hand; the schedulers start its jobs. The ids of those jobs are [job.NewID] of the
// returned tick's Due and ID.
func (l *Ledger) RunNow(ctx context.Context, cluster, task string, servers []job.Server, by string) (bus.Tick, error) {
	return l.Run(ctx, ByHand(cluster, task, servers, nil, by, false))
}

// RunForced is [Ledger.RunNow] for somebody who knows of the hold or the blackout.
func (l *Ledger) RunForced(ctx context.Context, cluster, task string, servers []job.Server, by string) (bus.Tick, error) {
	return l.Run(ctx, ByHand(cluster, task, servers, nil, by, true))
}

// Run records an order. The ids of its jobs are as with [Ledger.RunNow].
func (l *Ledger) Run(ctx context.Context, o Order) (bus.Tick, error) {
	o.Due = o.Due.UTC().Truncate(time.Millisecond)
	if o.ID != "" {
		if t, found, err := l.recorded(ctx, o); err != nil || found {
			return t, err
		}
	} else {
		// One for all tries: should an earlier one have been written after all, the stream knows it.
		o.ID, o.Due = bus.NewMessageID(), time.Now().UTC().Truncate(time.Millisecond)
	}
	t, _, _, err := l.Update(ctx, o.Cluster, o.Task, func(last bus.Tick) (bus.Tick, bool) {
		return bus.Tick{
			Outcome: bus.Fired, ID: o.ID, Due: o.Due, Servers: o.Servers, Args: o.Args,
			Trigger: o.Trigger, Reason: o.Reason,
		}, last.ID != o.ID
	})
	return t, err
}

// recorded looks for an order that has a name of its own: the stream forgets ids after a while, the ledger does not.
func (l *Ledger) recorded(ctx context.Context, o Order) (t bus.Tick, found bool, err error) {
	since := bus.From{Since: o.Due.Add(-time.Minute)} // clocks of several machines may differ a little
	err = bus.Read(ctx, l.c, bus.StreamTasks, bus.TaskSubject(o.Cluster, o.Task), since, func(_ bus.Meta, x bus.Tick) error {
		if x.ID == o.ID {
			t, found = x, true
			return bus.ErrStop
		}
		return nil
	})
	if err == nil {
		err = ctx.Err() // a reading that was cut short proves nothing
	}
	if err != nil {
		return t, false, fmt.Errorf("look for order %s: %w", o.ID, err)
	}
	return t, found, nil
}

// TickFilter narrows [Ledger.List]; empty fields mean all.
type TickFilter struct {
	Cluster, Task string
	Since         time.Time
	Limit         int // newest first; 0 means 1000
}

// List reads the ledger, newest first.
func (l *Ledger) List(ctx context.Context, f TickFilter) ([]bus.Tick, error) {
	var out []bus.Tick
	err := bus.Read(ctx, l.c, bus.StreamTasks, bus.TaskFilter(f.Cluster, f.Task), bus.From{Since: f.Since},
		func(_ bus.Meta, t bus.Tick) error {
			out = append(out, t)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	slices.Reverse(out)
	return out[:min(len(out), limitOr(f.Limit, 1000))], nil
}

func limitOr(n, standard int) int {
	if n > 0 {
		return n
	}
	return standard
}
