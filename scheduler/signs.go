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
	runs  map[string]*sign
	sweep uint64 // of the view, counted
}

type sign struct {
	first time.Time // when we learned of the attempt
	state time.Time // when we learned of its present state
	last  time.Time // sign of life
	now   job.State
	seen  uint64 // job.Seen then
	sweep uint64 // the last that came across it
}

// signsKept is how long an attempt is remembered that no view shows.
const signsKept = time.Minute

func newSigns() *signs { return &signs{runs: map[string]*sign{}} }

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
	g, known := s.run(ev.Job.Run())
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
}

// run is what is remembered of an attempt, from now on if that was nothing. The caller holds mu.
func (s *signs) run(name string) (g *sign, known bool) {
	g, known = s.runs[name]
	if !known {
		g = &sign{}
		s.runs[name] = g
	}
	return g, known
}

// progress takes a sign of life from the bus. Of an attempt not known yet the change will come.
func (s *signs) progress(p bus.Progress, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := job.RunName(p.JobID, p.Attempt)
	if g, known := s.runs[run]; known {
		g.last = now
	}
}

// begin begins a sweep. At its end [signs.forget] drops every attempt that [signs.of] was not asked for meanwhile.
func (s *signs) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep++
}

// of is what is known of the attempt that j shows, no time in it before the epoch. What j shows and we did not know
// counts from now.
func (s *signs) of(j job.Job, now time.Time) sign {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, known := s.run(j.Run())
	if !known {
		g.first, g.last, g.seen = now, now, j.Seen
	}
	if !known || g.now != j.State {
		g.state, g.now = now, j.State
	}
	g.sweep = s.sweep
	told := *g
	told.first, told.state, told.last = later(g.first, s.epoch), later(g.state, s.epoch), later(g.last, s.epoch)
	return told
}

// forget drops the attempts that this sweep did not come across. A new one may have come meanwhile.
func (s *signs) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for run, g := range s.runs {
		if g.sweep != s.sweep && now.Sub(g.first) > signsKept {
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
