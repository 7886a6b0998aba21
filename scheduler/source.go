package scheduler

import (
	"context"
	"errors"
	"fmt"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

func isLogical(task string) bool {
	t, err := job.TaskByName(task)
	return err == nil && t.Logical()
}

// chooseSource resolves the one server of a tick for a logical backup, from what is known of the servers now, and says why
// in the reason of its job. A tick that comes again stays with the server that has its job. While another logical backup
// of the cluster is live, or no server is fit, there is a skip instead.
func (s *Scheduler) chooseSource(ctx context.Context, m bus.Meta, t bus.Tick, c Cluster) (servers []job.Server, reason string, skips []skip, err error) {
	reason = startReason(t, c)
	begun, live, err := s.slotsOf(ctx, m, t, c)
	switch {
	case err != nil:
		return nil, reason, nil, err
	case begun != job.Server{}:
		return []job.Server{begun}, reason, nil, nil
	case live.ID != "":
		return nil, reason, []skip{{gate: job.GateRunning, reason: fmt.Sprintf("job %s on %s is still %s since %s", live.Run(), live.Server, live.State, stamp(live.Since, c.Zone)), final: true}}, nil
	}
	chosen, why, err := s.docs.Source(ctx, c.Name, c.sources())
	switch {
	case errors.Is(err, store.ErrNoSource):
		return nil, reason, []skip{{gate: job.GateDatabase, reason: err.Error()}}, nil
	case err != nil:
		return nil, reason, nil, err
	}
	s.log.Info("source of a logical backup chosen", "cluster", c.Name, "task", t.Task, "server", chosen.String(), "reason", why)
	return []job.Server{chosen}, reason + "; " + why, nil, nil
}

// slotsOf looks into the slots of the task on all servers: begun is the server that has the job of the tick already, live
// a job of another tick that has not ended.
func (s *Scheduler) slotsOf(ctx context.Context, m bus.Meta, t bus.Tick, c Cluster) (begun job.Server, live job.Job, err error) {
	later := false
	for _, srv := range c.Servers {
		j, _, err := s.jobs.Last(ctx, job.Key{Cluster: c.Name, Server: srv, Task: t.Task})
		switch {
		case errors.Is(err, store.ErrNone):
		case err != nil:
			return begun, live, err
		case j.Tick == t.ID:
			return srv, live, nil
		case j.State.Live():
			live = j
		}
		later = later || j.Seen > m.Seq
	}
	if !later {
		return begun, live, nil
	}
	// A slot has gone on to a later tick: this one's job may be in the past.
	past, err := s.jobs.List(ctx, store.Filter{Cluster: c.Name, Task: t.Task, Since: m.Time.Add(-overlap), Limit: 1 << 20})
	for _, j := range past {
		if j.Tick == t.ID {
			begun = j.Server
		}
	}
	return begun, live, err
}
