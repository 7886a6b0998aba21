package calendar

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // a minimal machine may have no zone files

	"github.com/robfig/cron/v3"
)

func mustCalendar(tb testing.TB, spec, zone string) *Calendar {
	tb.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := Parse(spec, loc)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func mustTime(tb testing.TB, text string) time.Time {
	tb.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		tb.Fatal(err)
	}
	return at
}

// ticksIn follows Next from an instant until it passes the other.
func ticksIn(tb testing.TB, c *Calendar, after, until time.Time) []time.Time {
	tb.Helper()
	var ticks []time.Time
	for at := c.Next(after); !at.IsZero() && !at.After(until); at = c.Next(at) {
		if n := len(ticks); n > 0 && !at.After(ticks[n-1]) {
			tb.Fatalf("%v: Next(%v) = %v is not later", c, ticks[n-1], at)
		}
		ticks = append(ticks, at)
	}
	return ticks
}

func format(ticks []time.Time, layout string) []string {
	out := make([]string, len(ticks))
	for i, at := range ticks {
		out[i] = at.Format(layout)
	}
	return out
}

// TestOnceADayJobRunsOnceWhenTheClockIsChanged walks the day of each switch of 2026 and 2027, from
// its midnight to the next.
func TestOnceADayJobRunsOnceWhenTheClockIsChanged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		zone, day string
		want      map[string]string // spec to the ticks of the day
	}{
		{"Europe/Paris", "2026-03-29", map[string]string{ // 02:00 becomes 03:00
			"0 30 2 * * *":    "03:00:00+02:00",
			"0 2 * * *":       "03:00:00+02:00",
			"0 3 * * *":       "03:00:00+02:00",
			"30 0 * * *":      "00:30:00+01:00",
			"59 59 1 * * *":   "01:59:59+01:00",
			"0 30 2 * * 0":    "03:00:00+02:00",
			"0 30 2 29 * *":   "03:00:00+02:00",
			"0 30 2 29 3 *":   "03:00:00+02:00",
			"0 30 2 * * 1":    "",
			"0 30 2,14 * * *": "03:00:00+02:00 14:30:00+02:00",
			"0 0,30 2 * * *":  "03:00:00+02:00",
			"*/20 2 * * *":    "03:00:00+02:00",
			"* * 2 * * *":     "03:00:00+02:00",
			"0 0 2,3 * * *":   "03:00:00+02:00",
			"0 */6 * * *":     "00:00:00+01:00 06:00:00+02:00 12:00:00+02:00 18:00:00+02:00",
			"0 2-23/4 * * *":  "03:00:00+02:00 06:00:00+02:00 10:00:00+02:00 14:00:00+02:00 18:00:00+02:00 22:00:00+02:00",
		}},
		{"Europe/Paris", "2026-10-25", map[string]string{ // 03:00 becomes 02:00
			"0 30 2 * * *":    "02:30:00+02:00",
			"0 2 * * *":       "02:00:00+02:00",
			"0 3 * * *":       "03:00:00+01:00",
			"30 0 * * *":      "00:30:00+02:00",
			"59 59 2 * * *":   "02:59:59+02:00",
			"0 30 2 * * sun":  "02:30:00+02:00",
			"0 30 2 25 * *":   "02:30:00+02:00",
			"0 30 2,14 * * *": "02:30:00+02:00 14:30:00+01:00",
			"*/20 2 * * *":    "02:00:00+02:00 02:20:00+02:00 02:40:00+02:00",
			"0 */6 * * *":     "00:00:00+02:00 06:00:00+01:00 12:00:00+01:00 18:00:00+01:00",
		}},
		{"Europe/Paris", "2027-03-28", map[string]string{"0 30 2 * * *": "03:00:00+02:00", "0 2 * * *": "03:00:00+02:00", "0 30 2 28 * *": "03:00:00+02:00"}},
		{"Europe/Paris", "2027-10-31", map[string]string{"0 30 2 * * *": "02:30:00+02:00", "0 3 * * *": "03:00:00+01:00", "0 30 2 31 * *": "02:30:00+02:00"}},
		{"America/New_York", "2026-03-08", map[string]string{ // 02:00 becomes 03:00
			"0 30 2 * * *": "03:00:00-04:00", "0 2 * * *": "03:00:00-04:00", "0 3 * * *": "03:00:00-04:00",
			"30 0 * * *": "00:30:00-05:00", "0 30 2 * * 0": "03:00:00-04:00", "0 30 2 8 * *": "03:00:00-04:00",
		}},
		{"America/New_York", "2026-11-01", map[string]string{ // 02:00 becomes 01:00
			"0 30 1 * * *": "01:30:00-04:00", "0 1 * * *": "01:00:00-04:00", "0 2 * * *": "02:00:00-05:00",
			"0 30 2 * * *": "02:30:00-05:00", "30 0 * * *": "00:30:00-04:00", "30 1 * * 0": "01:30:00-04:00", "30 1 1 * *": "01:30:00-04:00",
		}},
		{"America/New_York", "2027-03-14", map[string]string{"0 30 2 * * *": "03:00:00-04:00", "0 2 14 * *": "03:00:00-04:00"}},
		{"America/New_York", "2027-11-07", map[string]string{"0 30 1 * * *": "01:30:00-04:00", "0 1 7 * *": "01:00:00-04:00"}},
		{"Australia/Lord_Howe", "2026-10-04", map[string]string{ // 02:00 becomes 02:30
			"0 30 2 * * *": "02:30:00+11:00", "0 2 * * *": "02:30:00+11:00", "15 2 * * *": "02:30:00+11:00",
			"0 3 * * *": "03:00:00+11:00", "30 0 * * *": "00:30:00+10:30", "0 2 * * 0": "02:30:00+11:00", "0 2 4 * *": "02:30:00+11:00",
			"0,30,45 2 * * *": "02:30:00+11:00 02:45:00+11:00",
		}},
		{"Australia/Lord_Howe", "2026-04-05", map[string]string{ // 02:00 becomes 01:30
			"0 30 2 * * *": "02:30:00+10:30", "0 2 * * *": "02:00:00+10:30", "0 30 1 * * *": "01:30:00+11:00", "45 1 * * *": "01:45:00+11:00",
			"0 3 * * *": "03:00:00+10:30", "30 0 * * *": "00:30:00+11:00", "30 1 * * 0": "01:30:00+11:00", "30 1 5 * *": "01:30:00+11:00",
		}},
		{"Australia/Lord_Howe", "2027-10-03", map[string]string{"0 2 * * *": "02:30:00+11:00", "15 2 3 * *": "02:30:00+11:00"}},
		{"Australia/Lord_Howe", "2027-04-04", map[string]string{"0 2 * * *": "02:00:00+10:30", "45 1 4 * *": "01:45:00+11:00"}},

		// Clocks that pass over midnight, or repeat it.
		{"America/Sao_Paulo", "2018-11-04", map[string]string{"@daily": "01:00:00-02:00", "30 0 * * *": "01:00:00-02:00", "0 1 * * *": "01:00:00-02:00", "0 */6 * * *": "01:00:00-02:00 06:00:00-02:00 12:00:00-02:00 18:00:00-02:00"}},
		{"America/Sao_Paulo", "2018-02-17", map[string]string{"30 23 * * *": "23:30:00-02:00", "@weekly": ""}},
		{"America/Havana", "2018-11-04", map[string]string{"@daily": "00:00:00-04:00", "30 0 * * *": "00:30:00-04:00", "@weekly": "00:00:00-04:00"}},
		{"Asia/Beirut", "2018-03-25", map[string]string{"@daily": "01:00:00+03:00", "@weekly": "01:00:00+03:00", "30 0 25 * *": "01:00:00+03:00"}},
		{"Africa/Cairo", "2010-04-30", map[string]string{"@daily": "01:00:00+03:00", "30 0 * * 5": "01:00:00+03:00"}},
		// A clock that was set forward over midnight: 23:30 on Sunday became 00:30 on Monday.
		{"America/Toronto", "1919-03-30", map[string]string{"0 23 * * *": "23:00:00-05:00", "45 23 * * *": ""}},
		{"America/Toronto", "1919-03-31", map[string]string{"45 23 * * *": "00:30:00-04:00 23:45:00-04:00", "@daily": "00:30:00-04:00", "15 0,23 * * *": "23:15:00-04:00"}},
		// A clock set back over midnight: at 00:01 on Sunday it was 23:01 on Saturday again.
		{"America/St_Johns", "2010-11-07", map[string]string{"@daily": "00:00:00-02:30", "30 0 * * *": "00:30:00-03:30"}},
		{"America/St_Johns", "2010-11-06", map[string]string{"30 23 * * *": "23:30:00-02:30"}},
		// The day after the one that Samoa never had: nothing of that day is made up for.
		{"Pacific/Apia", "2011-12-31", map[string]string{"30 2 * * *": "02:30:00+14:00", "@daily": "00:00:00+14:00", "30 2 30 * *": "", "30 2 30 12 *": "", "30 2 * * 5": ""}},
	} {
		for spec, want := range tt.want {
			t.Run(tt.zone+"/"+tt.day+"/"+strings.ReplaceAll(spec, "/", "_"), func(t *testing.T) {
				t.Parallel()
				c := mustCalendar(t, spec, tt.zone)
				// Not from midnight to midnight: there may be none. All ticks of a day are read off their own date.
				noon := mustTime(t, tt.day+"T12:00:00Z")
				var ticks []time.Time
				for _, at := range ticksIn(t, c, noon.Add(-48*time.Hour), noon.Add(48*time.Hour)) {
					if at.Format(time.DateOnly) == tt.day {
						ticks = append(ticks, at)
					}
				}
				if got := strings.Join(format(ticks, "15:04:05-07:00"), " "); got != want {
					t.Errorf("ticks %q, want %q", got, want)
				}
			})
		}
	}
}

