package store

import (
	"fmt"
	"slices"
)

// BinlogLink is a segment, and what is missing between it and the one before.
type BinlogLink struct {
	Segment
	Missing *Gap // nil when nothing is
}

// BinlogChain brings the segments of a cluster into one line of history, oldest first, as it leads to the newest one, and marks what is
// missing between them. Segments that no line needs are left out: two receivers may have taken the same piece. It is pure.
func BinlogChain(segments []Segment) []BinlogLink {
	all := slices.DeleteFunc(slices.Clone(segments), func(s Segment) bool { return s.End == s.Start || s.Lost != "" })
	SortSegments(all)
	used, ids := make([]bool, len(all)), make(map[string][]int, len(all))
	for i, s := range all {
		ids[s.ID()] = append(ids[s.ID()], i)
	}
	var out []BinlogLink
	for at := len(all) - 1; at >= 0; {
		used[at] = true
		cur := BinlogLink{Segment: all[at]}
		before := previous(all, used, ids[all[at].Prev], at)
		if before >= 0 {
			cur.Missing = between(all[before], all[at])
		} else if all[at].Gap != nil {
			cur.Missing = all[at].Gap
		}
		out = append(out, cur)
		at = before
	}
	slices.Reverse(out)
	return out
}

// previous is the segment that history goes on from, which has the name that all[at] goes on from, or else the newest one before; -1
// without one.
func previous(all []Segment, used []bool, named []int, at int) int {
	found := -1
	for _, i := range named {
		if !used[i] && (found < 0 || all[i].End > all[found].End) {
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
func between(a, b Segment) *Gap {
	gap := func(format string, args ...any) *Gap {
		return &Gap{Found: b.Taken, Since: a.Until(), Before: a.After, After: b.Before, Reason: fmt.Sprintf(format, args...)}
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
	case a.Flavor != FlavorMariaDB || b.Flavor != FlavorMariaDB:
		return gap("%s follows %s, and without GTIDs of MariaDB it cannot be told what lies between", b.Server, a.Server)
	case a.After != b.Before:
		return gap("%s of %s was archived to go on after %s, and what is here before it ends with %s", b.File, b.Server, b.Before, a.After)
	}
	return nil
}

// The values of [Segment.Flavor].
const (
	FlavorMariaDB = "mariadb"
	FlavorMySQL   = "mysql"
)

// BinlogGaps are the pieces that the archive of a cluster lacks, oldest first. It is pure.
func BinlogGaps(segments []Segment) []Gap {
	var out []Gap
	for i, l := range BinlogChain(segments) {
		if l.Missing != nil && i > 0 {
			out = append(out, *l.Missing)
		}
	}
	return out
}
