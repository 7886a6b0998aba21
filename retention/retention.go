// Package retention decides which backups of a server are kept, says why, and tells when a disk will be full.
//
// It is pure: what a backup is worth (restored in a drill, pinned, in use) comes with it, and nothing is deleted here. It
// imports the standard library only.
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
	Holder   string    // who has the file: nobody gives up the last of his own because of what others should have
	Taken    time.Time // when the state was taken that it restores
	Restored bool      // a drill has restored it
	Doubtful bool      // a drill did not restore it, or its file is not what it should be: it takes no good one's place
	Pinned   bool      // an operator keeps it
	Held     []string  // why it may not go now, whatever the rules say
}

// Verdict is what becomes of one backup.
type Verdict struct {
	ID   string
	Keep bool
	Why  []string // the rules that keep it; why it may go
}

// MaxSkew is how far ahead of the clock the time of a backup may be before one of the two is taken to be wrong.
const MaxSkew = time.Hour

// Judge says which backups of one server are kept, in the order newest first. Whatever the rules say it keeps:
//   - of each group, and of what each holder has of it, the newest good backup and the newest that a drill has restored:
//     what replaces them is not proven yet;
//   - the newest of the server that a drill has restored, of whichever group;
//   - what is pinned or held;
//   - while a backup is from the future, everything that a drill has restored: the clock is wrong, or was.
//
// A doubtful backup, or one from the future, is kept by the rules as any other, but the good ones are judged once more as if it
// were not there.
func Judge(rules Rules, backups []Backup, now time.Time) []Verdict {
	sorted := slices.Clone(backups)
	slices.SortFunc(sorted, func(a, b Backup) int {
		return cmp.Or(b.Taken.Compare(a.Taken), cmp.Compare(b.ID, a.ID))
	})
	good := func(b Backup) bool { return !b.Doubtful && !b.Taken.After(now.Add(MaxSkew)) }
	all, sound := newTally(rules), newTally(rules)
	future := slices.ContainsFunc(sorted, func(b Backup) bool { return b.Taken.After(now.Add(MaxSkew)) })
	mixed := slices.ContainsFunc(sorted, func(b Backup) bool { return !good(b) })
	out := make([]Verdict, 0, len(sorted))
	for _, b := range sorted {
		v := Verdict{ID: b.ID}
		if rules.empty() {
			v.add("no backup-keep key is set")
		}
		v.add(all.wants(b)...)
		if good(b) {
			if mixed { // or they would say the same
				v.add(sound.wants(b)...)
			}
			v.add(sound.floors(b)...)
		}
		if future && b.Restored {
			v.add("a backup is from the future: the clock is wrong, or was")
		}
		if b.Pinned {
			v.add("pinned")
		}
		v.add(b.Held...)
		if v.Keep = len(v.Why) > 0; !v.Keep {
			v.Why = []string{"no backup-keep key wants it"}
		}
		out = append(out, v)
	}
	return out
}

// add notes reasons, each once.
func (v *Verdict) add(why ...string) {
	for _, w := range why {
		if !slices.Contains(v.Why, w) {
			v.Why = append(v.Why, w)
		}
	}
}

// OldestKept is the oldest backup that stays: what lies before it, such as segments of a binary log, no backup needs. ok is
// false when none stays.
func OldestKept(backups []Backup, verdicts []Verdict) (oldest Backup, ok bool) {
	for _, b := range backups {
		kept := slices.ContainsFunc(verdicts, func(v Verdict) bool { return v.ID == b.ID && v.Keep })
		if kept && (!ok || b.Taken.Before(oldest.Taken)) {
			oldest, ok = b, true
		}
	}
	return oldest, ok
}

func (r Rules) empty() bool {
	return r.Last+r.Hourly+r.Daily+r.Weekly+r.Monthly+r.Yearly == 0
}

// tally is where the rules are on their way through the backups, newest first.
type tally struct {
	rules    Rules
	counters map[string][]*counter // by group
	seen     map[string]bool       // floors that have their backup
}

func newTally(r Rules) *tally {
	return &tally{rules: r, counters: map[string][]*counter{}, seen: map[string]bool{}}
}

// wants lists the rules that keep b.
func (t *tally) wants(b Backup) (why []string) {
	if t.counters[b.Group] == nil {
		t.counters[b.Group] = t.rules.newCounters()
	}
	for _, c := range t.counters[b.Group] {
		if w := c.wants(b); w != "" {
			why = append(why, w)
		}
	}
	return why
}

// floors lists what keeps b without any rule.
func (t *tally) floors(b Backup) (why []string) {
	first := func(floor string) bool {
		was := t.seen[floor]
		t.seen[floor] = true
		return !was
	}
	// Every floor is looked at: each that b is the first of is taken by it.
	newest, newestHere := first("newest\x00"+b.Group), first("newest\x00"+b.Group+"\x00"+b.Holder)
	switch {
	case newest:
		why = append(why, "newest")
	case newestHere:
		why = append(why, "newest of its receiver")
	}
	if !b.Restored {
		return why
	}
	restored, restoredHere := first("restored\x00"+b.Group), first("restored\x00"+b.Group+"\x00"+b.Holder)
	ofServer := first("restored") // of whichever group: it is the first of its own, too
	switch {
	case restored || ofServer:
		why = append(why, "newest that a drill has restored")
	case restoredHere:
		why = append(why, "newest of its receiver that a drill has restored")
	}
	return why
}

// counter is one rule on its way through the backups of a group.
type counter struct {
	name  string
	left  int
	total int
	of    func(Backup) string // the period of a backup
	last  string              // the period of the last one kept
}

func (r Rules) newCounters() []*counter {
	zone := r.Zone
	if zone == nil {
		zone = time.UTC
	}
	period := func(format string) func(Backup) string {
		return func(b Backup) string { return b.Taken.In(zone).Format(format) }
	}
	week := func(b Backup) string {
		year, week := b.Taken.In(zone).ISOWeek()
		return fmt.Sprintf("%d-W%02d", year, week)
	}
	var out []*counter
	for _, c := range []counter{
		{name: "last", total: r.Last, of: func(b Backup) string { return b.ID }},
		// The offset belongs to the hour: when the clock is set back, an hour comes twice and each has its backup.
		{name: "hourly", total: r.Hourly, of: period("2006-01-02 15 -0700")},
		{name: "daily", total: r.Daily, of: period("2006-01-02")},
		{name: "weekly", total: r.Weekly, of: week},
		{name: "monthly", total: r.Monthly, of: period("2006-01")},
		{name: "yearly", total: r.Yearly, of: period("2006")},
	} {
		if c.left = c.total; c.total > 0 {
			out = append(out, &c)
		}
	}
	return out
}

// wants says why the rule keeps b, empty when it does not.
func (c *counter) wants(b Backup) string {
	period := c.of(b)
	if c.left == 0 || period == c.last {
		return ""
	}
	c.left, c.last = c.left-1, period
	return fmt.Sprintf("%s %d of %d", c.name, c.total-c.left, c.total)
}
