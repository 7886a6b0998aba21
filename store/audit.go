package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"drydock/bus"
)

// Audits reads and writes who changed what. Safe for concurrent use.
type Audits struct {
	c     *bus.Conn
	actor string
}

// NewAudits writes as actor.
func NewAudits(c *bus.Conn, actor string) *Audits { return &Audits{c, actor} }

const (
	maxAuditText = 1000 // bytes of a field: what comes from outside can be as long as a request
	maxAuditJobs = 200
)

// Record writes an act down. It sets Type, ID, Time and Actor, and is on disk when it returns nil.
func (s *Audits) Record(ctx context.Context, a bus.Audit) error {
	a.Type, a.ID, a.Time, a.Actor = bus.TypeAudit, bus.NewMessageID(), time.Now().UTC(), s.actor
	for _, text := range []*string{&a.User, &a.Address, &a.Server, &a.Target, &a.Detail, &a.Reason, &a.Error} {
		*text = cut(*text)
	}
	a.Jobs = a.Jobs[:min(len(a.Jobs), maxAuditJobs)]
	if err := s.c.Record(ctx, bus.StreamAudit, bus.AuditSubject(a.Cluster, a.Verb), a.ID, a); err != nil {
		return fmt.Errorf("record %s in the audit: %w", a.Verb, err)
	}
	return nil
}

func cut(text string) string {
	if len(text) <= maxAuditText {
		return text
	}
	return text[:maxAuditText] + "..."
}

// AuditFilter narrows [Audits.List]; empty fields mean all.
type AuditFilter struct {
	Cluster string // not what concerns the fleet
	User    string
	Verb    string
	Since   time.Time
	Keep    func(bus.Audit) bool // nil: all
	Limit   int                  // newest first; 0 means 200
}

func (f AuditFilter) matches(a bus.Audit) bool {
	return (f.User == "" || f.User == a.User) && (f.Keep == nil || f.Keep(a))
}

// List reads the acts, newest first.
func (s *Audits) List(ctx context.Context, f AuditFilter) ([]bus.Audit, error) {
	limit := limitOr(f.Limit, 200)
	out := []bus.Audit{}
	err := bus.Read(ctx, s.c, bus.StreamAudit, bus.AuditFilter(f.Cluster, f.Verb), bus.From{Since: f.Since}, func(_ bus.Meta, a bus.Audit) error {
		if f.matches(a) {
			out = append(out, a)
		}
		if len(out)/2 >= limit { // only the newest are wanted
			out = slices.Delete(out, 0, len(out)-limit)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit: %w", err)
	}
	slices.Reverse(out)
	return out[:min(len(out), limit)], nil
}
