package xbstream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os/exec"
	"testing"

	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/xbstream"
)

func verdict(data []byte) error {
	c := xbstream.New()
	_, _ = c.Write(data)
	return c.Close()
}

func TestDamageOfARealBackupIsFound(t *testing.T) {
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret"})
	if err := mariadbd.Generate(t.Context(), m, 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	good, err := exec.Command("mariadb-backup", "--defaults-file="+m.ConfigFile(), "--backup", "--stream=xbstream",
		"--target-dir="+t.TempDir(), "--user=drydock", "--password=secret", "--socket="+m.Socket()).Output()
	if err != nil {
		t.Fatal(err)
	}
	c := xbstream.New()
	_, _ = c.Write(good)
	if err := c.Close(); err != nil || c.Files() < 100 || c.Opaque() != "" {
		t.Fatalf("the real stream: %v, %d files, %q", err, c.Files(), c.Opaque())
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	t.Run("truncated", func(t *testing.T) {
		for range 20 {
			if at := 1 + rnd.IntN(len(good)-1); verdict(good[:at]) == nil {
				t.Errorf("cut at byte %d of %d, nothing is found", at, len(good))
			}
		}
	})
	t.Run("one bit flipped", func(t *testing.T) {
		for range 20 {
			at, bad := rnd.IntN(len(good)), bytes.Clone(good)
			bad[at] ^= 1 << rnd.IntN(8)
			isFlags := at >= 8 && string(good[at-8:at]) == "XBSTCK01" // no tool looks at them
			if verdict(bad) == nil && !isFlags {
				t.Errorf("a bit at byte %d, nothing is found", at)
			}
		}
	})
	t.Run("twice", func(t *testing.T) {
		if err := verdict(append(bytes.Clone(good), good...)); !errors.Is(err, xbstream.ErrTwice) {
			t.Errorf("every file twice: %v", err)
		}
	})
	t.Run("in small pieces", func(t *testing.T) {
		c := xbstream.New()
		for rest := good; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(5000))
			_, _ = c.Write(rest[:n])
			rest = rest[n:]
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// chunk makes one chunk; a nil payload makes an end of file.
func chunk(path string, offset int64, payload []byte) []byte {
	b := append([]byte("XBSTCK01\x00"), 'P')
	if payload == nil {
		b[9] = 'E'
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(path)))
	b = append(b, path...)
	if payload == nil {
		return b
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(payload))
	return append(b, payload...)
}

// sparse makes a sparse chunk of xtrabackup.
func sparse(path string, offset int64, entries int, payload []byte) []byte {
	b := append([]byte("XBSTCK01\x00S"), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(b[10:], uint32(len(path)))
	b = append(b, path...)
	b = binary.LittleEndian.AppendUint32(b, uint32(entries))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	body := append(make([]byte, 8*entries), payload...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(body))
	return append(b, body...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestEachDefectIsNamed(t *testing.T) {
	t.Parallel()
	a, b := chunk("a", 0, []byte("one")), chunk("a", 3, []byte("two"))
	endA, x, endX := chunk("a", 0, nil), chunk("x", 0, []byte("y")), chunk("x", 0, nil)
	wrong := bytes.Clone(a)
	wrong[len(wrong)-1] ^= 1
	unknown := join(a, endA, []byte("XBSTCK01\x00Z"), []byte{1, 0, 0, 0, 'q'})
	for name, c := range map[string]struct {
		stream []byte
		want   error
	}{
		"good":                 {join(a, b, endA), nil},
		"interleaved":          {join(a, x, b, endX, endA), nil},
		"an empty file":        {join(endA), nil},
		"sparse":               {join(sparse("a", 0, 3, []byte("data")), endA), nil},
		"sparse, wrong":        {join(sparse("a", 0, 3, []byte("data"))[:60], endA), xbstream.ErrChecksum},
		"nothing":              {nil, xbstream.ErrEmpty},
		"no end":               {join(a, x, endX), xbstream.ErrOpenFile},
		"end in a payload":     {join(a, endA, x[:len(x)-1]), xbstream.ErrTruncated},
		"end in a header":      {join(a, endA, x[:5]), xbstream.ErrTruncated},
		"end in a path length": {join(a, endA, x[:12]), xbstream.ErrTruncated},
		"wrong checksum":       {join(wrong, endA), xbstream.ErrChecksum},
		"a chunk missing":      {join(b, endA), xbstream.ErrOffset},
		"a chunk twice":        {join(a, a, endA), xbstream.ErrOffset},
		"a file twice":         {join(a, endA, a, endA), xbstream.ErrTwice},
		"an end twice":         {join(a, endA, endA), xbstream.ErrTwice},
		"something else":       {[]byte("-- MariaDB dump 10.19"), xbstream.ErrMagic},
		"no path":              {chunk("", 0, nil), xbstream.ErrPath},
		"a kind of the future": {unknown, nil},
	} {
		if err := verdict(c.stream); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	c := xbstream.New()
	_, _ = c.Write(unknown)
	if c.Opaque() == "" {
		t.Error("a kind that is not known is passed over without a word")
	}
}

func FuzzChecker(f *testing.F) {
	f.Add(join(chunk("a", 0, []byte("one")), chunk("a", 0, nil)), 3)
	f.Add(join(sparse("a", 0, 1, []byte("one")), chunk("a", 0, nil)), 1)
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
	stream := join(chunk("a", 0, make([]byte, 10<<20)), chunk("a", 0, nil))
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		if err := verdict(stream); err != nil {
			b.Fatal(err)
		}
	}
}
