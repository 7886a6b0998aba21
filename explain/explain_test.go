package explain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

var (
	db1 = job.Server{Host: "10.0.1.5", Port: 3306}
	db2 = job.Server{Host: "10.0.1.6", Port: 3306}
)

func at(clock string) time.Time {
	t, err := time.Parse(time.RFC3339, "2026-11-22T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return t
}

// facts are those of an hourly schedule in the morning of a day, which a scheduler keeps.
func facts(entries ...Entry) Facts {
	before := Entry{bus.Tick{Outcome: bus.Fired, ID: "before", Spec: "0 0 * * * *", Zone: "UTC", Cursor: at("00:00:00"), Due: at("00:00:00")}, 7}
	f := Facts{
		Cluster: "prod", Task: "mariabackup", From: at("00:30:00"), To: at("03:30:00"), Now: at("03:30:00"), Before: &before,
		Oldest: at("00:00:00").AddDate(0, -1, 0), Answered: true,
		Schedule: &bus.ScheduleInfo{Enabled: true, Spec: "0 0 * * * *", Zone: "UTC", Next: []time.Time{at("04:00:00")}, Servers: []job.Server{db1}, Policy: "skip"},
	}
	for i, e := range entries {
		if e.Spec == "" && e.Outcome != bus.Disarmed {
			e.Spec, e.Zone = "0 0 * * * *", "UTC"
		}
		if e.Time.IsZero() {
			e.Time = e.Due
		}
		if e.Cursor.IsZero() {
			e.Cursor = e.Due
		}
		e.Seq = uint64(10 + i)
		f.Entries = append(f.Entries, e)
	}
	return f
}

func tick(o bus.Outcome, clock, reason string) Entry {
	return Entry{Tick: bus.Tick{Outcome: o, ID: "T" + clock, Due: at(clock), Reason: reason, Trigger: job.Trigger{Kind: job.Cron}}}
}

func skipOf(clock string, srv job.Server, reason string) Entry {
	e := tick(bus.Skipped, clock, reason)
	e.ID = bus.SkipID("T"+clock, srv)
	if srv != (job.Server{}) {
		e.Servers = []job.Server{srv}
	}
	return e
}

// whole is the hours from 01:00 to 03:00, the last as given.
func whole(last ...Entry) []Entry {
	return append([]Entry{tick(bus.Missed, "01:00:00", "x"), tick(bus.Missed, "02:00:00", "x")}, last...)
}

// ran are the events of a job of the 03:00 tick: each as "event reason", "gate NAME reason" for a note.
func ran(steps ...string) []Event {
	j := job.Job{
		ID: job.NewID(at("03:00:00"), "T03:00:00", job.Key{Cluster: "prod", Server: db1, Task: "mariabackup"}), State: job.Queued,
		Cluster: "prod", Server: db1, Task: "mariabackup", Tick: "T03:00:00", Attempt: 1, Created: at("03:00:00"), Since: at("03:00:00"), Mode: job.API,
	}
	out := []Event{{bus.JobEvent{State: j.State, Event: job.Create, Job: j, Time: at("03:00:00")}, 100}}
	for i, s := range steps {
		name, reason, _ := strings.Cut(s, " ")
		now := at("03:00:00").Add(time.Duration(i+1) * time.Minute)
		event := job.Event(name)
		if name == "gate" {
			gate, why, _ := strings.Cut(reason, " ")
			j.Gate, j.Reason, event = job.Gate(gate), why, job.Note
		} else if event == job.Note {
			j.Reason = reason
		} else {
			var err error
			if j, _, err = j.Advance(event, reason, "test", now); err != nil {
				panic(fmt.Sprint(s, ": ", err))
			}
		}
		out = append(out, Event{bus.JobEvent{State: j.State, Event: event, Reason: reason, Job: j, Time: now}, uint64(101 + i)})
	}
	return out
}

// "Why did it not run?" must have an answer for whatever kept it: a kind of decision that is not told apart sends the
// operator to the wrong key.
func TestEveryKindOfDecisionIsTold(t *testing.T) {
	t.Parallel()
	fired := tick(bus.Fired, "03:00:00", "")
	hold := store.Hold{Cluster: "prod", By: "alice", Reason: "storage", Since: at("01:00:00")}.String()
	blackout := store.Blackout{Cluster: "prod", By: "bob", From: at("01:00:00"), To: at("05:00:00")}.String()
	for name, c := range map[string]struct {
		f       Facts
		outcome bus.Outcome
		by      Decider
		why     string // is in the sentence
	}{
		"success":                          {with(facts(whole(fired)...), ran("offer", "start", "done", "pass")), bus.Fired, BySchedule, "ended in success after 2m0s"},
		"runs":                             {with(facts(whole(fired)...), ran("offer", "start")), bus.Fired, BySchedule, "runs since 2026-11-22 03:02:00"},
		"hold":                             {facts(whole(fired, skipOf("03:00:00", job.Server{}, hold))...), bus.Skipped, ByHold, "by alice: storage"},
		"blackout":                         {facts(whole(fired, skipOf("03:00:00", job.Server{}, blackout))...), bus.Skipped, ByBlackout, "blacked out from"},
		"window":                           {facts(whole(fired, skipOf("03:00:00", job.Server{}, `outside maintenance-windows = "sun 22:00-24:00"`))...), bus.Skipped, ByWindow, "22:00"},
		"previous run":                     {facts(whole(fired, skipOf("03:00:00", db1, "job X-01 is still processing since 02:00"))...), bus.Skipped, ByRunning, "still processing"},
		"switched off by somebody":         {facts(whole(gated(job.GateOff, tick(bus.Skipped, "03:00:00", "the schedule of mariabackup is switched off since 01:00, by alice: bug 17")))...), bus.Skipped, ByOff, "by alice: bug 17"},
		"by the gate and not by its words": {facts(whole(fired, gated(job.GateDatabase, skipOf("03:00:00", job.Server{}, "cluster prod is on hold since")))...), bus.Skipped, ByDatabase, "on hold"},
		"missed by the gate":               {facts(whole(gated(job.GateLateness, tick(bus.Missed, "03:00:00", "in other words")))...), bus.Missed, ByLateness, "in other words"},
		"refused":                          {facts(whole(fired, skipOf("03:00:00", job.Server{}, "mariabackup needs backup-physical-type = mariabackup"))...), bus.Skipped, ByConfig, "needs backup-physical-type"},
		"waits for window":                 {with(facts(whole(fired)...), ran("gate window outside")), bus.Fired, ByWindow, "has not begun: outside"},
		"splay":                            {with(facts(whole(fired)...), ran("gate splay waits until 03:09")), bus.Fired, BySplay, "03:09"},
		"limit":                            {with(facts(whole(fired)...), ran("gate limit waits for a place")), bus.Fired, ByLimit, "a place"},
		"rolling":                          {with(facts(whole(fired)...), ran("gate rolling behind R")), bus.Fired, ByRolling, "behind R"},
		"heavy":                            {with(facts(whole(fired)...), ran("note "+job.HeldReason+"optimize Y has the server")), bus.Fired, ByHeavy, "optimize Y"},
		"no receiver":                      {with(facts(whole(fired)...), ran("note "+job.ReasonNoReceiver)), bus.Fired, ByReceiver, "no receiver answers"},
		"no room":                          {with(facts(whole(fired)...), ran("note "+job.ReasonNoSpace+"1 GiB free")), bus.Fired, ByReceiver, "1 GiB"},
		"no database":                      {with(facts(whole(fired)...), ran("note "+job.ReasonNoRow+"refused")), bus.Fired, ByDatabase, "refused"},
		"offered":                          {with(facts(whole(fired)...), ran("offer")), bus.Fired, ByPickup, "nobody took it yet"},
		"nobody took it":                   {with(facts(whole(fired)...), ran("offer", "expire no script on 10.0.1.5:3306 asked for it within 1h")), bus.Fired, ByPickup, "asked for it within 1h"},
		"never offered":                    {with(facts(whole(fired)...), ran("expire not offered within 1h: "+job.ReasonNoReceiver)), bus.Fired, ByReceiver, "not offered"},
		"claim":                            {with(facts(whole(fired)...), ran("offer", "claim")), bus.Fired, ByClaim, "has not said since"},
		"claim lost":                       {with(facts(whole(fired)...), ran("offer", "claim", "release silent", "expire no script")), bus.Fired, ByClaim, "no script"},
		"lease":                            {with(facts(whole(fired)...), ran("offer", "start", "cut no sign of life for 10m")), bus.Fired, ByLease, "no sign of life"},
		"tool":                             {with(facts(whole(fired)...), ran("offer", "start", "error exit status 1")), bus.Fired, ByWorker, "exit status 1"},
		"cut":                              {with(facts(whole(fired)...), ran("offer", "start", "cut disk full")), bus.Fired, ByCut, "disk full"},
		"proof":                            {with(facts(whole(fired)...), ran("offer", "start", "done", "refute end line missing")), bus.Fired, ByProof, "end line missing"},
		"operator":                         {with(facts(whole(fired)...), ran("offer", "cancel by alice")), bus.Fired, ByOperator, "by alice"},
		"second attempt":                   {with(facts(whole(fired)...), ran("offer", "start", "error x", "retry again", "offer", "start")), bus.Fired, BySchedule, "(attempt 2)"},
		"not started":                      {facts(whole(fired)...), bus.Fired, ByAbsence, "no scheduler has started its jobs"},
		"late":                             {with(facts(whole(tick(bus.Late, "03:00:00", "no scheduler ran at 03:00"))...), ran("offer", "start")), bus.Late, ByAbsence, "no scheduler ran at"},
		"too late":                         {facts(whole(tick(bus.Missed, "03:00:00", "no scheduler ran; 2h is more than scheduler-max-lateness = 1h"))...), bus.Missed, ByLateness, "more than"},
		"not made up":                      {facts(whole(tick(bus.Missed, "03:00:00", "no scheduler ran; not run afterwards (scheduler-catch-up = none)"))...), bus.Missed, ByCatchUp, "first sign of a scheduler"},
		"switched off":                     {facts(whole(Entry{Tick: bus.Tick{Outcome: bus.Disarmed, Due: at("02:30:00"), Reason: "switched off: monitoring-scheduler is off"}})...), bus.Disarmed, ByOff, "monitoring-scheduler is off"},
		"by hand": {with(facts(whole(tick(bus.Missed, "03:00:00", "x"), Entry{Tick: bus.Tick{Outcome: bus.Fired, ID: "T03:00:00", Due: at("03:10:00"), Reason: "asked for by alice", Trigger: job.Trigger{Kind: job.Manual}}})...), ran("offer", "start")),
			bus.Fired, ByPerson, "asked for by alice"},
		"undecided, nobody":    {nobody(facts(whole()...), at("02:00:05")), Undecided, ByAbsence, "the last sign of one is of 2026-11-22 02:00:05"},
		"undecided, somebody":  {facts(whole()...), Undecided, ByAbsence, "has not decided it"},
		"undecided, unknown":   {unknown(facts(whole()...)), Undecided, ByConfig, "no cluster"},
		"undecided, a moment":  {justNow(facts(whole()...)), Undecided, BySchedule, "a moment ago"},
		"changed":              {facts(tick(bus.Missed, "01:00:00", "x"), tick(bus.Missed, "02:00:00", "x"), cursor(tick(bus.Armed, "03:20:00", "changed"), "03:20:00")), bus.Armed, BySchedule, "changed"},
		"expired from ledger":  {old(facts(cursor(tick(bus.Missed, "01:00:00", "x"), "03:00:00"))), Lost, ByLedger, "keeps nothing older"},
		"deleted from ledger":  {facts(cursor(tick(bus.Missed, "01:00:00", "x"), "03:00:00")), Lost, ByLedger, "purged"},
		"off all the time":     {off(facts()), Off, ByOff, "monitoring-scheduler"},
		"no schedule":          {never(unknown(facts())), Off, ByConfig, "no schedule"},
		"off and never was on": {never(switchedOff(facts())), Off, ByOff, "scheduler-x is off"},
		"armed only later":     {begunLater(never(facts())), Off, ByLedger, "begin later"},
		"never a scheduler":    {never(nobody(facts(), time.Time{})), Off, ByAbsence, "none answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Explain(c.f)
			if len(got.Ticks) == 0 {
				t.Fatalf("no answer: %+v", got)
			}
			last := got.Ticks[len(got.Ticks)-1]
			if last.Outcome != c.outcome || last.By != c.by || !strings.Contains(last.Why, c.why) {
				t.Errorf("%s by %s: %s; want %s by %s: ... %s", last.Outcome, last.By, last.Why, c.outcome, c.by, c.why)
			}
			for _, x := range got.Ticks {
				if x.Why == "" || x.By == "" {
					t.Errorf("no answer for %+v", x)
				}
			}
		})
	}
}

