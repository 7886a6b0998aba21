package binlog

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"filippo.io/age"

	"drydock/bus"
	"drydock/receiver/sink"
	"drydock/store"
)

// A segment is a file of lines and bytes:
//
//	DRYDOCKBINLOG1
//	{"type":"drydock.v1.binlog", ...}      the segment as it was begun, one line
//	{"end":4711,"size":4215,"stored":1033, ...}   a frame, one line
//	1033 bytes                              its events: compressed, then encrypted, for themselves
//	{"end":...
//
// Every frame can be read without the others and is durable when it is acknowledged; age and the compressors could not promise
// that of the end of one long stream. What a crash cut off is seen by the frame's length and hash.
const frameMagic = "DRYDOCKBINLOG1\n"

// ErrDamaged is in the chain of every error that says that a segment is not what was stored.
var ErrDamaged = errors.New("segment is damaged")

// maxLine bounds a line of JSON, bytes: a list of GTIDs has no limit of its own.
const maxLine = 1 << 20

// frame is the line before the bytes of a frame.
type frame struct {
	End     int64  `json:"end"`    // position in the log after its last event
	Size    int64  `json:"size"`   // of its events
	Stored  int64  `json:"stored"` // of the bytes that follow
	SHA256  string `json:"sha256"` // of those
	Events  int64  `json:"events"`
	First   int64  `json:"first,omitempty"` // seconds since 1970, of the server
	Last    int64  `json:"last,omitempty"`
	After   string `json:"after"`
	Own     string `json:"own,omitempty"` // when it is not the same
	Tail    int64  `json:"tail"`
	TailSum uint32 `json:"tail_sum"`
	Bound   int64  `json:"bound"`
	Next    string `json:"next,omitempty"`
}

// add brings a frame that is on disk into the description of its segment.
func (f frame) add(s *store.Segment) {
	s.End, s.After, s.Tail, s.TailSum = f.End, f.After, f.Tail, f.TailSum
	s.Bound, s.Next, s.Own = f.Bound, f.Next, or(f.Own, f.After)
	s.Size += f.Size
	s.Events += f.Events
	if s.First.IsZero() && f.First != 0 {
		s.First = time.Unix(f.First, 0).UTC()
	}
	if f.Last != 0 {
		s.Last = time.Unix(f.Last, 0).UTC()
	}
}

// encodeFrame packs events and puts their line before them.
func encodeFrame(f frame, events []byte, compress string, recipients []age.Recipient) ([]byte, error) {
	var packed bytes.Buffer
	w, err := sink.Pack(&packed, compress, recipients...)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(events)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("pack events: %w", err)
	}
	sum := sha256.Sum256(packed.Bytes())
	f.Size, f.Stored, f.SHA256 = int64(len(events)), int64(packed.Len()), hex.EncodeToString(sum[:])
	line, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	return append(append(line, '\n'), packed.Bytes()...), nil
}

// frameReader reads a segment file. Not safe for concurrent use.
type frameReader struct {
	r    *bufio.Reader
	hash hash.Hash
	read int64 // bytes until the end of the last whole frame
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 256<<10), hash: sha256.New()}
}

