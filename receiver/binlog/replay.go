package binlog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"filippo.io/age"

	"drydock/store"
)

// Until is where a replay ends; the zero value is the end of the archive.
type Until struct {
	// Time is the first moment that is left out: what was committed in that second or later, by the clock of the server that
	// wrote it, is not replayed, nor anything logged after it.
	Time time.Time
	// GTID is a list as in 0-1-42: the last of them is the last transaction that is replayed. All that was logged before it is
	// replayed too, whatever its domain.
	GTID string
}

// Request is a replay to be planned.
type Request struct {
	Segments []store.Segment // of the cluster, from the catalogue or the manifests
	Base     Base
	Until    Until

	Keys       []store.PublicKey // that the segments may be signed with
	Identities []age.Identity    // that open encrypted ones
	// Where is the path of a segment on this machine. Optional: nil takes that of the segment.
	Where func(store.Segment) string
}

// Plan is a replay that is known to be possible: every byte of it was read and found whole.
type Plan struct {
	Span         Span
	Transactions int       // to be replayed
	Events       int       // of those
	Bytes        int64     // of those
	GTID         string    // the last transactions of each domain afterwards
	Last         time.Time // when the last of them was committed; zero without one

	req  Request
	stop int          // the number of the first transaction that is left out
	cut  map[int]bool // transactions that the server never ended
	held []func()
}

// errStop ends a reading early.
var errStop = errors.New("enough")

// Prepare reads all that the replay needs, and refuses it when anything is missing or damaged, or the archive does not reach the
// wanted point: nothing was touched then. Errors: [ErrReach], [ErrDamaged], [store.ErrSignature] and its like,
// sink.ErrIdentity, those of the file system.
func Prepare(ctx context.Context, r Request) (*Plan, error) {
	span, err := Coverage(r.Segments, r.Base)
	if err != nil {
		return nil, err
	}
	p := &Plan{Span: span, req: r, cut: map[int]bool{}}
	if err := p.prepare(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Reach says how far the archive leads from the base, and refuses what that alone shows to be out of reach. It reads nothing:
// [Prepare] does. Errors: [ErrReach].
func Reach(r Request) (Span, error) {
	span, err := Coverage(r.Segments, r.Base)
	if err != nil {
		return span, err
	}
	return span, (&Plan{Span: span, req: r}).reaches()
}

// ParseUntil reads where a replay ends: a GTID, or a time as RFC 3339 has it.
func ParseUntil(text string) (Until, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return Until{Time: at}, nil
	}
	if state, err := ParseState(text); err != nil || len(state) == 0 {
		return Until{}, fmt.Errorf("%q is neither a GTID as 0-1-42 nor a time as 2026-11-26T03:00:00Z", text)
	}
	return Until{GTID: text}, nil
}

// Close lets the segments be deleted again. It may be repeated.
func (p *Plan) Close() {
	for _, release := range p.held {
		release()
	}
	p.held = nil
}

func (p *Plan) prepare(ctx context.Context) error {
	r := p.req
	for i := range p.Span.Segments {
		if err := vouched(p.Span.Segments[i], r.Keys); err != nil {
			return err
		}
		if r.Where != nil {
			p.Span.Segments[i].Path = r.Where(p.Span.Segments[i])
		}
	}
	if err := p.reaches(); err != nil {
		return err
	}
	if err := p.hold(); err != nil {
		return err
	}
	return p.survey(ctx)
}

// hold keeps the segments from being deleted.
func (p *Plan) hold() error {
	held := map[string]bool{}
	for _, s := range p.Span.Segments {
		dir := filepath.Dir(s.Path)
		if held[dir] {
			continue
		}
		release, err := lockUse(dir, syscall.LOCK_SH)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read segment %s: %w; it was stored by receiver %s", s.Path, err, s.Receiver)
		}
		if err != nil {
			return err
		}
		held[dir], p.held = true, append(p.held, release)
	}
	return nil
}

// vouched checks the signature of a segment, whose fields may have come from anywhere.
func vouched(s store.Segment, keys []store.PublicKey) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode segment %s: %w", s.ID(), err)
	}
	if _, err := trusted(raw, keys); err != nil {
		return fmt.Errorf("trust segment %s: %w", s.ID(), err)
	}
	return nil
}

// reaches refuses what the catalogue alone shows to be out of reach.
func (p *Plan) reaches() error {
	u := p.req.Until
	switch {
	case u.GTID != "" && !u.Time.IsZero():
		return errors.New("plan the replay: a time and a GTID cannot both end it")
	case u.GTID != "":
		want, err := ParseState(u.GTID)
		if err != nil {
			return err
		}
		if !stateOf(p.Span.GTID).Covers(want) {
			return p.short(u.GTID)
		}
	case !u.Time.IsZero():
		if !p.req.Base.Time.IsZero() && p.req.Base.Time.After(u.Time) {
			return fmt.Errorf("%w: the base was taken at %s, after %s; choose an older one", ErrReach, utc(p.req.Base.Time), utc(u.Time))
		}
		if p.Span.To.Before(u.Time) {
			return p.short(utc(u.Time))
		}
	}
	return nil
}

