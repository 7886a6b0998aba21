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

// clockSlack is how far the clocks of the database host and of the receiver may be apart.
const clockSlack = time.Minute

// Coverage says how far the segments of one cluster lead from a base, without reading any. It is pure. Errors: [ErrReach].
func Coverage(segments []store.Segment, base Base) (Span, error) {
	links := store.BinlogChain(segments)
	at, err := begin(links, base)
	if err != nil {
		return Span{}, err
	}
	span := Span{From: base.Time}
	for i, l := range links[at:] {
		if i > 0 && l.Missing != nil {
			span.Gap = l.Missing
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
func begin(links []store.BinlogLink, base Base) (int, error) {
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
	leads := State{} // where the stretch ends that the segment is in
	for i, l := range slices.Backward(links) {
		if i == len(links)-1 || links[i+1].Missing != nil {
			leads = stateOf(l.After)
		}
		// A log that was reset begins with nothing, which every base covers; but it does not lead to what the base has.
		if state.Covers(stateOf(l.Before)) && leads.leadsTo(state) && early(l.Segment) && l.Flavor == store.FlavorMariaDB {
			return i, nil
		}
	}
	if last := links[len(links)-1]; state.Covers(stateOf(last.Before)) {
		return 0, fmt.Errorf("%w: it ends with %s, and the base holds %s", ErrReach, last.After, base.GTID)
	}
	return 0, fmt.Errorf("%w: it begins after %s, and the base holds %s", ErrReach, links[0].Before, base.GTID)
}
