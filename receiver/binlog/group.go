package binlog

import (
	"fmt"
	"strings"
	"time"
)

// group follows a log event by event and says where its transactions begin and end.
type group struct {
	format format

	in         bool // between the first and the last event of a transaction
	hasID      bool
	id         GTID
	standalone bool
	begun      bool // MySQL: BEGIN was seen
}

// step is what an event is to its transaction.
type step struct {
	first, last bool // of a transaction
	inside      bool // part of one
	when        time.Time
}

// next takes an event in. A format description begins a log: a transaction that did not end before never will.
func (g *group) next(e event) (s step, err error) {
	s.when = e.time()
	switch e.kind() {
	case evFormat:
		if g.format, err = parseFormat(e); err != nil {
			return s, err
		}
		g.in = false
		return s, nil
	case evGTID:
		g.in, g.hasID, g.begun = true, true, false
		g.id, g.standalone, err = g.format.gtid(e)
		s.first, s.inside = true, true
		return s, err
	case evGTIDMySQL, evAnonymous:
		g.in, g.hasID, g.standalone, g.begun = true, false, true, false
		s.first, s.inside = true, true
		return s, nil
	case evStop, evRotate, evGTIDList, evPreviousMySQL, evCheckpoint, evEncryption, evHeartbeat, evHeartbeatMySQL:
		return s, nil
	case evIncident:
		return s, fmt.Errorf("the server lost events here (incident at %d)", e.end())
	}
	if !g.in {
		return s, fmt.Errorf("%w: an event of type %d outside a transaction", ErrEvent, e.kind())
	}
	s.inside, s.last = true, g.ends(e)
	g.in = !s.last
	return s, nil
}

// ends says whether e is the last event of the transaction that g is in.
func (g *group) ends(e event) bool {
	switch e.kind() {
	case evXID, evXAPrepare:
		return true
	case evQueryCompressed:
		return g.standalone && !g.begun
	case evQuery:
	default:
		return false
	}
	text := strings.ToUpper(g.format.statement(e))
	switch {
	case text == "BEGIN" || strings.HasPrefix(text, "XA START"):
		g.begun = true
		return false
	case g.standalone && !g.begun:
		return true
	}
	return text == "COMMIT" || text == "ROLLBACK" || strings.HasPrefix(text, "XA COMMIT") || strings.HasPrefix(text, "XA ROLLBACK") ||
		strings.HasPrefix(text, "XA PREPARE")
}
