package web

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const (
	// historyDays is how far back the picture goes.
	historyDays = 30
	// failuresKept bounds what is remembered of the failures of the last day.
	failuresKept = 1000
	// endedKept bounds what is remembered for the timeline, endedFor how long.
	endedKept = 50_000
	endedFor  = 26 * time.Hour
	// runsKept is how many good runs of a task on a server make its expected length and size.
	runsKept = 20
)

// model is the picture that the pages share: what is open, what there is, and what the last 30 days were like. It is read
// from the bus by one follower of each kind per gateway, and lost with the process.
type model struct {
	hub *hub

	mu       sync.RWMutex
	complete bool // the log of jobs was read up to now
	ticks    bool // the ledger too
	days     map[cellKey]*cell
	failures []failure  // of the last day, in the order in which they were seen
	ended    []endedJob // of the last day and a half, the same
	runs     map[job.Key]*runs
	pruned   time.Time                  // the day on which the days were pruned last
	progress map[string]bus.Progress    // by job, while it is live
	alerts   map[string]bus.Alert       // the open ones, by subject
	backups  map[string]*store.Manifest // never changed in place
}

// failure is a job that did not end well.
type failure struct {
	ID, Cluster, Task string
	Server            job.Server
	State             job.State
	Reason            string
	Ended             time.Time
}

// endedJob is a job on the timeline.
type endedJob struct {
	ID, Cluster, Task string
	Server            job.Server
	State             job.State
	Began, Ended      time.Time // Began is zero when no worker did
}

// run is what a good run took.
type run struct {
	took  time.Duration
	bytes int64
}

// runs are the last good runs, oldest first.
type runs struct{ last []run }

func (r *runs) add(x run) {
	if r.last = append(r.last, x); len(r.last) > runsKept {
		r.last = slices.Delete(r.last, 0, 1)
	}
}

func newModel(h *hub) *model {
	return &model{
		hub: h, days: map[cellKey]*cell{}, runs: map[job.Key]*runs{}, progress: map[string]bus.Progress{},
		alerts: map[string]bus.Alert{}, backups: map[string]*store.Manifest{},
	}
}

// horizon is the beginning of the picture.
func horizon(now time.Time) time.Time { return dayOf(now).AddDate(0, 0, 1-historyDays) }

func (w *Web) followJobs(ctx context.Context) error {
	return bus.Follow(ctx, w.Conn, bus.StreamJobs, bus.AllJobs, bus.From{Since: horizon(time.Now())}, func(_ bus.Meta, ev bus.JobEvent) error {
		w.model.job(ev, time.Now())
		return nil
	}, func() { w.model.caughtUp(&w.model.complete) })
}

func (w *Web) followTicks(ctx context.Context) error {
	return bus.Follow(ctx, w.Conn, bus.StreamTasks, bus.AllTasks, bus.From{Since: horizon(time.Now())}, func(_ bus.Meta, t bus.Tick) error {
		w.model.tick(t, time.Now())
		w.calendar.changed()
		return nil
	}, func() { w.model.caughtUp(&w.model.ticks) })
}

// followControl tells the pages what operators ordered: it decides about ticks to come.
func (w *Web) followControl(ctx context.Context) error {
	stream, subject := bus.BucketStream(bus.BucketControl)
	return bus.Follow(ctx, w.Conn, stream, subject, bus.From{LastPerSubject: true}, func(m bus.Meta, _ json.RawMessage) error {
		if !store.IsPlaces(m.Subject) {
			w.calendar.drop()
			w.hub.tell(change{topic: topicControl})
		}
		return nil
	}, nil)
}

func (w *Web) followAlerts(ctx context.Context) error {
	return bus.Follow(ctx, w.Conn, bus.StreamAlerts, bus.AllAlerts, bus.From{LastPerSubject: true}, func(m bus.Meta, a bus.Alert) error {
		w.model.alert(m.Subject, a)
		return nil
	}, nil)
}

