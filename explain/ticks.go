package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/calendar"
	"drydock/job"
)

const (
	// mostTicks bounds the answer about a schedule of seconds.
	mostTicks = 500
	// decidedWithin is how long a scheduler that runs may take to decide a tick, and then to start its jobs.
	decidedWithin = time.Minute
	// startedWithin is how long a tick that starts nothing is left to schedulers that may know better.
	startedWithin = 3 * time.Minute
	// aheadBy is how far the ledger may be ahead of the clock.
	aheadBy = time.Hour
	// foreseen is how many ticks to come are told without a scheduler.
	foreseen = 5
)

// Explain makes the answer of the facts. It is pure.
func Explain(f Facts) Explanation {
	e := explainer{Facts: f, zone: time.UTC}
	e.read()
	out := Explanation{Cluster: f.Cluster, Task: f.Task, From: f.From, To: f.To, Schedule: e.standing(), Ticks: e.ticks(), Next: []Coming{}}
	if f.Now.Sub(f.To) < drift { // asked about up to now: a moment ago, by now
		out.Next = e.coming()
	}
	slices.SortStableFunc(out.Ticks, func(a, b Tick) int { return a.Due.Compare(b.Due) })
	if n := len(out.Ticks) - mostTicks; n > 0 {
		out.Ticks, out.Cut = out.Ticks[n:], n
	}
	return out
}

// explainer holds what the parts of an answer share.
type explainer struct {
	Facts
	zone   *time.Location
	last   *Entry           // the newest entry that there is
	skips  map[string][]Job // by tick: where it started nothing
	behind map[string][]Message
	jobs   map[string][]Job // by tick
}

// read sorts the entries and events by the tick that they are about.
func (e *explainer) read() {
	e.skips, e.behind, e.jobs = map[string][]Job{}, map[string][]Message{}, map[string][]Job{}
	if e.last = e.Before; len(e.Entries) > 0 {
		e.last = &e.Entries[len(e.Entries)-1]
	}
	for _, x := range e.Entries {
		if tick, srv, ok := x.SkipOf(); ok {
			m := x.message()
			e.skips[tick] = append(e.skips[tick], Job{Server: srv, State: job.Skipped, By: x.decider(), Why: x.Reason, Behind: []Message{m}})
			e.behind[tick] = append(e.behind[tick], m)
		}
	}
	for _, j := range jobsOf(e.Events) {
		e.jobs[j.tick] = append(e.jobs[j.tick], j.Job)
	}
	if zone := e.zoneName(); zone != "" {
		if loc, err := time.LoadLocation(zone); err == nil {
			e.zone = loc
		}
	}
}

func (e *explainer) zoneName() string {
	switch {
	case e.Schedule != nil:
		return e.Schedule.Zone
	case e.last != nil:
		return e.last.Zone
	}
	return ""
}

func (x Entry) message() Message {
	return Message{bus.StreamTasks, x.Seq, x.Time, string(x.Outcome)}
}

// ticks lists what the ledger tells, and what it should tell and does not.
func (e *explainer) ticks() []Tick {
	out := []Tick{}
	for _, x := range e.Entries {
		if _, _, skip := x.SkipOf(); skip {
			if tick, ok := e.orphan(x); ok {
				out = append(out, tick)
			}
			continue
		}
		until := x.Due
		if !x.Until.IsZero() {
			until = x.Until
		}
		if until.Before(e.From) || x.Due.After(e.To) {
			continue
		}
		out = append(out, e.tick(x))
	}
	out = append(out, e.holes()...)
	if len(out) == 0 {
		out = append(out, e.nothing()...)
	}
	return out
}

// orphan is a tick of which only the refusal was written since From: it was decided before.
func (e *explainer) orphan(x Entry) (Tick, bool) {
	id, _, _ := x.SkipOf()
	known := slices.ContainsFunc(e.Entries, func(o Entry) bool { return o.ID == id })
	first := e.behind[id][0].Seq == x.Seq
	if known || !first || x.Due.Before(e.From) || x.Due.After(e.To) {
		return Tick{}, false
	}
	t := e.tick(Entry{Tick: bus.Tick{ID: id, Outcome: bus.Fired, Due: x.Due, Trigger: x.Trigger, Cluster: x.Cluster, Task: x.Task, Time: x.Time}})
	t.Behind = e.behind[id]
	return t, true
}

// tick tells one entry that is about a tick, or about a change of the schedule.
func (e *explainer) tick(x Entry) Tick {
	t := Tick{
		Due: x.Due, Until: x.Until, Count: x.Count, Outcome: x.Outcome, Trigger: x.Trigger.Kind, Args: x.Args,
		Jobs: []Job{}, Behind: append([]Message{x.message()}, e.behind[x.ID]...),
	}
	switch x.Outcome {
	case bus.Armed:
		t.By, t.Why, t.Trigger = BySchedule, fmt.Sprintf("%s: %q in %s; its ticks count from here, nothing was due before by it", x.Reason, x.Spec, x.Zone), ""
	case bus.Disarmed:
		t.By, t.Why, t.Trigger = ByOff, x.Reason+"; nothing is due until it is switched on", ""
	case bus.Missed:
		t.By = x.decider()
		t.Why = x.Reason + e.alive(x.Due, x.Time)
	case bus.Skipped: // the whole tick, in a form that no tick entry goes before
		t.By, t.Why = x.decider(), x.Reason
	default:
		e.started(&t, x)
	}
	return t
}

