// Package store keeps what drydock knows: the jobs (an append-only log with compare-and-swap per slot), the tick
// ledger, views and projections of both, and the catalogue of backups.
//
// It owns the rule that no state is written blindly: every change reads the slot's last message, asks package job
// whether the event is allowed, and appends with the sequence it read. Callers own the events.
package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"drydock/bus"
	"drydock/job"
)

// The errors of [Jobs].
var (
	// ErrNone is returned for a slot that never had a job.
	ErrNone = errors.New("no such job")
	// ErrLive is returned by [Jobs.Create] when a live job holds the slot. The caller records the skip or waits.
	ErrLive = errors.New("a job is live")
	// ErrSeen is returned by [Jobs.Create] when the tick was decided for this slot before: it was delivered again.
	ErrSeen = errors.New("tick already decided")
	// ErrStale is returned by [Jobs.Apply] when the slot has moved on to another job or attempt. What was reported
	// belongs to the past and changes nothing.
	ErrStale = errors.New("job is not the current one")
	// ErrBusy is returned when others wrote to the slot faster than we could, several times in a row.
	ErrBusy = errors.New("slot is busy, try again")
)

// Late says of the error of a change that the job has moved on meanwhile: nothing is wrong, and nothing was changed.
func Late(err error) bool {
	return errors.Is(err, job.ErrTransition) || errors.Is(err, ErrStale) || errors.Is(err, ErrNone)
}

// Jobs reads and changes jobs. Safe for concurrent use.
type Jobs struct {
	c     *bus.Conn
	actor string
	view  *View
	reads chan struct{} // a token per server that [Jobs.LiveHeavy] reads
}

const (
	readsWidth  = 32
	readTimeout = 5 * time.Second
)

// NewJobs writes as actor (for example `gateway@db-admin-1`). view, if not nil, sees this process's own changes at
// once.
func NewJobs(c *bus.Conn, actor string, view *View) *Jobs {
	return &Jobs{c: c, actor: actor, view: view, reads: make(chan struct{}, readsWidth)}
}

// Ref names a job to change. An empty ID means whatever job the slot holds, Attempt 0 whatever attempt.
type Ref struct {
	Key     job.Key
	ID      string
	Attempt int
}

// RefOf names exactly this attempt of j.
func RefOf(j job.Job) Ref { return Ref{j.Key(), j.ID, j.Attempt} }

// Change is one event for a job.
type Change struct {
	Event  job.Event
	Reason string
	Actor  string // who did it, when not this process itself
	// From, if set, is the only state that the event is meant for: what has moved on meanwhile is left alone, with
	// [job.ErrTransition], even where the table would allow the event.
	From job.State
	// Edit adds facts. It may run several times, on a fresh copy each time; it must not change ID, State or Attempt.
	Edit func(*job.Job)
}

const casTries = 10

func subjectOf(k job.Key) string {
	return bus.JobSubject(k.Cluster, k.Server.Host, k.Server.Port, k.Task)
}

// Last is the slot's last job, from the log itself, and its sequence. Errors: [ErrNone] (sequence 0).
func (s *Jobs) Last(ctx context.Context, k job.Key) (job.Job, uint64, error) {
	ev, seq, err := bus.Last[bus.JobEvent](ctx, s.c, bus.StreamJobs, subjectOf(k))
	if errors.Is(err, bus.ErrNotFound) {
		return job.Job{}, 0, fmt.Errorf("%w for %s", ErrNone, k)
	}
	return ev.Job, seq, err
}

// LiveHeavy reads the live heavy jobs of a server from the log: what [job.NextHeavy] decides on. A view may lag, and two
// heavy jobs must never be let through together.
func (s *Jobs) LiveHeavy(ctx context.Context, cluster string, server job.Server) (live []job.Job, err error) {
	var subjects []string
	for _, t := range heavyTasks {
		k := job.Key{Cluster: cluster, Server: server, Task: t.Name}
		if t.Whole {
			k.Server = job.Server{} // has every server of the cluster
		}
		subjects = append(subjects, subjectOf(k))
	}
	s.reads <- struct{}{} // comes free: every reading has a deadline
	defer func() { <-s.reads }()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	last, err := bus.LastOfEach[bus.JobEvent](ctx, s.c, bus.StreamJobs, subjects)
	if err != nil {
		return nil, err
	}
	for _, ev := range last {
		if ev.Job.State.Live() && !ev.Job.Gated() {
			live = append(live, ev.Job)
		}
	}
	return live, nil
}

var heavyTasks = slices.DeleteFunc(job.Tasks(), func(t job.Task) bool { return !t.Heavy() })

