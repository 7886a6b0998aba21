package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// ended is a job that came to an end.
func ended(id string, s job.State, at time.Time, took time.Duration, bytes int64) job.Job {
	return job.Job{
		ID: id, Cluster: "prod", Server: job.Server{Host: "db1", Port: 3306}, Task: "mariabackup", State: s, Attempt: 1, Since: at,
		Stream: &job.Stream{Bytes: bytes},
		Steps: []job.Step{
			{State: job.Queued, Event: job.Create, Time: at.Add(-took - time.Minute)},
			{State: job.Processing, Event: job.Start, Time: at.Add(-took)},
			{State: s, Event: job.Error, Time: at},
		},
	}
}

func (m *model) take(j job.Job, e job.Event, prev job.State, now time.Time) {
	m.job(bus.JobEvent{State: j.State, Prev: prev, Event: e, Job: j}, now)
}

// TestADayIsCalledAfterItsWorst: a failure between good runs must not be painted over, and a retry takes its failure back.
func TestADayIsCalledAfterItsWorst(t *testing.T) {
	t.Parallel()
	m := newModel(newHub())
	yesterday := noon.AddDate(0, 0, -1)
	m.take(ended("a", job.Success, yesterday, time.Hour, 10), job.Pass, job.Finished, noon)
	m.take(ended("b", job.Failed, yesterday, time.Hour, 10), job.Refute, job.Finished, noon)
	m.take(ended("b", job.Failed, yesterday, time.Hour, 10), job.Note, job.Failed, noon) // facts are added: not another end
	m.take(ended("c", job.Halted, noon.Add(-time.Hour), time.Hour, 10), job.Cut, job.Processing, noon)
	again := ended("c", job.Queued, noon.Add(-30*time.Minute), time.Hour, 10)
	again.Steps = append(again.Steps[:2], job.Step{State: job.Halted, Time: noon.Add(-time.Hour)}, job.Step{State: job.Queued, Event: job.Retry, Time: noon.Add(-30 * time.Minute)})
	m.take(again, job.Retry, job.Halted, noon)
	m.take(ended("c", job.Success, noon, time.Hour, 10), job.Pass, job.Finished, noon)
	m.tick(bus.Tick{Outcome: bus.Missed, Due: noon.AddDate(0, 0, -2), Cluster: "prod", Count: 3}, noon)
	m.tick(bus.Tick{Outcome: bus.Late, Due: noon.AddDate(0, 0, -3), Cluster: "prod"}, noon)
	m.tick(bus.Tick{Outcome: bus.Fired, Due: noon.AddDate(0, 0, -4), Cluster: "prod"}, noon)

	s := m.strip("prod", noon)
	if len(s.Days) != historyDays || s.Known {
		t.Fatalf("%d days, known %v", len(s.Days), s.Known)
	}
	for back, want := range map[int]string{0: "ok", 1: "failed", 2: "missed", 3: "late", 4: "", 29: ""} {
		if got := s.Days[historyDays-1-back].Worst(); got != want {
			t.Errorf("%d days back: %q, want %q", back, got, want)
		}
	}
	if got := s.Days[historyDays-2].String(); got != "1 failed, 1 ok" {
		t.Errorf("yesterday is %q", got)
	}
	if got := s.String(); got != "last 30 days: 1 failed, 1 missed, 1 late, 1 ok, 26 without runs" {
		t.Errorf("the strip says %q", got)
	}
	if f := m.recentFailures(noon, func(failure) bool { return true }); len(f) != 0 {
		t.Errorf("failures of the last day: %+v", f)
	}
}

// TestThePictureForgets: a gateway runs for years.
func TestThePictureForgets(t *testing.T) {
	t.Parallel()
	m := newModel(newHub())
	for d := range 400 {
		at := noon.AddDate(0, 0, d)
		m.take(ended(fmt.Sprint("f", d), job.Halted, at, time.Hour, 1), job.Cut, job.Processing, at)
		m.take(ended(fmt.Sprint("g", d), job.Success, at, time.Hour, 1), job.Pass, job.Finished, at)
		m.moved(bus.Progress{JobID: fmt.Sprint("g", d+1)})
		m.moved(bus.Progress{JobID: fmt.Sprint("g", d), Time: at}) // late: its job has ended
	}
	if len(m.days) > historyDays+1 || len(m.failures) > 1 || len(m.ended) > 4 || len(m.progress) > 2 {
		t.Errorf("%d days, %d failures, %d ended, %d signs are kept", len(m.days), len(m.failures), len(m.ended), len(m.progress))
	}
	for _, r := range m.runs {
		if len(r.last) != runsKept {
			t.Errorf("%d runs are kept", len(r.last))
		}
	}
}

