package explain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
)

const (
	// nextWait is how long the schedulers have to answer; without them the rest is told.
	nextWait = 2 * time.Second
	// decidedBy is how long after the end of the time looked at an entry about it is still looked for, and followed how long
	// its jobs are: what waits for a window waits for days.
	decidedBy = 48 * time.Hour
	followed  = 8 * 24 * time.Hour
	// maxEvents bounds what one explanation holds of the log of jobs, and of the ledger: some 100 MB.
	maxEvents = 100_000
	// signsIn is in how many entries next to a missed tick a scheduler's is looked for: the others are of people.
	signsIn = 200
	// drift is how much the clocks of machines may differ.
	drift = time.Minute
)

// ErrTooMuch is returned when more happened than one explanation holds. A shorter time can be explained.
var ErrTooMuch = errors.New("more happened in that time than can be explained at once: ask for a shorter one, such as --within 1h")

// Of reads the bus and explains a task of a cluster from one time to another. A bus without a scheduler is an answer too.
// Errors: [ErrTooMuch].
func Of(ctx context.Context, c *bus.Conn, cluster, task string, from, to time.Time) (Explanation, error) {
	f, err := Read(ctx, c, cluster, task, from, to)
	if err != nil {
		return Explanation{}, fmt.Errorf("explain %s of cluster %s: %w", task, cluster, err)
	}
	return Explain(f), nil
}

// Read gathers the facts.
func Read(ctx context.Context, c *bus.Conn, cluster, task string, from, to time.Time) (Facts, error) {
	return Facts{Cluster: cluster, Task: task, From: from.UTC(), To: to.UTC(), most: maxEvents}.gather(ctx, c)
}

func (f Facts) gather(ctx context.Context, c *bus.Conn) (Facts, error) {
	if err := f.readSchedule(ctx, c); err != nil {
		return f, err
	}
	f.Now = time.Now().UTC()
	if err := f.readLedger(ctx, c); err != nil {
		return f, err
	}
	if err := f.readJobs(ctx, c); err != nil {
		return f, err
	}
	err := f.readSigns(ctx, c)
	slices.SortFunc(f.Signs, time.Time.Compare)
	return f, err
}

// readSchedule asks the schedulers. That none answers is a fact.
func (f *Facts) readSchedule(ctx context.Context, c *bus.Conn) error {
	asking, cancel := context.WithTimeout(ctx, nextWait)
	defer cancel()
	rep, err := bus.Request[bus.NextReply](asking, c, bus.SubjectNext, struct{}{})
	if err != nil {
		return ctx.Err() // nobody, or nobody in time
	}
	f.Answered = true
	i := slices.IndexFunc(rep.Schedules, func(s bus.ScheduleInfo) bool { return s.Cluster == f.Cluster && s.Task == f.Task })
	if i >= 0 {
		f.Schedule = &rep.Schedules[i]
	}
	return nil
}

func (f *Facts) readLedger(ctx context.Context, c *bus.Conn) error {
	before, m, err := bus.LastBefore[bus.Tick](ctx, c, bus.StreamTasks, bus.TaskSubject(f.Cluster, f.Task), f.From.Add(-drift))
	switch {
	case err == nil:
		f.Before = &Entry{before, m.Seq}
	case !errors.Is(err, bus.ErrNotFound):
		return err
	}
	if f.Oldest, err = c.Oldest(ctx, bus.StreamTasks); err != nil {
		return err
	}
	own := bus.TaskSubject(f.Cluster, f.Task)
	last, seq, err := bus.Last[bus.Tick](ctx, c, bus.StreamTasks, own)
	switch {
	case err == nil:
		f.Last = &Entry{last, seq}
	case !errors.Is(err, bus.ErrNotFound):
		return err
	}
	return bus.Read(ctx, c, bus.StreamTasks, bus.TaskFilter(f.Cluster, ""), bus.From{Since: f.From.Add(-drift)}, func(m bus.Meta, t bus.Tick) error {
		f.sign(t.Actor, t.Time)
		if m.Subject == own {
			if len(f.Entries) == f.most {
				return ErrTooMuch
			}
			f.Entries = append(f.Entries, Entry{t, m.Seq})
		}
		if t.Time.After(f.To.Add(decidedBy)) {
			return bus.ErrStop
		}
		return nil
	})
}