// followBackups keeps the catalogue at hand.
func (w *Web) followBackups(ctx context.Context) error {
	return w.Conn.FollowBucket(ctx, bus.BucketCatalog, ">", func(e bus.Entry) error {
		w.model.backup(e)
		return nil
	}, nil)
}

func (w *Web) followProgress(ctx context.Context) error {
	messages := make(chan *nats.Msg, 1024) // the connection sends, and drops what does not fit; nobody closes it
	sub, err := w.Conn.NC.ChanSubscribe(bus.AllProgress, messages)
	if err != nil {
		return fmt.Errorf("listen to %s: %w", bus.AllProgress, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-messages:
			var p bus.Progress
			if json.Unmarshal(m.Data, &p) == nil {
				w.model.moved(p)
			}
		}
	}
}

func (m *model) caughtUp(flag *bool) {
	m.mu.Lock()
	*flag = true
	m.mu.Unlock()
	m.hub.tell(change{topic: topicHistory})
}

// job takes a transition in.
func (m *model) job(ev bus.JobEvent, now time.Time) {
	if ev.Prev == ev.State {
		return
	}
	j := ev.Job
	m.mu.Lock()
	defer m.mu.Unlock()
	if ev.Event == job.Retry && len(j.Steps) > 1 { // what looked like the end was none
		failed := j.Steps[len(j.Steps)-2]
		m.cell(j.Cluster, failed.Time).take(failed.State, -1)
		m.failures = slices.DeleteFunc(m.failures, func(f failure) bool { return f.ID == j.ID })
	}
	if ev.State.Live() {
		return
	}
	delete(m.progress, j.ID)
	if began := j.Started(); !began.IsZero() && now.Sub(j.Ended()) < endedFor {
		m.ended = append(m.ended, endedJob{j.ID, j.Cluster, j.Task, j.Server, ev.State, began, j.Ended()})
		m.ended = m.ended[max(0, len(m.ended)-endedKept):]
	}
	m.cell(j.Cluster, j.Ended()).take(ev.State, 1)
	switch {
	case ev.State == job.Success:
		key := j.Key()
		if m.runs[key] == nil {
			m.runs[key] = &runs{}
		}
		r := run{}
		if began := j.Started(); !began.IsZero() {
			r.took = j.Ended().Sub(began)
		}
		if j.Stream != nil {
			r.bytes = j.Stream.Bytes
		}
		m.runs[key].add(r)
	case failedState(ev.State) && now.Sub(j.Ended()) < 24*time.Hour:
		m.failures = append(m.failures, failure{j.ID, j.Cluster, j.Task, j.Server, ev.State, j.Reason, j.Ended()})
		m.failures = m.failures[max(0, len(m.failures)-failuresKept):]
	}
	m.prune(now)
}

// failedState tells the ends that are failures, as the condition DOCK0101 does.
func failedState(s job.State) bool { return s == job.Halted || s == job.Failed || s == job.Expired }

func (m *model) tick(t bus.Tick, now time.Time) {
	m.mu.Lock()
	c := m.cell(t.Cluster, t.Due)
	n := max(t.Count, 1)
	switch t.Outcome {
	case bus.Late:
		c.Late += n
	case bus.Skipped:
		c.Skipped += n
	case bus.Missed:
		c.Missed += n
	}
	m.mu.Unlock()
	m.hub.tell(change{topic: topicTicks, key: job.Key{Cluster: t.Cluster, Task: t.Task}})
}

func (m *model) alert(subject string, a bus.Alert) {
	m.mu.Lock()
	if a.State == bus.AlertOpened {
		m.alerts[subject] = a
	} else {
		delete(m.alerts, subject)
	}
	m.mu.Unlock()
	m.hub.tell(change{topic: topicAlerts})
}

func (m *model) backup(e bus.Entry) {
	var b store.Manifest
	gone := e.Gone || json.Unmarshal(e.Value, &b) != nil
	m.mu.Lock()
	if gone {
		delete(m.backups, e.Key)
	} else {
		m.backups[e.Key] = &b
	}
	m.mu.Unlock()
	m.hub.tell(change{topic: topicBackups})
}

