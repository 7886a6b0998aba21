package window

import (
	"strings"
	"testing"
	"time"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEveryMomentIsInsideOrOutsideAsTheClockOnTheWallSays(t *testing.T) {
	t.Parallel()
	const both = "mon-fri 22:00-05:00, sat,sun 00:00-24:00"
	for _, c := range []struct {
		windows, zone, at string
		open              bool
		opens, closes     string // "" = none
	}{
		{"", "UTC", "2026-11-23T12:00:00Z", true, "2026-11-23T12:00:00Z", ""},
		// 2026-11-23 is a Monday.
		{both, "UTC", "2026-11-23T21:59:59Z", false, "2026-11-23T22:00:00Z", ""},
		{both, "UTC", "2026-11-23T22:00:00Z", true, "2026-11-23T22:00:00Z", "2026-11-24T05:00:00Z"},
		{both, "UTC", "2026-11-24T04:59:59Z", true, "2026-11-24T04:59:59Z", "2026-11-24T05:00:00Z"},
		{both, "UTC", "2026-11-24T05:00:00Z", false, "2026-11-24T22:00:00Z", ""},
		// Monday's early hours belong to Sunday, whose window ends at midnight.
		{both, "UTC", "2026-11-23T00:00:00Z", false, "2026-11-23T22:00:00Z", ""},
		// Friday night runs into the weekend: one opening.
		{both, "UTC", "2026-11-27T23:00:00Z", true, "2026-11-27T23:00:00Z", "2026-11-30T00:00:00Z"},
		{both, "Europe/Paris", "2026-11-23T20:59:59Z", false, "2026-11-23T21:00:00Z", ""},
		{"fri-mon 01:00-02:00", "UTC", "2026-11-24T00:00:00Z", false, "2026-11-27T01:00:00Z", ""},
		{"fri-mon 01:00-02:00", "UTC", "2026-11-23T01:30:00Z", true, "2026-11-23T01:30:00Z", "2026-11-23T02:00:00Z"},
		{"01:00-02:00", "UTC", "2026-11-25T01:00:00Z", true, "2026-11-25T01:00:00Z", "2026-11-25T02:00:00Z"},
		{"00:00-24:00", "UTC", "2026-11-25T01:00:00Z", true, "2026-11-25T01:00:00Z", ""},
		{"SAT,Sun 00:00-24:00", "UTC", "2026-11-28T00:00:00Z", true, "2026-11-28T00:00:00Z", "2026-11-30T00:00:00Z"},
		{"wed 03:00-04:00, wed 20:00-21:00", "UTC", "2026-11-25T10:00:00Z", false, "2026-11-25T20:00:00Z", ""},
		{"sat 23:00-22:00", "UTC", "2026-11-29T21:59:00Z", true, "2026-11-29T21:59:00Z", "2026-11-29T22:00:00Z"},

		// Spring in Paris, 29 March 2026: 02:00 becomes 03:00 (01:00Z).
		{"22:00-05:00", "Europe/Paris", "2026-03-28T21:00:00Z", true, "2026-03-28T21:00:00Z", "2026-03-29T03:00:00Z"}, // six hours
		{"02:30-04:00", "Europe/Paris", "2026-03-29T00:59:59Z", false, "2026-03-29T01:00:00Z", ""},
		{"02:30-04:00", "Europe/Paris", "2026-03-29T01:00:00Z", true, "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"},
		{"01:00-02:30", "Europe/Paris", "2026-03-29T00:59:59Z", true, "2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"},
		{"02:00-03:00", "Europe/Paris", "2026-03-29T01:00:00Z", false, "2026-03-30T00:00:00Z", ""}, // wholly in the gap

		// Autumn, 25 October 2026: 03:00 becomes 02:00 (01:00Z).
		{"22:00-05:00", "Europe/Paris", "2026-10-24T20:00:00Z", true, "2026-10-24T20:00:00Z", "2026-10-25T04:00:00Z"}, // eight hours
		{"02:00-03:00", "Europe/Paris", "2026-10-25T00:00:00Z", true, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"}, // two hours
		{"01:00-02:30", "Europe/Paris", "2026-10-25T00:29:59Z", true, "2026-10-25T00:29:59Z", "2026-10-25T00:30:00Z"},
		{"01:00-02:30", "Europe/Paris", "2026-10-25T01:15:00Z", false, "2026-10-26T00:00:00Z", ""}, // the second 02:15: closed for good
		{"02:30-05:00", "Europe/Paris", "2026-10-25T01:15:00Z", true, "2026-10-25T01:15:00Z", "2026-10-25T04:00:00Z"},

		// Half an hour in Lord Howe, midnight that does not exist in Beirut, a day that does not exist in Apia.
		{"02:00-02:30", "Australia/Lord_Howe", "2026-10-03T15:30:00Z", false, "2026-10-04T15:00:00Z", ""},
		{"sun 00:00-02:00", "Asia/Beirut", "2026-03-28T22:00:00Z", true, "2026-03-28T22:00:00Z", "2026-03-28T23:00:00Z"},
		{"fri 10:00-11:00", "Pacific/Apia", "2011-12-30T12:00:00Z", false, "2012-01-05T20:00:00Z", ""},
	} {
		w, err := Parse(c.windows)
		if err != nil {
			t.Fatal(err)
		}
		z, now := zone(t, c.zone), at(t, c.at)
		name := c.windows + " in " + c.zone + " at " + c.at
		if open := w.Open(now, z); open != c.open {
			t.Errorf("%s: open %v", name, open)
		}
		for what, pair := range map[string]struct {
			got  time.Time
			want string
		}{"opens": {w.Opens(now, z), c.opens}, "closes": {w.Closes(now, z), c.closes}} {
			if pair.want == "" && pair.got.IsZero() {
				continue
			}
			if pair.want == "" || !pair.got.Equal(at(t, pair.want)) {
				t.Errorf("%s: %s %s, want %q", name, what, pair.got.UTC(), pair.want)
			}
		}
	}
}

// Over two years and every kind of change of the clock: what Opens and Closes say is what Open says, sampled at every hour and minute of a day.
func TestOpensAndClosesAgreeWithOpenOverClockChanges(t *testing.T) {
	t.Parallel()
	w, err := Parse("mon-fri 22:00-02:15, sun 02:30-03:30, sat 23:45-00:45")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Europe/Paris", "Australia/Lord_Howe", "Asia/Beirut", "America/Havana"} {
		z := zone(t, name)
		for now := at(t, "2025-12-31T23:00:00Z"); now.Year() < 2027; now = now.Add(293 * time.Minute) {
			opens := w.Opens(now, z)
			if opens.IsZero() || !w.Open(opens, z) || opens.After(now) && (w.Open(now, z) || w.Open(opens.Add(-time.Second), z)) {
				t.Fatalf("%s: from %s it opens %s", name, now, opens)
			}
			if closes := w.Closes(opens, z); !closes.After(opens) || w.Open(closes, z) || !w.Open(closes.Add(-time.Second), z) {
				t.Fatalf("%s: open at %s, closes %s", name, opens, closes)
			}
		}
	}
}

func TestWhatIsNoWindowIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mon":                     "without times",
		"mon 22:00-05:00, tue":    "without times",
		"mon 22:00":               "no range",
		"mon 22:00-25:00":         "no range",
		"mon 24:00-01:00":         "no range",
		"mon 1:5-02:00":           "no range",
		"mon -1:00-02:00":         "no range",
		"mon +1:00-02:00":         "no range",
		"mon 03:00-03:00":         "is empty",
		"monday 01:00-02:00":      `"monday" is no day`,
		"mon-fry 01:00-02:00":     "is no day",
		"mon,,tue 01:00-02:00":    "empty item",
		",":                       "empty item",
		"mon tue 01:00-02:00":     "one range of times",
		"1:00-2:00 3:00-4:00":     "is no day",
		"mon 01:00-02:00 monthly": "one range of times",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if w, err := Parse("  mon-fri   22:00-05:00 ,sat 1:00-2:00"); err != nil || w.String() != "mon-fri 22:00-05:00 ,sat 1:00-2:00" || w.IsZero() {
		t.Errorf("%v, %v", w, err)
	}
}
