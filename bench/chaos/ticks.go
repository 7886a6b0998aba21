package main

import (
	"strings"
	"time"
)

// checkTicks compares the ledgers with the calendar: each instant between switching on and off is decided exactly once,
// and what is said to have started has one job, or an entry that says why it has none. every is seconds by task.
func (v *verdict) checkTicks(ticks []entry[tickRecord], jobs []entry[jobRecord], every map[string]int) {
	byTask := map[string][]entry[tickRecord]{}
	skips := map[string][]uint64{} // by tick
	for _, e := range ticks {
		byTask[token(e.Subject)] = append(byTask[token(e.Subject)], e)
		if tick, _, ok := skipOf(e.V); ok {
			skips[tick] = append(skips[tick], e.Seq)
		}
	}
	started := map[string]map[string]uint64{} // tick -> job -> first message
	for _, e := range jobs {
		if started[e.V.Job.Tick] == nil {
			started[e.V.Job.Tick] = map[string]uint64{}
		}
		if _, ok := started[e.V.Job.Tick][e.V.Job.ID]; !ok {
			started[e.V.Job.Tick][e.V.Job.ID] = e.Seq
		}
	}
	total, fired := 0, 0
	for task, step := range every {
		total += v.checkCalendar(task, step, byTask[task])
		for _, e := range byTask[task] {
			if e.V.Outcome != "fired" && e.V.Outcome != "late" {
				continue
			}
			fired++
			n, said := len(started[e.V.ID]), skips[e.V.ID]
			switch {
			case n == 0 && len(said) == 0:
				v.broken(promiseTicks, "DRYDOCK_TASKS", []uint64{e.Seq}, "%s of %s is %s, and nothing says what it started", task, stamp(e.V.Due), e.V.Outcome)
			case n > 1:
				v.broken(promiseTicks, "DRYDOCK_TASKS", []uint64{e.Seq}, "%s of %s started %d jobs on one server", task, stamp(e.V.Due), n)
			case n == 1 && len(said) > 0:
				v.broken(promiseTicks, "DRYDOCK_TASKS", append([]uint64{e.Seq}, said...), "%s of %s both started a job and is skipped", task, stamp(e.V.Due))
			case len(said) > 1:
				v.broken(promiseTicks, "DRYDOCK_TASKS", append([]uint64{e.Seq}, said...), "%s of %s is skipped %d times", task, stamp(e.V.Due), len(said))
			}
		}
	}
	v.checked("%d instants of %d schedules, each decided once; %d entries that start something, each with one job or one reason", total, len(every), fired)
}

// checkCalendar walks one ledger and returns how many instants it had to decide.
func (v *verdict) checkCalendar(task string, step int, ledger []entry[tickRecord]) (total int) {
	decided := map[time.Time][]uint64{}
	var armed time.Time // zero: switched off
	var armedSeq uint64
	expect := func(to time.Time, seq uint64) {
		if armed.IsZero() {
			return
		}
		for _, t := range due(step, armed, to) {
			total++
			switch at := decided[t]; {
			case len(at) == 0:
				v.broken(promiseTicks, "DRYDOCK_TASKS", []uint64{armedSeq, seq}, "%s of %s was never decided", task, stamp(t))
			case len(at) > 1:
				v.broken(promiseTicks, "DRYDOCK_TASKS", at, "%s of %s was decided %d times", task, stamp(t), len(at))
			}
			delete(decided, t)
		}
		for t, at := range decided {
			v.broken(promiseTicks, "DRYDOCK_TASKS", at, "%s of %s was decided and never due", task, stamp(t))
		}
		clear(decided)
	}
	var cursor time.Time
	for _, e := range ledger {
		if e.V.Cursor.Before(cursor) {
			v.broken(promiseTicks, "DRYDOCK_TASKS", []uint64{e.Seq}, "the cursor of %s goes back from %s to %s", task, stamp(cursor), stamp(e.V.Cursor))
		}
		cursor = e.V.Cursor
		switch {
		case e.V.Outcome == "armed":
			expect(e.V.Cursor, e.Seq)
			armed, armedSeq = e.V.Cursor, e.Seq
		case e.V.Outcome == "disarmed":
			expect(e.V.Cursor, e.Seq)
			armed = time.Time{}
		case e.V.Trigger.Kind != "cron" && e.V.Trigger.Kind != "catch-up" || e.V.Outcome == "skipped":
		case e.V.Count > 1:
			all := due(step, e.V.Due.Add(-time.Second), e.V.Until)
			if len(all) != e.V.Count {
				v.broken(promiseTicks, "DRYDOCK_TASKS", []uint64{e.Seq}, "%s counts %d ticks from %s to %s, and there are %d", task, e.V.Count, stamp(e.V.Due), stamp(e.V.Until), len(all))
			}
			for _, t := range all {
				decided[t.UTC()] = append(decided[t.UTC()], e.Seq)
			}
		default:
			decided[e.V.Due.UTC()] = append(decided[e.V.Due.UTC()], e.Seq)
		}
	}
	if len(ledger) > 0 && !armed.IsZero() {
		last := ledger[len(ledger)-1]
		v.broken(promiseTicks, "DRYDOCK_TASKS", []uint64{last.Seq}, "%s is not switched off at the end", task)
		expect(last.V.Cursor, last.Seq)
	}
	if len(ledger) == 0 {
		v.broken(promiseTicks, "", nil, "%s has no ledger", task)
	}
	return total
}

// skipOf is the tick that an entry says to have started nothing; its id is "skip-TICK-SERVER" (docs/subjects.md).
func skipOf(t tickRecord) (tick, server string, ok bool) {
	rest, ok := strings.CutPrefix(t.ID, "skip-")
	i := strings.LastIndexByte(rest, '-')
	if !ok || t.Outcome != "skipped" || i < 0 {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}

func stamp(t time.Time) string { return t.UTC().Format("15:04:05") }