// started tells what became of a tick that was to start jobs.
func (e *explainer) started(t *Tick, x Entry) {
	t.By = BySchedule
	begun := "run when it was due"
	switch {
	case x.Outcome == bus.Late:
		t.By, begun = ByAbsence, x.Reason
	case !x.Trigger.Scheduled():
		t.By, begun = ByPerson, cmp.Or(x.Reason, "asked for")
	}
	t.Jobs = append(t.Jobs, e.jobs[x.ID]...)
	for _, s := range e.skips[x.ID] {
		if s.Server == (job.Server{}) && len(t.Jobs) == 0 { // the whole tick
			t.Outcome, t.By, t.Why = bus.Skipped, s.By, s.Why
			return
		}
		t.Jobs = append(t.Jobs, s)
	}
	slices.SortStableFunc(t.Jobs, func(a, b Job) int { return cmp.Compare(a.Server.String(), b.Server.String()) })
	age := e.Now.Sub(x.Time)
	switch {
	case len(t.Jobs) == 0 && age < startedWithin && e.Schedule != nil && e.Schedule.Refused != "":
		t.By, t.Why = ByConfig, begun+"; but it will be skipped: "+e.Schedule.Refused
	case len(t.Jobs) == 0 && age < decidedWithin:
		t.Why = begun + "; its jobs are being started"
	case len(t.Jobs) == 0:
		t.By = ByAbsence
		t.Why = fmt.Sprintf("%s; but no scheduler has started its jobs in %s: %s", begun, span(age), e.starters())
	case len(t.Jobs) == 1:
		j := t.Jobs[0]
		t.Why = begun + "; " + j.Why
		if j.By != BySchedule {
			t.By = j.By
		}
	default:
		t.Why = begun + "; " + count(t.Jobs)
		for _, j := range t.Jobs {
			if j.By != BySchedule {
				t.By = j.By // what kept one of them; which, the jobs say
				break
			}
		}
	}
	if len(t.Jobs) > 0 && !slices.ContainsFunc(t.Jobs, func(j Job) bool { return j.ID != "" }) {
		t.Outcome = bus.Skipped // on every server
	}
}

// starters says who should have started the jobs of a tick.
func (e *explainer) starters() string {
	if e.Answered {
		return "one answers now; its log says why it does not (\"work failed\")"
	}
	return "none answers on this bus now"
}

