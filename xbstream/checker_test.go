package xbstream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"drydock/xbstream"
)

func verdict(data []byte) error {
	c := xbstream.New()
	_, _ = c.Write(data)
	return c.Close()
}

// chunk makes one chunk; a nil payload makes an end of file.
func chunk(path string, offset int64, payload []byte) []byte {
	if payload == nil {
		return named('E', path)
	}
	b := named('P', path)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(payload))
	return append(b, payload...)
}

// sparse makes a sparse chunk of xtrabackup, with holes of so many bytes.
func sparse(path string, offset int64, payload []byte, holes ...uint32) []byte {
	b := binary.LittleEndian.AppendUint32(named('S', path), uint32(len(holes)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	var body []byte
	for _, n := range holes {
		body = binary.LittleEndian.AppendUint32(body, n)
		body = binary.LittleEndian.AppendUint32(body, uint32(len(payload)/len(holes)))
	}
	body = append(body, payload...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(body))
	return append(b, body...)
}

// named is a chunk up to its path, and all of it for those that have no more.
func named(kind byte, path string) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{'X', 'B', 'S', 'T', 'C', 'K', '0', '1', 0, kind}, uint32(len(path)))
	return append(b, path...)
}

func seek(path string, offset uint64) []byte {
	return binary.LittleEndian.AppendUint64(named('S', path), offset)
}

// rewrite is the payload as it stands in a stream when its file was there before.
func rewrite(payload []byte) []byte {
	payload = bytes.Clone(payload)
	payload[8] = 2
	return payload
}

func rename(from, to string) []byte {
	return append(binary.LittleEndian.AppendUint32(named('R', from), uint32(len(to))), to...)
}

