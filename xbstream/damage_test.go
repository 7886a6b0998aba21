package xbstream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"drydock/internal/damagetest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/xbstream"
)

var update = flag.Bool("update", false, "write testdata/thinned.xbstream anew from a real backup")

// real takes a backup with mariadb-backup.
func real(t *testing.T) []byte {
	t.Helper()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret", LogBin: true, Extra: []string{"innodb_undo_tablespaces=0"}})
	if err := mariadbd.Generate(t.Context(), m, 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	stream, err := exec.CommandContext(t.Context(), "mariadb-backup", "--defaults-file="+m.ConfigFile(), "--backup", "--stream=xbstream",
		"--target-dir="+t.TempDir(), "--user="+m.User(), "--password="+m.Password(), "--socket="+m.Socket()).Output()
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// part is one chunk of a stream, taken apart by the test's own hand.
type part struct {
	at, path, payload, end int // where it begins, and its path and payload; payload is 0 without one
	kind                   byte
	name                   string
}

func parts(t testing.TB, stream []byte) (out []part) {
	t.Helper()
	for at := 0; at < len(stream); {
		n := int(binary.LittleEndian.Uint32(stream[at+10:]))
		p := part{at: at, kind: stream[at+9], path: at + 14, end: at + 14 + n}
		p.name = string(stream[p.path:p.end])
		switch p.kind {
		case 'P':
			p.payload = p.end + 20
			p.end = p.payload + int(binary.LittleEndian.Uint64(stream[p.payload-20:]))
		case 'R':
			p.end += 4 + int(binary.LittleEndian.Uint32(stream[p.end:]))
		case 'E', 'D':
		default:
			t.Fatalf("a chunk of kind %q", p.kind)
		}
		out = append(out, p)
		at = p.end
	}
	return out
}

// thin keeps the heads of a real stream, of every few files all of them, and little of the payloads, in two chunks where
// there is enough: so every single bit of it can be tried.
func thin(t testing.TB, stream []byte) []byte {
	var out []byte
	files := map[string]bool{} // whether it is kept
	for _, p := range parts(t, stream) {
		kept, known := files[p.name]
		if !known {
			last := strings.HasPrefix(p.name, "xtrabackup") || strings.HasPrefix(p.name, "mariadb_backup")
			kept = last || p.kind == 'E' || len(files)%12 == 0
			files[p.name] = kept
		}
		switch {
		case !kept || p.kind == 'P' && binary.LittleEndian.Uint64(stream[p.payload-12:]) > 0: // only the first of a file
		case p.kind == 'E':
			out = append(out, stream[p.at:p.end]...)
		default:
			payload := stream[p.payload:min(p.end, p.payload+16)]
			half := len(payload) / 2
			out = append(out, join(chunk(p.name, 0, payload[:half]), chunk(p.name, int64(half), payload[half:]))...)
		}
	}
	return out
}

func thinned(t testing.TB) []byte { return stored(t, "thinned.xbstream") }

// stored is a file of testdata. ddl.xbstream and ddl-spoiled.xbstream are the heads of backups by mariadb-backup 10.11.19
// while others made, renamed and dropped tables of Aria and MyISAM; mbstream does not unpack the second one.
func stored(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// mbstream is what the real tool has against a stream; empty when nothing. Its exit status alone is 0 for much.
func mbstream(t *testing.T, stream []byte) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "mbstream", "-x", "-C", t.TempDir())
	cmd.Stdin = bytes.NewReader(stream)
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error()
	}
	return string(out)
}

