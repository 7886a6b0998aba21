package alert

import (
	"context"
	"fmt"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Binlogs is what is known of the archive of a cluster's binary log.
type Binlogs struct {
	Status *store.BinlogStatus // nil: no receiver ever said how it stands
	Gaps   []store.Gap         // oldest first
	Base   time.Time           // when the newest backup began that a replay can begin on
}

const (
	// binlogPatience is how long the binary log may not be archived: a restart of the server or a switchover is no condition.
	binlogPatience = time.Minute
	// binlogSilence is how long the receiver may say nothing; it does every few seconds.
	binlogSilence = 2 * time.Minute
	// binlogLag is how far the archive may be behind the server.
	binlogLag = 5 * time.Minute
)

// binlogs judges the archive of the binary log: whether it is written, and whether a replay on the newest backup is possible.
func (h *holding) binlogs(c Cluster) {
	b := h.Binlogs[c.Name]
	about := bus.Alert{Cluster: c.Name}
	for _, g := range b.Gaps {
		if g.Found.Before(b.Base) {
			continue // whoever restores begins behind it
		}
		about := about
		about.Since = g.Found
		about.Text = fmt.Sprintf("a replay cannot go beyond %s until there is a new backup: %s", g.Since.UTC().Format(time.RFC3339), g.Reason)
		h.hold(binlogGap, about)
	}
	if !c.Binlogs {
		return
	}
	patience := time.Duration(0)
	if h.open(binlogLate, about) {
		patience = slack / 4
	}
	s := b.Status
	switch {
	case s == nil || h.Now.Sub(s.Time) > binlogSilence-patience:
		if h.Now.Sub(h.Up) <= binlogSilence && patience == 0 {
			return
		}
		about.Text = "no receiver archives the binary log: does one run?"
		if s != nil {
			about.Since = s.Time
		}
	case s.Err != "" && h.Now.Sub(s.Since) > binlogPatience-patience:
		about.Since, about.Text = s.Since, "the binary log is not archived: "+s.Err
	case s.Err == "" && !s.Until.IsZero() && h.Now.Sub(s.Until) > binlogLag-patience:
		about.Since, about.Text = s.Until, fmt.Sprintf("the archive of the binary log is behind: it has all of %s until %s", s.Server, s.Until.UTC().Format(time.RFC3339))
	default:
		return
	}
	h.hold(binlogLate, about)
}

// readBinlogs reads how the archiving stands.
func (e *Evaluator) readBinlogs(ctx context.Context, clusters []Cluster) error {
	out := map[string]Binlogs{}
	for _, c := range clusters {
		if !c.Binlogs {
			continue
		}
		b := e.fact.binlogs[c.Name]
		var s store.BinlogStatus
		ok, err := e.docs.Get(ctx, c.Name, job.Server{}, store.DocBinlogs, &s)
		if err != nil {
			return fmt.Errorf("read how the binary log is archived: %w", err)
		}
		if b.Status = nil; ok {
			b.Status = &s
		}
		out[c.Name] = b
	}
	e.fact.binlogs = out
	return nil
}

// readGaps finds what the archives of binary logs lack.
func (e *Evaluator) readGaps(ctx context.Context, clusters []Cluster, manifests []store.Manifest) error {
	for _, c := range clusters {
		b, on := e.fact.binlogs[c.Name]
		if !on {
			continue
		}
		segments, err := e.binlogs.List(ctx, c.Name)
		if err != nil {
			return err
		}
		b.Gaps, b.Base = store.BinlogGaps(segments), time.Time{}
		for _, m := range manifests {
			if m.Cluster == c.Name && (m.GTID != "" || m.BinlogFile != "") && m.Started.After(b.Base) {
				b.Base = m.Started
			}
		}
		e.fact.binlogs[c.Name] = b
	}
	return nil
}
