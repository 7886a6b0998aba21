package gateway

import (
	"context"
	"sync"
	"time"

	"drydock/bus"
	"drydock/gateway/web"
	"drydock/pruning"
)

const (
	// verdictsFresh is how long an answer of the receivers serves: each of them judges all of its backups for it.
	verdictsFresh = 20 * time.Second
	// verdictsWait is how long a caller waits for one.
	verdictsWait = 3 * time.Second
)

// verdicts is what the next prune would do with the backups of each cluster, as the receivers said last. Safe for concurrent use.
type verdicts struct {
	conn *bus.Conn
	desk *pruning.Desk

	mu       sync.Mutex
	clusters map[string]*verdictsOf
}

type verdictsOf struct {
	mu   sync.Mutex // held while the receivers are asked: others want the same answer
	at   time.Time
	said map[string]web.Verdict
}

func newVerdicts(conn *bus.Conn) *verdicts {
	return &verdicts{conn: conn, desk: pruning.NewDesk(conn), clusters: map[string]*verdictsOf{}}
}

// of are the verdicts on the backups of a cluster, by id. One whose receiver did not answer in time has none.
func (v *verdicts) of(ctx context.Context, cluster string) map[string]web.Verdict {
	v.mu.Lock()
	c := v.clusters[cluster]
	if c == nil {
		c = &verdictsOf{}
		v.clusters[cluster] = c
	}
	v.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said == nil || time.Since(c.at) > verdictsFresh {
		c.said, c.at = v.ask(ctx, cluster), time.Now()
	}
	return c.said
}

// changed has the receivers asked again: somebody has pinned something.
func (v *verdicts) changed(cluster string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.clusters, cluster)
}

func (v *verdicts) ask(ctx context.Context, cluster string) map[string]web.Verdict {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), verdictsWait)
	defer cancel()
	out := map[string]web.Verdict{}
	next, scheduled := v.nextPrune(ctx, cluster)
	// What has come before a receiver does not answer counts.
	_ = v.desk.Plan(ctx, cluster, func(i bus.PlanItem) {
		if i.Backup == "" {
			return
		}
		said := web.Verdict{Keep: i.Keep, Why: i.Why, Problem: i.Problem}
		if !i.Keep && scheduled {
			said.At = next
		}
		out[i.Backup] = said
	})
	return out
}

// nextPrune is when the schedule prunes next, as things stand; false when it does not, or no scheduler answers.
func (v *verdicts) nextPrune(ctx context.Context, cluster string) (time.Time, bool) {
	all, err := bus.Request[bus.NextReply](ctx, v.conn, bus.SubjectNext, struct{}{})
	if err != nil {
		return time.Time{}, false
	}
	for _, s := range all.Schedules {
		if s.Cluster != cluster || s.Task != pruning.Task || !s.Enabled {
			continue
		}
		for _, at := range s.Next {
			if b, barred := s.Bar(at); !barred || b.Waits {
				return at, true
			}
		}
	}
	return time.Time{}, false
}
