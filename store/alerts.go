package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
)

// Alerts reads and writes the edges of conditions. Safe for concurrent use.
type Alerts struct {
	c     *bus.Conn
	actor string
}

// NewAlerts writes as actor.
func NewAlerts(c *bus.Conn, actor string) *Alerts { return &Alerts{c, actor} }

// Append writes an edge on its subject, if the last message there still has sequence last (0: there is none). It sets
// Type, ID, Time and Actor. Errors: [bus.ErrConflict], or the bus's.
func (a *Alerts) Append(ctx context.Context, subject string, last uint64, edge bus.Alert) (bus.Alert, uint64, error) {
	edge.Type, edge.ID, edge.Time, edge.Actor = bus.TypeAlert, bus.NewMessageID(), time.Now().UTC(), a.actor
	seq, err := a.c.Append(ctx, bus.StreamAlerts, subject, edge.ID, last, edge)
	return edge, seq, err
}

// AlertFilter narrows [Alerts.List]; empty fields mean all.
type AlertFilter struct {
	Cluster string
	Server  job.Server // Port 0: every port of Host; empty Host: every server, and what concerns the whole cluster
	Task    string
	History bool      // every edge since Since, not only the conditions that are open
	Since   time.Time // for History
	Limit   int       // newest first; 0 means 200
}

func (f AlertFilter) matches(a bus.Alert) bool {
	return (f.Server.Host == "" || f.Server.Host == a.Server.Host && (f.Server.Port == 0 || f.Server.Port == a.Server.Port)) &&
		(f.Task == "" || f.Task == a.Task)
}

// List reads the open conditions, or all edges, newest first.
func (a *Alerts) List(ctx context.Context, f AlertFilter) ([]bus.Alert, error) {
	from := bus.From{LastPerSubject: true}
	if f.History {
		from = bus.From{Since: f.Since}
	}
	last := map[string]bus.Alert{} // by subject: an edge may come while we read
	var out []bus.Alert
	err := bus.Read(ctx, a.c, bus.StreamAlerts, bus.AlertFilter(f.Cluster), from, func(m bus.Meta, edge bus.Alert) error {
		switch {
		case !f.matches(edge):
		case f.History:
			out = append(out, edge)
		default:
			last[m.Subject] = edge
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the alerts: %w", err)
	}
	for _, edge := range last {
		if edge.State == bus.AlertOpened {
			out = append(out, edge)
		}
	}
	slices.SortFunc(out, NewerAlert)
	return out[:min(len(out), limitOr(f.Limit, 200))], nil
}

// NewerAlert orders edges, the newest first.
func NewerAlert(a, b bus.Alert) int {
	return cmp.Or(b.Time.Compare(a.Time), strings.Compare(a.Code, b.Code), strings.Compare(b.ID, a.ID))
}
