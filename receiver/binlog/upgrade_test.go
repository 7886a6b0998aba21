package binlog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"drydock/bus"
	"drydock/store"
)

// A segment lies in the archive for years. The sample in testdata was written by version 1: its head, and a frame.
func TestSegmentOfAnEarlierVersionIsRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join("testdata", "v1.segment")
	if os.Getenv("DRYDOCK_SAMPLES") != "" { // only for what no released version wrote
		s := piece(srvA, "b.000001", 4, 4, 104, "0-1-1", "0-1-2")
		s.Type, s.Path = store.SegmentType, filepath.Join(t.TempDir(), "segment")
		f, err := createSegment(s, func(s store.Segment) (store.Segment, error) { return s, nil })
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := encodeFrame(frame{End: 104, After: "0-1-2", Events: 3, First: 1_790_000_000, Last: 1_790_000_001}, []byte("events of a sample"), "zstd", nil)
		if err == nil {
			err = f.write(encoded)
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(s.Path)
		if err == nil {
			text = bytes.ReplaceAll(text, []byte(s.Path), []byte("/archive/segment"))
			err = os.WriteFile(file, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := newFrameReader(bytes.NewReader(text))
	s, err := r.head()
	if err != nil || s.Type != store.SegmentType || s.Server != srvA || s.File != "b.000001" || s.Before != "0-1-1" {
		t.Fatalf("head %+v, %v", s, err)
	}
	fr, packed, err := r.next()
	if err != nil || fr.End != 104 || fr.Events != 3 || fr.After != "0-1-2" || int64(len(packed)) != fr.Stored {
		t.Errorf("frame %+v of %d bytes, %v", fr, len(packed), err)
	}
	if _, _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v", err)
	}
	newer := newFrameReader(bytes.NewReader(bytes.Replace(text, []byte(`"drydock.v1.`), []byte(`"drydock.v2.`), 1)))
	if _, err := newer.head(); !errors.Is(err, bus.ErrNewer) || errors.Is(err, ErrDamaged) {
		t.Errorf("a segment of a newer version: %v, want to be told to upgrade", err)
	}
}
