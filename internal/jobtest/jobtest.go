// Package jobtest plays the scheduler for a test of those who do jobs: it queues them, waits for them, and closes them.
package jobtest

import (
	"strconv"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// patience is for what a job waits for: tools that are slow to start on a busy machine.
const patience = 2 * time.Minute

// Scheduler plays the scheduler of one cluster. It is for one goroutine.
type Scheduler struct {
	Jobs *store.Jobs

	t       testing.TB
	cluster string
	server  job.Server
	ticks   int
}

// New makes a scheduler of a cluster with one server.
func New(t testing.TB, conn *bus.Conn, cluster string, server job.Server) *Scheduler {
	return &Scheduler{Jobs: store.NewJobs(conn, "test", nil), t: t, cluster: cluster, server: server}
}

// Queue creates a job for receivers, as the fan-out does: of the cluster when its task is of a whole one, else of the server.
func (s *Scheduler) Queue(task string, args map[string]string) job.Job {
	s.t.Helper()
	k := job.Key{Cluster: s.cluster, Server: s.server, Task: task}
	if t, _ := job.TaskByName(task); t.Whole {
		k.Server = job.Server{}
	}
	s.ticks++
	due := time.Now().UTC()
	j, err := s.Jobs.Create(bustest.Context(s.t), job.Job{
		State: job.Queued, ID: job.NewID(due, strconv.Itoa(s.ticks), k), Cluster: k.Cluster, Server: k.Server, Task: k.Task,
		Mode: job.ByReceiver, Due: due, Args: args, Seen: uint64(s.ticks),
	}, "due")
	if err != nil {
		s.t.Fatal(err)
	}
	return j
}

// When waits until ok answers true of what the job's slot holds, and returns that.
func (s *Scheduler) When(j job.Job, what string, ok func(job.Job) bool) (now job.Job) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the job is %s: %s", now.State, now.Reason)
		}
	}()
	bustest.Until(s.t, patience, what, func() bool {
		var err error
		if now, _, err = s.Jobs.Last(bustest.Context(s.t), j.Key()); err != nil {
			s.t.Fatal(err)
		}
		return ok(now)
	})
	return now
}

// Ended waits until nobody works on the job any more, and closes it as the closer would.
func (s *Scheduler) Ended(j job.Job) job.Job {
	s.t.Helper()
	j = s.When(j, "the work has ended", func(j job.Job) bool { return !j.State.Live() || j.State == job.Finished })
	if j.State != job.Finished {
		return j
	}
	task, _ := job.TaskByName(j.Task)
	v := job.Judge(task, j, false)
	return s.change(j, store.Change{Event: v.Event, Reason: v.Reason})
}

// Apply puts a job through events.
func (s *Scheduler) Apply(j job.Job, events ...job.Event) job.Job {
	s.t.Helper()
	for _, e := range events {
		j = s.change(j, store.Change{Event: e, Reason: "test"})
	}
	return j
}

func (s *Scheduler) change(j job.Job, c store.Change) job.Job {
	s.t.Helper()
	j, err := s.Jobs.Apply(bustest.Context(s.t), store.RefOf(j), c)
	if err != nil {
		s.t.Fatalf("%s: %v", c.Event, err)
	}
	return j
}
