package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"drydock/bus"
	"drydock/store"
)

const (
	lookEvery   = 30 * time.Second // at every schedule, whether a timer rang or not
	lookAgain   = time.Second      // after a failed look
	lookTimeout = 20 * time.Second
	lookWidth   = 128             // schedules at a time: their ticks share syncs
	stepChecked = time.Second     // how often the wall clock is compared with elapsed time
	stepNoticed = time.Second / 2 // a difference that means the clock was set or the machine slept
)

// runClock decides ticks. A cron wakes it when one falls due; it also looks at every schedule at the start, after a
// reload, when the wall clock jumped, and now and then, because a timer can be wrong and the ledger is not.
func (s *Scheduler) runClock(ctx context.Context) error {
	full := time.NewTicker(lookEvery)
	defer full.Stop()
	check := time.NewTicker(stepChecked)
	defer check.Stop()
	var again <-chan time.Time
	waker := s.startWaker()
	defer func() { stopWaker(waker) }()
	rewind := func() {
		stopWaker(waker)
		waker = s.startWaker()
		s.dueAll()
	}
	s.dueAll()
	mark := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-full.C:
			s.dueAll()
		case <-s.reloaded:
			s.log.Info("schedules reloaded")
			rewind()
		case <-check.C:
			now := time.Now()
			if d := stepped(now.Round(0).Sub(mark.Round(0)), now.Sub(mark)); d != 0 {
				s.log.Warn("wall clock jumped, looking at every schedule", "by", d)
				rewind()
			}
			mark = now
		case <-again:
			again = nil
			s.due.put(slot{}) // no schedule's name: it only wakes
		case <-s.due.wake:
			if !s.lookAt(ctx, s.due.take()) && ctx.Err() == nil {
				again = time.After(lookAgain)
			}
		}
	}
}

// startWaker starts a cron that puts a schedule into the inbox at each of its ticks.
func (s *Scheduler) startWaker() *cron.Cron {
	c := cron.New(cron.WithLocation(time.UTC), cron.WithLogger(cron.DiscardLogger))
	for k, p := range s.setup.Load().plans {
		if p.enabled {
			c.Schedule(p.cal, cron.FuncJob(func() { s.due.put(k) }))
		}
	}
	c.Start()
	c.Entries() // answered when it knows from when it counts: a tick after that wakes, one before is seen by the full look
	return c
}

func stopWaker(c *cron.Cron) { <-c.Stop().Done() }

// stepped is how far the wall clock moved against elapsed time, 0 when that is within reason.
func stepped(wall, elapsed time.Duration) time.Duration {
	if d := wall - elapsed; d.Abs() >= stepNoticed {
		return d
	}
	return 0
}

func (s *Scheduler) dueAll() {
	for k := range s.setup.Load().plans {
		s.due.put(k)
	}
}

// lookAt decides what is due in these schedules. Those that failed, or that there was no time for, are put back; done is
// false then.
func (s *Scheduler) lookAt(ctx context.Context, keys []slot) (done bool) {
	plans := s.setup.Load().plans
	started := time.Now()
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		left []slot
		room = make(chan struct{}, lookWidth) // a token per schedule being looked at
	)
	for i, k := range keys {
		p := plans[k]
		if p == nil {
			continue
		}
		room <- struct{}{}
		if time.Since(started) > lookTimeout { // the bus hardly answers: do not wait for it once per schedule
			mu.Lock()
			left = append(left, keys[i:]...)
			mu.Unlock()
			break
		}
		wg.Go(func() {
			defer func() { <-room }()
			if err := s.look(ctx, p); err != nil && ctx.Err() == nil {
				s.log.Warn("decide ticks", "cluster", p.cluster, "task", p.task, "err", err)
				mu.Lock()
				defer mu.Unlock()
				left = append(left, k)
			}
		})
	}
	wg.Wait()
	s.due.keep(left)
	return len(left) == 0
}

// look decides what is due in one schedule now.
func (s *Scheduler) look(ctx context.Context, p *plan) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	now := s.now()
	// Read after now, so that who was told that the schedule is off before a tick fell due is obeyed by it; and only when
	// there is a tick: all schedules are looked at again and again.
	switches := sync.OnceValues(func() (store.Switches, error) { return s.control.Switches(ctx, p.cluster) })
	for {
		var unread error
		t, _, written, err := s.ledger.Update(ctx, p.cluster, p.task, func(last bus.Tick) (bus.Tick, bool) {
			t, due := p.decide(last, now, s.up, nil)
			if !due || t.Outcome == bus.Armed || t.Outcome == bus.Disarmed {
				return t, due
			}
			var off store.Switches
			if off, unread = switches(); unread != nil {
				return t, false
			}
			return p.decide(last, now, s.up, off)
		})
		if err != nil {
			return fmt.Errorf("extend the ledger: %w", err)
		}
		if unread != nil {
			return fmt.Errorf("look whether the schedule is switched off: %w", unread)
		}
		if !written {
			if ahead := t.Cursor.Sub(now); p.enabled && ahead > time.Hour {
				// Going back to now could run twice what the ledger says was run. The way out is a person's.
				s.log.Warn("ledger is ahead of the clock: nothing fires until then; if the clock is right, switch the schedule off and on again",
					"cluster", p.cluster, "task", p.task, "decided_until", t.Cursor)
			}
			return nil
		}
		s.logTick(ctx, t)
	}
}

func (s *Scheduler) logTick(ctx context.Context, t bus.Tick) {
	level := slog.LevelInfo
	if t.Outcome == bus.Missed || t.Outcome == bus.Late {
		level = slog.LevelWarn
	}
	args := []any{"cluster", t.Cluster, "task", t.Task, "outcome", t.Outcome, "due", t.Due}
	if t.Reason != "" {
		args = append(args, "reason", t.Reason)
	}
	if t.Count > 0 {
		args = append(args, "count", t.Count, "until", t.Until)
	}
	s.log.Log(ctx, level, "tick", args...)
}
