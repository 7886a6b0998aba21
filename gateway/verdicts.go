package gateway

import (
	"context"
	"maps"
	"sync"
	"time"

	"drydock/bus"
	"drydock/gateway/web"
	"drydock/pruning"
)

const (
	// verdictsFresh is how long an answer of the receivers serves before they are asked again: each of them judges all of its
	// backups for it. One that is older than verdictsOld is shown to nobody.
	verdictsFresh, verdictsOld = 20 * time.Second, 2 * time.Minute
	// verdictsWait is how long the receivers are asked, verdictsSoon how long a caller waits who would see nothing otherwise.
	verdictsWait, verdictsSoon = 10 * time.Second, 500 * time.Millisecond
)

// verdicts is what the next prune would do with the backups of each cluster, as the receivers said last. They are asked in the
// background: nobody waits for one that is slow. Safe for concurrent use.
type verdicts struct {
	conn  *bus.Conn
	desk  *pruning.Desk
	begin func(func(context.Context)) bool // runs it in the background; false when nothing may begin
	told  func()                           // called after an answer

	mu       sync.Mutex
	clusters map[string]*verdictsOf
}

type verdictsOf struct {
	said   map[string]web.Verdict // while asked, of the receivers that have answered
	at     time.Time              // when all had; zero: never
	before map[string]web.Verdict // while asked, the answer of the last time
	asked  chan struct{}          // closed at the end of the question that runs; nil when none does
}

func newVerdicts(conn *bus.Conn, begin func(func(context.Context)) bool, told func()) *verdicts {
	return &verdicts{conn: conn, desk: pruning.NewDesk(conn), begin: begin, told: told, clusters: map[string]*verdictsOf{}}
}

// of are the verdicts on the backups of a cluster, by id. pending says that receivers are being asked, so that a backup without one
// may still get one; otherwise its receiver did not answer.
func (v *verdicts) of(ctx context.Context, cluster string) (said map[string]web.Verdict, pending bool) {
	c, asked := v.want(cluster)
	if asked != nil {
		soon := time.NewTimer(verdictsSoon)
		defer soon.Stop()
		select {
		case <-asked:
		case <-soon.C:
		case <-ctx.Done():
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	said = maps.Clone(c.said)
	for id, last := range c.before {
		if _, ok := said[id]; !ok {
			said[id] = last
		}
	}
	return said, c.asked != nil
}

// want has the receivers asked when their last answer is old. asked is closed when they have answered, and nil when there is
// something to show already.
func (v *verdicts) want(cluster string) (c *verdictsOf, asked <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c = v.clusters[cluster]; c == nil {
		c = &verdictsOf{said: map[string]web.Verdict{}}
		v.clusters[cluster] = c
	}
	if age := time.Since(c.at); c.asked == nil && age > verdictsFresh {
		done, before := make(chan struct{}), map[string]web.Verdict(nil)
		if age < verdictsOld {
			before = c.said
		}
		if v.begin(func(ctx context.Context) { v.ask(ctx, cluster, c, done) }) {
			c.said, c.before, c.asked = map[string]web.Verdict{}, before, done
		}
	}
	if c.before != nil {
		return c, nil
	}
	return c, c.asked
}

// changed has the receivers asked again: somebody has pinned something.
func (v *verdicts) changed(cluster string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.clusters, cluster)
}

func (v *verdicts) ask(ctx context.Context, cluster string, c *verdictsOf, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, verdictsWait)
	defer cancel()
	next, scheduled := v.nextPrune(ctx, cluster)
	// What comes before a receiver does not answer counts.
	_ = v.desk.Ask(ctx, cluster, func(a pruning.Answer) {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, i := range a.Items {
			said := web.Verdict{Keep: i.Keep, Why: i.Why, Problem: i.Problem}
			if !i.Keep && scheduled {
				said.At = next
			}
			c.said[i.Backup] = said
		}
	})
	v.mu.Lock()
	c.at, c.before, c.asked = time.Now(), nil, nil
	v.mu.Unlock()
	close(done)
	v.told()
}

// nextPrune is when the schedule prunes next, as things stand; false when it does not, or no scheduler answers.
func (v *verdicts) nextPrune(ctx context.Context, cluster string) (time.Time, bool) {
	ctx, cancel := context.WithTimeout(ctx, verdictsWait/4)
	defer cancel()
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