func TestShortIntervalsFollowElapsedTimeThroughASwitch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		spec, zone, after, until string
		want                     []string
	}{
		{"@hourly", "Europe/Paris", "2026-03-29T00:30:00+01:00", "2026-03-29T04:30:00+02:00", []string{"01:00+01:00", "03:00+02:00", "04:00+02:00"}},
		{"30 * * * *", "Europe/Paris", "2026-03-29T00:30:00+01:00", "2026-03-29T04:30:00+02:00", []string{"01:30+01:00", "03:30+02:00", "04:30+02:00"}},
		{"30 0-6 * * *", "Europe/Paris", "2026-03-29T00:30:00+01:00", "2026-03-29T04:30:00+02:00", []string{"01:30+01:00", "03:30+02:00", "04:30+02:00"}},
		{"@hourly", "Europe/Paris", "2026-10-25T01:00:00+02:00", "2026-10-25T03:00:00+01:00", []string{"02:00+02:00", "02:00+01:00", "03:00+01:00"}},
		{"*/20 * * * *", "Europe/Paris", "2026-03-29T01:20:00+01:00", "2026-03-29T03:20:00+02:00", []string{"01:40+01:00", "03:00+02:00", "03:20+02:00"}},
		{"*/20 1-5 * * *", "Europe/Paris", "2026-10-25T02:20:00+02:00", "2026-10-25T03:00:00+01:00", []string{"02:40+02:00", "02:00+01:00", "02:20+01:00", "02:40+01:00", "03:00+01:00"}},
		{"*/20 * * * *", "America/New_York", "2026-11-01T01:20:00-04:00", "2026-11-01T01:20:00-05:00", []string{"01:40-04:00", "01:00-05:00", "01:20-05:00"}},
		{"*/20 * * * *", "America/New_York", "2027-03-14T01:20:00-05:00", "2027-03-14T03:00:00-04:00", []string{"01:40-05:00", "03:00-04:00"}},
		// Half an hour: the wall-clock pattern stays, so that the ticks around the switch are 10 or 90 minutes apart.
		{"@hourly", "Australia/Lord_Howe", "2026-10-04T00:30:00+10:30", "2026-10-04T04:00:00+11:00", []string{"01:00+10:30", "03:00+11:00", "04:00+11:00"}},
		{"@hourly", "Australia/Lord_Howe", "2026-04-05T00:30:00+11:00", "2026-04-05T03:00:00+10:30", []string{"01:00+11:00", "02:00+10:30", "03:00+10:30"}},
		{"*/20 * * * *", "Australia/Lord_Howe", "2027-04-04T01:30:00+11:00", "2027-04-04T02:00:00+10:30", []string{"01:40+11:00", "01:40+10:30", "02:00+10:30"}},
		{"*/20 * * * *", "Australia/Lord_Howe", "2027-10-03T01:30:00+10:30", "2027-10-03T03:00:00+11:00", []string{"01:40+10:30", "02:40+11:00", "03:00+11:00"}},
	} {
		t.Run(tt.spec+" "+tt.zone+" "+tt.after[:10], func(t *testing.T) {
			t.Parallel()
			got := ticksIn(t, mustCalendar(t, tt.spec, tt.zone), mustTime(t, tt.after), mustTime(t, tt.until))
			if got := format(got, "15:04-07:00"); !slices.Equal(got, tt.want) {
				t.Errorf("ticks %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEverySecondCalendarNeverStallsNorRepeats(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Europe/Paris", "America/New_York", "Australia/Lord_Howe"} {
		c := mustCalendar(t, "* * * * * *", zone)
		for _, at := range switches(c.loc, 2026, 2027) {
			from, until := at.Add(-2*time.Hour), at.Add(2*time.Hour)
			if got := len(ticksIn(t, c, from, until)); got != 4*60*60 {
				t.Errorf("%s, switch of %v: %d ticks in four hours", zone, at, got)
			}
		}
	}
}

// switches returns the first instant of each new offset in the years.
func switches(loc *time.Location, first, last int) []time.Time {
	var out []time.Time
	at := time.Date(first, 1, 1, 0, 0, 0, 0, loc)
	for {
		_, before := at.Zone()
		_, end := at.ZoneBounds()
		if end.IsZero() || end.In(loc).Year() > last {
			return out
		}
		at = end.In(loc)
		if _, offset := at.Zone(); offset != before {
			out = append(out, at)
		}
	}
}

// A pattern is a spec spelled out as sets, for an oracle that shares nothing with the code under test.
type pattern struct {
	spec           string
	hours, minutes []int
	day            func(year int, month time.Month, day int, weekday time.Weekday) bool
}

func everyDay(int, time.Month, int, time.Weekday) bool { return true }

func hoursEvery(step int) []int {
	var out []int
	for h := 0; h < 24; h += step {
		out = append(out, h)
	}
	return out
}

var patterns = []pattern{
	{"30 2 * * *", []int{2}, []int{30}, everyDay},
	{"0 0 2 * * *", []int{2}, []int{0}, everyDay},
	{"0 3 * * *", []int{3}, []int{0}, everyDay},
	{"30 0 * * *", []int{0}, []int{30}, everyDay},
	{"55 1 * * *", []int{1}, []int{55}, everyDay},
	{"45 23 * * *", []int{23}, []int{45}, everyDay},
	{"@daily", []int{0}, []int{0}, everyDay},
	{"@hourly", hoursEvery(1), []int{0}, everyDay},
	{"*/20 * * * *", hoursEvery(1), []int{0, 20, 40}, everyDay},
	{"*/20 1-3 * * *", []int{1, 2, 3}, []int{0, 20, 40}, everyDay},
	{"0 */6 * * *", hoursEvery(6), []int{0}, everyDay},
	{"15 */2 * * *", hoursEvery(2), []int{15}, everyDay},
	{"30 2,14 * * *", []int{2, 14}, []int{30}, everyDay},
	{"0,30 0,2 * * *", []int{0, 2}, []int{0, 30}, everyDay},
	{"30 23,0,2 * * *", []int{0, 2, 23}, []int{30}, everyDay},
	{"30 2 * * sun", []int{2}, []int{30}, func(_ int, _ time.Month, _ int, w time.Weekday) bool { return w == 0 }},
	{"30 0 28-31 * *", []int{0}, []int{30}, func(_ int, _ time.Month, d int, _ time.Weekday) bool { return d >= 28 }},
	{"0 2 1,8,29 3,4,10,11 *", []int{2}, []int{0}, func(_ int, m time.Month, d int, _ time.Weekday) bool {
		return (m == 3 || m == 4 || m == 10 || m == 11) && (d == 1 || d == 8 || d == 29)
	}},
	{"30 1 25 * 0", []int{1}, []int{30}, func(_ int, _ time.Month, d int, w time.Weekday) bool { return d == 25 || w == 0 }},
}

// clock is what a local clock showed, step by step.
type clock struct {
	step  time.Duration
	at    []reading
	dates []time.Time             // the dates that it showed, as midnights in UTC, in order
	first map[time.Time]time.Time // from a reading, written as if it were UTC, to the first instant that showed it
}

// reading is what the clock showed at an instant.
type reading struct {
	unix         int64
	year         int
	month        time.Month
	day          int
	hour, minute int
	weekday      time.Weekday
}

func observe(loc *time.Location, from, until time.Time, step time.Duration) clock {
	c := clock{step: step, first: map[time.Time]time.Time{}}
	seen := map[time.Time]bool{}
	for at := from; at.Before(until); at = at.Add(step) {
		local := at.In(loc)
		y, m, d := local.Date()
		date := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
		shown := reading{at.Unix(), y, m, d, local.Hour(), local.Minute(), local.Weekday()}
		wall := date.Add(time.Duration(shown.hour)*time.Hour + time.Duration(shown.minute)*time.Minute)
		if _, ok := c.first[wall]; !ok {
			c.first[wall] = at
		}
		c.at = append(c.at, shown)
		if !seen[date] {
			seen[date] = true
			c.dates = append(c.dates, date)
		}
	}
	return c
}

// want works the rule out by brute force: each wall time of each date is looked up among all readings.
func (c clock) want(p pattern) []time.Time {
	set := map[int64]bool{}
	var cadence [24]bool // the hours of it
	for _, hour := range p.hours {
		cadence[hour] = neighbouring(p.hours, hour)
	}
	for _, r := range c.at { // the cadence: whatever the clock showed
		if cadence[r.hour] && slices.Contains(p.minutes, r.minute) && p.day(r.year, r.month, r.day, r.weekday) {
			set[r.unix] = true
		}
	}
	for _, date := range c.dates { // the appointments: each once
		y, m, d := date.Date()
		if !p.day(y, m, d, date.Weekday()) {
			continue
		}
		for _, hour := range p.hours {
			if cadence[hour] {
				continue
			}
			for _, minute := range p.minutes {
				wall := date.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
				for { // the first moment after the gap, if there is one
					if at, ok := c.first[wall]; ok {
						set[at.Unix()] = true
						break
					}
					if wall = wall.Add(c.step); wall.Sub(date) > 26*time.Hour {
						break // after the last reading
					}
				}
			}
		}
	}
	var out []time.Time
	for unix := range set {
		out = append(out, time.Unix(unix, 0))
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

func neighbouring(hours []int, hour int) bool {
	return slices.Contains(hours, (hour+1)%24) || slices.Contains(hours, (hour+23)%24)
}

func TestOneTickPerMatchingLocalDayInEveryZoneOverAYear(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		zone string
		year int
	}{
		{"Europe/Paris", 2026}, {"Europe/Paris", 2027},
		{"America/New_York", 2026}, {"America/New_York", 2027},
		{"Australia/Lord_Howe", 2026}, {"Australia/Lord_Howe", 2027},
		{"America/Sao_Paulo", 2018}, {"Asia/Beirut", 2026}, {"Africa/Cairo", 2026}, {"Africa/Casablanca", 2026},
		{"America/Havana", 2026}, {"Antarctica/Troll", 2026}, {"Pacific/Apia", 2011},
		{"America/Toronto", 1919}, {"Asia/Kathmandu", 1986}, {"UTC", 2026},
	} {
		t.Run(fmt.Sprintf("%s %d", tt.zone, tt.year), func(t *testing.T) {
			t.Parallel()
			loc := mustCalendar(t, "@daily", tt.zone).loc
			from, until := time.Date(tt.year, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(tt.year+1, 1, 1, 0, 0, 0, 0, time.UTC)
			// Observed from two days earlier to two days later, so that the ends are like the middle.
			seen := observe(loc, from.AddDate(0, 0, -2), until.AddDate(0, 0, 2), 5*time.Minute)
			for _, p := range patterns {
				var want []time.Time
				for _, at := range seen.want(p) {
					if at.After(from) && !at.After(until) {
						want = append(want, at)
					}
				}
				c := mustCalendar(t, p.spec, tt.zone)
				got := ticksIn(t, c, from, until)
				if !slices.EqualFunc(got, want, time.Time.Equal) {
					t.Errorf("%s: %d ticks, want %d; first difference %s", p.spec, len(got), len(want), difference(got, want, loc))
				}
				if n := c.count(from.Unix(), until.Unix()); n != int64(len(want)) {
					t.Errorf("%s: counted %d, want %d", p.spec, n, len(want))
				}
			}
		})
	}
}

func difference(got, want []time.Time, loc *time.Location) string {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !got[i].Equal(want[i]) {
			show := func(ticks []time.Time) string {
				if i < len(ticks) {
					return ticks[i].In(loc).Format(time.RFC3339)
				}
				return "none"
			}
			return fmt.Sprintf("got %s, want %s", show(got), show(want))
		}
	}
	return "none"
}

// TestDaysWithoutASwitchAreRobfigs compares random specs with robfig's search between two switches.
func TestDaysWithoutASwitchAreRobfigs(t *testing.T) {
	t.Parallel()
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	random := rand.New(rand.NewPCG(1, 2))
	loc := mustCalendar(t, "@daily", "Europe/Paris").loc
	// After the last switch but one of 2026 to before the last.
	from, until := time.Date(2026, 3, 30, 0, 0, 0, 0, loc), time.Date(2026, 10, 24, 0, 0, 0, 0, loc)
	for range 400 {
		spec := randomSpec(random)
		ours, err := Parse(spec, loc)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := parser.Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		at := from.Add(time.Duration(random.Int64N(int64(until.Sub(from)))))
		for range 50 {
			got, want := ours.Next(at), theirs.Next(at)
			if want.IsZero() || want.After(until) {
				if !got.IsZero() && !got.After(until) {
					t.Errorf("%s: Next(%v) = %v, want none before the switch", spec, at, got)
				}
				break
			}
			if !got.Equal(want) {
				t.Fatalf("%s: Next(%v) = %v, robfig's is %v", spec, at, got, want)
			}
			at = got
		}
	}
}

func randomSpec(random *rand.Rand) string {
	number := func(low, high int) int { return low + random.IntN(high-low+1) }
	field := func(low, high int) string {
		switch random.IntN(6) {
		case 0, 1:
			return "*"
		case 2:
			return fmt.Sprintf("*/%d", number(1, high))
		case 3:
			a := number(low, high)
			return fmt.Sprintf("%d-%d/%d", a, number(a, high), number(1, 3))
		case 4:
			return fmt.Sprintf("%d,%d", number(low, high), number(low, high))
		default:
			return fmt.Sprint(number(low, high))
		}
	}
	fields := []string{field(0, 59), field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)}
	return strings.Join(fields[random.IntN(2):], " ")
}

func TestNextIsAlwaysLaterFromAnyInstant(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	zones := []string{"Europe/Paris", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia", "Antarctica/Troll", "UTC"}
	for range 2000 {
		c := mustCalendar(t, randomSpec(random), zones[random.IntN(len(zones))])
		at := time.Unix(random.Int64N(3_000_000_000), random.Int64N(1_000_000_000))
		for range 5 {
			next := c.Next(at)
			if next.IsZero() {
				break
			}
			if !next.After(at) {
				t.Fatalf("%v: Next(%v) = %v", c, at, next)
			}
			// Nothing lies between: asking from any instant in between gives the same tick.
			middle := at.Add(time.Duration(random.Int64N(int64(next.Sub(at)))))
			if again := c.Next(middle); !again.Equal(next) {
				t.Fatalf("%v: Next(%v) = %v, but Next(%v) = %v", c, at, next, middle, again)
			}
			at = next
		}
	}
}

// TestRestartInTheRepeatedHourDoesNotRunTheJobAgain asks from every few minutes around a switch, as a scheduler
// does that starts just then.
func TestRestartInTheRepeatedHourDoesNotRunTheJobAgain(t *testing.T) {
	t.Parallel()
	c := mustCalendar(t, "30 2 * * *", "Europe/Paris")
	if got, want := c.Next(mustTime(t, "2026-10-25T02:10:00+01:00")), mustTime(t, "2026-10-26T02:30:00+01:00"); !got.Equal(want) {
		t.Errorf("asked in the second 02:10: %v, want %v", got, want)
	}
	for _, tt := range []struct {
		zone string
		year int
	}{
		{"Europe/Paris", 2026}, {"America/New_York", 2027}, {"Australia/Lord_Howe", 2026}, {"America/Havana", 2018},
		{"America/St_Johns", 2010}, {"Pacific/Apia", 2011}, {"Antarctica/Troll", 2026},
	} {
		for _, p := range patterns {
			c := mustCalendar(t, p.spec, tt.zone)
			for _, at := range switches(c.loc, tt.year, tt.year) {
				from, until := at.Add(-5*time.Hour), at.Add(5*time.Hour)
				chain := append(ticksIn(t, c, at.Add(-72*time.Hour), until), c.Next(until))
				for ask := from; ask.Before(until); ask = ask.Add(5 * time.Minute) {
					want := chain[slices.IndexFunc(chain, ask.Before)]
					if got := c.Next(ask); !got.Equal(want) {
						t.Fatalf("%v: Next(%v) = %v, want %v", c, ask.In(c.loc), got, want)
					}
				}
			}
		}
	}
}

func TestNextAtTheEdges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, spec, after, want string }{
		{"strictly after", "0 3 * * *", "2026-06-01T03:00:00Z", "2026-06-02T03:00:00Z"},
		{"fraction before", "0 3 * * *", "2026-06-01T02:59:59.999999999Z", "2026-06-01T03:00:00Z"},
		{"fraction after", "* * * * * *", "2026-06-01T02:59:59.5Z", "2026-06-01T03:00:00Z"},
		{"31 february", "0 0 31 2 *", "2026-06-01T00:00:00Z", ""},
		{"29 february over the year that has none", "0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"before 1970", "0 0 1 1 *", "1960-06-01T00:00:00Z", "1961-01-01T00:00:00Z"},
		{"zero time", "0 0 1 1 *", "0001-01-01T00:00:00Z", "0002-01-01T00:00:00Z"},
		{"end of time", "0 0 * * *", "9999-12-30T12:00:00Z", ""},
		{"every", "@every 90m", "2026-06-01T00:00:01Z", "2026-06-01T01:30:00Z"},
		{"every before 1970", "@every 1h", "1969-12-31T23:30:00Z", "1970-01-01T00:00:00Z"},
		{"every at the end of time", "@every 2000000h", "9990-01-01T00:00:00Z", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := mustCalendar(t, tt.spec, "UTC").Next(mustTime(t, tt.after))
			if tt.want == "" {
				if !got.IsZero() {
					t.Errorf("Next = %v, want none", got)
				}
				return
			}
			if !got.Equal(mustTime(t, tt.want)) {
				t.Errorf("Next = %v, want %v", got, tt.want)
			}
		})
	}
}

// TestLastDayOfALeapYearBeyondTheZoneFile stalled a search that trusted time.Time.ZoneBounds.
func TestLastDayOfALeapYearBeyondTheZoneFile(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Europe/Paris", "Australia/Lord_Howe"} {
		c := mustCalendar(t, "30 2 * * *", zone)
		ticks := ticksIn(t, c, time.Date(2048, 12, 30, 12, 0, 0, 0, c.loc), time.Date(2049, 1, 2, 12, 0, 0, 0, c.loc))
		want := []string{"2048-12-31 02:30", "2049-01-01 02:30", "2049-01-02 02:30"}
		if got := format(ticks, "2006-01-02 15:04"); !slices.Equal(got, want) {
			t.Errorf("%s: ticks %v, want %v", zone, got, want)
		}
	}
}

func TestEveryDoesNotDependOnWhenOneAsks(t *testing.T) {
	t.Parallel()
	c := mustCalendar(t, "@every 7s", "Europe/Paris")
	from := mustTime(t, "2026-10-25T00:00:00Z")
	want := c.Next(from)
	for at := from; at.Before(want); at = at.Add(time.Second) {
		if got := c.Next(at); !got.Equal(want) {
			t.Errorf("Next(%v) = %v, want %v", at, got, want)
		}
	}
}

func TestBetweenListsTheLatestAndCountsTheRest(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	specs := []string{"30 2 * * *", "@hourly", "*/20 * * * *", "*/20 1-3 * * *", "30 2,14 * * *", "@every 47m", "0 0 31 2 *", "0 0 * * 1"}
	zones := []string{"Europe/Paris", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia"}
	for range 300 {
		c := mustCalendar(t, specs[random.IntN(len(specs))], zones[random.IntN(len(zones))])
		at := switches(c.loc, 2011, 2012)
		around := mustTime(t, "2011-12-30T10:00:00Z")
		if len(at) > 0 {
			around = at[random.IntN(len(at))]
		}
		after := around.Add(-time.Duration(random.Int64N(int64(100 * time.Hour))))
		until := around.Add(time.Duration(random.Int64N(int64(100 * time.Hour))))
		most := random.IntN(20) - 1
		all := ticksIn(t, c, after, until)
		ticks, skipped := c.Between(after, until, most)
		listed := min(len(all), max(0, most))
		if skipped != len(all)-listed || !slices.EqualFunc(ticks, all[len(all)-listed:], time.Time.Equal) {
			t.Fatalf("%v: Between(%v, %v, %d) = %v, %d; all are %v", c, after, until, most, ticks, skipped, all)
		}
	}
}

func TestBetweenIncludesUntilAndNotAfter(t *testing.T) {
	t.Parallel()
	c := mustCalendar(t, "@hourly", "UTC")
	after, until := mustTime(t, "2026-06-01T00:00:00Z"), mustTime(t, "2026-06-01T02:00:00Z")
	ticks, skipped := c.Between(after, until, 10)
	if got := format(ticks, "15:04"); !slices.Equal(got, []string{"01:00", "02:00"}) || skipped != 0 {
		t.Errorf("Between = %v, %d", got, skipped)
	}
	for _, until := range []time.Time{after, after.Add(-time.Hour)} {
		if ticks, skipped := c.Between(after, until, 10); len(ticks) != 0 || skipped != 0 {
			t.Errorf("Between(%v, %v) = %v, %d", after, until, ticks, skipped)
		}
	}
}

// TestLongDownTimeOfAnEverySecondScheduleIsCountedNotWalked would take minutes if each tick was visited.
func TestLongDownTimeOfAnEverySecondScheduleIsCountedNotWalked(t *testing.T) {
	t.Parallel()
	c := mustCalendar(t, "* * * * * *", "Europe/Paris")
	after, until := mustTime(t, "1996-06-01T00:00:00Z"), mustTime(t, "2026-06-01T00:00:00Z")
	start := time.Now()
	ticks, skipped := c.Between(after, until, 3)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if want := int(until.Sub(after)/time.Second) - 3; skipped != want {
		t.Errorf("skipped %d, want %d", skipped, want)
	}
	if len(ticks) != 3 || !ticks[2].Equal(until) || !ticks[0].Equal(until.Add(-2*time.Second)) {
		t.Errorf("ticks %v", ticks)
	}
}

func TestParseErrorNamesTheField(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"0 61 * * * *":        `field 2 (minutes) "61": end of range (61) above maximum (59)`,
		"61 * * * *":          `field 1 (minutes) "61"`,
		"60 * * * * *":        `field 1 (seconds) "60"`,
		"0 0 24 * * *":        `field 3 (hours) "24"`,
		"0 24 * * *":          `field 2 (hours) "24"`,
		"0 0 0 0 * *":         `field 4 (day of month) "0"`,
		"0 0 0 * foo *":       `field 5 (month) "foo"`,
		"0 0 3 * * 7":         `allowed are 0-6 with 0 for Sunday`,
		"0 */0 * * * *":       `field 2 (minutes) "*/0"`,
		"0 5-1 * * * *":       `field 2 (minutes) "5-1"`,
		"0 , * * * *":         `field 2 (minutes) ",": no value`,
		"0 0 TZ=x * * *":      `field 3 (hours) "TZ=x": unexpected character '='`,
		"0 0 0 * * L":         `field 6 (day of week) "L"`,
		"* * * *":             "found 4 fields, want 5",
		"* * * * * * *":       "found 7 fields, want 5",
		"":                    "empty",
		"  ":                  "empty",
		"TZ=":                 "scheduler-timezone",
		"CRON_TZ=UTC 0 * * *": "scheduler-timezone",
		"@fortnightly":        "@fortnightly",
		"@every":              "@every",
		"@every soon":         "soon",
		"@every 0s":           "whole seconds",
		"@every -5s":          "whole seconds",
		"@every 1500ms":       "whole seconds",
	} {
		t.Run(strings.ReplaceAll(spec, "/", "_"), func(t *testing.T) {
			t.Parallel()
			_, err := Parse(spec, time.UTC)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "parse cron spec ") {
				t.Errorf("error %v, want one with %q", err, want)
			}
		})
	}
	if _, err := Parse("@daily", nil); err == nil {
		t.Error("no error without a zone")
	}
}

