package scheduler

import (
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
)

// signs remembers when each attempt of a job last showed that it lives. All times are this process's own: what other
// machines believe the time to be decides nothing.
type signs struct {
	mu    sync.Mutex
	epoch time.Time // before this we were not listening, and nobody is blamed for what we did not hear
	runs  map[string]sign
}

type sign struct {
	first time.Time // when we learned of the attempt
	state time.Time // when we learned of its present state
	last  time.Time // sign of life
	now   job.State
	seen  uint64 // job.Seen then
}

// signsKept is how long an attempt is remembered that no view shows.
const signsKept = time.Minute

func newSigns() *signs { return &signs{runs: map[string]sign{}} }

// renew gives everybody a full lease from now on.
func (s *signs) renew(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = now
}

// change takes a change of a job as a sign. That a tick was skipped because of it is none: a dead job would live for
// ever by the very ticks it blocks.
func (s *signs) change(ev bus.JobEvent, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := ev.Job.Run()
	g, known := s.runs[run]
	if !known {
		g.first = now
	}
	if !known || g.now != ev.Job.State {
		g.state, g.now = now, ev.Job.State
	}
	if !known || ev.Event != job.Note || ev.Job.Seen == g.seen {
		g.last = now
	}
	g.seen = ev.Job.Seen
	s.runs[run] = g
}

// progress takes a sign of life from the bus. Of an attempt not known yet the change will come.
func (s *signs) progress(p bus.Progress, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := job.RunName(p.JobID, p.Attempt)
	if g, known := s.runs[run]; known {
		g.last = now
		s.runs[run] = g
	}
}

// of is what is known of the attempt that j shows, no time in it before the epoch. What j shows and we did not know
// counts from now.
func (s *signs) of(j job.Job, now time.Time) sign {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := j.Run()
	g, known := s.runs[run]
	if !known {
		g.first, g.last, g.seen = now, now, j.Seen
	}
	if !known || g.now != j.State {
		g.state, g.now = now, j.State
		s.runs[run] = g
	}
	g.first, g.state, g.last = later(g.first, s.epoch), later(g.state, s.epoch), later(g.last, s.epoch)
	return g
}

// forget drops the attempts that are not in live. A new one may be missing there only because it came meanwhile.
func (s *signs) forget(live map[string]bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for run, g := range s.runs {
		if !live[run] && now.Sub(g.first) > signsKept {
			delete(s.runs, run)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
