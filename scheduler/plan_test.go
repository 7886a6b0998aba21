package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
)

func planOf(tb testing.TB, spec, zone, catchUp string) *plan {
	tb.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		tb.Fatal(err)
	}
	c := testCluster()
	c.Zone, c.CatchUp = loc, catchUp
	p, err := newPlan(c, Schedule{Task: "optimize", Spec: spec, Enabled: true})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func off(p *plan) *plan {
	q := *p
	q.enabled, q.why = false, "scheduler-db-servers-optimize is false"
	return &q
}

// ledgerOf is the last entry of a plan that was decided up to cursor.
func ledgerOf(p *plan, cursor time.Time) bus.Tick {
	return bus.Tick{Outcome: bus.Fired, Cursor: cursor, Spec: p.spec, Zone: p.zone}
}

// decideAll walks through everything due, as the ledger does: what an entry leaves out is carried on.
func decideAll(tb testing.TB, p *plan, last bus.Tick, now, up time.Time) []bus.Tick {
	tb.Helper()
	var out []bus.Tick
	for {
		t, ok := p.decide(last, now, up, nil)
		if !ok {
			return out
		}
		if t.Cursor.Before(last.Cursor) && t.Outcome != bus.Armed && t.Outcome != bus.Disarmed {
			tb.Fatalf("cursor went back from %v to %v", last.Cursor, t.Cursor)
		}
		if t.Spec == "" && t.Outcome != bus.Disarmed {
			t.Spec, t.Zone = last.Spec, last.Zone
		}
		if out = append(out, t); len(out) > 20_000 {
			tb.Fatal("decides without end")
		}
		last = t
	}
}

// brief writes entries as "outcome HH:MM:SS", a summary with its count.
func brief(ticks []bus.Tick) []string {
	out := []string{}
	for _, t := range ticks {
		text := string(t.Outcome)
		if t.Outcome != bus.Armed && t.Outcome != bus.Disarmed {
			text += " " + t.Due.Format("15:04:05")
		}
		if t.Count > 0 {
			text += fmt.Sprintf("-%s x%d", t.Until.Format("15:04:05"), t.Count)
		}
		out = append(out, text)
	}
	return out
}

func TestEveryDueTickIsDecidedWithItsReason(t *testing.T) {
	t.Parallel()
	minutely := "0 * * * * *"
	at := func(text string) time.Time { return mustTime(t, "2026-11-22T"+text+"Z") }
	for name, c := range map[string]struct {
		catchUp string
		cursor  string
		now     string
		want    []string
		reason  string // of the first entry
	}{
		"nothing due":              {CatchUpLast, "03:00:00", "03:00:59.999", nil, ""},
		"on the dot":               {CatchUpLast, "03:00:00", "03:01:00", []string{"fired 03:01:00"}, ""},
		"five seconds late":        {CatchUpNone, "03:00:00", "03:01:05", []string{"fired 03:01:00"}, ""},
		"more than five":           {CatchUpLast, "03:00:00", "03:01:05.001", []string{"late 03:01:00"}, "scheduler-catch-up = last"},
		"more than five, none":     {CatchUpNone, "03:00:00", "03:01:05.001", []string{"missed 03:01:00"}, "scheduler-catch-up = none"},
		"down, none":               {CatchUpNone, "03:00:00", "03:03:30", []string{"missed 03:01:00", "missed 03:02:00", "missed 03:03:00"}, "no scheduler ran at 2026-11-22 03:01:00 UTC"},
		"down, none, then on time": {CatchUpNone, "03:00:00", "03:03:02", []string{"missed 03:01:00", "missed 03:02:00", "fired 03:03:00"}, ""},
		"down, last":               {CatchUpLast, "03:00:00", "03:03:30", []string{"missed 03:01:00", "missed 03:02:00", "late 03:03:00"}, "a later tick is run in its place"},
		"down, last is on time":    {CatchUpLast, "03:00:00", "03:03:02", []string{"missed 03:01:00", "missed 03:02:00", "fired 03:03:00"}, "a later tick is run in its place"},
		"down, all":                {CatchUpAll, "03:00:00", "03:03:30", []string{"late 03:01:00", "late 03:02:00", "late 03:03:00"}, "run 2m30s late"},
		"down, all, beyond max": {CatchUpAll, "03:00:00", "04:02:30", append([]string{"missed 03:01:00", "missed 03:02:00"},
			each("late", at("03:03:00"), at("04:02:00"))...), "scheduler-max-lateness = 1h"},
		"clock stepped back":       {CatchUpAll, "03:00:00", "02:30:00", nil, ""},
		"clock a little behind":    {CatchUpLast, "03:01:00", "03:00:59.9", nil, ""},
		"cursor between two ticks": {CatchUpLast, "03:00:17.5", "03:01:00", []string{"fired 03:01:00"}, ""},
	} {
		p := planOf(t, minutely, "UTC", c.catchUp)
		now := at(c.now)
		got := decideAll(t, p, ledgerOf(p, at(c.cursor)), now, now)
		if !slices.Equal(brief(got), append([]string{}, c.want...)) {
			t.Errorf("%s:\n got %q\nwant %q", name, brief(got), c.want)
			continue
		}
		if len(got) > 0 && !strings.Contains(got[0].Reason, c.reason) {
			t.Errorf("%s: reason %q does not say %q", name, got[0].Reason, c.reason)
		}
		for _, e := range got {
			if want := now.Sub(e.Due).Seconds(); e.Lateness != want {
				t.Errorf("%s: lateness %v of %v, want %v", name, e.Lateness, e.Due, want)
			}
			if kind := map[bool]job.TriggerKind{true: job.CatchUp, false: job.Cron}[e.Outcome == bus.Late]; e.Trigger.Kind != kind {
				t.Errorf("%s: trigger %q of a %s tick, want %q", name, e.Trigger.Kind, e.Outcome, kind)
			}
			if !e.Cursor.Equal(e.Due) || e.Due.Location() != time.UTC {
				t.Errorf("%s: due %v, cursor %v", name, e.Due, e.Cursor)
			}
		}
	}
}