// short says how far the archive leads instead.
func (p *Plan) short(want string) error {
	why := "it ends there"
	if p.Span.Gap != nil {
		why = p.Span.Gap.Reason
	}
	return fmt.Errorf("%w %s: from this base it leads to %s (%s): %s", ErrReach, want, utc(p.Span.To), p.Span.GTID, why)
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// survey goes through all of it once and finds the last transaction.
func (p *Plan) survey(ctx context.Context) error {
	wanted, err := ParseState(p.req.Until.GTID)
	if err != nil {
		return err
	}
	byGTID := len(wanted) > 0
	w := p.walker()
	maps.DeleteFunc(wanted, func(_ uint32, g GTID) bool { return w.join.state[g.Domain] == g })
	done := byGTID && len(wanted) == 0      // the base is that point
	begun, events, bytes := -1, 0, int64(0) // of a transaction that has not ended
	err = p.read(ctx, w, true, func(t transaction) error {
		if done {
			return errStop
		}
		if t.first {
			if begun >= 0 {
				p.cut[begun] = true
			}
			begun, events, bytes = t.number, 0, 0
		}
		events, bytes = events+1, bytes+int64(len(t.event))
		if !t.last {
			return nil
		}
		begun = -1
		if u := p.req.Until.Time; !u.IsZero() && !t.when.Before(u) {
			p.stop, done = t.number, true
			return errStop
		}
		p.Transactions, p.Events, p.Bytes, p.Last = p.Transactions+1, p.Events+events, p.Bytes+bytes, t.when
		w.commit(t)
		if t.hasID && wanted[t.id.Domain] == t.id {
			delete(wanted, t.id.Domain)
			done = byGTID && len(wanted) == 0
		}
		p.stop = t.number + 1
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	if begun >= 0 {
		p.cut[begun] = true
	}
	p.GTID = w.join.state.String()
	if byGTID && !done {
		return fmt.Errorf("%w %s: it has no transaction of that name between the base and %s", ErrReach, p.req.Until.GTID, p.Span.GTID)
	}
	return nil
}

// write gives out the log to be replayed as one binary log: format descriptions and the events of the transactions.
func (p *Plan) write(ctx context.Context, to io.Writer) error {
	out := bufio.NewWriterSize(to, 256<<10)
	if _, err := out.WriteString(magic); err != nil {
		return err
	}
	w := p.walker()
	var described string
	err := p.read(ctx, w, false, func(t transaction) error {
		if t.number >= p.stop {
			return errStop
		}
		if p.cut[t.number] {
			return nil
		}
		if log := logOf(*t.segment); log != described {
			described = log
			if _, err := out.Write(t.segment.Format); err != nil {
				return err
			}
		}
		if t.last {
			w.commit(t)
		}
		_, err := out.Write(t.event)
		return err
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	return out.Flush()
}

// transaction is an event of one that is to be replayed.
type transaction struct {
	step
	event   event
	number  int // from 0, of those that are new
	hasID   bool
	id      GTID
	segment *store.Segment
}

// walker is where a reading stands.
type walker struct {
	join   joiner
	group  group
	number int  // of the transaction that comes next
	taking bool // the transaction that the reading is in is new

	log   string // that the reading is in
	pos   int64  // where it stands there
	byPos bool   // the base is a position, which is not reached yet
}

func (p *Plan) walker() *walker {
	w := &walker{join: joiner{state: State{}}}
	first := p.Span.Segments[0]
	if p.req.Base.GTID != "" {
		w.join.state = stateOf(p.req.Base.GTID) // begin has parsed it
	} else {
		w.byPos, w.join.state = true, stateOf(first.Before)
	}
	return w
}

func (w *walker) commit(t transaction) {
	if t.hasID {
		w.join.done(t.id)
	}
}

// read gives the events that are to be replayed to each, in order. Asked for whole segments it reads the one in which each has
// enough to its end, because the signature is of all of it.
func (p *Plan) read(ctx context.Context, w *walker, whole bool, each func(transaction) error) error {
	for i := range p.Span.Segments {
		s := &p.Span.Segments[i]
		if err := w.enter(s, i == 0); err != nil {
			return err
		}
		enough := false
		err := readSegment(ctx, *s, p.req.Identities, func(e event, end int64) error {
			if end <= w.pos || enough { // another receiver had archived it too
				return nil
			}
			w.pos = end
			err := w.event(p.req.Base, s, e, end, each)
			if enough = whole && errors.Is(err, errStop); enough {
				return nil
			}
			return err
		})
		if err == nil && enough {
			err = errStop
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// logOf names the log that a segment is of.
func logOf(s store.Segment) string { return s.Server.String() + " " + s.File + " " + s.Log }

// enter begins a segment.
func (w *walker) enter(s *store.Segment, first bool) error {
	log := logOf(*s)
	if first || s.Prev == "" {
		w.join.stream(stateOf(s.Stream))
		w.group = group{}
	}
	if log != w.log || s.Prev == "" {
		w.log, w.pos = log, s.Start
		w.byPos = w.byPos && first
	}
	if w.group.format.version == "" {
		if _, err := w.group.next(s.Format); err != nil {
			return err
		}
	}
	return nil
}

// event takes one event in.
func (w *walker) event(base Base, s *store.Segment, e event, end int64, each func(transaction) error) error {
	st, err := w.group.next(e)
	if err != nil {
		return fmt.Errorf("read segment %s: %w", s.Path, err)
	}
	if !st.inside {
		return nil
	}
	t := transaction{step: st, event: e, hasID: w.group.hasID, id: w.group.id, segment: s}
	if st.first {
		w.byPos = w.byPos && end-int64(len(e)) < base.Pos
		w.taking = !w.byPos
		if t.hasID && w.taking {
			if w.taking, err = w.join.take(t.id); err != nil {
				return fmt.Errorf("%w beyond %s: %w", ErrReach, w.join.state, err)
			}
		}
		if w.taking {
			w.number++
		}
	}
	if !w.taking {
		if st.last && t.hasID {
			w.join.done(t.id)
		}
		return nil
	}
	t.number = w.number - 1
	return each(t)
}
