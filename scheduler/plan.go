package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"drydock/bus"
	"drydock/calendar"
	"drydock/job"
	"drydock/store"
)

const (
	// onTime is how late a decision may be for a tick to count as fired and not as late.
	onTime = 5 * time.Second
	// missedEach is how many missed ticks in a row are recorded one by one; older ones become one entry with a count.
	missedEach = 100
)

// plan is one schedule, ready for use. It is never changed.
type plan struct {
	slot
	spec, zone  string // as the ledger records them
	loc         *time.Location
	cal         *calendar.Calendar // nil when it is off and its spec does not parse
	enabled     bool
	why         string // when it is off
	catchUp     string
	maxLateness time.Duration
	servers     []job.Server
	parted      bool // no longer in the configuration
}

func newPlan(c Cluster, s Schedule) (*plan, error) {
	t, err := job.TaskByName(s.Task)
	if err != nil {
		return nil, err
	}
	switch {
	case !t.Built:
		return nil, errors.New("cannot be scheduled in this version")
	case t.Kind == job.KindRestore, t.Kind == job.KindService:
		return nil, errors.New("cannot be scheduled: it is done when a person asks for it")
	}
	cal, err := calendar.Parse(s.Spec, c.Zone)
	if err != nil && s.Enabled {
		return nil, err
	}
	return &plan{
		slot: slot{c.Name, t.Name}, spec: strings.Join(strings.Fields(s.Spec), " "), zone: c.Zone.String(), loc: c.Zone,
		cal: cal, enabled: s.Enabled, why: s.Why, catchUp: c.CatchUp, maxLateness: c.MaxLateness, servers: c.targets(t),
	}, nil
}

// gone is the plan after it left the configuration.
func (p *plan) gone() *plan {
	g := *p
	g.enabled, g.parted, g.why = false, true, "it is no longer in the configuration"
	return &g
}

// decide says which entry comes next in the ledger whose last entry is last, at the time now; false when there is
// nothing to decide. up is since when this scheduler has been running, off when schedules of the cluster were switched off.
// It is pure; calling it with each entry it gave walks through all that is due, in order.
func (p *plan) decide(last bus.Tick, now, up time.Time, off store.Switches) (bus.Tick, bool) {
	armed := last.Spec != ""
	if p.enabled && armed && last.Spec == p.spec && last.Zone == p.zone {
		return p.nextTick(last.Cursor, now, up, off)
	}
	if !p.enabled && !armed {
		return bus.Tick{}, false
	}
	if armed {
		if t, ok := p.leftovers(last, now); ok {
			return t, true
		}
	}
	t := bus.Tick{Outcome: bus.Disarmed, Due: now.UTC(), Cursor: now.UTC(), Trigger: job.Trigger{Kind: job.Cron}}
	if !p.enabled {
		t.Reason = "switched off: " + p.why
		return t, true
	}
	t.Outcome, t.Spec, t.Zone, t.Reason = bus.Armed, p.spec, p.zone, "switched on"
	if armed {
		t.Reason = fmt.Sprintf("changed from %q in %s", last.Spec, last.Zone)
	}
	return t, true
}

// nextTick decides the first tick after cursor.
func (p *plan) nextTick(cursor, now, up time.Time, off store.Switches) (bus.Tick, bool) {
	due := p.cal.Next(cursor)
	if due.IsZero() || due.After(now) {
		return bus.Tick{}, false
	}
	if s, ok := off.At(p.task, due); ok {
		return p.offTick(s, cursor, due, now), true
	}
	lost := p.lostUntil(cursor, now, off)
	if last, older := p.older(cursor, earlier(lost, p.nextOff(due, lost, off))); older > 0 {
		return summary(bus.Missed, now, due, last, older, job.GateAbsence,
			fmt.Sprintf("no scheduler ran between %s and %s", stamp(due, p.loc), stamp(last, p.loc))), true
	}
	t := bus.Tick{
		Outcome: bus.Fired, Due: due.UTC(), Cursor: due.UTC(), Lateness: now.Sub(due).Seconds(),
		Trigger: job.Trigger{Kind: job.Cron},
	}
	switch {
	case !due.After(lost):
		var why string
		t.Gate, why = p.whyLost(due, now)
		t.Outcome, t.Reason = bus.Missed, p.absence(due, now, up)+"; "+why
	case now.Sub(due) > onTime:
		t.Outcome, t.Trigger.Kind = bus.Late, job.CatchUp
		t.Reason = p.absence(due, now, up) + "; run " + span(now.Sub(due)) + " late (scheduler-catch-up = " + p.catchUp + ")"
	}
	return t, true
}

