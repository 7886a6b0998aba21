package alert

import (
	"time"

	"drydock/bus"
	"drydock/job"
)

// signs remembers when each attempt of a running job last showed that it lives, by this process's own clock. The
// evaluator's lock guards it.
type signs struct {
	listening bool // what is told now is news, not what the log said before
	runs      map[string]sign
}

type sign struct {
	last  time.Time
	heard bool
	seen  uint64 // job.Seen then
}

// change takes a change of a job. That a tick was skipped because of the job is no sign of the job.
func (s *signs) change(ev bus.JobEvent, now time.Time) {
	run := ev.Job.Run()
	if !ev.Job.State.Running() {
		delete(s.runs, run)
		return
	}
	g, known := s.runs[run]
	if known && ev.Event == job.Note && ev.Job.Seen != g.seen {
		g.seen = ev.Job.Seen
	} else {
		g = sign{now, s.listening, ev.Job.Seen}
	}
	s.runs[run] = g
}

// progress takes a sign of life from the bus. Of an attempt not known yet the change will come.
func (s *signs) progress(p bus.Progress, now time.Time) {
	run := job.RunName(p.JobID, p.Attempt)
	if g, known := s.runs[run]; known {
		s.runs[run] = sign{now, true, g.seen}
	}
}

// renew gives everybody a full time from now on: nobody is blamed for what was said while we could not listen.
func (s *signs) renew(now time.Time) {
	s.listening = true
	for run, g := range s.runs {
		s.runs[run] = sign{now, false, g.seen}
	}
}

// of is what is known of the attempt that j shows. A running one that we did not know counts from now.
func (s *signs) of(j job.Job, now time.Time) sign {
	g, known := s.runs[j.Run()]
	if !known && j.State.Running() {
		g = sign{now, false, j.Seen}
		s.runs[j.Run()] = g
	}
	return g
}

// keep drops the attempts of jobs that no slot shows any more.
func (s *signs) keep(live map[string]bool) {
	for run := range s.runs {
		if !live[run] {
			delete(s.runs, run)
		}
	}
}
