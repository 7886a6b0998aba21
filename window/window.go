// Package window knows weekly maintenance windows: when one is open, until when, and when the next one opens.
//
// It is pure: a window is days and times of day, and what instants they are depends on a time zone alone. It imports the
// standard library only, so that both the configuration and the scheduler can use it.
package window

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Weekly is a set of weekly windows. The zero value has none and is always open. It is immutable.
//
// A window opens at the first moment of a day at which a clock on the wall shows its start or later, and closes at the
// first one at which it shows its end or later. So on the days when the clock is changed every window still opens once
// and closes once: it is shorter by what is left out, longer by what is repeated, and one that lies wholly in the
// hour that does not exist is not there on that day.
type Weekly struct {
	text  string
	spans []span
}

// span is one window: it opens on each of these days.
type span struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes since 00:00 of the day; to is greater than from and may lie on the next day
}

const dayMinutes = 24 * 60

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Parse reads windows as people write them: "mon-fri 22:00-05:00, sat,sun 00:00-24:00". Days are names or ranges of
// them, without any a window is open daily; an end that is not after its start lies on the next day. An empty text is
// the zero Weekly.
func Parse(text string) (Weekly, error) {
	w := Weekly{text: strings.Join(strings.Fields(text), " ")}
	if w.text == "" {
		return Weekly{}, nil
	}
	var days [7]bool
	named := false // days were named since the last window
	for _, item := range strings.Split(w.text, ",") {
		fields := strings.Fields(item)
		if len(fields) == 0 {
			return Weekly{}, errors.New("holds an empty item; remove the comma")
		}
		last := fields[len(fields)-1]
		timed := strings.Contains(last, ":")
		if timed {
			fields = fields[:len(fields)-1]
		}
		if len(fields) > 1 {
			return Weekly{}, fmt.Errorf("%q: want days and one range of times, as in mon-fri 22:00-05:00", clip(strings.TrimSpace(item)))
		}
		for _, f := range fields {
			if err := addDays(&days, f); err != nil {
				return Weekly{}, err
			}
			named = true
		}
		if !timed {
			continue
		}
		if !named {
			days = [7]bool{true, true, true, true, true, true, true}
		}
		s, err := parseSpan(last)
		if err != nil {
			return Weekly{}, err
		}
		s.days = days
		w.spans = append(w.spans, s)
		days, named = [7]bool{}, false
	}
	if named {
		return Weekly{}, errors.New("ends with days without times; add them, as in sun 00:00-24:00")
	}
	return w, nil
}

// addDays takes in "mon" or "fri-mon".
func addDays(days *[7]bool, text string) error {
	first, last, isRange := strings.Cut(strings.ToLower(text), "-")
	if !isRange {
		last = first
	}
	from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
	if from < 0 || to < 0 {
		return fmt.Errorf("%q is no day; the days are %s", clip(text), strings.Join(dayNames, ", "))
	}
	for d := from; ; d = (d + 1) % 7 {
		days[d] = true
		if d == to {
			return nil
		}
	}
}

func parseSpan(text string) (span, error) {
	start, end, ok := strings.Cut(text, "-")
	from, err := parseClock(start)
	if err != nil || !ok || from == dayMinutes {
		return span{}, fmt.Errorf("%q is no range of times; write it as in 22:00-05:00", clip(text))
	}
	to, err := parseClock(end)
	if err != nil {
		return span{}, fmt.Errorf("%q is no range of times; write it as in 22:00-05:00", clip(text))
	}
	switch {
	case from == to:
		return span{}, fmt.Errorf("%q is empty; write 00:00-24:00 for a whole day", clip(text))
	case to < from:
		to += dayMinutes
	}
	return span{from: from, to: to}, nil
}

