package binlog

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"drydock/job"
	"drydock/store"
)

// Base is where a replay begins: what a base backup holds already.
type Base struct {
	// GTID is the last transaction of each domain that it holds, as in 0-1-42. It counts before File and Pos, which are the
	// position in the binary log of Server.
	GTID   string
	Server job.Server
	File   string
	Pos    int64
	Time   time.Time // when the backup ended
}

// BaseOf is where the replay on a backup begins. A backup whose position is in the binary log of a server that is not known
// (job.BinlogSource) needs its GTID.
func BaseOf(m store.Manifest) (Base, error) {
	b := Base{GTID: m.GTID, Server: m.Server, File: m.BinlogFile, Pos: m.BinlogPos, Time: m.Ended}
	if _, err := ParseState(b.GTID); err != nil {
		b.GTID = "" // MySQL's: the position has to do
	}
	if m.BinlogOf == job.BinlogSource {
		b.File, b.Pos = "", 0
	}
	if b.GTID == "" && b.File == "" {
		return b, fmt.Errorf("backup %s says neither a GTID nor a position in a binary log of %s: no replay can begin there", m.ID, m.Server)
	}
	return b, nil
}

// Span is what the archive can replay on a base.
type Span struct {
	From time.Time `json:"from"` // of the base
	To   time.Time `json:"to"`   // until when all is known to be there
	GTID string    `json:"gtid"` // the last transactions there
	// Gap ends it; nil when the archive goes on until now.
	Gap *store.Gap `json:"gap,omitempty"`
	// Segments are those that are read, in order.
	Segments []store.Segment `json:"segments"`
}

// ErrReach is in the chain of every error that says that the archive does not reach from the base to the wanted point.
var ErrReach = errors.New("the archive of binary logs does not reach")

// link is a segment and the gap before it.
type link struct {
	store.Segment
	gap *store.Gap
}

// chain brings the segments of a cluster into one line of history, oldest first, as it leads to the newest one, and marks what is
// missing between them. Segments that no line needs are left out: two receivers may have taken the same piece. It is pure.
func chain(segments []store.Segment) []link {
	all := slices.DeleteFunc(slices.Clone(segments), func(s store.Segment) bool { return s.End == s.Start })
	store.SortSegments(all)
	used := make([]bool, len(all))
	var out []link
	for at := len(all) - 1; at >= 0; {
		used[at] = true
		cur := link{Segment: all[at]}
		before := previous(all, used, at)
		if before >= 0 {
			cur.gap = between(all[before], all[at])
		} else if all[at].Gap != nil {
			cur.gap = all[at].Gap
		}
		out = append(out, cur)
		at = before
	}
	slices.Reverse(out)
	return out
}

// previous is the segment that history goes on from, or else the newest one before; -1 without one.
func previous(all []store.Segment, used []bool, at int) int {
	s, found := all[at], -1
	for i := range all {
		if used[i] || i == at {
			continue
		}
		if s.Prev != "" && all[i].ID() == s.Prev && (found < 0 || all[i].End > all[found].End) {
			found = i
		}
	}
	if found >= 0 {
		return found
	}
	for i := at - 1; i >= 0; i-- {
		if !used[i] {
			return i
		}
	}
	return -1
}

// between is what is missing between two segments that follow each other; nil when nothing is.
func between(a, b store.Segment) *store.Gap {
	gap := func(format string, args ...any) *store.Gap {
		return &store.Gap{Found: b.Taken, Since: a.Until(), Before: a.After, After: b.Before, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case b.Gap != nil:
		return b.Gap
	case b.Prev != "" && a.ID() != b.Prev:
		return gap("segment %s is missing", b.Prev)
	case b.Prev != "" && a.Log == b.Log && a.File == b.File && a.End < b.Start:
		return gap("of %s the bytes from %d to %d are missing", b.File, a.End, b.Start)
	case b.Prev != "":
		return nil
	case a.Flavor != mariadbFlavor || b.Flavor != mariadbFlavor:
		return gap("%s follows %s, and without GTIDs of MariaDB it cannot be told what lies between", b.Server, a.Server)
	case a.After != b.Before:
		return gap("%s of %s was archived to go on after %s, and what is here before it ends with %s", b.File, b.Server, b.Before, a.After)
	}
	return nil
}

// The values of [store.Segment.Flavor].
const (
	mariadbFlavor = "mariadb"
	mysqlFlavor   = "mysql"
)

// Gaps are the pieces that an archive lacks, oldest first. It is pure.
func Gaps(segments []store.Segment) []store.Gap {
	var out []store.Gap
	for i, l := range chain(segments) {
		if l.gap != nil && i > 0 {
			out = append(out, *l.gap)
		}
	}
	return out
}

// clockSlack is how far the clocks of the database host and of the receiver may be apart.
const clockSlack = time.Minute

// Coverage says how far the segments of one cluster lead from a base, without reading any. It is pure. Errors: [ErrReach].
func Coverage(segments []store.Segment, base Base) (Span, error) {
	links := chain(segments)
	at, err := begin(links, base)
	if err != nil {
		return Span{}, err
	}
	span := Span{From: base.Time}
	for i, l := range links[at:] {
		if i > 0 && l.gap != nil {
			span.Gap = l.gap
			break
		}
		span.Segments = append(span.Segments, l.Segment)
		span.GTID = l.After
		if u := l.Until(); u.After(span.To) {
			span.To = u
		}
	}
	return span, nil
}

// begin finds the last segment at which a replay on base can begin.
func begin(links []link, base Base) (int, error) {
	if len(links) == 0 {
		return 0, fmt.Errorf("%w: it is empty", ErrReach)
	}
	early := func(s store.Segment) bool { return base.Time.IsZero() || !s.Created.After(base.Time.Add(clockSlack)) }
	if base.GTID == "" {
		for i, l := range slices.Backward(links) {
			if l.Server == base.Server && l.File == base.File && l.Start <= base.Pos && base.Pos <= l.End && early(l.Segment) {
				return i, nil
			}
		}
		return 0, fmt.Errorf("%w: it has nothing of %s at position %d of %s", ErrReach, base.File, base.Pos, base.Server)
	}
	state, err := ParseState(base.GTID)
	if err != nil {
		return 0, err
	}
	for i, l := range slices.Backward(links) {
		if state.Covers(stateOf(l.Before)) && early(l.Segment) && l.Flavor == mariadbFlavor {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: it begins after %s, and the base holds %s", ErrReach, links[0].Before, base.GTID)
}
