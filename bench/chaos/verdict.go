package main

import (
	"fmt"
	"time"
)

// The promises, as the report names them.
const (
	promiseLines   = "no acknowledged log line lost"
	promiseTicks   = "no tick lost or doubled"
	promiseBackups = "no backup called success whose bytes differ"
	promiseJobs    = "no job without an end"
	promisePorts   = "no port leaked"
	promiseFiles   = "no file left over"
	promiseLogs    = "no byte of a collected log lost or doubled"
	promiseReason  = "no failure without a reason"
	promiseWell    = "well again after the storm"
)

var promises = []string{promiseLines, promiseTicks, promiseBackups, promiseJobs, promisePorts, promiseFiles, promiseLogs, promiseReason, promiseWell}

// violation is a promise that was broken.
type violation struct {
	Promise, What string
	Stream        string // where the messages are that show it; empty when none do
	Seq           []uint64
}

func (v violation) String() string {
	if v.Stream == "" {
		return v.What
	}
	return fmt.Sprintf("%s (%s %d)", v.What, v.Stream, v.Seq)
}

// verdict is what the checker found.
type verdict struct {
	Violations []violation
	Checked    []string // what was looked at, with counts
	Ends       map[string]int
}

func (v *verdict) broken(promise, stream string, seq []uint64, format string, args ...any) {
	v.Violations = append(v.Violations, violation{promise, fmt.Sprintf(format, args...), stream, seq})
}

func (v *verdict) checked(format string, args ...any) {
	v.Checked = append(v.Checked, fmt.Sprintf(format, args...))
}

// checkLines looks for every acknowledged line, once.
func (v *verdict) checkLines(lines []entry[lineRecord], acked []string) {
	where := map[string][]uint64{}
	for _, e := range lines {
		if e.V.Task != "main" {
			continue
		}
		for _, l := range e.V.Lines {
			where[l] = append(where[l], e.Seq)
		}
	}
	for _, l := range acked {
		switch at := where[l]; {
		case len(at) == 0:
			v.broken(promiseLines, "", nil, "%q was acknowledged and is not on DRYDOCK_LOGS", l)
		case len(at) > 1:
			v.broken(promiseLines, "DRYDOCK_LOGS", at, "%q was sent with one nonce and is there %d times", l, len(at))
		}
	}
	v.checked("%d acknowledged log lines, each looked for among %d on DRYDOCK_LOGS", len(acked), len(where))
}

// checkJobs follows every job to its end, one after the other in each slot.
func (v *verdict) checkJobs(jobs []entry[jobRecord], asked []askedJob, ticks []entry[tickRecord]) {
	last := map[string]entry[jobRecord]{}   // by job
	inSlot := map[string]entry[jobRecord]{} // by subject
	for _, e := range jobs {
		id := e.V.Job.ID
		before, known := last[id]
		slot, taken := inSlot[e.Subject]
		switch {
		case known && e.V.Event != "note" && e.V.Prev != "" && e.V.Prev != before.V.State:
			v.broken(promiseJobs, "DRYDOCK_JOBS", []uint64{before.Seq, e.Seq}, "job %s goes on from %s and was %s", id, e.V.Prev, before.V.State)
		case !known && taken && live(slot.V.State):
			v.broken(promiseJobs, "DRYDOCK_JOBS", []uint64{slot.Seq, e.Seq}, "job %s begins while %s in its slot is %s", id, slot.V.Job.ID, slot.V.State)
		case known && !live(before.V.State) && e.V.State != before.V.State && e.V.Event != "retry":
			v.broken(promiseJobs, "DRYDOCK_JOBS", []uint64{before.Seq, e.Seq}, "job %s ended as %s and becomes %s", id, before.V.State, e.V.State)
		}
		last[id], inSlot[e.Subject] = e, e
	}
	v.Ends = map[string]int{}
	for id, e := range last {
		v.Ends[e.V.State]++
		if live(e.V.State) {
			v.broken(promiseJobs, "DRYDOCK_JOBS", []uint64{e.Seq}, "job %s (%s) is %s: %s", id, e.V.Job.Task, e.V.State, e.V.Reason)
		}
	}
	for _, e := range jobs {
		switch e.V.State {
		case "halted", "failed", "canceled", "expired", "skipped":
			if e.V.Job.Reason == "" {
				v.broken(promiseReason, "DRYDOCK_JOBS", []uint64{e.Seq}, "job %s (%s) becomes %s by %s without a reason", e.V.Job.ID, e.V.Job.Task, e.V.State, e.V.Event)
			}
		}
	}
	skips := map[string]bool{}
	for _, e := range ticks {
		if tick, _, ok := skipOf(e.V); ok {
			skips[tick] = true
		}
	}
	for _, a := range asked {
		if _, ok := last[a.ID]; !ok && !skips[a.Tick] {
			v.broken(promiseJobs, "", nil, "job %s (%s) was promised with 202 and does not exist, nor an entry that says why", a.ID, a.Task)
		}
	}
	v.checked("%d jobs in %d transitions, %d of them promised to a client with 202", len(last), len(jobs), len(asked))
}

func live(state string) bool {
	switch state {
	case "success", "halted", "failed", "canceled", "expired", "skipped":
		return false
	}
	return true
}

// due lists the instants of a schedule of every so many seconds after from and not after to.
func due(every int, from, to time.Time) (out []time.Time) {
	step := time.Duration(every) * time.Second
	for t := from.Truncate(step).Add(step); !t.After(to); t = t.Add(step) {
		out = append(out, t)
	}
	return out
}