// parseClock reads HH:MM up to 24:00 as minutes.
func parseClock(text string) (int, error) {
	hours, minutes, _ := strings.Cut(text, ":")
	h, err := strconv.ParseUint(hours, 10, 8)
	m, err2 := strconv.ParseUint(minutes, 10, 8)
	if err != nil || err2 != nil || len(hours) > 2 || len(minutes) != 2 || m > 59 || h*60+m > dayMinutes {
		return 0, fmt.Errorf("%q is no time of day", clip(text))
	}
	return int(h*60 + m), nil
}

// clip keeps a text of the configuration from filling a message.
func clip(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "..."
	}
	return s
}

// String is the text the windows were read from, with single blanks; empty for the zero value.
func (w Weekly) String() string { return w.text }

// IsZero reports whether there are no windows, which means always open.
func (w Weekly) IsZero() bool { return len(w.spans) == 0 }

// Open reports whether a window is open at t. Zone is that of the days and times.
func (w Weekly) Open(t time.Time, zone *time.Location) bool {
	if w.IsZero() {
		return true
	}
	for _, p := range w.around(t, zone) {
		if p.holds(t) {
			return true
		}
	}
	return false
}

// Opens is the first moment not before t at which a window is open: t itself when one is, the zero time when none opens
// within a fortnight.
func (w Weekly) Opens(t time.Time, zone *time.Location) time.Time {
	if w.IsZero() {
		return t
	}
	for _, p := range w.around(t, zone) {
		switch {
		case p.holds(t):
			return t
		case p.from.After(t):
			return p.from.In(zone)
		}
	}
	return time.Time{}
}

// Closes is the end of what is open at t, windows that touch taken together. It is zero when nothing is open, and when
// nothing closes for a week.
func (w Weekly) Closes(t time.Time, zone *time.Location) time.Time {
	for _, p := range w.around(t, zone) {
		if p.holds(t) && p.to.Sub(t) <= 7*24*time.Hour {
			return p.to.In(zone)
		}
	}
	return time.Time{}
}

// period is one opening, from included, to excluded.
type period struct{ from, to time.Time }

func (p period) holds(t time.Time) bool { return !t.Before(p.from) && t.Before(p.to) }

// around lists the openings from two days before t to two weeks after it, in order, those that touch as one.
func (w Weekly) around(t time.Time, zone *time.Location) (out []period) {
	year, month, day := t.In(zone).Date()
	for d := -2; d <= 14; d++ {
		// Noon UTC only carries the date; the zone comes in with the times of day.
		date := time.Date(year, month, day+d, 12, 0, 0, 0, time.UTC)
		for _, s := range w.spans {
			if !s.days[date.Weekday()] {
				continue
			}
			if p := (period{instant(date, s.from, zone), instant(date, s.to, zone)}); p.from.Before(p.to) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b period) int { return cmp.Or(a.from.Compare(b.from), a.to.Compare(b.to)) })
	merged := out[:0]
	for _, p := range out {
		if n := len(merged); n > 0 && !p.from.After(merged[n-1].to) {
			if p.to.After(merged[n-1].to) {
				merged[n-1].to = p.to
			}
			continue
		}
		merged = append(merged, p)
	}
	return merged
}

// instant is the first moment at which a clock in the zone shows so many minutes of the day: the first of two when it
// shows them twice, the first moment after the gap when it does not show them. time.Date promises neither.
func instant(date time.Time, minutes int, zone *time.Location) time.Time {
	year, month, day := date.Date()
	wall := time.Date(year, month, day, 0, minutes, 0, 0, time.UTC)
	before, after := offset(wall.Add(-24*time.Hour), zone), offset(wall.Add(24*time.Hour), zone)
	first := time.Time{}
	for _, o := range []time.Duration{before, after} {
		at := wall.Add(-o)
		if offset(at, zone) == o && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if !first.IsZero() {
		return first
	}
	// By the clock that goes before the gap it is a moment after the gap's end, which begins the period around it.
	start, _ := wall.Add(-before).In(zone).ZoneBounds()
	return start.UTC()
}

func offset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}