func (m *model) moved(p bus.Progress) {
	m.mu.Lock()
	if last, ok := m.progress[p.JobID]; ok && p.Sign != bus.SignBytes && p.Percent == 0 {
		// Another sign of life says nothing of bytes.
		p.Bytes, p.Rate, p.Percent = last.Bytes, last.Rate, last.Percent
	}
	m.progress[p.JobID] = p
	m.mu.Unlock()
	m.hub.tell(change{topic: topicProgress, key: job.Key{Cluster: p.Cluster, Server: p.Server, Task: p.Task}})
}

// prune forgets what is older than the picture.
func (m *model) prune(now time.Time) {
	m.failures = slices.DeleteFunc(m.failures, func(f failure) bool { return now.Sub(f.Ended) >= 24*time.Hour })
	old := 0
	for old < len(m.ended) && now.Sub(m.ended[old].Ended) >= endedFor {
		old++
	}
	m.ended = m.ended[old:]
	if m.pruned.Equal(dayOf(now)) {
		return
	}
	m.pruned = dayOf(now)
	// A sign that comes after the end of its job is nobody's.
	maps.DeleteFunc(m.progress, func(_ string, p bus.Progress) bool { return now.Sub(p.Time) >= 24*time.Hour })
	for k := range m.days {
		if k.day.Before(horizon(now)) {
			delete(m.days, k)
		}
	}
}

// cell is the one of a cluster and a day, made if need be. The caller holds the lock.
func (m *model) cell(cluster string, t time.Time) *cell {
	k := cellKey{cluster, dayOf(t)}
	c := m.days[k]
	if c == nil {
		c = &cell{}
		m.days[k] = c
	}
	return c
}

// strip is the last 30 days of a cluster, oldest first.
func (m *model) strip(cluster string, now time.Time) strip {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := strip{Known: m.complete && m.ticks}
	for i := range historyDays {
		day := horizon(now).AddDate(0, 0, i)
		d := stripDay{Day: day}
		if c := m.days[cellKey{cluster, day}]; c != nil {
			d.cell = *c
		}
		s.Days = append(s.Days, d)
	}
	return s
}

// condition is one that holds.
type condition struct {
	bus.Alert
	Name string // by which it is acknowledged
}

// openAlerts are the conditions that hold, the worst and then the newest first.
func (m *model) openAlerts(keep func(bus.Alert) bool) []condition {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []condition
	for subject, a := range m.alerts {
		if keep(a) {
			out = append(out, condition{a, bus.Condition(subject)})
		}
	}
	slices.SortFunc(out, func(a, b condition) int {
		return cmp.Or(rank(b.Severity)-rank(a.Severity), store.NewerAlert(a.Alert, b.Alert))
	})
	return out
}

func rank(s bus.Severity) int {
	switch s {
	case bus.SeverityError:
		return 3
	case bus.SeverityWarn:
		return 2
	case bus.SeverityInfo:
		return 1
	}
	return 0
}

// eachBackup calls f for every backup of the catalogue whose file is there, in no order.
func (m *model) eachBackup(f func(*store.Manifest)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, b := range m.backups {
		if b.Listed() {
			f(b)
		}
	}
}

// lastDay are the jobs that ended since a time, and whether all of them are known.
func (m *model) lastDay(since time.Time) (out []endedJob, complete bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, e := range m.ended {
		if e.Ended.After(since) {
			out = append(out, e)
		}
	}
	return out, m.complete
}

// recentFailures are those of the last day, newest first.
func (m *model) recentFailures(now time.Time, keep func(failure) bool) []failure {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []failure
	for _, f := range slices.Backward(m.failures) {
		if now.Sub(f.Ended) < 24*time.Hour && keep(f) {
			out = append(out, f)
		}
	}
	return out
}

// lastProgress is the last sign of life of a job.
func (m *model) lastProgress(id string) (bus.Progress, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	p, ok := m.progress[id]
	return p, ok
}

// expected is what the last good runs of a slot took.
func (m *model) expected(k job.Key) forecast {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if r := m.runs[k]; r != nil {
		return forecastOf(r.last)
	}
	return forecast{}
}
