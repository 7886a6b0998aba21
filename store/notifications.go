package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"drydock/bus"
)

// NotificationFilter narrows [Notifications].
type NotificationFilter struct {
	Destination string // empty: all
	Since       time.Time
	Limit       int // newest first; 0 means 200
}

// Notifications lists what was sent, one entry per try, newest first: its outcome, or the intent while there is none.
func Notifications(ctx context.Context, c *bus.Conn, f NotificationFilter) ([]bus.Notification, error) {
	filter := bus.AllNotifications
	if f.Destination != "" {
		filter = bus.NotificationSubject(f.Destination)
	}
	out := []bus.Notification{}
	pending := map[string]int{} // by destination: where its intent stands in out
	err := bus.Read(ctx, c, bus.StreamNotifications, filter, bus.From{Since: f.Since}, func(_ bus.Meta, n bus.Notification) error {
		i, open := pending[n.Destination]
		delete(pending, n.Destination)
		if open && n.State != bus.TrySending {
			out[i] = n
			return nil
		}
		if n.State == bus.TrySending {
			pending[n.Destination] = len(out)
		}
		out = append(out, n)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what was notified: %w", err)
	}
	slices.SortStableFunc(out, func(a, b bus.Notification) int { return b.Time.Compare(a.Time) })
	return out[:min(len(out), limitOr(f.Limit, 200))], nil
}
