package binlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"

	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

const (
	// frameSize is how much a frame holds at least, unless its time comes before, bytes.
	frameSize = 1 << 20
	// segmentSize is how large a segment becomes on disk before the next one begins, bytes.
	segmentSize = 64 << 20
	// seenEvery is how often it is written down that an idle server has logged nothing new.
	seenEvery = 10 * time.Second
)

// recorder makes segments of the events of one server. It belongs to one goroutine.
type recorder struct {
	cl     Cluster
	server job.Server
	dir    string // of all backups
	folder string
	name   string // of the receiver
	sign   func(store.Segment) (store.Segment, error)
	put    func(context.Context, store.Segment) error
	log    *slog.Logger

	cur    *segmentFile             // nil between segments
	last   store.Segment            // that was ended last, or that the archive had last; the next one goes on from it unless cut
	cut    bool                     // the next one does not
	gap    *store.Gap               // what lies before the next one
	unsaid map[string]store.Segment // not in the catalogue yet, as the bus did not answer

	head  head
	file  string
	pos   int64 // after the last event taken in
	from  int64 // what begins before is in the archive already
	tail  int64 // where the last archived event begins; 0 for none
	sum   uint32
	bound int64
	group group
	join  joiner // what the archive has
	own   State  // what this server's log has; nil before the first

	buf            []byte
	fr             frame
	begun          int64     // where buf begins
	since          time.Time // when buf began; zero when it is empty
	before, stream string    // of a segment that begins with buf
	saved          time.Time // when a manifest was written last
}

// errOtherLog says that the server's log is not the one that was archived.
type errOtherLog struct{ reason string }

func (e errOtherLog) Error() string { return e.reason }

