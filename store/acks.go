package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"drydock/bus"
)

// Ack says that somebody looks after a condition that is open: it is not repeated until it closes. It is kept in bucket
// drydock_control and holds for one opening only.
type Ack struct {
	Edge   string    `json:"edge"` // id of the opening
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	Time   time.Time `json:"time"`
	Until  time.Time `json:"until,omitzero"` // zero: until it closes
}

// Holds reports whether the acknowledgement is for this opening and still good.
func (a Ack) Holds(edge string, now time.Time) bool {
	return a.Edge == edge && (a.Until.IsZero() || now.Before(a.Until))
}

// Acks are by condition ([bus.Condition]).
type Acks map[string]Ack

// ErrNoCondition is returned for a condition that is not open.
var ErrNoCondition = errors.New("no such open condition")

const (
	keyAcks = "_acks"
	maxAcks = 2000 // as many as fit into one document
)

// Acks reads the acknowledgements; those of conditions that closed since may still be there.
func (c *Control) Acks(ctx context.Context) (Acks, error) {
	kv, err := c.c.Bucket(ctx, bus.BucketControl)
	if err != nil {
		return nil, err
	}
	acks, _, err := readControl[Acks](ctx, kv, keyAcks)
	return acks, err
}

// OpenCondition is a condition that is open, with who acknowledged it.
type OpenCondition struct {
	bus.Alert
	Condition string `json:"condition"`
	Ack       *Ack   `json:"ack,omitempty"`
}

// OpenConditions reads every open condition of a cluster, of [bus.NoCluster], or of all (empty), newest first.
func (a *Alerts) OpenConditions(ctx context.Context, f AlertFilter) ([]OpenCondition, error) {
	last := map[string]bus.Alert{} // by condition: an edge may come while we read
	err := bus.Read(ctx, a.c, bus.StreamAlerts, bus.AlertFilter(f.Cluster), bus.From{LastPerSubject: true}, func(m bus.Meta, edge bus.Alert) error {
		if f.matches(edge) {
			last[bus.Condition(m.Subject)] = edge
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the alerts: %w", err)
	}
	acks, err := NewControl(a.c).Acks(ctx)
	if err != nil {
		return nil, err
	}
	out := []OpenCondition{}
	now := time.Now()
	for name, edge := range last {
		if edge.State != bus.AlertOpened {
			continue
		}
		o := OpenCondition{Alert: edge, Condition: name}
		if ack := acks[name]; ack.Holds(edge.ID, now) {
			o.Ack = &ack
		}
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b OpenCondition) int { return NewerAlert(a.Alert, b.Alert) })
	return out[:min(len(out), limitOr(f.Limit, 200))], nil
}

// FindOpen is the open condition with this name or edge id. Errors: [ErrNoCondition].
func (a *Alerts) FindOpen(ctx context.Context, id string) (OpenCondition, error) {
	list, err := a.OpenConditions(ctx, AlertFilter{Limit: math.MaxInt})
	if err != nil {
		return OpenCondition{}, err
	}
	for _, o := range list {
		if o.ID == id || o.Condition == id {
			return o, nil
		}
	}
	return OpenCondition{}, fmt.Errorf("%w: %q; `drydock alerts` lists them", ErrNoCondition, id)
}

// Acknowledge records who looks after an open condition and drops what is said of others that closed. Errors:
// [ErrNoCondition].
func (a *Alerts) Acknowledge(ctx context.Context, id string, ack Ack) (OpenCondition, error) {
	o, err := a.FindOpen(ctx, id)
	if err != nil {
		return o, err
	}
	ack.Edge, ack.Time = o.ID, time.Now().UTC()
	if !ack.Until.IsZero() {
		if ack.Until = ack.Until.UTC(); !ack.Until.After(ack.Time) {
			return o, fmt.Errorf("acknowledge %s: %s is in the past", o.Condition, utc(ack.Until))
		}
	}
	open, err := a.OpenConditions(ctx, AlertFilter{Limit: math.MaxInt})
	if err != nil {
		return o, err
	}
	edges := map[string]string{}
	for _, x := range open {
		edges[x.Condition] = x.ID
	}
	err = updateControl(ctx, a.c, keyAcks, func(v *Acks) (bool, error) {
		if *v == nil {
			*v = Acks{}
		}
		for name, old := range *v {
			if edges[name] != old.Edge {
				delete(*v, name)
			}
		}
		if _, there := (*v)[o.Condition]; !there && len(*v) >= maxAcks {
			return false, fmt.Errorf("acknowledge %s: %d conditions are acknowledged already; take some back", o.Condition, maxAcks)
		}
		(*v)[o.Condition] = ack
		return true, nil
	})
	o.Ack = &ack
	return o, err
}

// Unacknowledge takes an acknowledgement back. Errors: [ErrNoCondition].
func (a *Alerts) Unacknowledge(ctx context.Context, id string) (OpenCondition, error) {
	o, err := a.FindOpen(ctx, id)
	if err != nil {
		return o, err
	}
	o.Ack = nil
	return o, updateControl(ctx, a.c, keyAcks, func(v *Acks) (bool, error) {
		_, there := (*v)[o.Condition]
		delete(*v, o.Condition)
		return there, nil
	})
}
