package store

import (
	"context"
	"slices"
	"sync"

	"drydock/bus"
	"drydock/job"
)

// View is this process's picture of every slot's last job, fed by the log. It lags by a few milliseconds; decisions
// made on it are made good by compare-and-swap. Safe for concurrent use.
type View struct {
	c     *bus.Conn
	ready chan struct{} // closed by Run when the picture is complete

	mu      sync.RWMutex
	slots   map[job.Key]*slot
	states  map[job.State]map[job.Key]*slot // the same by state: most jobs have ended, and are asked for seldom
	servers map[serverName][]*slot          // the same by server, in the order of [job.Tasks]; without tasks that are not there
	order   map[string]int                  // of a task there
	kicks   []func(bus.JobEvent)
}

type serverName struct {
	cluster string
	server  job.Server
}

// slot is never changed: a later job is another one.
type slot struct {
	job job.Job
	seq uint64
}

// NewView is empty until [View.Run] fills it.
func NewView(c *bus.Conn) *View {
	v := &View{
		c: c, ready: make(chan struct{}), slots: map[job.Key]*slot{}, states: map[job.State]map[job.Key]*slot{},
		servers: map[serverName][]*slot{}, order: map[string]int{},
	}
	for i, t := range job.Tasks() {
		v.order[t.Name] = i
	}
	return v
}

// Run follows the log until ctx ends.
func (v *View) Run(ctx context.Context) error {
	return bus.Follow(ctx, v.c, bus.StreamJobs, bus.AllJobs, bus.From{LastPerSubject: true},
		func(m bus.Meta, ev bus.JobEvent) error {
			v.observe(ev, m.Seq)
			return nil
		}, func() { close(v.ready) })
}

// Ready is closed when the view shows everything that was in the log at its start.
func (v *View) Ready() <-chan struct{} { return v.ready }

func (v *View) isReady() bool {
	select {
	case <-v.ready:
		return true
	default:
		return false
	}
}

// OnChange registers f for every change that becomes known, in order per slot, before [View.Run] is called. f must
// return at once; it is for waking a loop.
func (v *View) OnChange(f func(bus.JobEvent)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kicks = append(v.kicks, f)
}

// observe takes a change in, unless a newer one of the slot is known.
func (v *View) observe(ev bus.JobEvent, seq uint64) {
	k, now := ev.Job.Key(), &slot{ev.Job, seq}
	v.mu.Lock()
	was := v.slots[k]
	if was != nil && was.seq >= seq {
		v.mu.Unlock()
		return
	}
	if was != nil {
		delete(v.states[was.job.State], k)
	}
	if v.states[ev.Job.State] == nil {
		v.states[ev.Job.State] = map[job.Key]*slot{}
	}
	v.slots[k], v.states[ev.Job.State][k] = now, now
	v.place(now)
	kicks := v.kicks
	v.mu.Unlock()
	for _, f := range kicks {
		f(ev)
	}
}

// place puts a slot where [View.OfServer] finds it. The caller holds mu.
func (v *View) place(now *slot) {
	at, ok := v.order[now.job.Task]
	if !ok {
		return
	}
	name := serverName{now.job.Cluster, now.job.Server}
	i, there := slices.BinarySearchFunc(v.servers[name], at, func(s *slot, at int) int { return v.order[s.job.Task] - at })
	if there {
		v.servers[name][i] = now
		return
	}
	v.servers[name] = slices.Insert(v.servers[name], i, now)
}

// Get is the slot's last job.
func (v *View) Get(k job.Key) (job.Job, bool) {
	if s := v.slot(k); s != nil {
		return s.job, true
	}
	return job.Job{}, false
}

// slot is nil for one that never had a job.
func (v *View) slot(k job.Key) *slot {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.slots[k]
}

// Find is the job with this id if it is the last one of its slot.
func (v *View) Find(id string) (job.Job, bool) {
	for _, j := range v.Select(func(j job.Job) bool { return j.ID == id }) {
		return j, true
	}
	return job.Job{}, false
}

// Select lists the last jobs of all slots that keep answers true for.
func (v *View) Select(keep func(job.Job) bool) []job.Job {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []job.Job
	for _, s := range v.slots {
		if keep(s.job) {
			out = append(out, s.job)
		}
	}
	return out
}

// Among lists the last jobs that are in one of the states and that keep, if not nil, answers true for. It looks at no others. They are
// the view's own, and nobody changes them: of a large fleet there are too many to be copied at every look.
func (v *View) Among(states []job.State, keep func(*job.Job) bool) []*job.Job {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []*job.Job
	for _, state := range states {
		for _, s := range v.states[state] {
			if keep == nil || keep(&s.job) {
				out = append(out, &s.job)
			}
		}
	}
	return out
}

// Any reports whether the last job of any slot is in one of the states.
func (v *View) Any(states []job.State) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.ContainsFunc(states, func(s job.State) bool { return len(v.states[s]) > 0 })
}

// OfServer lists the last job of every task of one server that keep, if not nil, answers true for.
func (v *View) OfServer(cluster string, s job.Server, keep func(*job.Job) bool) []job.Job {
	var found []*slot // a job is large, and each change of one leads here: it is copied once
	v.mu.RLock()
	for _, slot := range v.servers[serverName{cluster, s}] {
		if keep == nil || keep(&slot.job) {
			found = append(found, slot)
		}
	}
	v.mu.RUnlock()
	out := make([]job.Job, len(found))
	for i, slot := range found {
		out[i] = slot.job
	}
	return out
}
