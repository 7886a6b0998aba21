// Package retention decides which backups of a server are kept, and says why.
//
// It is pure: what a backup is worth (restored in a drill, pinned) comes with it, and nothing is deleted here. It imports
// the standard library only.
package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Rules say how many backups are kept (the backup-keep-* keys). Each counts periods that have a backup, newest first, and
// keeps the newest backup of each; a backup that any rule wants stays. The zero value keeps everything.
type Rules struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
	Zone                                         *time.Location // where a day ends; nil is UTC
}

// Backup is what counts about one backup.
type Backup struct {
	ID       string
	Group    string    // backups are counted against those of the same group only, such as one tool's
	Taken    time.Time // when the state was taken that it restores
	Restored bool      // a drill has restored it
	Pinned   bool      // an operator keeps it
}

// Verdict is what becomes of one backup.
type Verdict struct {
	ID   string
	Keep bool
	Why  []string // the rules that keep it; why it may go
}

// Judge says which backups of one server are kept, in the order newest first. Whatever the rules say it keeps, of each
// group, the newest backup and the newest that a drill has restored: what replaces them is not proven yet.
func Judge(rules Rules, backups []Backup) []Verdict {
	sorted := slices.Clone(backups)
	slices.SortFunc(sorted, func(a, b Backup) int {
		return cmp.Or(b.Taken.Compare(a.Taken), cmp.Compare(b.ID, a.ID))
	})
	out := make([]Verdict, len(sorted))
	counters := map[string][]*counter{}
	for i, b := range sorted {
		first := counters[b.Group] == nil
		if first {
			counters[b.Group] = rules.counters()
		}
		v := Verdict{ID: b.ID}
		for _, c := range counters[b.Group] {
			if why := c.wants(b); why != "" {
				v.Why = append(v.Why, why)
			}
		}
		switch {
		case rules.empty():
			v.Why = append(v.Why, "no backup-keep- key is set")
		case first && len(v.Why) == 0:
			v.Why = append(v.Why, "newest")
		}
		if b.Pinned {
			v.Why = append(v.Why, "pinned")
		}
		if v.Keep = len(v.Why) > 0; !v.Keep {
			v.Why = []string{"no backup-keep- key wants it"}
		}
		out[i] = v
	}
	return out
}

func (r Rules) empty() bool {
	return r.Last+r.Hourly+r.Daily+r.Weekly+r.Monthly+r.Yearly == 0
}

// counter is one rule on its way through the backups of a group, newest first.
type counter struct {
	name   string
	left   int
	bucket func(Backup) (string, bool) // the period of a backup; false when the rule does not look at it
	last   string                      // the period of the last one kept
	total  int
}

// counters are the rules of a group, and what holds without any rule: the newest restored backup stays.
func (r Rules) counters() []*counter {
	zone := r.Zone
	if zone == nil {
		zone = time.UTC
	}
	period := func(format string) func(Backup) (string, bool) {
		return func(b Backup) (string, bool) { return b.Taken.In(zone).Format(format), true }
	}
	week := func(b Backup) (string, bool) {
		year, week := b.Taken.In(zone).ISOWeek()
		return fmt.Sprintf("%d-W%02d", year, week), true
	}
	each := func(b Backup) (string, bool) { return b.ID, true }
	restored := func(b Backup) (string, bool) { return b.ID, b.Restored }
	return []*counter{
		{name: "last", left: r.Last, total: r.Last, bucket: each},
		// The offset belongs to the hour: when the clock is set back, an hour comes twice and each has its backup.
		{name: "hourly", left: r.Hourly, total: r.Hourly, bucket: period("2006-01-02 15 -0700")},
		{name: "daily", left: r.Daily, total: r.Daily, bucket: period("2006-01-02")},
		{name: "weekly", left: r.Weekly, total: r.Weekly, bucket: week},
		{name: "monthly", left: r.Monthly, total: r.Monthly, bucket: period("2006-01")},
		{name: "yearly", left: r.Yearly, total: r.Yearly, bucket: period("2006")},
		{name: "newest that a drill has restored", left: 1, bucket: restored},
	}
}

// wants says why the rule keeps b, empty when it does not.
func (c *counter) wants(b Backup) string {
	period, looks := c.bucket(b)
	if !looks || c.left == 0 || period == c.last {
		return ""
	}
	c.left, c.last = c.left-1, period
	if c.total == 0 {
		return c.name
	}
	return fmt.Sprintf("%s %d of %d", c.name, c.total-c.left, c.total)
}
