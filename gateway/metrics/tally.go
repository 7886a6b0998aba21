package metrics

import (
	"context"
	"maps"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Tally is what this process remembers of the streams for the metrics: how the last run of each slot ended, which conditions are
// open, and counters that begin with the process, as counters of Prometheus may. [Tally.Run] keeps it up. Safe for concurrent use.
//
// It holds a few hundred bytes for each server and task, and no more for a longer history.
type Tally struct {
	conn *bus.Conn
	docs *store.Docs

	mu sync.Mutex
	Counts
}

// Counts is what a [Tally] has counted.
type Counts struct {
	Ended      map[job.Key]Ended
	Runs       map[RunKey]float64
	Bytes      map[Schedule]float64
	Durations  map[Schedule]Histogram // seconds
	Ticks      map[TickKey]float64
	Lateness   map[Schedule]Histogram // seconds
	LastTick   map[Schedule]bus.Tick
	Conditions map[string]bus.Alert // by subject, the open ones
}

// Ended is how the last run of a slot that came to an end did so. The zero value says that none is known.
type Ended struct {
	At       time.Time
	State    job.State
	Duration time.Duration // from when a worker took it; 0 when none did
	Bytes    int64
	Success  time.Time // when the last one that succeeded ended; zero when none is known
}

// Schedule is a task of a cluster.
type Schedule struct{ Cluster, Task string }

// RunKey is what ended runs are counted by.
type RunKey struct {
	Schedule
	State job.State
}

// TickKey is what ticks are counted by.
type TickKey struct {
	Schedule
	Outcome bus.Outcome
}

// Histogram counts values below the bounds of its kind.
type Histogram struct {
	Buckets map[float64]uint64 // cumulative, by upper bound
	Count   uint64
	Sum     float64
}

// The upper bounds in seconds: of runs, which take from a second to a night, and of ticks, which should not be late at all.
var (
	runBounds  = []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400}
	tickBounds = []float64{1, 5, 15, 60, 300, 900, 3600, 21600, 86400}
)

// with is h and one value more; h itself stays as it is, for whoever reads a copy.
func (h Histogram) with(v float64, bounds []float64) Histogram {
	out := Histogram{Buckets: make(map[float64]uint64, len(bounds)), Count: h.Count + 1, Sum: h.Sum + v}
	for _, b := range bounds {
		out.Buckets[b] = h.Buckets[b]
		if v <= b {
			out.Buckets[b]++
		}
	}
	return out
}

// plus is both together.
func (h Histogram) plus(o Histogram) Histogram {
	out := Histogram{Buckets: maps.Clone(h.Buckets), Count: h.Count + o.Count, Sum: h.Sum + o.Sum}
	if out.Buckets == nil {
		out.Buckets = map[float64]uint64{}
	}
	for b, n := range o.Buckets {
		out.Buckets[b] += n
	}
	return out
}

// NewTally counts what c carries, once it runs.
func NewTally(c *bus.Conn) *Tally {
	return &Tally{conn: c, docs: store.NewDocs(c), Counts: newCounts()}
}

func newCounts() Counts {
	return Counts{
		map[job.Key]Ended{}, map[RunKey]float64{}, map[Schedule]float64{}, map[Schedule]Histogram{},
		map[TickKey]float64{}, map[Schedule]Histogram{}, map[Schedule]bus.Tick{}, map[string]bus.Alert{},
	}
}

// Run counts until ctx ends.
func (t *Tally) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	start := time.Now()
	wg.Go(func() {
		_ = bus.Follow(ctx, t.conn, bus.StreamTasks, bus.AllTasks, bus.From{LastPerSubject: true}, func(m bus.Meta, tick bus.Tick) error {
			t.tick(tick, m.Time.After(start))
			return nil
		}, nil)
	})
	wg.Go(func() {
		_ = bus.Follow(ctx, t.conn, bus.StreamAlerts, bus.AllAlerts, bus.From{LastPerSubject: true}, func(m bus.Meta, a bus.Alert) error {
			t.condition(m.Subject, a)
			return nil
		}, nil)
	})
	from, err := t.seed(ctx)
	if err != nil {
		return err
	}
	return bus.Follow(ctx, t.conn, bus.StreamJobs, bus.AllJobs, bus.From{Seq: from}, func(_ bus.Meta, ev bus.JobEvent) error {
		t.job(ev)
		return nil
	}, nil)
}