func each(outcome string, from, to time.Time) (out []string) {
	for ; !from.After(to); from = from.Add(time.Minute) {
		out = append(out, outcome+" "+from.Format("15:04:05"))
	}
	return out
}

func TestCatchUpRunsNothingOlderThanMaxLateness(t *testing.T) {
	t.Parallel()
	now := mustTime(t, "2026-11-22T09:00:00Z")
	for _, mode := range []string{CatchUpNone, CatchUpLast, CatchUpAll} {
		p := planOf(t, "0 0 1 * * *", "UTC", mode) // 01:00; max-lateness is one hour
		got := decideAll(t, p, ledgerOf(p, now.Add(-24*time.Hour)), now, now)
		if len(got) != 1 || got[0].Outcome != bus.Missed {
			t.Errorf("catch-up %s ran a tick of eight hours ago: %+v", mode, got)
		}
	}
}

func TestLateTickOfARunningSchedulerDoesNotBlameAnAbsence(t *testing.T) {
	t.Parallel()
	p := planOf(t, "0 * * * * *", "UTC", CatchUpLast)
	now := mustTime(t, "2026-11-22T03:01:40Z")
	got := decideAll(t, p, ledgerOf(p, now.Add(-time.Minute)), now, now.Add(-time.Hour))
	if len(got) != 1 || got[0].Outcome != bus.Late || strings.Contains(got[0].Reason, "no scheduler ran") {
		t.Errorf("a scheduler that was up all the time wrote %+v", got)
	}
}

func TestTenThousandMissedTicksAreCountedNotListed(t *testing.T) {
	t.Parallel()
	p := planOf(t, "* * * * * *", "UTC", CatchUpNone)
	from := mustTime(t, "2026-11-22T00:00:00Z")
	now := from.Add(10_000*time.Second + onTime + time.Millisecond)
	got := decideAll(t, p, ledgerOf(p, from), now, now)

	if len(got) != 1+missedEach+5 {
		t.Fatalf("%d entries: %v ... %v", len(got), brief(got[:3]), brief(got[len(got)-7:]))
	}
	sum := got[0]
	if sum.Outcome != bus.Missed || sum.Count != 9_900 || !sum.Due.Equal(from.Add(time.Second)) || !sum.Until.Equal(from.Add(9_900*time.Second)) {
		t.Errorf("summary is %+v", sum)
	}
	if !strings.Contains(sum.Reason, "no scheduler ran between 2026-11-22 00:00:01 UTC and 2026-11-22 02:45:00 UTC") {
		t.Errorf("summary says %q", sum.Reason)
	}
	next := sum.Until
	for i, e := range got[1:] {
		next = next.Add(time.Second)
		want := bus.Missed
		if i >= missedEach {
			want = bus.Fired
		}
		if !e.Due.Equal(next) || e.Outcome != want {
			t.Fatalf("entry %d is %s %v, want %s %v", i, e.Outcome, e.Due, want, next)
		}
	}
}

