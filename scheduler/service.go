package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const (
	serviceVersion = "1.0.0" // of the questions and answers, not of the program
	serviceTimeout = 5 * time.Second
	nextListed     = 5
)

// runService answers when the schedules come next, as a micro service that `nats micro ls` shows. Any scheduler of the
// bus answers.
func (s *Scheduler) runService(ctx context.Context) error {
	requests := make(chan micro.Request, 64) // the handler sends and never waits; nobody closes it
	svc, err := micro.AddService(s.conn.NC, micro.Config{
		Name: bus.SchedulerService, Version: serviceVersion, Description: "drydock's schedules",
		Metadata: map[string]string{"actor": s.actor},
	})
	if err != nil {
		return fmt.Errorf("announce the service: %w", err)
	}
	defer func() {
		if err := svc.Stop(); err != nil {
			s.log.Debug("withdraw the service", "err", err)
		}
	}()
	err = svc.AddEndpoint("next", micro.HandlerFunc(func(r micro.Request) {
		select {
		case requests <- r:
		default:
			s.refuse(r, "too many requests")
		}
	}), micro.WithEndpointSubject(bus.SubjectNext), micro.WithEndpointQueueGroup(bus.SchedulerService))
	if err != nil {
		return fmt.Errorf("announce %s: %w", bus.SubjectNext, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-requests:
			s.answerNext(ctx, r)
		}
	}
}

func (s *Scheduler) answerNext(ctx context.Context, r micro.Request) {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	rep, err := s.next(ctx)
	if err != nil {
		s.refuse(r, err.Error())
		return
	}
	if err := bus.Respond(r, rep); err != nil { // it names each server of each schedule
		s.log.Warn("answer", "subject", bus.SubjectNext, "err", err)
	}
}

func (s *Scheduler) refuse(r micro.Request, message string) {
	if err := bus.RespondError(r, "UNAVAILABLE", message); err != nil {
		s.log.Warn("answer", "subject", bus.SubjectNext, "err", err)
	}
}

// next lists every schedule of the configuration, by cluster and task.
func (s *Scheduler) next(ctx context.Context) (bus.NextReply, error) {
	rep := bus.NextReply{Schedules: []bus.ScheduleInfo{}}
	closures, err := s.control.Closures(ctx)
	if err != nil {
		return rep, err
	}
	switches := map[string]store.Switches{} // by cluster
	for _, p := range s.setup.Load().plans {
		if p.parted {
			continue
		}
		if _, read := switches[p.cluster]; !read {
			if switches[p.cluster], err = s.control.Switches(ctx, p.cluster); err != nil {
				return rep, err
			}
		}
		last, _, err := bus.Last[bus.Tick](ctx, s.conn, bus.StreamTasks, bus.TaskSubject(p.cluster, p.task))
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return rep, fmt.Errorf("read the ledger of %s/%s: %w", p.cluster, p.task, err)
		}
		info := p.info(last.Cursor, s.now())
		if off, ok := switches[p.cluster].Off(p.task); ok {
			info.Switch = &off
		}
		if c, ok := s.cluster(p.cluster); ok {
			info.Refused = c.Refuse[p.task]
			c.tellClosed(&info, closures, s.now())
		}
		rep.Schedules = append(rep.Schedules, info)
	}
	slices.SortFunc(rep.Schedules, func(a, b bus.ScheduleInfo) int {
		return strings.Compare(a.Cluster+"\x00"+a.Task, b.Cluster+"\x00"+b.Task)
	})
	return rep, nil
}

// info describes the plan. What comes next counts from the cursor when that is ahead of the clock: nothing fires before.
func (p *plan) info(cursor, now time.Time) bus.ScheduleInfo {
	info := bus.ScheduleInfo{
		Cluster: p.cluster, Task: p.task, Enabled: p.enabled, Spec: p.spec, Zone: p.zone,
		Servers: append([]job.Server{}, p.servers...), Cursor: cursor, Next: []time.Time{},
	}
	if !p.enabled {
		info.Why = p.why
		return info
	}
	for at := p.cal.Next(later(cursor, now)); !at.IsZero() && len(info.Next) < nextListed; at = p.cal.Next(at) {
		info.Next = append(info.Next, at.UTC())
	}
	return info
}