// count says how many jobs are in which state, in the order of a job's life.
func count(jobs []Job) string {
	n := map[job.State]int{}
	for _, j := range jobs {
		n[j.State]++
	}
	var parts []string
	for _, s := range job.States {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	return fmt.Sprintf("%d servers: %s", len(jobs), strings.Join(parts, ", "))
}

// holes are the ticks of the schedules in force that no entry tells of.
func (e *explainer) holes() (out []Tick) {
	in := e.Before // the schedule in force
	from := e.From.Add(-1)
	known := map[time.Time]bool{}
	var runs []Entry
	for _, x := range e.Entries {
		known[x.Due.UTC()] = known[x.Due.UTC()] || x.Trigger.Scheduled() && x.Outcome != bus.Armed && x.Outcome != bus.Disarmed
		if x.Count > 1 {
			runs = append(runs, x)
		}
	}
	covered := func(at time.Time) bool {
		return known[at.UTC()] || slices.ContainsFunc(runs, func(x Entry) bool { return !at.Before(x.Due) && !at.After(x.Until) })
	}
	segment := func(until time.Time) {
		if in == nil || in.Spec == "" || !until.After(from) {
			return
		}
		out = append(out, e.uncovered(*in, from, until, covered)...)
	}
	for i := range e.Entries {
		x := &e.Entries[i]
		changed := x.Outcome == bus.Armed || x.Outcome == bus.Disarmed || in == nil || x.Spec != in.Spec || x.Zone != in.Zone
		if changed {
			segment(earlier(x.Due.Add(-1), e.To))
			from = later(x.Due, e.From.Add(-1))
			if x.Outcome != bus.Armed && x.Outcome != bus.Disarmed { // the entry that armed it is gone, or it is by hand
				from = later(e.From.Add(-1), from.Add(-1))
			}
			in = x
		}
	}
	segment(earlier(e.To, e.Now))
	return out
}

// uncovered are the ticks of one schedule, after from and not after until, without an entry.
func (e *explainer) uncovered(in Entry, from, until time.Time, covered func(time.Time) bool) (out []Tick) {
	zone, err := time.LoadLocation(in.Zone)
	if err != nil {
		return nil
	}
	cal, err := calendar.Parse(in.Spec, zone)
	if err != nil {
		return nil
	}
	ticks, older := cal.Between(from, until, mostTicks)
	if older > 0 {
		first := cal.Next(from)
		if !covered(first) && !covered(ticks[0].Add(-time.Second)) {
			t := e.hole(first, in)
			t.Count, t.Until = older, ticks[0].Add(-1).Truncate(time.Second).UTC()
			out = append(out, t)
		}
	}
	for _, at := range ticks {
		if !covered(at) {
			out = append(out, e.hole(at, in))
		}
	}
	return out
}

// hole is a tick that was due and of which no entry tells.
func (e *explainer) hole(at time.Time, in Entry) Tick {
	t := Tick{Due: at.UTC(), Outcome: Undecided, Trigger: job.Cron, Jobs: []Job{}, Behind: []Message{in.message()}}
	if !at.After(e.last.Cursor) {
		t.Outcome, t.By = Lost, ByLedger
		t.Why = fmt.Sprintf("it was decided (the ledger is decided up to %s), but its entry is not there", e.stamp(e.last.Cursor))
		if e.Oldest.IsZero() || at.Before(e.Oldest) {
			t.Why += ": the stream keeps nothing older than " + e.stamp(e.Oldest) + " any more"
		} else {
			t.Why += ": somebody deleted or purged messages of " + bus.StreamTasks
		}
		return t
	}
	if e.Now.Sub(at) < decidedWithin && e.Answered {
		t.By, t.Why = BySchedule, "due a moment ago; the scheduler decides it within a minute"
		return t
	}
	t.By, t.Why = e.undecided(at)
	return t
}

// undecided says why a tick that was due before now has not been decided.
func (e *explainer) undecided(at time.Time) (Decider, string) {
	rule := "; when a scheduler looks at it, it will be late or missed (scheduler-catch-up, scheduler-max-lateness)"
	switch {
	case !e.Answered:
		return ByAbsence, "no scheduler answers on this bus" + e.lastSign() + rule
	case e.Schedule == nil:
		return ByConfig, fmt.Sprintf("a scheduler answers, and it has no cluster %q with this task in its configuration", e.Cluster)
	case !e.Schedule.Enabled:
		return ByOff, "the schedule is switched off: " + e.Schedule.Why
	}
	return ByAbsence, "a scheduler answers and has not decided it since " + e.stamp(at) + ": it cannot write to the bus, or has just come up; its log says more (\"decide ticks\")" + rule
}

// lastSign says when a scheduler was last heard of.
func (e *explainer) lastSign() string {
	if len(e.Signs) == 0 {
		return ", and the ledger has no sign of one"
	}
	return "; the last sign of one is of " + e.stamp(e.Signs[len(e.Signs)-1])
}

// alive says between which signs of a scheduler a tick was missed; empty when none is known.
func (e *explainer) alive(due, noticed time.Time) string {
	var before, after time.Time
	for _, s := range e.Signs {
		if !s.After(due) {
			before = s
		} else if after.IsZero() {
			after = s
		}
	}
	if after.IsZero() || noticed.Before(after) {
		after = noticed
	}
	if before.IsZero() {
		return "; the first sign of a scheduler after it is of " + e.stamp(after)
	}
	if due.Sub(before) < decidedWithin && after.Sub(due) < decidedWithin {
		return fmt.Sprintf("; yet one wrote at %s and at %s, of whichever cluster", e.stamp(before), e.stamp(after))
	}
	return fmt.Sprintf("; no scheduler wrote into the ledger of any cluster between %s and %s", e.stamp(before), e.stamp(after))
}

// nothing says why there is not one tick.
func (e *explainer) nothing() []Tick {
	t := Tick{Due: e.From, Until: earlier(e.To, e.Now), Outcome: Off, By: ByOff, Jobs: []Job{}, Behind: []Message{}}
	if t.Until.Before(t.Due) {
		return nil // only what comes was asked for
	}
	s := e.Schedule
	switch in := e.Before; {
	case in != nil && in.Spec == "":
		t.Why, t.Behind = "the schedule was off in all this time: "+cmp.Or(in.Reason, "switched off"), []Message{in.message()}
	case in != nil:
		return nil // it was on, and nothing fell due
	case e.Last != nil:
		t.By, t.Behind = ByLedger, []Message{e.Last.message()}
		t.Why = "nothing is known of that time: the entries of this schedule in the ledger begin later; the last one is of " + e.stamp(e.Last.Time)
	case s != nil && !s.Enabled:
		t.Why = "the schedule is switched off and never was on: " + s.Why
	case s == nil && e.Answered:
		t.By, t.Why = ByConfig, fmt.Sprintf("no schedule: the configuration of the scheduler has none for %s of cluster %q", e.Task, e.Cluster)
	case s == nil:
		t.By, t.Why = ByAbsence, "no scheduler ever recorded a schedule for it, and none answers on this bus now"
	default:
		t.By, t.Why = ByAbsence, "the schedule is on, and no scheduler has written that into the ledger yet"
	}
	return []Tick{t}
}

func (e *explainer) stamp(t time.Time) string {
	return t.In(e.zone).Format("2006-01-02 15:04:05 MST")
}

func span(d time.Duration) string { return d.Round(time.Second).String() }

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