func TestStringIsSpecAndZone(t *testing.T) {
	t.Parallel()
	if got := mustCalendar(t, " 30  2 * * * ", "Europe/Paris").String(); got != "30 2 * * * (Europe/Paris)" {
		t.Errorf("String = %q", got)
	}
}

// FuzzParse looks for specs that panic, hang, or make a calendar whose Next, Between and count disagree.
func FuzzParse(f *testing.F) {
	for _, spec := range []string{
		"0 30 2 * * *", "*/20 1-5 * * *", "@every 1h", "@every 9223372036s", "@daily", "0 0 31 2 *", "* * * * * *",
		"TZ=", "CRON_TZ=x", "0 0 TZ=x * *", "*-5/2 ? , * *", "1-5/9223372036854775807 * * * *", "0 0 29 feb mon", "@", "@every ",
	} {
		f.Add(spec, int64(1_790_000_000))
	}
	loc := mustCalendar(f, "@daily", "Australia/Lord_Howe").loc
	f.Fuzz(func(t *testing.T, spec string, unix int64) {
		c, err := Parse(spec, loc)
		if err != nil {
			return
		}
		at := time.Unix(unix, 0)
		first := c.Next(at)
		if first.IsZero() {
			return
		}
		second := c.Next(first)
		if !first.After(at) || !second.IsZero() && !second.After(first) {
			t.Fatalf("%v from %v: %v, %v", c, at, first, second)
		}
		if second.IsZero() {
			return
		}
		if ticks, skipped := c.Between(at, second, 1); skipped != 1 || len(ticks) != 1 || !ticks[0].Equal(second) {
			t.Fatalf("%v: Between(%v, %v, 1) = %v, %d", c, at, second, ticks, skipped)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for _, spec := range []string{"* * * * * *", "0 0 */6 * * *", "0 30 2 * * *", "0 0 29 2 *", "0 0 31 2 *"} {
		b.Run(spec, func(b *testing.B) {
			c := mustCalendar(b, spec, "Europe/Paris")
			at := mustTime(b, "2026-06-01T00:00:00Z")
			for b.Loop() {
				c.Next(at)
			}
		})
	}
}