// enter begins a log, of which h is the beginning.
func (r *recorder) enter(ctx context.Context, file string, h headReader) error {
	if err := r.leave(ctx, file); err != nil {
		return err
	}
	r.file, r.head, r.group = file, h.head, group{}
	r.pos, r.from, r.tail = int64(len(magic)), 0, 0
	switch {
	case r.own != nil: // the stream goes on
	case r.gap != nil:
		r.own = maps.Clone(h.had)
		r.join = joiner{state: maps.Clone(h.had)}
		r.join.stream(h.had)
	default:
		r.own = maps.Clone(h.had)
		r.join.stream(h.had)
	}
	r.mark(0)
	r.buf = append(r.buf, magic...)
	for _, e := range h.parts {
		if err := r.event(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// resume goes on in a log that the archive has the beginning of, and says from which position on the server shall send it: what is
// sent twice shows whether it is the same log.
func (r *recorder) resume(s store.Segment) (pos int64, err error) {
	form, err := parseFormat(s.Format)
	if err != nil {
		return 0, err
	}
	r.file, r.head = s.File, head{format: form, raw: s.Format, sum: s.Log, created: s.Created}
	r.own = stateOf(s.Own)
	r.join.stream(r.own)
	r.tail, r.sum, r.from, r.pos = s.Tail, s.TailSum, s.End, s.Tail
	if s.Bound < s.End { // a transaction was cut: it is archived again, whole
		r.from, r.pos = s.Bound, s.Bound
	}
	if r.pos > 1<<32-1 || r.pos < int64(len(magic)) { // the protocol cannot name a position beyond 4 GiB
		r.pos = int64(len(magic))
	}
	r.group = group{}
	_, err = r.group.next(s.Format)
	return r.pos, err
}

// repeats says whether the beginning of a log that comes now is that of the one that is gone on with: a dump from its beginning, as the
// place where the archive ends cannot be asked for.
func (r *recorder) repeats(file string) bool {
	return file == r.file && r.from > 0 && r.pos == int64(len(magic))
}

// repeat passes over the beginning of the log that is gone on with.
func (r *recorder) repeat(ctx context.Context, file string, h headReader) error {
	if h.sum != r.head.sum {
		return errOtherLog{fmt.Sprintf("%s of %s begins otherwise than what was archived", file, r.server)}
	}
	for _, e := range h.parts {
		if err := r.event(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// event takes one in that stands in the file.
func (r *recorder) event(ctx context.Context, e event) error {
	if err := r.head.format.check(e); err != nil {
		return err
	}
	begin := r.pos
	r.pos += int64(len(e))
	if e.end() != r.pos&(1<<32-1) {
		return fmt.Errorf("archive %s: an event of type %d ends at %d and not at %d: the server left something out", r.file, e.kind(), e.end(), r.pos)
	}
	if begin == r.tail && r.tail != 0 && e.sum() != r.sum {
		return errOtherLog{fmt.Sprintf("%s of %s has another event at %d than the archive", r.file, r.server, begin)}
	}
	if begin < r.from {
		return nil
	}
	return r.take(ctx, e, begin)
}

// take adds an event to the frame.
func (r *recorder) take(ctx context.Context, e event, begin int64) error {
	if e.kind() == evIncident { // what follows is good, and must not be lost too
		r.group.in = false
		return r.hole(ctx, fmt.Sprintf("the server lost events here (incident at %d)", begin))
	}
	st, err := r.group.next(e)
	if err != nil {
		return err
	}
	if st.first && r.group.hasID {
		if _, err := r.join.take(r.group.id); err != nil {
			if err := r.hole(ctx, err.Error()); err != nil {
				return err
			}
		}
	}
	if r.since.IsZero() {
		r.mark(begin)
	}
	r.buf = append(r.buf, e...)
	if st.last && r.group.hasID {
		r.join.done(r.group.id)
		r.own[r.group.id.Domain] = r.group.id
	}
	if !r.group.in {
		r.bound = r.pos
	}
	r.fr.End, r.fr.Tail, r.fr.TailSum, r.fr.Bound, r.fr.After = r.pos, begin, e.sum(), r.bound, ""
	r.fr.Events++
	if t := int64(e.when()); t != 0 {
		if r.fr.First == 0 {
			r.fr.First = t
		}
		r.fr.Last = t
	}
	if e.kind() == evRotate {
		if r.fr.Next, _, err = r.head.format.rotate(e); err != nil {
			return err
		}
	}
	if len(r.buf) >= frameSize {
		return r.flush(ctx)
	}
	return nil
}

// mark notes where and when a frame begins.
func (r *recorder) mark(begin int64) {
	r.begun, r.since = begin, time.Now()
	if r.cur == nil {
		r.before, r.stream, r.bound = r.join.state.String(), r.own.String(), begin
	}
}

// hole begins a new segment after a piece of history that is missing.
func (r *recorder) hole(ctx context.Context, reason string) error {
	if err := r.end(ctx); err != nil {
		return err
	}
	r.gap = &store.Gap{Found: time.Now().UTC(), Since: r.last.Until(), Before: r.join.state.String(), After: r.own.String(),
		Reason: fmt.Sprintf("%s of %s: %s", r.file, r.server, reason)}
	r.log.Error("the archive of the binary log has a gap", "server", r.server.String(), "reason", r.gap.Reason)
	r.cut = true
	r.join = joiner{state: maps.Clone(r.own)}
	r.join.stream(r.own)
	return nil
}

// flush makes durable what was taken in: it is on disk, signed, when this returns.
func (r *recorder) flush(ctx context.Context) error {
	if r.since.IsZero() {
		return nil
	}
	if r.cur == nil {
		if err := r.create(); err != nil {
			return err
		}
	}
	r.fr.After, r.fr.Own = r.join.state.String(), r.own.String()
	if r.fr.Own == r.fr.After {
		r.fr.Own = ""
	}
	encoded, err := encodeFrame(r.fr, r.buf, r.cl.Compress, r.cl.Recipients)
	if err != nil {
		return err
	}
	if err := r.cur.append(r.fr, encoded, int64(len(r.buf))); err != nil {
		return err
	}
	r.fr, r.since = frame{}, time.Time{}
	if r.buf = r.buf[:0]; cap(r.buf) > 4*frameSize {
		r.buf = nil
	}
	if r.cur.seg.Stored >= segmentSize && r.cur.seg.Bound == r.cur.seg.End {
		return r.end(ctx)
	}
	return r.publish(ctx)
}

func (r *recorder) create() error {
	s := store.Segment{
		Type: store.SegmentType, Cluster: r.cl.Name, Server: r.server, Receiver: r.name, Flavor: store.FlavorMySQL, File: r.file, Log: r.head.sum,
		Created: r.head.created, Taken: time.Now().UTC().Truncate(time.Millisecond), Start: r.begun, Gap: r.gap, Before: r.before,
		Stream: r.stream, Format: r.head.raw, Compress: or(r.cl.Compress, sink.None), Encrypted: len(r.cl.Recipients) > 0,
	}
	if r.head.format.mariadb() {
		s.Flavor = store.FlavorMariaDB
	}
	if !r.cut && r.last.Type != "" {
		s.Prev = r.last.ID()
	}
	if !s.Taken.After(r.last.Taken) { // a clock that was put back must not change the order
		s.Taken = r.last.Taken.Add(time.Millisecond)
	}
	s.Path = filepath.Join(r.folder, s.Name())
	var err error
	if r.cur, err = createSegment(s, r.sign); err != nil {
		return err
	}
	r.cut, r.gap = false, nil
	return nil
}

// publish writes the manifest of the open segment and tells the catalogue. A bus that does not answer keeps nothing from being
// archived: the catalogue is told later, or filled from the manifests.
func (r *recorder) publish(ctx context.Context) error {
	signed, err := r.cur.publish()
	if err != nil {
		return err
	}
	r.saved = time.Now()
	r.unsaid[signed.Path] = signed
	return r.tell(ctx)
}

func (r *recorder) tell(ctx context.Context) error {
	for path, s := range r.unsaid {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putTime)
		err := r.put(ctx, s)
		cancel()
		if err != nil {
			r.log.Warn("record a segment of the binary log; it is tried again", "segment", s.ID(), "err", err)
			return nil
		}
		delete(r.unsaid, path)
	}
	return nil
}

// putTime bounds one record in the catalogue.
const putTime = 5 * time.Second

// end closes the open segment, with all that was taken in.
func (r *recorder) end(ctx context.Context) error {
	if !r.since.IsZero() {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	if r.cur == nil {
		return nil
	}
	if err := r.cur.end(); err != nil {
		return err
	}
	err := r.publish(ctx)
	r.last, r.cur = r.cur.seg, nil
	return err
}

// lastEvent is the time of the last event on disk.
func (r *recorder) lastEvent() time.Time {
	if r.cur != nil {
		return r.cur.seg.Last
	}
	return r.last.Last
}

// leave ends the log that is being read: the server has begun another one.
func (r *recorder) leave(ctx context.Context, next string) error {
	if !r.since.IsZero() {
		r.fr.Next = next
	}
	return r.end(ctx)
}

// abandon gives the open segment up without a word more, after an error of the disk.
func (r *recorder) abandon() {
	if r.cur != nil {
		_ = r.cur.file.Close()
		r.cur = nil
	}
}

// seen notes that the server had logged nothing more at a time than what is durable.
func (r *recorder) seen(ctx context.Context, at time.Time) error {
	if r.cur != nil {
		r.cur.seg.Seen = at
	} else {
		r.last.Seen = at
	}
	if time.Since(r.saved) < seenEvery {
		return nil
	}
	if r.cur != nil {
		return r.publish(ctx)
	}
	return r.reseal(ctx)
}

// reseal signs the last segment again, which nothing was added to but when that was seen.
func (r *recorder) reseal(ctx context.Context) error {
	r.saved = time.Now()
	if r.last.Type == "" || r.last.Receiver != r.name || !isOwn(r.dir, r.last) {
		return nil
	}
	if _, err := os.Stat(r.last.Path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	s, err := r.sign(r.last)
	if err != nil {
		return err
	}
	if err := writeManifest(s); err != nil {
		return err
	}
	r.unsaid[s.Path] = s
	return r.tell(ctx)
}