// A cut or flipped stream that is taken for a good one is a backup that does not restore. What the tool itself finds when it
// unpacks must be found while the stream arrives.
func TestDamageOfARealBackupIsFound(t *testing.T) {
	rnd := damagetest.Rand(t)
	good := real(t)
	c := xbstream.New()
	_, _ = c.Write(good)
	if err := c.Close(); err != nil || c.Files() < 100 || c.Opaque() != "" {
		t.Fatalf("the real stream: %v, %d files, %q", err, c.Files(), c.Opaque())
	}
	if said := mbstream(t, good); said != "" {
		t.Fatalf("mbstream of the real stream: %s", said)
	}
	if *update {
		if err := os.WriteFile(filepath.Join("testdata", "thinned.xbstream"), thin(t, good), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	chunks := parts(t, good)
	middle, last := chunks[len(chunks)/2], chunks[len(chunks)-1]
	special := []int{middle.at, middle.end, last.at, chunks[len(chunks)-2].at, chunks[1].end}
	t.Run("truncated", func(t *testing.T) {
		for _, bad := range damagetest.Cuts(rnd, good, special...) {
			if verdict(bad.Data) == nil {
				t.Errorf("%s: nothing is found, mbstream says %q", bad.What, mbstream(t, bad.Data))
			}
		}
	})
	t.Run("one bit flipped", func(t *testing.T) {
		for _, bad := range damagetest.Flips(rnd, good) {
			if verdict(bad.Data) == nil && !namesNothing(chunks, bad.At) {
				t.Errorf("%s: nothing is found, mbstream says %q", bad.What, mbstream(t, bad.Data))
			}
		}
	})
	t.Run("twice", func(t *testing.T) {
		if verdict(append(bytes.Clone(good), good...)) == nil {
			t.Error("every file twice: nothing is found")
		}
	})
	t.Run("an end missing", func(t *testing.T) {
		for range damagetest.Places {
			gone := chunks[rnd.IntN(len(chunks))]
			if gone.kind == 'E' && !namesNothing(chunks, gone.path) && verdict(join(good[:gone.at], good[gone.end:])) == nil {
				t.Errorf("of %s: nothing is found", gone.name)
			}
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

// namesNothing tells that a byte is in the path of a file without payload, or makes its end a remove: nothing else in the
// stream says that there is such a file. So it is with the paths of renames and removes, and with the flag that lets a file
// begin anew. The hash of the sent bytes and that of the stored file are what finds it; see app.TestNoDamagePassesEveryCheck.
func namesNothing(chunks []part, at int) bool {
	payload := map[string]bool{}
	for _, p := range chunks {
		payload[p.name] = payload[p.name] || p.kind == 'P'
	}
	for _, p := range chunks {
		if p.at > at || at >= p.end {
			continue
		}
		switch p.kind {
		case 'P':
			return at == p.at+8
		case 'E':
			return !payload[p.name] && (at == p.at+9 || at >= p.path)
		}
		return at == p.at+9 || at >= p.path // D and E differ in one bit
	}
	return false
}

// The heads of chunks have no checksum: each of their bits, and each cut, must be found by what follows from it.
func TestEveryBitAndEveryCutOfARealStreamsHeads(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"thinned.xbstream", "ddl.xbstream"} {
		good := stored(t, name)
		if err := verdict(good); err != nil {
			t.Fatal(err)
		}
		chunks := parts(t, good)
		for at := range good {
			if verdict(good[:at]) == nil {
				t.Errorf("%s, %s: nothing is found", name, damagetest.Cut(good, at).What)
			}
			for bit := range uint(8) {
				if bad := damagetest.Flip(good, at, bit); verdict(bad.Data) == nil && !namesNothing(chunks, at) {
					t.Errorf("%s, %s: nothing is found", name, bad.What)
				}
			}
		}
	}
}

// A backup beside a rename of tables passed as good when nobody looked behind the first chunk of a kind that was not known.
func TestAStreamThatTheToolCannotUnpackIsNoBackup(t *testing.T) {
	t.Parallel()
	spoiled := stored(t, "ddl-spoiled.xbstream")
	if err := verdict(spoiled); !errors.Is(err, xbstream.ErrRename) || mbstream(t, spoiled) == "" {
		t.Errorf("the check finds %v, mbstream says %q", err, mbstream(t, spoiled))
	}
	if said := mbstream(t, stored(t, "ddl.xbstream")); said != "" {
		t.Errorf("mbstream of the good one: %s", said)
	}
}

// The real tool is the measure: no damage that it finds may be passed over here.
func TestCheckIsNotWeakerThanMbstream(t *testing.T) {
	t.Parallel()
	rnd := damagetest.Rand(t)
	for _, name := range []string{"thinned.xbstream", "ddl.xbstream"} {
		good := stored(t, name)
		chunks := parts(t, good)
		bad := damagetest.Cuts(rnd, good, chunks[5].at, chunks[5].end-1)
		for range 5 * damagetest.Places {
			p := chunks[rnd.IntN(len(chunks))]
			head := p.end
			if p.payload > 0 {
				head = p.payload
			}
			bad = append(bad, damagetest.Flip(good, p.at+rnd.IntN(head-p.at), uint(rnd.IntN(8))))
		}
		for _, b := range bad {
			if verdict(b.Data) != nil {
				continue
			}
			if said := mbstream(t, b.Data); said != "" {
				t.Errorf("%s, %s: nothing is found, mbstream says %s", name, b.What, said)
			}
		}
	}
}

// A payload changed together with its checksum is a good stream of a bad backup: only restoring it can tell (see
// receiver/drill).
func TestAChecksumMadeAnewIsBeyondTheFormat(t *testing.T) {
	t.Parallel()
	good := thinned(t)
	p := parts(t, good)[0]
	bad := bytes.Clone(good)
	bad[p.payload] ^= 1
	binary.LittleEndian.PutUint32(bad[p.payload-4:], crc32.ChecksumIEEE(bad[p.payload:p.end]))
	if err := verdict(bad); err != nil {
		t.Errorf("the format finds %v: name it in docs/testing.md", err)
	}
}