// last are the files that every backup ends with.
var last = join(chunk("xtrabackup_checkpoints", 0, []byte("c")), chunk("xtrabackup_checkpoints", 0, nil),
	chunk("xtrabackup_info.qp", 0, []byte("i")), chunk("xtrabackup_info.qp", 0, nil))

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestEachDefectIsNamed(t *testing.T) {
	t.Parallel()
	a, b := chunk("a", 0, []byte("one")), chunk("a", 3, []byte("two"))
	endA, x, endX := chunk("a", 0, nil), chunk("x", 0, []byte("y")), chunk("x", 0, nil)
	wrong := bytes.Clone(a)
	wrong[len(wrong)-1] ^= 1
	other := func(kind, flags byte) []byte {
		unknown := chunk("q", 0, []byte("what is this"))
		unknown[8], unknown[9] = flags, kind
		return unknown
	}
	long := chunk("fourteen bytes", 0, []byte("y")) // as many as the fixed part of a chunk's head has
	for name, c := range map[string]struct {
		stream []byte
		want   error
	}{
		"good":                         {join(a, b, endA, last), nil},
		"interleaved":                  {join(a, x, b, endX, endA, last), nil},
		"an empty file":                {join(endA, last), nil},
		"sparse":                       {join(sparse("a", 0, []byte("data"), 10, 20), sparse("a", 34, []byte("da"), 5), chunk("a", 41, []byte("x")), endA, last), nil},
		"sparse, wrong":                {join(sparse("a", 0, []byte("data"), 1, 2, 3)[:60], endA), xbstream.ErrChecksum},
		"sparse, a hole missing":       {join(sparse("a", 0, []byte("data"), 10), sparse("a", 4, []byte("da"), 5), endA, last), xbstream.ErrOffset},
		"sought":                       {join(a, seek("a", 1), chunk("a", 1, []byte("three")), endA, last), nil},
		"sought to another place":      {join(a, seek("a", 2), chunk("a", 1, []byte("three")), endA, last), xbstream.ErrOffset},
		"sought after its end":         {join(a, endA, seek("a", 2), last), xbstream.ErrTwice},
		"cut after a seek":             {join(a, endA, last, seek("x", 2)), xbstream.ErrTruncated},
		"renamed":                      {join(a, endA, rename("a", "b"), a, endA, last), nil},
		"renamed to one that is there": {join(a, endA, x, endX, rename("a", "x"), last), nil},
		"renamed, then once more":      {join(a, endA, rename("a", "x"), x, endX, last), xbstream.ErrTwice},
		"renamed before its end":       {join(a, rename("a", "b"), endA, last), xbstream.ErrOpenFile},
		"renamed out of the folder":    {join(a, endA, rename("a", "../b"), last), xbstream.ErrPath},
		"removed":                      {join(a, endA, named('D', "a"), a, endA, named('D', "zz"), last), nil},
		"removed before its end":       {join(a, named('D', "a"), endA, last), xbstream.ErrOpenFile},
		"nothing":                      {nil, xbstream.ErrEmpty},
		"no end":                       {join(a, x, endX, last), xbstream.ErrOpenFile},
		"cut between two files":        {join(a, endA, x, endX), xbstream.ErrUnended},
		"without its last file":        {join(a, endA, last[:bytes.LastIndex(last, []byte("XBSTCK01\x00P"))]), xbstream.ErrUnended},
		"end in a payload":             {join(a, endA, last, x[:len(x)-1]), xbstream.ErrTruncated},
		"end in a header":              {join(a, endA, last, x[:5]), xbstream.ErrTruncated},
		"end in a path length":         {join(a, endA, last, x[:12]), xbstream.ErrTruncated},
		"end before a path":            {join(a, endA, last, long[:14]), xbstream.ErrTruncated},
		"wrong checksum":               {join(wrong, endA, last), xbstream.ErrChecksum},
		"a chunk missing":              {join(b, endA, last), xbstream.ErrOffset},
		"a chunk twice":                {join(a, a, endA, last), xbstream.ErrOffset},
		"a file twice":                 {join(a, endA, a, endA, last), xbstream.ErrTwice},
		"an end twice":                 {join(a, endA, endA, last), xbstream.ErrTwice},
		"something else":               {[]byte("-- MariaDB dump 10.19"), xbstream.ErrMagic},
		"no path":                      {chunk("", 0, nil), xbstream.ErrPath},
		"a path out of the folder":     {join(chunk("../a", 0, nil), last), xbstream.ErrPath},
		"a path from the root":         {join(chunk("/a", 0, nil), last), xbstream.ErrPath},
		"a path that tools cut":        {join(chunk("a\x00b", 0, nil), last), xbstream.ErrPath},
		"folders in each other":        {join(chunk("a/x", 0, nil), chunk("a/b/x", 0, nil), chunk("a/b/c/x", 0, nil), last), nil},
		"a folder in none":             {join(chunk("a/b/x", 0, nil), last), xbstream.ErrPath},
		"an unknown kind":              {join(other('Q', 0), last), xbstream.ErrKind},
		"one that may be passed over":  {join(other('Q', 1), last), nil},
		"such a one, damaged":          {join(other('Q', 1)[:30], last), xbstream.ErrChecksum},
		"a flag":                       {join(other('P', 1), last), xbstream.ErrKind},
		"made anew":                    {join(a, endA, rewrite(a), b, endA, last), nil},
		"made anew from its middle":    {join(a, endA, rewrite(b), endA, last), xbstream.ErrOffset},
		"made anew, with no end":       {join(a, endA, rewrite(a), last), xbstream.ErrOpenFile},
		"renamed, then an empty file":  {join(a, endA, rename("a", "b"), named('E', "empty"), last), xbstream.ErrRename},
		"an impossible length":         {join(seek("a", 1<<63), last), xbstream.ErrLength},
	} {
		if err := verdict(c.stream); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzChecker(f *testing.F) {
	f.Add(join(chunk("a", 0, []byte("one")), chunk("a", 0, nil)), 3)
	f.Add(join(sparse("a", 0, []byte("one"), 7), chunk("a", 0, nil), last), 1)
	f.Add(join(chunk("a", 0, []byte("one")), seek("a", 1), chunk("a", 1, []byte("two")), chunk("a", 0, nil), rename("a", "b"), named('D', "b"), last), 5)
	f.Add(thinned(f), 9)
	f.Add(stored(f, "ddl.xbstream"), 30)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		whole := verdict(data)
		c := xbstream.New()
		size := 1 + int(uint(piece)%64)
		for rest := data; len(rest) > 0; {
			n := min(size, len(rest))
			if got, err := c.Write(rest[:n]); got != n || err != nil {
				t.Fatalf("wrote %d of %d, %v", got, n, err)
			}
			rest = rest[n:]
		}
		if got := c.Close(); (got == nil) != (whole == nil) || got != nil && got.Error() != whole.Error() {
			t.Fatalf("in pieces of %d: %v, at once: %v", size, got, whole)
		}
	})
}

func BenchmarkChecker(b *testing.B) {
	stream := join(chunk("a", 0, make([]byte, 10<<20)), chunk("a", 0, nil), last)
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		if err := verdict(stream); err != nil {
			b.Fatal(err)
		}
	}
}
