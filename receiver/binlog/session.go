package binlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/job"
	"drydock/store"
)

// arrival is what the reader of a dump hands over.
type arrival struct {
	event event
	err   error
	idle  time.Time // when the reader began to wait for it, if it had to wait: nothing was under way then
}

// waited is how long the reader must have waited for an event to have been up to date before.
const waited = 20 * time.Millisecond

// read gives events to out until the dump ends, with its error as the last arrival, or ctx does.
func (t *tap) read(ctx context.Context, out chan<- arrival) {
	for {
		began := time.Now()
		e, err := t.event()
		a := arrival{event: e, err: err}
		if time.Since(began) >= waited {
			a.idle = began
		}
		select {
		case out <- a:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// follow archives the binary log of a server until ctx ends (nil) or something fails. What was received by then is durable.
func (a *archiver) follow(ctx context.Context, server job.Server) (err error) {
	at, t, err := a.approach(ctx, server)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	arrivals := make(chan arrival, 16) // sender: the reader; never closed
	ended := make(chan struct{})       // closed when the reader has ended
	started := false
	defer func() {
		cancel()
		t.close()
		if started {
			<-ended
		}
	}()
	r := a.recorder(server, at)
	defer func() {
		if endErr := r.end(context.WithoutCancel(ctx)); endErr != nil {
			r.abandon()
			err = errors.Join(err, endErr)
		}
	}()
	pos := int64(len(magic))
	if at.resume != nil {
		if pos, err = r.resume(*at.resume); err != nil {
			return err
		}
	}
	if err := t.dump(ctx, at.file, pos, false); err != nil {
		return err
	}
	started = true
	go func() {
		defer close(ended)
		t.read(ctx, arrivals)
	}()
	a.log.Info("archiving the binary log", "server", server.String(), "file", at.file, "pos", pos)
	s := &session{a: a, r: r, expect: at.file}
	return s.loop(ctx, arrivals, at)
}

// approach connects and finds out where the archive goes on.
func (a *archiver) approach(ctx context.Context, server job.Server) (start, *tap, error) {
	segments, err := a.binlogs.List(ctx, a.cl.Name)
	if err != nil {
		return start{}, nil, err
	}
	l := login{addr: server.Addr(), user: a.cl.User, password: a.cl.Password, id: a.cl.ServerID}
	t, err := dial(ctx, l)
	if err != nil {
		return start{}, nil, err
	}
	s := shelf{server: server, mariadb: t.mariadb}
	s.head = func(file string) (head, error) {
		l := l
		l.id = 0 // a dump of the same id ends the one before
		return readHead(ctx, l, file)
	}
	if s.files, err = t.logs(ctx); err == nil && t.mariadb {
		s.current, err = t.current(ctx)
	}
	if err == nil {
		err = a.settle(ctx, segments)
	}
	var at start
	if err == nil {
		at, err = decide(segments, s, time.Now())
	}
	if err != nil {
		t.close()
		return start{}, nil, fmt.Errorf("archive the binary log of %s: %w", server, err)
	}
	if at.resume != nil && logOf(*at.resume) == a.doubted {
		at.resume, at.joins = nil, false
		at.gap = s.gap(at.last, time.Now(), State{}, "%s: the server lost or changed transactions that were archived", a.reason)
	}
	a.doubted = ""
	if at.gap != nil {
		a.log.Error("the archive of the binary log has a gap", "server", server.String(), "reason", at.gap.Reason)
	}
	return at, t, nil
}

// settle closes the segments of this receiver that an error left open: a full disk, for one.
func (a *archiver) settle(ctx context.Context, segments []store.Segment) error {
	for i, s := range segments {
		if s.Receiver != a.name || !s.Open || !isOwn(a.dir, s) {
			continue
		}
		fresh, ok, err := recoverSegment(s.Path, a.sign)
		if errors.Is(err, os.ErrNotExist) || err == nil && !ok {
			fresh, err = s, nil
			fresh.Open, fresh.Lost = false, "the file is missing"
		} else if errors.Is(err, ErrDamaged) { // it stays as it is, and the archive goes on behind it
			fresh = s
			fresh.Open, fresh.Lost, err = false, err.Error(), nil
		}
		if err != nil {
			return err
		}
		if err := a.binlogs.Put(ctx, fresh); err != nil {
			return err
		}
		segments[i] = fresh
		delete(a.unsaid, fresh.Path) // older
	}
	return nil
}

// doubt remembers that a log is not the one that was archived, though it has its name and begins like it.
func (a *archiver) doubt(at start, err error) {
	var other errOtherLog
	if at.resume != nil && errors.As(err, &other) {
		a.doubted, a.reason = logOf(*at.resume), other.reason
	}
}

// current is all that a server of MariaDB has applied.
func (t *tap) current(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var text string
	if err := t.conn.QueryRowContext(ctx, "SELECT @@global.gtid_current_pos").Scan(&text); err != nil {
		return nil, fmt.Errorf("ask for gtid_current_pos: %w", err)
	}
	return ParseState(text)
}

func (a *archiver) recorder(server job.Server, at start) *recorder {
	r := &recorder{
		cl: a.cl, server: server, folder: a.folder(server), name: a.name, sign: a.sign, put: a.binlogs.Put, log: a.log,
		dir: a.dir, last: at.last, cut: !at.joins, gap: at.gap, join: joiner{state: State{}}, unsaid: a.unsaid,
	}
	if at.gap == nil {
		r.join.state = maps.Clone(stateOf(at.last.After))
	}
	return r
}

// session is one dump that is being archived.
type session struct {
	a      *archiver
	r      *recorder
	expect string      // the log whose beginning comes next
	begins *headReader // while it comes
	idle   time.Time   // when there was nothing to read last: all that had been logged was here
}

// loop takes events in and makes them durable in time.
func (s *session) loop(ctx context.Context, arrivals <-chan arrival, at start) error {
	tick := time.NewTicker(max(s.a.cl.Flush/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case in := <-arrivals:
			if in.err != nil {
				return s.explain(in.err, at)
			}
			if err := s.take(ctx, in); err != nil {
				s.a.doubt(at, err)
				return err
			}
		case <-tick.C:
		}
		if !s.r.since.IsZero() && time.Since(s.r.since) >= s.a.cl.Flush {
			if err := s.r.flush(ctx); err != nil {
				return err
			}
			s.a.progress(ctx, s.r.server, later(s.r.lastEvent(), s.idle))
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// explain puts words to what the server says.
func (s *session) explain(err error, at start) error {
	var said *mysql.MySQLError
	if errors.As(err, &said) {
		if said.Number == erFatalReading && strings.Contains(said.Message, "impossible position") {
			s.a.doubt(at, errOtherLog{fmt.Sprintf("%s of %s has nothing at %d, where the archive ends", at.file, s.r.server, at.last.End)})
		}
		return fmt.Errorf("archive %s of %s: the server says: %w", s.r.file, s.r.server, err)
	}
	return fmt.Errorf("archive the binary log of %s: %w", s.r.server, err)
}

// take sorts what comes: events of the log, and what the server says beside it.
func (s *session) take(ctx context.Context, in arrival) error {
	e := in.event
	s.idle = later(s.idle, in.idle)
	if e.kind() == evHeartbeat || e.kind() == evHeartbeatMySQL {
		if in.idle.IsZero() {
			return nil
		}
		if s.begins != nil { // an empty log: its beginning is all there is
			if err := s.begun(ctx, nil); err != nil {
				return err
			}
		}
		if !s.r.since.IsZero() {
			return nil // it is said when that is durable
		}
		s.a.upToDate(ctx, s.r.server, in.idle)
		return s.r.seen(ctx, in.idle.UTC())
	}
	if e.kind() == evEncryption && e.end() == 0 {
		return nil // as with the format description: the archive has it
	}
	if e.kind() == evRotate && e.end() == 0 {
		return s.turn(ctx, e)
	}
	if s.begins != nil {
		done, other, err := s.begins.add(e)
		if err != nil || !done {
			return err
		}
		if other {
			return s.begun(ctx, e)
		}
		return s.begun(ctx, nil)
	}
	if e.kind() == evFormat {
		if e.end() == 0 && s.r.head.raw != nil {
			return nil // said again at the beginning of a dump from the middle
		}
		s.begins = new(headReader)
		_, _, err := s.begins.add(e)
		return err
	}
	return s.r.event(ctx, e)
}

// turn takes in which log comes next.
func (s *session) turn(ctx context.Context, e event) error {
	form := s.r.head.format
	if form.version == "" {
		form.checksum = checksumCRC32
	}
	file, _, err := form.rotate(e)
	if err != nil {
		return err
	}
	if s.begins != nil {
		if err := s.begun(ctx, nil); err != nil {
			return err
		}
	}
	if s.r.file != "" && file != s.r.file {
		if err := s.r.leave(ctx, file); err != nil {
			return err
		}
	}
	s.expect = file
	return nil
}

// begun begins a log whose beginning has come; e is the first event after it, or nil.
func (s *session) begun(ctx context.Context, e event) error {
	h := *s.begins
	s.begins = nil
	if h.sum == "" {
		if _, _, err := h.add(event(make([]byte, headerLen))); err != nil {
			return err
		}
	}
	enter := s.r.enter
	if s.r.repeats(s.expect) {
		enter = s.r.repeat
	}
	if err := enter(ctx, s.expect, h); err != nil {
		return err
	}
	if e != nil {
		return s.r.event(ctx, e)
	}
	return nil
}
