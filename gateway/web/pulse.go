package web

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// pulseKept is how many minutes a pulse goes back.
const pulseKept = 60

// pulse is the last hour of a server, the worst of every minute. It is made from what passes by on the bus, where only the
// last of it stays, and lost with the process.
type pulse struct {
	minute    int64            // of the newest value, since 1970
	lag, load [pulseKept]int32 // by minute modulo pulseKept; unknown where nothing was heard
}

// unknown is a minute of which nothing is known. A lag of a stopped channel is not.
const unknown = -1

// take takes a value of a minute in; it reports whether the minute is a new one. Those of more than an hour ago are of no use.
func (p *pulse) take(minute int64, lag, load int32) bool {
	fresh := minute > p.minute
	if minute <= p.minute-pulseKept {
		return false
	}
	for m := max(p.minute+1, minute-pulseKept+1); m <= minute; m++ {
		p.lag[m%pulseKept], p.load[m%pulseKept] = unknown, unknown
	}
	p.minute = max(p.minute, minute)
	i := minute % pulseKept
	p.lag[i], p.load[i] = max(p.lag[i], lag), max(p.load[i], load)
	return fresh
}

// hour lists the values of the hour that ends with a minute, oldest first.
func (p *pulse) hour(values *[pulseKept]int32, minute int64) []int32 {
	out := slices.Repeat([]int32{unknown}, pulseKept)
	for i := range out {
		if m := minute - pulseKept + 1 + int64(i); m <= p.minute && m > p.minute-pulseKept {
			out[i] = values[m%pulseKept]
		}
	}
	return out
}

// pulses are those of the configured servers: some 500 bytes each.
type pulses struct {
	servers map[string]job.Key // by key of the bucket; never changed

	mu sync.Mutex
	of map[job.Key]*pulse
}

func newPulses(clusters []Cluster) *pulses {
	p := &pulses{servers: map[string]job.Key{}, of: map[job.Key]*pulse{}}
	for _, c := range clusters {
		for _, s := range c.Servers {
			p.servers[bus.StateKey(c.Name, s.Host, s.Port, store.DocFacts)] = job.Key{Cluster: c.Name, Server: s}
		}
	}
	return p
}

// take takes in what a server said; it reports whether a new minute begins with it, and whose.
func (p *pulses) take(key string, f store.Facts, now time.Time) (of job.Key, fresh bool) {
	of, ours := p.servers[key]
	if f.Time.After(now) { // by a clock that is ahead of ours
		f.Time = now
	}
	if !ours || now.Sub(f.Time) >= pulseKept*time.Minute {
		return of, false
	}
	lag, load := int32(unknown), int32(unknown)
	if f.Up {
		load = int32(min(f.Running, 1<<30))
		if n := largestLag(f); n != nil {
			lag = int32(min(*n, 1<<30))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[of] == nil {
		p.of[of] = &pulse{}
	}
	return of, p.of[of].take(f.Time.Unix()/60, lag, load)
}

// largestLag is that of the channels of a replica that tell theirs, nil when none does.
func largestLag(f store.Facts) (lag *int64) {
	for _, s := range f.Sources {
		if s.Lag != nil && (lag == nil || *s.Lag > *lag) {
			lag = s.Lag
		}
	}
	return lag
}

// sparks draws the last hour of a server; what it never told is left out.
func (p *pulses) sparks(k job.Key, now time.Time) (out []spark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.of[k]
	if x == nil {
		return nil
	}
	minute := now.Unix() / 60
	for _, s := range []spark{
		{Name: "lag", unit: " s", scale: 10, values: x.hour(&x.lag, minute)}, {Name: "load", scale: 8, values: x.hour(&x.load, minute)},
	} {
		if slices.Max(s.values) >= 0 {
			out = append(out, s)
		}
	}
	return out
}

// spark is a small curve of the last hour.
type spark struct {
	Name   string
	unit   string
	scale  int32 // what the height stands for at least: a lag of 1 s is no mountain
	values []int32
}

// Heights of the curve; a minute is two wide.
const (
	sparkTop    = 1
	sparkHeight = 14
)

// Path is the curve. Minutes of which nothing is known are gaps.
func (s spark) Path() string {
	var b strings.Builder
	top := max(s.scale, slices.Max(s.values))
	open := false
	for i, v := range s.values {
		if v < 0 {
			open = false
			continue
		}
		y := sparkTop + float64(sparkHeight)*(1-float64(v)/float64(top))
		if open {
			fmt.Fprintf(&b, "L%d %.1f", 2*i+1, y)
		} else {
			fmt.Fprintf(&b, "M%d %.1fh1", 2*i, y)
		}
		open = true
	}
	return b.String()
}

// String says the curve in words.
func (s spark) String() string {
	last, gaps := "not known now", ""
	before, recent := s.values[:len(s.values)-2], s.values[len(s.values)-2:] // the minute that has just begun, and the one before
	for _, v := range recent {
		if v >= 0 {
			last = fmt.Sprintf("now %d%s", v, s.unit)
		}
	}
	if first := slices.IndexFunc(before, func(v int32) bool { return v >= 0 }); first >= 0 && slices.Contains(before[first:], unknown) {
		gaps = ", not known all the time"
	}
	return fmt.Sprintf("%s of the last hour: %s, at most %d%s%s", s.Name, last, slices.Max(s.values), s.unit, gaps)
}

// followFacts keeps the pulses.
func (w *Web) followFacts(ctx context.Context) error {
	return w.Docs.FollowFacts(ctx, func(key string, f store.Facts) {
		if of, fresh := w.pulses.take(key, f, time.Now()); fresh {
			w.hub.tell(change{topic: topicPulse, key: of})
		}
	})
}