func TestSwitchingASchedule(t *testing.T) {
	t.Parallel()
	at := mustTime(t, "2026-11-22T03:30:00Z")
	now := mustTime(t, "2026-11-22T03:30:10Z")
	p := planOf(t, "0 0 * * * *", "UTC", CatchUpAll)
	other := planOf(t, "0 30 * * * *", "UTC", CatchUpAll)
	paris := planOf(t, "0 0 * * * *", "Europe/Paris", CatchUpAll)
	for name, c := range map[string]struct {
		plan *plan
		last bus.Tick
		want []string
	}{
		"new":                           {p, bus.Tick{}, []string{"armed"}},
		"run by hand before":            {p, bus.Tick{Outcome: bus.Fired, Due: at}, []string{"armed"}},
		"switched on again":             {p, bus.Tick{Outcome: bus.Disarmed, Cursor: at.Add(-time.Hour)}, []string{"armed"}},
		"as it was":                     {p, ledgerOf(p, at), nil},
		"another spec":                  {p, ledgerOf(other, at), []string{"armed"}},
		"another zone":                  {p, ledgerOf(paris, at), []string{"armed"}},
		"another spec, ticks were owed": {p, ledgerOf(other, at.Add(-2*time.Hour)), []string{"missed 02:30:00-03:30:00 x2", "armed"}},
		"never on":                      {off(p), bus.Tick{}, nil},
		"never on, run by hand":         {off(p), bus.Tick{Outcome: bus.Fired, Due: at}, nil},
		"switched off":                  {off(p), ledgerOf(p, at), []string{"disarmed"}},
		"switched off, ticks were owed": {off(other), ledgerOf(other, at.Add(-time.Minute)), []string{"missed 03:30:00", "disarmed"}},
		"is off":                        {off(p), bus.Tick{Outcome: bus.Disarmed, Cursor: at}, nil},
		"left the configuration":        {p.gone(), ledgerOf(p, at), []string{"disarmed"}},
	} {
		got := decideAll(t, c.plan, c.last, now, now)
		if !slices.Equal(brief(got), append([]string{}, c.want...)) {
			t.Errorf("%s: got %q, want %q", name, brief(got), c.want)
			continue
		}
		for _, e := range got {
			if e.Reason == "" || e.Outcome.Starts() {
				t.Errorf("%s: entry %+v", name, e)
			}
			if e.Outcome == bus.Armed && (e.Spec != p.spec || e.Zone != "UTC" || !e.Cursor.Equal(now)) {
				t.Errorf("%s: armed as %+v", name, e)
			}
		}
	}
}

// A scheduler looks at odd moments, is restarted, and its clock steps back: what comes out is every tick once, in order.
func TestEachTickIsDecidedOnceWheneverOneLooks(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	from := mustTime(t, "2026-10-24T12:00:00Z") // Europe/Paris sets its clock back the night after
	until := from.Add(36 * time.Hour)
	for _, spec := range []string{"0 30 2 * * *", "0 */7 * * * *", "*/50 * 1-4 * * *"} {
		for _, mode := range []string{CatchUpNone, CatchUpLast, CatchUpAll} {
			p := planOf(t, spec, "Europe/Paris", mode)
			want, _ := p.cal.Between(from, until, 1_000_000)
			last, ticks := ledgerOf(p, from), []time.Time{}
			for now := from; now.Before(until); {
				now = now.Add(time.Duration(random.Int64N(int64(20*time.Minute)) - int64(4*time.Minute)))
				if now.After(until) {
					now = until
				}
				for _, e := range decideAll(t, p, last, now, from) {
					if e.Due.After(now) {
						t.Fatalf("%s: %v was decided at %v", spec, e.Due, now)
					}
					if e.Count > 0 {
						t.Fatalf("%s: a summary for so short a time", spec)
					}
					last, ticks = e, append(ticks, e.Due)
				}
			}
			if !slices.EqualFunc(ticks, want, time.Time.Equal) {
				t.Errorf("%s, %s: %d ticks decided, %d are due", spec, mode, len(ticks), len(want))
			}
		}
	}
}

