package store

import (
	"context"
	"sync"

	"drydock/bus"
	"drydock/job"
)

// View is this process's picture of every slot's last job, fed by the log. It lags by a few milliseconds; decisions
// made on it are made good by compare-and-swap. Safe for concurrent use.
type View struct {
	c     *bus.Conn
	ready chan struct{} // closed by Run when the picture is complete

	mu    sync.RWMutex
	slots map[job.Key]slot
	kicks []func(bus.JobEvent)
}

type slot struct {
	job job.Job
	seq uint64
}

// NewView is empty until [View.Run] fills it.
func NewView(c *bus.Conn) *View {
	return &View{c: c, ready: make(chan struct{}), slots: map[job.Key]slot{}}
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

// OnChange registers f for every change that becomes known, in order per slot, before [View.Run] is called. f must
// return at once; it is for waking a loop.
func (v *View) OnChange(f func(bus.JobEvent)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kicks = append(v.kicks, f)
}

// observe takes a change in, unless a newer one of the slot is known.
func (v *View) observe(ev bus.JobEvent, seq uint64) {
	k := ev.Job.Key()
	v.mu.Lock()
	if v.slots[k].seq >= seq {
		v.mu.Unlock()
		return
	}
	v.slots[k] = slot{ev.Job, seq}
	kicks := v.kicks
	v.mu.Unlock()
	for _, f := range kicks {
		f(ev)
	}
}

// Get is the slot's last job.
func (v *View) Get(k job.Key) (job.Job, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	s, ok := v.slots[k]
	return s.job, ok
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

// OfServer lists the last job of every task of one server.
func (v *View) OfServer(cluster string, s job.Server) []job.Job {
	var out []job.Job
	for _, t := range job.Tasks() {
		if j, ok := v.Get(job.Key{Cluster: cluster, Server: s, Task: t.Name}); ok {
			out = append(out, j)
		}
	}
	return out
}