// Create starts a job in its slot; j has ID, key, Due, Trigger, Mode and Seen (the sequence of its tick) set, and State
// [job.Queued] or [job.Skipped]. On [ErrLive] and [ErrSeen] the slot's job is returned.
func (s *Jobs) Create(ctx context.Context, j job.Job, reason string) (job.Job, error) {
	for try := range casTries {
		last, seq, seen, err := s.look(ctx, j.Key(), try)
		switch {
		case err != nil && !errors.Is(err, ErrNone):
			return job.Job{}, err
		case err == nil && (last.Seen >= j.Seen && j.Seen > 0 || last.ID == j.ID):
			err = ErrSeen
		case err == nil && last.State.Live():
			err = fmt.Errorf("%w: %s of %s is %s", ErrLive, last.ID, j.Key(), last.State)
		default:
			err = nil
		}
		if err != nil && seen {
			continue
		}
		if err != nil {
			return last, err
		}
		now := time.Now().UTC()
		j.Attempt, j.Created, j.Since, j.Updated, j.Reason = 1, now, now, now, reason
		j.Steps = []job.Step{{State: j.State, Event: job.Create, Time: now, Reason: reason, Actor: s.actor}}
		err = s.append(ctx, seq, bus.JobEvent{State: j.State, Event: job.Create, Reason: reason, Actor: s.actor, Job: j})
		if errors.Is(err, bus.ErrConflict) {
			continue
		}
		return j, err
	}
	return job.Job{}, fmt.Errorf("create job %s: %w", j.Key(), ErrBusy)
}

// Apply gives an event to the job ref names and returns the job as it is afterwards. An event that changes nothing
// writes nothing. With an error the job is returned as it was last read, the zero Job when it could not be.
// Errors: [ErrNone], [ErrStale], [job.ErrTransition], [ErrBusy], or the bus's.
func (s *Jobs) Apply(ctx context.Context, ref Ref, ch Change) (job.Job, error) {
	if ch.Actor == "" {
		ch.Actor = s.actor
	}
	for try := range casTries {
		now, seq, seen, err := s.look(ctx, ref.Key, try)
		next, changed := now, false
		if err == nil {
			next, changed, err = advance(now, ref, ch)
		}
		if seen && (err != nil || !changed) {
			continue
		}
		if err != nil || !changed {
			return now, err
		}
		err = s.append(ctx, seq, bus.JobEvent{
			State: next.State, Prev: now.State, Event: ch.Event, Reason: ch.Reason, Actor: ch.Actor, Job: next,
		})
		switch {
		case errors.Is(err, bus.ErrConflict):
			continue
		case err != nil:
			return now, err // as it was read: nobody may act on a change that is not written
		}
		return next, nil
	}
	return job.Job{}, fmt.Errorf("apply %s to %s: %w", ch.Event, ref.Key, ErrBusy)
}

// look is what a change is made on: at the first try what the view shows, and seen says so. Nothing is lost by that: what the view does
// not know yet is a conflict when it is written over. But nobody is told of a state that only the view shows, nor that
// there is nothing to change: for that the log is asked.
func (s *Jobs) look(ctx context.Context, k job.Key, try int) (j job.Job, seq uint64, seen bool, err error) {
	if try == 0 && s.view != nil && s.view.isReady() {
		last := s.view.slot(k)
		if last == nil {
			return job.Job{}, 0, true, fmt.Errorf("%w for %s", ErrNone, k)
		}
		return last.job, last.seq, true, nil
	}
	j, seq, err = s.Last(ctx, k)
	return j, seq, false, err
}

// advance is the job after the change, and whether that is another one. It is pure.
func advance(now job.Job, ref Ref, ch Change) (next job.Job, changed bool, err error) {
	if ref.ID != "" && now.ID != ref.ID || ref.Attempt != 0 && now.Attempt != ref.Attempt {
		return now, false, fmt.Errorf("%w: %s holds %s, not %s", ErrStale, ref.Key, now.Run(), job.RunName(ref.ID, ref.Attempt))
	}
	if ch.From != "" && now.State != ch.From {
		return now, false, fmt.Errorf("%w: %s is meant for a job that is %s, it is %s", job.ErrTransition, ch.Event, ch.From, now.State)
	}
	next, changed, err = now.Advance(ch.Event, ch.Reason, ch.Actor, time.Now().UTC())
	if err != nil || ch.Edit == nil {
		return next, changed, err
	}
	edited := clone(next)
	ch.Edit(&edited)
	return edited, changed || !reflect.DeepEqual(edited, next), nil
}

// Seen records that the tick with sequence seq was decided for this slot without starting a job.
func (s *Jobs) Seen(ctx context.Context, k job.Key, seq uint64) error {
	_, err := s.Apply(ctx, Ref{Key: k}, Change{Event: job.Note, Edit: func(j *job.Job) { j.Seen = max(j.Seen, seq) }})
	return err
}

func (s *Jobs) append(ctx context.Context, last uint64, ev bus.JobEvent) error {
	ev.Type, ev.ID, ev.Time, ev.Attempt = bus.TypeJob, bus.NewMessageID(), ev.Job.Updated, ev.Job.Attempt
	seq, err := s.c.Append(ctx, bus.StreamJobs, subjectOf(ev.Job.Key()), ev.ID, last, ev)
	if err == nil && s.view != nil {
		s.view.observe(ev, seq)
	}
	return err
}

// clone copies what Edit may reach through pointers and slices.
func clone(j job.Job) job.Job {
	if j.Stream != nil {
		st := *j.Stream
		j.Stream = &st
	}
	j.Plan = j.Plan.Clone()
	j.Evidence.Errors = append([]string(nil), j.Evidence.Errors...)
	j.Evidence.Exit = append([]int(nil), j.Evidence.Exit...)
	return j
}