func TestEstimateSaysHowItKnows(t *testing.T) {
	t.Parallel()
	began := noon.Add(-10 * time.Minute)
	usual := forecast{Runs: 5, P50: 20 * time.Minute, P90: 30 * time.Minute, Size: 1000}
	for name, c := range map[string]struct {
		expected      forecast
		began         time.Time
		bytes         int64
		rate, percent float64
		want          progress
	}{
		"nobody works on it":       {expected: usual, want: progress{}},
		"the tool tells":           {expected: usual, began: began, bytes: 900, rate: 1, percent: 25, want: progress{Known: true, Percent: 25, ETA: 30 * time.Minute, By: "by what the tool says"}},
		"by size and rate":         {expected: usual, began: began, bytes: 400, rate: 10, want: progress{Known: true, Percent: 40, ETA: time.Minute, By: "by the size of the last runs and the present rate"}},
		"more than ever":           {expected: usual, began: began, bytes: 5000, rate: 10, want: progress{Known: true, Percent: 99}},
		"it stands still":          {expected: usual, began: began, bytes: 400, want: progress{Known: true, Percent: 40}},
		"by time":                  {expected: forecast{P50: 20 * time.Minute, P90: 21 * time.Minute}, began: began, want: progress{Known: true, Percent: 50, ETA: 10 * time.Minute, By: "by how long the last runs took"}},
		"longer than nine in ten":  {expected: forecast{P50: time.Minute, P90: 2 * time.Minute}, began: began, want: progress{Known: true, Percent: 99, Over: true}},
		"never run before":         {began: began, bytes: 7, rate: 1, want: progress{}},
		"a tool that tells 200 %%": {began: began, percent: 200, want: progress{Known: true, Percent: 100, By: "by what the tool says"}},
	} {
		got := estimate(c.expected, c.began, noon, c.bytes, c.rate, c.percent)
		if got.Known != c.want.Known || got.Percent != c.want.Percent || got.ETA != c.want.ETA || got.By != c.want.By || got.Over != c.want.Over {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestForecastIsOfTheLastGoodRuns(t *testing.T) {
	t.Parallel()
	var last []run
	for i := 1; i <= 10; i++ {
		last = append(last, run{time.Duration(i) * time.Minute, int64(i) * 100})
	}
	got := forecastOf(append(last, run{0, 0}))
	if want := (forecast{10, 5 * time.Minute, 9 * time.Minute, 500}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := forecastOf(nil); got != (forecast{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

// TestASmallBackupStandsOut: 20-byte dumps beside 8 MB ones, and nobody was warned.
func TestASmallBackupStandsOut(t *testing.T) {
	t.Parallel()
	var all []*store.Manifest
	for i, size := range []int64{20, 8_100_000, 8_000_000, 7_900_000, 8_000_000} { // the newest first
		at := noon.AddDate(0, 0, -i)
		all = append(all, &store.Manifest{ID: fmt.Sprint(100 - i), Cluster: "prod", Task: "mysqldump", Size: size, Started: at.Add(-time.Minute), Ended: at})
	}
	rows := compared(all, all)
	if r := rows[0]; !r.Odd || r.Change != -100 {
		t.Errorf("the newest: odd %v, %d %%", r.Odd, r.Change)
	}
	if r := rows[1]; r.Odd || r.Change != 1 {
		t.Errorf("the second: odd %v, %d %%", r.Odd, r.Change)
	}
	if rows[4].Known {
		t.Error("the first is compared with nothing")
	}
	chart := trendOf(rows)
	if chart == nil || len(chart.Points) != 5 || !strings.HasPrefix(chart.Line, "0,") || !strings.HasSuffix(chart.Line, "1000,100") {
		t.Errorf("chart %+v", chart)
	}
	rows[2].Cluster = "other"
	if trendOf(rows) != nil {
		t.Error("two servers are drawn as one line")
	}
}

func TestStatesAddUpToTheLifeOfTheJob(t *testing.T) {
	t.Parallel()
	j := ended("a", job.Halted, noon, 3*time.Minute, 1)
	rows := stepsOf(j, noon.Add(time.Hour))
	if len(rows) != 3 || rows[0].Took != time.Minute || rows[1].Took != 3*time.Minute || rows[2].Took != 0 || rows[1].Start != 250 || rows[1].Width != 750 {
		t.Errorf("%+v", rows)
	}
	j.State, j.Steps = job.Processing, j.Steps[:2]
	if rows = stepsOf(j, noon.Add(time.Hour)); !rows[1].Present || rows[1].Took != 63*time.Minute {
		t.Errorf("while it runs: %+v", rows[1])
	}
	if stepsOf(job.Job{}, noon) != nil {
		t.Error("steps of nothing")
	}
}

func TestClockChangesAreMarked(t *testing.T) {
	t.Parallel()
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ utc, want string }{
		{"2026-10-24T00:30:00Z", ""},
		{"2026-10-25T00:30:00Z", "the clocks go back within the hour: this time comes twice"},
		{"2026-10-25T01:30:00Z", "the clocks went back within the hour: this time comes twice"},
		{"2026-10-25T03:00:00Z", "the clocks went back since the day before"},
		{"2026-10-26T03:00:00Z", ""},
		{"2026-03-28T01:30:00Z", ""},
		{"2026-03-29T01:00:00Z", "the clocks went forward since the day before"},
		{"2026-03-30T01:00:00Z", ""},
	} {
		at, err := time.Parse(time.RFC3339, c.utc)
		if err != nil {
			t.Fatal(err)
		}
		if got := clockChange(at, paris); got != c.want {
			t.Errorf("%s: %q, want %q", c.utc, got, c.want)
		}
	}
}

func TestTheTimelineShadesWhatIsClosed(t *testing.T) {
	t.Parallel()
	p := &timelinePage{From: noon, To: noon.Add(48 * time.Hour)}
	got := closedTimes(p, bus.ScheduleInfo{Windows: "22:00-05:00", Zone: "UTC"})
	want := []block{{X: 0, W: 600}, {X: 17 * 60, W: 17 * 60}, {X: 41 * 60, W: 7 * 60}}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i].X != want[i].X || got[i].W != want[i].W {
			t.Errorf("block %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	for _, windows := range []string{"", "sun-sat 00:00-24:00", "no window"} {
		if got := closedTimes(p, bus.ScheduleInfo{Windows: windows, Zone: "UTC"}); got != nil {
			t.Errorf("%q: %+v", windows, got)
		}
	}
}

// TestPlannedJobsThatCollideAreMarked: the second one will wait for the first.
func TestPlannedJobsThatCollideAreMarked(t *testing.T) {
	t.Parallel()
	p := &timelinePage{From: noon, To: noon.Add(48 * time.Hour)}
	l := &lane{}
	l.add(p, noon.Add(time.Hour), noon.Add(2*time.Hour), bar{Task: "mariabackup", State: "planned"})
	l.add(p, noon.Add(90*time.Minute), noon.Add(100*time.Minute), bar{Task: "optimize", State: "planned"})
	l.add(p, noon.Add(95*time.Minute), noon.Add(96*time.Minute), bar{Task: "errorlog", State: "planned"}) // not heavy
	l.add(p, noon.Add(-50*time.Hour), noon.Add(-49*time.Hour), bar{Task: "optimize", State: "success"})   // not in the picture
	l.place()
	if len(l.Bars) != 3 || l.Bars[0].Collision || !l.Bars[1].Collision || l.Bars[2].Collision || l.Bars[1].Row != 1 || l.Bars[2].W != shortest {
		t.Errorf("%+v", l.Bars)
	}
}

func TestTheWorstClusterComesFirst(t *testing.T) {
	t.Parallel()
	rows := []clusterRow{
		{Name: "overdue", Worst: bus.SeverityError, Errors: 1, Overdue: true},
		{Name: "errors", Worst: bus.SeverityError, Errors: 3},
		{Name: "failed", Failed: 2},
		{Name: "warned", Worst: bus.SeverityWarn, Warnings: 4},
		{Name: "forgotten", Off: 1, OffLong: true},
		{Name: "unproven", Unproven: true},
		{Name: "fine", Worst: bus.SeverityInfo},
	}
	for i := range rows {
		for n := range i {
			if worse(rows[n], rows[i]) >= 0 || worse(rows[i], rows[n]) <= 0 {
				t.Errorf("%s does not come before %s", rows[n].Name, rows[i].Name)
			}
		}
	}
}

// TestTheWayBackStaysHere: a link to the login must not lead elsewhere.
func TestTheWayBackStaysHere(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"/history?since=7d": "/history?since=7d", "": "/", "//evil.example": "/", "https://evil.example/": "/", "/\\evil.example": "/",
		"javascript:alert(1)": "/", "/login?next=/login": "/", "evil": "/", "/a\r\nSet-Cookie: x=y": "/", "/\t/evil.example": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
}

// TestAnExportIsNoProgram: a host may be called like a formula.
func TestAnExportIsNoProgram(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0", "-1": "'-1", "@x": "'@x", "+x": "'+x", "db1": "db1", "": ""} {
		if got := plain(in); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

func TestFiguresAreForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "0.98 KiB", 1 << 20: "1.00 MiB", 5<<30 + 1<<29: "5.50 GiB", 1023 << 20: "1.00 GiB", -5: "-5 B"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1500 * time.Millisecond: "1.5 s", 59 * time.Second: "59 s", time.Hour: "1 h", 26 * time.Hour: "26 h", 61 * time.Second: "1 m 1 s", 50*time.Hour + 1: "2 d 2 h", -time.Minute: "-1 m"} {
		if got := durText(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := numText(48211907); got != "48\u2009211\u2009907" {
		t.Errorf("a number: %q", got)
	}
}

// TestAStreamOfASessionIsOneOfFew: a browser that forgets its streams must not take all of the gateway.
func TestAStreamOfASessionIsOneOfFew(t *testing.T) {
	t.Parallel()
	var s streams
	for range streamsEach {
		if !s.enter("a") {
			t.Fatal("refused too early")
		}
	}
	if s.enter("a") || !s.enter("b") {
		t.Error("the limit is not each session's own")
	}
	s.leave("a")
	if !s.enter("a") {
		t.Error("a place is not given back")
	}
}