func gated(g job.Gate, e Entry) Entry { e.Gate = g; return e }

func with(f Facts, events []Event) Facts { f.Events = events; return f }

func nobody(f Facts, sign time.Time) Facts {
	f.Answered, f.Schedule = false, nil
	if !sign.IsZero() {
		f.Signs = []time.Time{sign}
	}
	return f
}

func unknown(f Facts) Facts { f.Schedule = nil; return f }
func never(f Facts) Facts   { f.Before = nil; return f }

// begunLater has its first entry long after the time that is looked at.
func begunLater(f Facts) Facts {
	f.Last = &Entry{bus.Tick{Outcome: bus.Armed, Time: at("03:00:00").AddDate(0, 0, 9)}, 9}
	return f
}

func justNow(f Facts) Facts { f.Now = at("03:00:10"); return f }

func old(f Facts) Facts { f.Oldest = at("03:10:00"); return f }

func cursor(e Entry, clock string) Entry { e.Cursor = at(clock); return e }

func off(f Facts) Facts {
	f.Before = &Entry{bus.Tick{Outcome: bus.Disarmed, Reason: "switched off: monitoring-scheduler is off"}, 7}
	return switchedOff(f)
}

func switchedOff(f Facts) Facts {
	f.Schedule = &bus.ScheduleInfo{Why: "scheduler-x is off"}
	return f
}

