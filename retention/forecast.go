package retention

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Stored is one backup on a disk, for a [Forecast].
type Stored struct {
	Series string // cluster, server and tool: one series grows like itself
	Taken  time.Time
	Bytes  int64
	Kept   bool // pinned or otherwise kept for ever
}

// Disk is where the backups of a forecast lie.
type Disk struct {
	Free    int64 // bytes that may still be written
	Reserve int64 // bytes of them that backups leave free
}

// Outlook is when a disk is full.
type Outlook struct {
	// Full says that the disk is expected to be full within [Horizon]; In is when, from now on. Zero is now.
	Full bool
	In   time.Duration
}

// Horizon is how far a forecast looks.
const Horizon = 365 * 24 * time.Hour

// String is "full in 12 days", "full now", or that it is not in sight.
func (o Outlook) String() string {
	switch days := int(o.In / (24 * time.Hour)); {
	case !o.Full:
		return "not full within a year"
	case o.In <= 0:
		return "full now"
	case days == 0:
		return "full within a day"
	case days == 1:
		return "full in 1 day"
	default:
		return fmt.Sprintf("full in %d days", days)
	}
}

const (
	// trendOf is how many of the last backups of a series tell how it goes on.
	trendOf = 30
	// step is how finely the future is looked at.
	step = 24 * time.Hour
	// perStep bounds how many backups of a series are played for one step; what comes more often is played as larger ones.
	perStep = 4
)

// Forecast plays what comes: every series goes on at the pace and growth of its last backups, and rules (per series; nil
// where nothing is pruned) take away what they let go of once a day. A series that has stopped grows no more: its last backup is older
// than three of its intervals and two days. One that has a single backup is taken to come daily.
func Forecast(now time.Time, disk Disk, backups []Stored, rules func(series string) *Rules) Outlook {
	room := disk.Free - disk.Reserve
	if room <= 0 {
		return Outlook{Full: true}
	}
	bySeries := map[string][]Stored{}
	for _, b := range backups {
		bySeries[b.Series] = append(bySeries[b.Series], b)
	}
	var playing []*series
	for _, name := range slices.Sorted(maps.Keys(bySeries)) {
		if s := newSeries(now, bySeries[name], rules(name)); s != nil {
			playing = append(playing, s)
		}
	}
	var start int64
	for _, s := range playing {
		start += s.bytes()
	}
	for ahead := step; ahead <= Horizon && len(playing) > 0; ahead += step {
		var peak, after int64
		for _, s := range playing {
			s.add(now.Add(ahead))
			peak += s.bytes() // the new ones are there before the old ones go
			s.prune(now.Add(ahead))
			after += s.bytes()
		}
		if peak-start > room {
			return Outlook{Full: true, In: ahead}
		}
	}
	return Outlook{}
}

// series are the backups of one tool and server, present and to come.
type series struct {
	rules  *Rules
	list   []Stored // oldest first
	every  time.Duration
	weight int64 // how many backups one that is played stands for
	base   float64
	growth float64 // bytes per second
	from   time.Time
	next   time.Time
	n      int
}

// newSeries is nil for one that has stopped.
func newSeries(now time.Time, list []Stored, rules *Rules) *series {
	slices.SortFunc(list, func(a, b Stored) int { return a.Taken.Compare(b.Taken) })
	last := list[len(list)-1]
	s := &series{rules: rules, list: list, every: step, weight: 1, base: float64(last.Bytes), from: last.Taken}
	recent := list[max(0, len(list)-trendOf):]
	var gaps []time.Duration
	var slopes []float64
	for i, a := range recent {
		for j, b := range recent[i+1:] {
			d := b.Taken.Sub(a.Taken)
			if d <= 0 {
				continue
			}
			if j == 0 {
				gaps = append(gaps, d)
			}
			slopes = append(slopes, float64(b.Bytes-a.Bytes)/d.Seconds())
		}
	}
	if len(gaps) > 0 {
		s.every = median(gaps)
		s.growth = max(0, median(slopes)) // one that shrinks is not counted on to go on
	}
	if now.Sub(last.Taken) > 3*s.every+2*step {
		return nil
	}
	if most := time.Duration(step / perStep); s.every < most && s.every > 0 {
		s.weight = max(1, int64(most/s.every))
		s.every = most
	}
	s.next = last.Taken.Add(s.every)
	if s.next.Before(now) {
		s.next = now
	}
	return s
}

func median[T cmp.Ordered](list []T) T {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

// add plays the backups until a time. Where rules take away what comes, one stands for itself: the rules count backups.
func (s *series) add(until time.Time) {
	for ; !s.next.After(until); s.next = s.next.Add(s.every) {
		size := int64(s.base + s.growth*s.next.Sub(s.from).Seconds())
		if s.rules == nil || s.rules.empty() {
			size *= s.weight
		}
		s.n++
		s.list = append(s.list, Stored{Taken: s.next, Bytes: size})
	}
}

// prune takes away what the rules let go of.
func (s *series) prune(now time.Time) {
	if s.rules == nil || s.rules.empty() {
		return
	}
	backups := make([]Backup, len(s.list))
	for i, b := range s.list {
		backups[i] = Backup{ID: fmt.Sprintf("%08d", i), Taken: b.Taken, Pinned: b.Kept}
	}
	stays := map[string]bool{}
	for _, v := range Judge(*s.rules, backups, now) {
		stays[v.ID] = v.Keep
	}
	kept := s.list[:0]
	for i, b := range s.list {
		if stays[backups[i].ID] {
			kept = append(kept, b)
		}
	}
	s.list = kept
}

func (s *series) bytes() (sum int64) {
	for _, b := range s.list {
		sum += b.Bytes
	}
	return sum
}