// older counts the ticks after cursor and not after until but for the newest, which are recorded one by one; last is the last
// of those counted.
func (p *plan) older(cursor, until time.Time) (last time.Time, count int) {
	recent, count := p.cal.Between(cursor, until, missedEach)
	if count == 0 {
		return last, 0
	}
	before, _ := p.cal.Between(cursor, recent[0].Add(-time.Second), 1)
	return before[0], count
}

// offTick skips the tick due, and with it most of a crowd of them that were off while no scheduler ran.
func (p *plan) offTick(s bus.Switch, cursor, due, now time.Time) bus.Tick {
	until := now
	if !s.To.IsZero() {
		until = earlier(now, s.To.Add(-1))
	}
	last, count := p.older(cursor, until)
	if count == 0 {
		last, count = due, 1
	}
	return summary(bus.Skipped, now, due, last, count, job.GateOff, s.String())
}

// nextOff is the moment before the schedule was switched off for the first time after due; until when it was not.
func (p *plan) nextOff(due, until time.Time, off store.Switches) time.Time {
	for _, s := range off {
		if s.Task == p.task && s.From.After(due) {
			until = earlier(until, s.From.Add(-1))
		}
	}
	return until
}

// lostUntil says up to when the ticks after cursor are missed, as seen at now. The later ones are fired or late.
func (p *plan) lostUntil(cursor, now time.Time, off store.Switches) time.Time {
	notFired := now.Add(-onTime - 1)
	switch p.catchUp {
	case CatchUpNone:
		return notFired
	case CatchUpAll:
		return now.Add(-max(p.maxLateness, onTime) - 1)
	}
	newest, _ := p.cal.Between(cursor, now, 1)
	for len(newest) > 0 { // the newest that is to be run
		s, skipped := off.At(p.task, newest[0])
		if !skipped {
			break
		}
		newest, _ = p.cal.Between(cursor, s.From.Add(-1), 1)
	}
	if len(newest) == 0 || newest[0].After(notFired) || now.Sub(newest[0]) > p.maxLateness {
		return notFired // the newest is on time, or even that is too late
	}
	return newest[0].Add(-time.Second)
}

// absence says what was the matter when the tick fell due.
func (p *plan) absence(due, now, up time.Time) string {
	if due.Before(up) {
		return "no scheduler ran at " + stamp(due, p.loc)
	}
	return fmt.Sprintf("due at %s and noticed at %s: the machine slept, its clock was set, or the bus did not answer",
		stamp(due, p.loc), stamp(now, p.loc))
}

// whyLost says why the tick is not run afterwards, and what decided that.
func (p *plan) whyLost(due, now time.Time) (job.Gate, string) {
	switch {
	case p.catchUp == CatchUpNone:
		return job.GateCatchUp, "not run afterwards (scheduler-catch-up = none)"
	case now.Sub(due) > p.maxLateness:
		return job.GateLateness, span(now.Sub(due)) + " is more than scheduler-max-lateness = " + span(p.maxLateness)
	default:
		return job.GateCatchUp, "a later tick is run in its place (scheduler-catch-up = " + p.catchUp + ")"
	}
}

// leftovers is one entry for the ticks that the schedule in force until now still owed when it was changed or switched
// off: also they are recorded.
func (p *plan) leftovers(last bus.Tick, now time.Time) (bus.Tick, bool) {
	zone, err := time.LoadLocation(last.Zone)
	if err != nil {
		return bus.Tick{}, false // a zone that this machine does not know: nothing can be said
	}
	cal, err := calendar.Parse(last.Spec, zone)
	if err != nil {
		return bus.Tick{}, false
	}
	newest, older := cal.Between(last.Cursor, now, 1)
	if len(newest) == 0 {
		return bus.Tick{}, false
	}
	return summary(bus.Missed, now, cal.Next(last.Cursor), newest[0], older+1, job.GateOff,
		fmt.Sprintf("the schedule %q was changed or switched off before it was decided", last.Spec)), true
}

// summary is one entry for count ticks from first to last that start nothing.
func summary(o bus.Outcome, now, first, last time.Time, count int, gate job.Gate, reason string) bus.Tick {
	t := bus.Tick{
		Outcome: o, Due: first.UTC(), Cursor: last.UTC(), Gate: gate, Reason: reason, Lateness: now.Sub(first).Seconds(),
		Trigger: job.Trigger{Kind: job.Cron},
	}
	if count > 1 {
		t.Count, t.Until = count, last.UTC()
	}
	return t
}
