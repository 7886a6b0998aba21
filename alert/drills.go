package alert

import (
	"fmt"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const taskDrill = "backupdrill"

// Proof is what drills have shown of the backups of a server.
type Proof struct {
	// Bad is the newest backup that a drill or a verification found bad while no newer one of its tool was shown to; its ID is empty
	// when there is none.
	Bad    store.Manifest
	Last   time.Time // when a drill last restored one; zero: never
	Oldest time.Time // when the oldest of the backups ended
}

// proofsOf reads from the catalogue, newest first, what drills have shown, by bus.StateKey with the task backupdrill. It is pure.
func proofsOf(list []store.Manifest) map[string]Proof {
	out := map[string]Proof{}
	restored := map[job.Key]bool{} // whether a newer one restores, by server and tool
	for _, m := range list {
		at := bus.StateKey(m.Cluster, m.Server.Host, m.Server.Port, taskDrill)
		p, k := out[at], job.Key{Cluster: m.Cluster, Server: m.Server, Task: m.Task}
		for _, d := range m.Drills {
			if d.Problem == "" && d.Time.After(p.Last) {
				p.Last = d.Time
			}
		}
		if _, ok := m.Restored(); ok {
			restored[k] = true
		} else if _, bad := m.Fault(); bad && !restored[k] && p.Bad.ID == "" {
			p.Bad = m
		}
		if p.Oldest.IsZero() || m.Ended.Before(p.Oldest) {
			p.Oldest = m.Ended
		}
		out[at] = p
	}
	return out
}

// drills judges what drills have shown of the backups of a server.
func (h *holding) drills(c Cluster, s job.Server) {
	p, known := h.Proofs[bus.StateKey(c.Name, s.Host, s.Port, taskDrill)]
	if !known {
		return // without any backup, that is what is wrong
	}
	about := bus.Alert{Cluster: c.Name, Server: s}
	if p.Bad.ID != "" {
		f, _ := p.Bad.Fault()
		how := "was verified"
		if f.Drill {
			how = "was restored for a trial"
		}
		about.Since = f.Time
		about.Text = fmt.Sprintf("backup %s (%s of %s) %s: %s", p.Bad.ID, p.Bad.Task, p.Bad.Ended.UTC().Format(time.RFC3339), how, f.Problem)
		h.hold(doesNotRestore, about)
	}
	limit := c.DrillMaxAge
	if !c.Drills || limit == 0 {
		return
	}
	about = bus.Alert{Cluster: c.Name, Server: s}
	from, what := p.Last, "the last drill that restored one was at "+p.Last.UTC().Format(time.RFC3339)
	if p.Last.IsZero() {
		from, what = p.Oldest, "none of them was ever restored for a trial"
	}
	about.Since = from.Add(limit)
	about.Text = fmt.Sprintf("no backup of the server was shown to restore within %s: %s", limit, what) +
		h.switchedOff(c, func(t job.Task) bool { return t.Name == taskDrill })
	if h.open(notProven, about) {
		limit -= min(slack, limit/10)
	}
	if h.Now.Sub(from) > limit {
		h.hold(notProven, about)
	}
}