// head reads what stands before the frames.
func (f *frameReader) head() (s store.Segment, err error) {
	first, err := f.line()
	if err != nil {
		return s, err
	}
	if string(first) != frameMagic {
		return s, fmt.Errorf("%w: it begins with something else", ErrDamaged)
	}
	second, err := f.line()
	if err != nil {
		return s, err
	}
	if err := bus.CheckVersion(second); err != nil {
		return s, err // not damaged
	}
	if err := json.Unmarshal(second, &s); err != nil {
		return s, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	f.take(first, second)
	return s, nil
}

// next reads a frame: io.EOF at the end, io.ErrUnexpectedEOF when it is cut, [ErrDamaged] when it is not what was written.
func (f *frameReader) next() (fr frame, packed []byte, err error) {
	line, err := f.line()
	if err != nil {
		return fr, nil, err
	}
	if err := json.Unmarshal(line, &fr); err != nil {
		return fr, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if fr.Stored < 0 || fr.Size < 0 {
		return fr, nil, fmt.Errorf("%w: a frame of %d bytes", ErrDamaged, fr.Stored)
	}
	var b bytes.Buffer // grows with what is there: a damaged length must not be believed
	n, err := io.Copy(&b, io.LimitReader(f.r, fr.Stored))
	if err != nil {
		return fr, nil, err
	}
	if n < fr.Stored {
		return fr, nil, io.ErrUnexpectedEOF
	}
	packed = b.Bytes()
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != fr.SHA256 {
		return fr, nil, fmt.Errorf("%w: the frame that ends at %d has another hash", ErrDamaged, fr.End)
	}
	f.take(line, packed)
	return fr, packed, nil
}

func (f *frameReader) take(parts ...[]byte) {
	for _, p := range parts {
		f.read += int64(len(p))
		_, _ = f.hash.Write(p)
	}
}

// line reads one line with its end.
func (f *frameReader) line() ([]byte, error) {
	var out []byte
	for {
		part, err := f.r.ReadSlice('\n')
		out = append(out, part...)
		switch {
		case err == nil:
			return out, nil
		case len(out) > maxLine:
			return nil, fmt.Errorf("%w: a line without end", ErrDamaged)
		case errors.Is(err, io.EOF) && len(out) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// readSegment gives the events of the described part of a segment to each, with the position after each of them. It compares
// file and frames with what the description says, and every event with its checksum; each may have seen some events by then.
// The magic bytes of a log are no event. Errors: [ErrDamaged], [sink.ErrIdentity], those of the file system and of each.
func readSegment(ctx context.Context, s store.Segment, identities []age.Identity, each func(e event, end int64) error) error {
	file, err := os.Open(s.Path)
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	defer file.Close()
	fail := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends before its %d bytes", ErrDamaged, s.Stored)
		}
		return fmt.Errorf("read segment %s: %w", s.Path, err)
	}
	r := newFrameReader(io.LimitReader(file, s.Stored))
	head, err := r.head()
	if err != nil {
		return fail(err)
	}
	if head.ID() != s.ID() || head.Cluster != s.Cluster {
		return fail(fmt.Errorf("%w: it is another one, %s", ErrDamaged, head.ID()))
	}
	form, err := parseFormat(s.Format)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrDamaged, err))
	}
	pos := s.Start
	for r.read < s.Stored {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fr, packed, err := r.next()
		if err != nil {
			return fail(err)
		}
		events, err := unpackFrame(fr, packed, s, identities)
		if err != nil {
			return fail(err)
		}
		if pos, err = splitEvents(form, events, pos, each); err != nil {
			return fail(err)
		}
		if pos != fr.End {
			return fail(fmt.Errorf("%w: a frame ends at %d, not %d", ErrDamaged, pos, fr.End))
		}
	}
	if sum := hex.EncodeToString(r.hash.Sum(nil)); !strings.EqualFold(sum, s.Hash) {
		return fail(fmt.Errorf("%w: its hash is not the one that was signed", ErrDamaged))
	}
	if pos != s.End {
		return fail(fmt.Errorf("%w: it ends at position %d, not %d", ErrDamaged, pos, s.End))
	}
	return nil
}

func unpackFrame(fr frame, packed []byte, s store.Segment, identities []age.Identity) ([]byte, error) {
	plain, err := sink.Unpack(bytes.NewReader(packed), s.Compress, s.Encrypted, identities...)
	if errors.Is(err, sink.ErrIdentity) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer plain.Close()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(plain, fr.Size+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if n != fr.Size {
		return nil, fmt.Errorf("%w: a frame holds %d bytes, not %d", ErrDamaged, n, fr.Size)
	}
	return b.Bytes(), nil
}

// splitEvents gives every event of a piece of a log that begins at pos to each, and returns where it ends. A log of less than
// 4 GiB says in every event where it ends.
func splitEvents(form format, b []byte, pos int64, each func(e event, end int64) error) (int64, error) {
	if pos == 0 {
		if !bytes.HasPrefix(b, []byte(magic)) {
			return 0, fmt.Errorf("%w: no log begins like this", ErrDamaged)
		}
		b, pos = b[len(magic):], int64(len(magic))
	}
	for len(b) > 0 {
		if len(b) < headerLen || event(b).size() < headerLen || event(b).size() > int64(len(b)) {
			return pos, fmt.Errorf("%w: %w at %d", ErrDamaged, ErrEvent, pos)
		}
		e := event(b[:event(b).size()])
		if err := form.check(e); err != nil {
			return pos, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		b, pos = b[len(e):], pos+int64(len(e))
		if e.end() != pos&(1<<32-1) {
			return pos, fmt.Errorf("%w: an event says it ends at %d and ends at %d", ErrDamaged, e.end(), pos)
		}
		if err := each(e, pos); err != nil {
			return pos, err
		}
	}
	return pos, nil
}