func TestDailyJobFiresOnceOnTheDaysOfAClockChange(t *testing.T) {
	t.Parallel()
	for day, want := range map[string]string{
		"2026-03-29": "2026-03-29T03:00:00+02:00", // 02:30 does not exist
		"2026-10-25": "2026-10-25T02:30:00+02:00", // 02:30 exists twice
		"2026-11-22": "2026-11-22T02:30:00+01:00",
	} {
		p := planOf(t, "0 30 2 * * *", "Europe/Paris", CatchUpLast)
		start := mustTime(t, day+"T00:00:00+02:00")
		last, fired := ledgerOf(p, start), []string{}
		for now := start; now.Before(start.Add(20 * time.Hour)); now = now.Add(time.Second) {
			for _, e := range decideAll(t, p, last, now, start) {
				if e.Outcome != bus.Fired {
					t.Fatalf("%s: %+v", day, e)
				}
				last, fired = e, append(fired, e.Due.In(p.loc).Format(time.RFC3339))
			}
		}
		if !slices.Equal(fired, []string{want}) {
			t.Errorf("%s: fired at %q, want %s", day, fired, want)
		}
	}
}

func TestRestartInTheRepeatedHourDoesNotFireAgain(t *testing.T) {
	t.Parallel()
	p := planOf(t, "0 30 2 * * *", "Europe/Paris", CatchUpLast)
	decided := mustTime(t, "2026-10-25T02:30:00+02:00")
	second := mustTime(t, "2026-10-25T02:31:00+01:00")
	if got := decideAll(t, p, ledgerOf(p, decided), second, second); len(got) > 0 {
		t.Errorf("the job of the first 02:30 ran again: %+v", got)
	}
}

func TestNextCountsFromACursorThatIsAheadOfTheClock(t *testing.T) {
	t.Parallel()
	p := planOf(t, "0 0 * * * *", "UTC", CatchUpLast)
	now := mustTime(t, "2026-11-22T03:30:00Z")
	for cursor, first := range map[time.Time]time.Time{
		now.Add(-24 * time.Hour): now.Add(30 * time.Minute),
		now.Add(24 * time.Hour):  now.Add(24*time.Hour + 30*time.Minute),
	} {
		info := p.info(cursor, now)
		if len(info.Next) != nextListed || !info.Next[0].Equal(first) {
			t.Errorf("cursor %v: next are %v, want %v first", cursor, info.Next, first)
		}
	}
	if info := off(p).info(now, now); info.Enabled || len(info.Next) > 0 || info.Why == "" {
		t.Errorf("a schedule that is off comes next at %+v", info)
	}
}

func TestWallClockJumpIsNoticed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ wall, elapsed, want time.Duration }{
		{time.Second, time.Second, 0},
		{1200 * time.Millisecond, time.Second, 0}, // slewed, or read a little late
		{time.Hour, time.Second, time.Hour - time.Second},
		{-time.Hour, time.Second, -time.Hour - time.Second},
		{8 * time.Hour, 2 * time.Second, 8*time.Hour - 2*time.Second}, // elapsed time stands still in suspend
	} {
		if got := stepped(c.wall, c.elapsed); got != c.want {
			t.Errorf("stepped(%v, %v) = %v, want %v", c.wall, c.elapsed, got, c.want)
		}
	}
}

func TestSpansReadLikeTheConfiguration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 61 * time.Second: "1m1s",
		2 * time.Second: "2s", 1500 * time.Millisecond: "2s", 250 * time.Millisecond: "250ms", time.Hour + time.Second: "1h0m1s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func mustTime(tb testing.TB, text string) time.Time {
	tb.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		tb.Fatal(err)
	}
	return at
}
