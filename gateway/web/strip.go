package web

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"drydock/job"
)

// dayOf is the beginning of a day, UTC.
func dayOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

type cellKey struct {
	cluster string
	day     time.Time
}

// cell counts what became of the jobs and ticks of a cluster on a day.
type cell struct{ OK, Warn, Failed, Late, Skipped, Missed int }

// take counts a job that ended in a state; n is 1, or -1 when the end was none.
func (c *cell) take(s job.State, n int) {
	switch {
	case s == job.Success:
		c.OK += n
	case failedState(s):
		c.Failed += n
	case s == job.Canceled:
		c.Warn += n
	}
	// A job that was skipped stands in the ledger too, and is counted there.
}

// worst is what the day is called: the worst that happened on it, empty when nothing did.
func (c cell) worst() string {
	for _, k := range []struct {
		n    int
		name string
	}{{c.Failed, "failed"}, {c.Missed, "missed"}, {c.Late, "late"}, {c.Skipped, "skipped"}, {c.Warn, "warn"}, {c.OK, "ok"}} {
		if k.n > 0 {
			return k.name
		}
	}
	return ""
}

func (c cell) String() string {
	var parts []string
	for _, k := range []struct {
		n    int
		name string
	}{{c.Failed, "failed"}, {c.Missed, "missed"}, {c.Late, "late"}, {c.Skipped, "skipped"}, {c.Warn, "canceled"}, {c.OK, "ok"}} {
		if k.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", k.n, k.name))
		}
	}
	if len(parts) == 0 {
		return "nothing ran"
	}
	return strings.Join(parts, ", ")
}

type stripDay struct {
	cell
	Day time.Time
}

// Worst is for the template.
func (d stripDay) Worst() string { return d.worst() }

// strip is the last days of a cluster, oldest first.
type strip struct {
	Days  []stripDay
	Known bool // all of it was read
}

// String says the strip in words.
func (s strip) String() string {
	count := map[string]int{}
	for _, d := range s.Days {
		count[d.worst()]++
	}
	var parts []string
	for _, name := range []string{"failed", "missed", "late", "skipped", "warn", "ok"} {
		if n := count[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	if n := count[""]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d without runs", n))
	}
	return fmt.Sprintf("last %d days: %s", len(s.Days), strings.Join(parts, ", "))
}

// forecast is what a run is expected to take, by the last good ones.
type forecast struct {
	Runs int           // that it is made from
	P50  time.Duration // half of them took no longer
	P90  time.Duration // nine in ten took no longer
	Size int64         // bytes, the median
}

func forecastOf(last []run) forecast {
	var took []time.Duration
	var sizes []int64
	for _, r := range last {
		if r.took > 0 {
			took = append(took, r.took)
		}
		if r.bytes > 0 {
			sizes = append(sizes, r.bytes)
		}
	}
	slices.Sort(took)
	slices.Sort(sizes)
	return forecast{Runs: len(took), P50: quantile(took, 0.5), P90: quantile(took, 0.9), Size: quantile(sizes, 0.5)}
}

// quantile is the smallest of the sorted values that at least this share is not above; 0 for none.
func quantile[T ~int64](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}
