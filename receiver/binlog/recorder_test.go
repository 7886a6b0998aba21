package binlog

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"strings"
	"testing"

	"drydock/store"
)

// logWriter makes the events of a log as a server of MariaDB writes them.
type logWriter struct{ pos int64 }

func (w *logWriter) event(kind byte, body []byte) event {
	e := make(event, headerLen, headerLen+len(body)+crcLen)
	w.pos += int64(cap(e))
	binary.LittleEndian.PutUint32(e, uint32(noon.Unix()))
	e[4] = kind
	binary.LittleEndian.PutUint32(e[5:], 1)
	binary.LittleEndian.PutUint32(e[9:], uint32(cap(e)))
	binary.LittleEndian.PutUint32(e[13:], uint32(w.pos))
	e = append(e, body...)
	return binary.LittleEndian.AppendUint32(e, crc32.ChecksumIEEE(e))
}

// beginning is the format description and the empty list of GTIDs.
func (w *logWriter) beginning() []event {
	w.pos = int64(len(magic))
	body := make([]byte, 2+50+4+1+200)
	body[0] = 4
	copy(body[2:], "10.11.6-MariaDB-log")
	body[len(body)-1] = checksumCRC32
	return []event{w.event(evFormat, body), w.event(evGTIDList, make([]byte, 4))}
}

// statement is a transaction of one statement.
func (w *logWriter) statement(seq uint64) []event {
	id := binary.LittleEndian.AppendUint64(nil, seq)
	id = append(id, 0, 0, 0, 0, flagStandalone)
	return []event{w.event(evGTID, id), w.event(evQuery, append(make([]byte, 14), "CREATE DATABASE x"...))}
}

// newRecorder goes on behind last; said gets what it tells the catalogue.
func newRecorder(t *testing.T, dir string, last store.Segment, said map[string]store.Segment) *recorder {
	t.Helper()
	return &recorder{
		cl: Cluster{Name: "prod", Compress: "none"}, server: srvA, dir: dir, folder: folderOf(dir, "prod", srvA), name: "one", sign: unsignedSegment,
		put: func(_ context.Context, s store.Segment) error { said[s.ID()] = s; return nil }, log: slog.New(slog.DiscardHandler),
		last: last, join: joiner{state: stateOf(last.After)}, unsaid: map[string]store.Segment{},
	}
}

func record(t *testing.T, s *session, events ...event) {
	t.Helper()
	for _, e := range events {
		if err := s.take(t.Context(), arrival{event: e}); err != nil {
			t.Fatal(err)
		}
	}
}

// A position beyond 4 GiB cannot be asked for: the log comes from its beginning again. What the archive has of it must not be
// archived once more: a replay on a base that ends just there would apply it twice.
func TestLogThatComesAgainIsPassedOver(t *testing.T) {
	dir, said := t.TempDir(), map[string]store.Segment{}
	var w logWriter
	log := append(w.beginning(), w.statement(1)...)
	r := newRecorder(t, dir, store.Segment{}, said)
	record(t, &session{r: r, expect: "b.1"}, log...)
	if err := r.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := r.last
	r = newRecorder(t, dir, last, said)
	if _, err := r.resume(last); err != nil {
		t.Fatal(err)
	}
	r.pos = int64(len(magic)) // as resume has it for such a log
	record(t, &session{r: r, expect: "b.1"}, append(log, w.statement(2)...)...)
	if err := r.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.last; got.Start != last.End || got.Prev != last.ID() || got.Events != 2 || got.After != "0-1-2" || len(said) != 2 {
		t.Errorf("after %d the archive goes on at %d with %d events, until %s; %d segments", last.End, got.Start, got.Events, got.After, len(said))
	}
	r = newRecorder(t, dir, last, said)
	if _, err := r.resume(last); err != nil {
		t.Fatal(err)
	}
	r.pos, r.head.sum = int64(len(magic)), "another"
	s := &session{r: r, expect: "b.1"}
	if err := s.take(t.Context(), arrival{event: log[0]}); err != nil {
		t.Fatal(err)
	}
	if err := s.take(t.Context(), arrival{event: log[1]}); err == nil {
		t.Error("another log of the name was taken for the one that is archived")
	}
}

// A server says with an incident that it lost events. That is a gap, and no reason to lose all that it logs afterwards.
func TestIncidentIsAGapAndNotTheEnd(t *testing.T) {
	said := map[string]store.Segment{}
	var w logWriter
	log := append(w.beginning(), w.statement(1)...)
	incident := w.event(evIncident, []byte{1, 0, 0})
	r := newRecorder(t, t.TempDir(), store.Segment{}, said)
	record(t, &session{r: r, expect: "b.1"}, append(append(log, incident), w.statement(2)...)...)
	if err := r.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	var list []store.Segment
	for _, s := range said {
		list = append(list, s)
	}
	gaps := store.BinlogGaps(list)
	if len(list) != 2 || len(gaps) != 1 || !strings.Contains(gaps[0].Reason, "incident") || r.last.After != "0-1-2" || r.last.Events != 2 {
		t.Errorf("%d segments, the last up to %s with %d events, gaps %+v", len(list), r.last.After, r.last.Events, gaps)
	}
}
