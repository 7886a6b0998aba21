package explain

import (
	"fmt"
	"time"

	"drydock/calendar"
)

// standing says how the schedule stands now.
func (e *explainer) standing() string {
	s := e.Schedule
	switch {
	case s == nil && e.Answered:
		return fmt.Sprintf("no schedule: the scheduler that answers has none for %s of cluster %q in its configuration", e.Task, e.Cluster)
	case s == nil && (e.last == nil || e.last.Spec == ""):
		return "unknown: no scheduler answers on this bus" + e.lastSign()
	case s == nil:
		return fmt.Sprintf("last known as %q in %s; no scheduler answers on this bus%s", e.last.Spec, e.last.Zone, e.lastSign())
	case !s.Enabled:
		return "off: " + s.Why
	}
	text := fmt.Sprintf("on: %q in %s", s.Spec, s.Zone)
	if s.Refused != "" {
		text += "; but every tick is skipped: " + s.Refused
	}
	if s.Switch != nil {
		text += "; but every tick is skipped: " + s.Switch.String()
	}
	if s.Closed != "" {
		text += "; closed now: " + s.Closed
	}
	if s.Cursor.Sub(e.Now) > aheadBy {
		text += fmt.Sprintf("; the ledger is ahead of the clock, nothing fires before %s (if the clock is right, switch the schedule off and on again)", e.stamp(s.Cursor))
	}
	return text
}

// coming foresees the next ticks as things stand.
func (e *explainer) coming() []Coming {
	out := []Coming{}
	s := e.Schedule
	switch {
	case s == nil && e.Answered, s != nil && !s.Enabled:
		return out
	case s == nil:
		for _, at := range e.foresee() {
			out = append(out, Coming{at, ByAbsence, "does not run unless a scheduler is started before"})
		}
		return out
	}
	for _, at := range s.Next {
		out = append(out, e.foretell(at))
	}
	return out
}

// foresee computes the next ticks from the ledger alone.
func (e *explainer) foresee() (out []time.Time) {
	if e.last == nil || e.last.Spec == "" {
		return nil
	}
	zone, err := time.LoadLocation(e.last.Zone)
	if err != nil {
		return nil
	}
	cal, err := calendar.Parse(e.last.Spec, zone)
	if err != nil {
		return nil
	}
	for at := cal.Next(later(e.Now, e.last.Cursor)); !at.IsZero() && len(out) < foreseen; at = cal.Next(at) {
		out = append(out, at.UTC())
	}
	return out
}

// foretell says what will become of a tick if nothing changes.
func (e *explainer) foretell(at time.Time) Coming {
	s := e.Schedule
	b, barred := s.Bar(at)
	switch {
	case !barred:
		return Coming{at, BySchedule, "will run on " + servers(len(s.Servers))}
	case b.Waits:
		return Coming{at, Decider(b.Gate), "its jobs will wait: " + b.Reason}
	}
	return Coming{at, Decider(b.Gate), "will be skipped: " + b.Reason}
}

func servers(n int) string {
	switch n {
	case 0:
		return "the cluster"
	case 1:
		return "1 server"
	}
	return fmt.Sprintf("%d servers", n)
}
