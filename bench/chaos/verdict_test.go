package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// ledger is a short one of a task that is due every five seconds: on at 12:00:00, off at 12:00:16.
func ledger() []entry[tickRecord] {
	at := func(seq uint64, id, outcome string, due, cursor int) entry[tickRecord] {
		e := entry[tickRecord]{Seq: seq, Subject: "drydock.task.lab.errorlog"}
		e.V = tickRecord{ID: id, Outcome: outcome, Due: noon.Add(time.Duration(due) * time.Second), Cursor: noon.Add(time.Duration(cursor) * time.Second)}
		e.V.Trigger.Kind = "cron"
		return e
	}
	return []entry[tickRecord]{
		at(1, "A", "armed", 0, 0), at(2, "T1", "fired", 5, 5), at(3, "T2", "late", 10, 10),
		at(4, "skip-T2-127_0_0_1.3306", "skipped", 10, 10), at(5, "T3", "missed", 15, 15), at(6, "D", "disarmed", 16, 16),
	}
}

func jobs(states ...string) (out []entry[jobRecord]) {
	prev := ""
	for i, s := range states {
		e := entry[jobRecord]{Seq: uint64(i + 1), Subject: "drydock.job.lab.127_0_0_1.3306.errorlog"}
		e.V.State, e.V.Prev, e.V.Event = s, prev, "x"
		e.V.Job.ID, e.V.Job.Tick, e.V.Job.Reason = "J1", "T1", "because"
		out, prev = append(out, e), s
	}
	return out
}

func healthy() record {
	r := record{Ticks: ledger(), Jobs: jobs("queued", "processing", "finished", "success")}
	r.Lines = []entry[lineRecord]{{Seq: 1, V: lineRecord{Task: "main", Lines: []string{"one", "two"}}}}
	return r
}

func judge(r record) []violation {
	var v verdict
	v.checkLines(r.Lines, []string{"one", "two"})
	v.checkTicks(r.Ticks, r.Jobs, map[string]int{"errorlog": 5})
	v.checkJobs(r.Jobs, []askedJob{{ID: "J1"}, {ID: "J9", Tick: "T2"}}, r.Ticks)
	return v.Violations
}

// A checker that has never found anything proves nothing: each promise that the bus tells of is broken here, one at a time; for ports and
// files see their tests.
func TestEachBrokenPromiseIsFound(t *testing.T) {
	t.Parallel()
	if v := judge(healthy()); len(v) > 0 {
		t.Fatalf("nothing is wrong, and it says %v", v)
	}
	for name, c := range map[string]struct {
		harm func(*record)
		want string
	}{
		"line lost":        {func(r *record) { r.Lines[0].V.Lines = []string{"one"} }, `"two" was acknowledged and is not`},
		"line twice":       {func(r *record) { r.Lines = append(r.Lines, r.Lines[0]) }, "there 2 times"},
		"tick lost":        {func(r *record) { r.Ticks = append(r.Ticks[:4], r.Ticks[5]) }, "12:00:15 was never decided"},
		"tick twice":       {func(r *record) { r.Ticks[4].V.Due = r.Ticks[2].V.Due }, "12:00:10 was decided 2 times"},
		"tick of no time":  {func(r *record) { r.Ticks[4].V.Due = noon.Add(13 * time.Second) }, "12:00:13 was decided and never due"},
		"cursor goes back": {func(r *record) { r.Ticks[4].V.Cursor = noon }, "goes back"},
		"count is wrong":   {func(r *record) { r.Ticks[4].V.Count, r.Ticks[4].V.Until = 2, noon.Add(15*time.Second) }, "counts 2 ticks"},
		"never off":        {func(r *record) { r.Ticks = r.Ticks[:5] }, "not switched off"},
		"no ledger":        {func(r *record) { r.Ticks = nil }, "has no ledger"},
		"no job":           {func(r *record) { r.Jobs[0].V.Job.Tick = "other"; r.Jobs = r.Jobs[:1]; r.Jobs[0].V.State = "success" }, "nothing says what it started"},
		"job and skip":     {func(r *record) { r.Ticks[3].V.ID = "skip-T1-_" }, "both started a job and is skipped"},
		"two jobs":         {func(r *record) { r.Jobs = append(r.Jobs, r.Jobs[3]); r.Jobs[4].V.Job.ID = "J2" }, "started 2 jobs"},
		"no end":           {func(r *record) { r.Jobs = r.Jobs[:2] }, "J1 () is processing"},
		"end undone":       {func(r *record) { r.Jobs = append(r.Jobs, jobs("halted")...); r.Jobs[4].V.Prev = "success" }, "ended as success and becomes halted"},
		"step lost":        {func(r *record) { r.Jobs = append(r.Jobs[:1], r.Jobs[2:]...) }, "goes on from processing and was queued"},
		"two in a slot":    {func(r *record) { r.Jobs = append(r.Jobs[:2], r.Jobs...); r.Jobs[2].V.Job.ID = "J2" }, "begins while"},
		"promise lost":     {func(r *record) { r.Ticks[3].V.ID = "x" }, "J9 () was promised"},
		"no reason":        {func(r *record) { r.Jobs[3].V.State = "failed"; r.Jobs[3].V.Job.Reason = "" }, "without a reason"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := copied(t, healthy())
			c.harm(&r)
			var all []string
			for _, v := range judge(r) {
				all = append(all, v.String())
			}
			if !strings.Contains(strings.Join(all, "\n"), c.want) {
				t.Errorf("it says %q, not %q", all, c.want)
			}
		})
	}
}

func copied(t *testing.T, r record) (out record) {
	t.Helper()
	data, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}
