package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/store"
)

// operation is the rolling operation that has the cluster for itself, or is to have it next: while it waits for the jobs
// that run, no other may begin. One that cannot begin yet for a reason of its own keeps nobody.
func (s *Scheduler) operation(c Cluster, closures store.Closures, now time.Time) (job.Job, bool) {
	var live []job.Job
	for _, t := range rollingTasks { // by their slots: it is asked for every job of a tick
		if j, ok := s.view.Get(job.Key{Cluster: c.Name, Task: t.Name}); ok && j.State.Live() {
			live = append(live, j)
		}
	}
	return c.firstOperation(live, closures, now)
}

var rollingTasks = slices.DeleteFunc(job.Tasks(), func(t job.Task) bool { return t.Kind != job.KindRolling })

// firstOperation is the one that was begun, or else the oldest that may begin. It is pure.
func (c Cluster) firstOperation(live []job.Job, closures store.Closures, now time.Time) (job.Job, bool) {
	live = slices.DeleteFunc(slices.Clone(live), func(j job.Job) bool {
		return j.State == job.Queued && !c.mayRoll(j, closures, now)
	})
	slices.SortFunc(live, func(a, b job.Job) int { return strings.Compare(a.ID, b.ID) })
	for _, j := range live {
		if j.State != job.Queued {
			return j, true
		}
	}
	if len(live) > 0 {
		return live[0], true
	}
	return job.Job{}, false
}

// isRolling reports whether j is an operation that takes the servers of its cluster one after the other.
func isRolling(j job.Job) bool {
	t, err := job.TaskByName(j.Task)
	return err == nil && t.Kind == job.KindRolling
}

// mayRoll reports whether nothing but another operation or the jobs that run keep a queued operation from beginning.
func (c Cluster) mayRoll(j job.Job, closures store.Closures, now time.Time) bool {
	paused := j.Plan != nil && j.Plan.Order.Word == job.OrderPause
	return !paused && c.judge(j, closures, false, now).gate == ""
}

// minds reports whether j waits for op: it is neither the operation itself nor one of its steps, and works on servers.
func minds(op, j job.Job) bool {
	step := j.Trigger.Kind == job.Rolling && j.Trigger.By == op.ID
	t, err := job.TaskByName(j.Task)
	return j.ID != op.ID && !step && (err != nil || t.OnServers())
}

// behind is the reason of a job that waits for op.
func behind(op job.Job) string {
	return fmt.Sprintf("waits for %s %s, which has the cluster for itself", op.Task, op.ID)
}

// behind is the verdict on a job that another operation has the cluster before; what it waits for longer stays.
func (v verdict) behind(op, j job.Job) verdict {
	if v.skip || v.gate == job.GateHold || v.gate == job.GateBlackout || v.gate == job.GateWindow {
		return v
	}
	return verdict{gate: job.GateRolling, reason: behind(op), notBefore: j.NotBefore}
}