// A tick without an entry must not vanish between two that have one, nor between two schedules; and what one entry for many
// covers is no hole.
func TestHolesInTheLedgerAreTicksToo(t *testing.T) {
	t.Parallel()
	many := tick(bus.Missed, "01:00:00", "no scheduler ran")
	many.Count, many.Until, many.Cursor = 2, at("02:00:00"), at("02:00:00")
	half := tick(bus.Armed, "02:15:00", "changed")
	half.Spec, half.Zone = "0 30 * * * *", "UTC"
	late := tick(bus.Missed, "02:30:00", "x")
	late.Spec, late.Zone = half.Spec, half.Zone
	late.Cursor = at("03:30:00")
	for name, c := range map[string]struct {
		f    Facts
		want string
	}{
		"none":         {facts(whole(tick(bus.Missed, "03:00:00", "x"))...), "01:00 missed, 02:00 missed, 03:00 missed"},
		"in between":   {facts(tick(bus.Missed, "01:00:00", "x"), tick(bus.Missed, "03:00:00", "x")), "01:00 missed, 02:00 lost, 03:00 missed"},
		"many in one":  {facts(many, tick(bus.Missed, "03:00:00", "x")), "01:00 missed, 03:00 missed"},
		"all":          {facts(), "01:00 undecided, 02:00 undecided, 03:00 undecided"},
		"of a new one": {facts(append(whole(), half, late)...), "01:00 missed, 02:00 missed, 02:15 armed, 02:30 missed, 03:30 lost"},
		"while off": {facts(tick(bus.Missed, "01:00:00", "x"), Entry{Tick: bus.Tick{Outcome: bus.Disarmed, Due: at("01:30:00"), Reason: "off"}},
			tick(bus.Armed, "02:30:00", "on"), tick(bus.Missed, "03:00:00", "x")), "01:00 missed, 01:30 disarmed, 02:30 armed, 03:00 missed"},
	} {
		var got []string
		for _, x := range Explain(c.f).Ticks {
			got = append(got, x.Due.Format("15:04 ")+string(x.Outcome))
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
}

// A tick that starts several jobs tells of each, the one that was turned away among them, with the messages behind it.
func TestJobsOfATickAreToldServerByServer(t *testing.T) {
	t.Parallel()
	f := with(facts(whole(tick(bus.Fired, "03:00:00", ""), skipOf("03:00:00", db2, "job X-01 is still processing"))...), ran("gate splay a", "gate splay a", "note", "gate  b", "offer", "start", "done", "pass"))
	got := Explain(f).Ticks[2]
	if got.By != ByRunning || len(got.Jobs) != 2 || !strings.Contains(got.Why, "2 servers: 1 success, 1 skipped") {
		t.Fatalf("%+v", got)
	}
	var seqs []uint64
	for _, m := range got.Jobs[0].Behind {
		seqs = append(seqs, m.Seq)
	}
	// The second note and the third change nothing that was decided.
	if want := []uint64{100, 101, 103, 104, 105, 106, 107, 108}; !slices.Equal(seqs, want) {
		t.Errorf("messages %v, want %v", seqs, want)
	}
	if got.Jobs[1].Server != db2 || got.Jobs[1].By != ByRunning || got.Jobs[1].Behind[0] != (Message{bus.StreamTasks, 13, at("03:00:00"), "skipped"}) {
		t.Errorf("%+v", got.Jobs[1])
	}
}

// Where the signs next to a missed tick lie far apart no scheduler was there; where they lie close, one was and did not decide it.
func TestSignsNextToAMissedTickAreTold(t *testing.T) {
	t.Parallel()
	for want, signs := range map[string][]string{
		"no scheduler wrote into the ledger of any cluster between 2026-11-22 02:10:00 UTC and 2026-11-22 03:20:00 UTC": {"01:00:00", "02:10:00", "03:20:00"},
		"yet one wrote at 2026-11-22 02:59:50 UTC and at 2026-11-22 03:00:10 UTC":                                       {"02:59:50", "03:00:10", "03:20:00"},
		"the first sign of a scheduler after it is of 2026-11-22 03:20:00 UTC":                                          {"03:20:00"},
	} {
		missed := tick(bus.Missed, "03:00:00", "no scheduler ran")
		missed.Time = at("03:20:00")
		f := facts(whole(missed)...)
		for _, s := range signs {
			f.Signs = append(f.Signs, at(s))
		}
		if got := Explain(f).Ticks[2].Why; !strings.Contains(got, want) {
			t.Errorf("signs %v: %s", signs, got)
		}
	}
}

// What comes is foretold as things stand: a hold, a window, a refusal and a fleet without a scheduler each let it not run.
func TestWhatComesIsForetold(t *testing.T) {
	t.Parallel()
	next := at("04:00:00")
	for name, c := range map[string]struct {
		edit func(*Facts)
		by   Decider
		why  string
	}{
		"runs":   {func(*Facts) {}, BySchedule, "1 server"},
		"barred": {func(f *Facts) { f.Schedule.Barred = []bus.Barred{{Due: next, Gate: job.GateHold, Reason: "held"}} }, ByHold, "skipped: held"},
		"waits": {func(f *Facts) {
			f.Schedule.Barred = []bus.Barred{{Due: next, Gate: job.GateWindow, Reason: "shut", Waits: true}}
		}, ByWindow, "wait: shut"},
		"later":     {func(f *Facts) { f.Schedule.Barred = []bus.Barred{{Due: next.Add(1), Gate: job.GateOff}} }, BySchedule, "1 server"},
		"nobody is": {func(f *Facts) { f.Answered, f.Schedule = false, nil }, ByAbsence, "a scheduler is started"},
	} {
		f := facts(whole(tick(bus.Missed, "03:00:00", "x"))...)
		c.edit(&f)
		got := Explain(f).Next
		if len(got) == 0 || got[0].By != c.by || !strings.Contains(got[0].Why, c.why) || !got[0].Due.Equal(next) {
			t.Errorf("%s: %+v, want by %s", name, got, c.by)
		}
	}
}