// seed takes in how the last runs ended before this process began, from the projection, and returns from where on the log has
// what came later. It tries until it works.
func (t *Tally) seed(ctx context.Context) (from uint64, err error) {
	for {
		var last uint64
		if last, err = t.conn.LastSeq(ctx, bus.StreamJobs); err == nil {
			err = t.docs.EachTaskState(ctx, t.known)
		}
		if err == nil || ctx.Err() != nil {
			return last + 1, nil // a follower ends by itself when ctx has
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// known folds in the history of a slot, newest first.
func (t *Tally) known(s store.TaskState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.Ended[s.Job.Key()]
	if at := s.Job.Ended(); at.After(e.At) {
		e = endOf(s.Job, e)
	}
	for _, r := range s.Recent {
		if r.Ended.After(e.At) {
			e.At, e.State, e.Bytes, e.Duration = r.Ended, r.State, r.Bytes, 0
		}
		if r.State == job.Success && r.Ended.After(e.Success) {
			e.Success = r.Ended
		}
	}
	t.Ended[s.Job.Key()] = e
}

// endOf is a run that ended, after what was known.
func endOf(j job.Job, was Ended) Ended {
	e := Ended{At: j.Ended(), State: j.State, Success: was.Success}
	if began := j.Started(); !began.IsZero() {
		e.Duration = max(e.At.Sub(began), 0)
	}
	if j.Stream != nil {
		e.Bytes = j.Stream.Bytes
	}
	if j.State == job.Success && e.At.After(e.Success) {
		e.Success = e.At
	}
	return e
}

// job counts a run that has ended, once: what comes after its end (a note, a late report) is no other run. Every event of the log
// comes once.
func (t *Tally) job(ev bus.JobEvent) {
	if ev.State.Live() || ev.Prev != "" && !ev.Prev.Live() {
		return
	}
	j := ev.Job
	t.mu.Lock()
	defer t.mu.Unlock()
	s, was := Schedule{j.Cluster, j.Task}, t.Ended[j.Key()]
	e := endOf(j, was)
	t.Ended[j.Key()] = e
	t.Runs[RunKey{s, j.State}]++
	t.Bytes[s] += float64(e.Bytes)
	if e.Duration > 0 {
		t.Durations[s] = t.Durations[s].with(e.Duration.Seconds(), runBounds)
	}
}

// tick takes in an entry of the ledger; fresh ones are counted.
func (t *Tally) tick(tick bus.Tick, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Schedule{tick.Cluster, tick.Task}
	if tick.Outcome == bus.Armed || tick.Outcome == bus.Disarmed {
		return
	}
	t.LastTick[s] = tick
	if !fresh {
		return
	}
	t.Ticks[TickKey{s, tick.Outcome}] += float64(max(tick.Count, 1))
	if tick.Outcome.Starts() && tick.Trigger.Scheduled() {
		t.Lateness[s] = t.Lateness[s].with(tick.Lateness, tickBounds)
	}
}

func (t *Tally) condition(subject string, a bus.Alert) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.State == bus.AlertOpened {
		t.Conditions[subject] = a
		return
	}
	delete(t.Conditions, subject)
}

// Counted is a copy of what was counted.
func (t *Tally) Counted() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.Counts
	return Counts{
		maps.Clone(c.Ended), maps.Clone(c.Runs), maps.Clone(c.Bytes), maps.Clone(c.Durations),
		maps.Clone(c.Ticks), maps.Clone(c.Lateness), maps.Clone(c.LastTick), maps.Clone(c.Conditions),
	}
}