func (f *Facts) readJobs(ctx context.Context, c *bus.Conn) error {
	return bus.Read(ctx, c, bus.StreamJobs, bus.JobFilter(f.Cluster, "", 0, f.Task), bus.From{Since: f.From.Add(-drift)}, func(m bus.Meta, ev bus.JobEvent) error {
		f.sign(ev.Actor, ev.Time)
		if len(f.Events) == f.most {
			return ErrTooMuch
		}
		f.Events = append(f.Events, Event{slim(ev), m.Seq})
		if ev.Time.After(f.To.Add(followed)) {
			return bus.ErrStop
		}
		return nil
	})
}

// readSigns looks for the signs of a scheduler next to each tick that was missed, and for the last one when none answers now:
// one that had nothing to write about this cluster was alive all the same.
func (f *Facts) readSigns(ctx context.Context, c *bus.Conn) error {
	type gap struct{ from, to time.Time } // without a sign
	var gaps []gap
	look := func(at time.Time) error {
		if slices.ContainsFunc(gaps, func(g gap) bool { return at.After(g.from) && at.Before(g.to) }) {
			return nil
		}
		before, after, err := signsAround(ctx, c, at)
		if err != nil {
			return err
		}
		for _, t := range []time.Time{before, after} {
			if !t.IsZero() {
				f.Signs = append(f.Signs, t)
			}
		}
		if after.IsZero() {
			after = f.Now
		}
		gaps = append(gaps, gap{before, after})
		return nil
	}
	for _, x := range f.Entries {
		if x.Outcome == bus.Missed && !x.Due.Before(f.From) && !x.Due.After(f.To) {
			if err := look(x.Due); err != nil {
				return err
			}
		}
	}
	if f.Answered {
		return nil
	}
	return look(f.Now)
}

// signsAround are the times of the entries next before and next after at that a scheduler wrote into any ledger; zero where
// there is none, or none near.
func signsAround(ctx context.Context, c *bus.Conn, at time.Time) (before, after time.Time, err error) {
	end, err := c.LastSeq(ctx, bus.StreamTasks)
	if err != nil {
		return before, after, err
	}
	first := end + 1 // of the entries since at
	err = bus.Read(ctx, c, bus.StreamTasks, bus.AllTasks, bus.From{Since: at}, func(m bus.Meta, t bus.Tick) error {
		first = min(first, m.Seq)
		if byScheduler(t.Actor) {
			after = t.Time
		}
		if !after.IsZero() || m.Seq-first >= signsIn {
			return bus.ErrStop
		}
		return nil
	})
	if err != nil || first <= 1 {
		return before, after, err
	}
	from := bus.From{Seq: first - min(first, signsIn)}
	err = bus.Read(ctx, c, bus.StreamTasks, bus.AllTasks, from, func(m bus.Meta, t bus.Tick) error {
		if m.Seq >= first {
			return bus.ErrStop
		}
		if byScheduler(t.Actor) {
			before = t.Time
		}
		return nil
	})
	return before, after, err
}

// slim drops what no explanation says: many of them are held at once.
func slim(ev bus.JobEvent) bus.JobEvent {
	ev.Job.Evidence, ev.Job.Stream, ev.Job.Inventory, ev.Job.Plan = job.Evidence{}, nil, nil, nil
	return ev
}

// sign takes down that a scheduler was alive.
func (f *Facts) sign(actor string, at time.Time) {
	if byScheduler(actor) {
		f.Signs = append(f.Signs, at)
	}
}

func byScheduler(actor string) bool { return strings.HasPrefix(actor, "scheduler@") }

// The time that is looked at when nothing else is asked for, and the longest.
const (
	Within    = 24 * time.Hour
	MaxWithin = 31 * 24 * time.Hour
)

// Around is the time to look at: so long before now, or half of it before and half after at.
func Around(at time.Time, within time.Duration, now time.Time) (from, to time.Time) {
	if at.IsZero() {
		return now.Add(-within), now
	}
	return at.Add(-within / 2), at.Add(within / 2)
}
