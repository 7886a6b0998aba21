package drill

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/internal/backuptest"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/xbstream"
)

// bench is a drill's surroundings in a test.
type bench struct {
	cfg Config
	mu  sync.Mutex
	log []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{}
	line := func(text string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.log = append(b.log, text)
	}
	b.cfg = Config{Folder: filepath.Join(t.TempDir(), "drill"), Memory: 64 << 20, Step: line, Line: line}
	t.Cleanup(func() {
		if _, err := os.Lstat(b.cfg.Folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the scratch folder is left: %v", err)
		}
		if t.Failed() {
			for _, line := range b.log[max(0, len(b.log)-30):] {
				t.Log(line[:min(len(line), 200)])
			}
		}
	})
	return b
}

// Some hundred MB, so that tools stream, work in several steps and write more than one log file.
func TestARealBackupIsRestoredAndLookedThrough(t *testing.T) {
	t.Parallel()
	const parts, part = 6, 100_000
	const bigRows = parts * part
	m := backuptest.Filled(t, mariadbd.Options{Extra: []string{
		"innodb_buffer_pool_size=512M", "innodb_log_file_size=512M", "innodb_flush_log_at_trx_commit=0", "innodb_doublewrite=0", "skip-log-bin",
	}})
	backuptest.Statements(t, m, "CREATE TABLE shop.big (i INT PRIMARY KEY, t VARCHAR(250) CHARACTER SET latin1)")
	for i := range parts {
		backuptest.Statements(t, m, fmt.Sprintf("INSERT INTO shop.big SELECT seq, REPEAT(MD5(seq), 6) FROM shop.seq_%d_to_%d", i*part+1, (i+1)*part))
	}
	two := int64(2)
	held := map[string]job.Rows{"odd `name": {Filled: true}, "plain": {Exact: &two}, "big": {Filled: true}}
	for _, c := range []struct {
		take  func(testing.TB, *mariadbd.Server) Backup
		least int64 // bytes of the stream
	}{{backuptest.Physical, 250 << 20}, {backuptest.Dump, 110 << 20}} {
		backup := c.take(t, m)
		t.Run(string(backup.Format), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.cfg.Expect = &job.Inventory{Schemas: map[string]job.Schema{"shop": {Count: len(held), Tables: held}}}
			res, err := Run(t.Context(), b.cfg, backup)
			if err != nil {
				t.Fatal(err)
			}
			if backup.Size < c.least || res.Rows < bigRows+20_002 || res.Tables < 20 || !strings.Contains(res.Version, "MariaDB") || len(res.Problems) != 0 || res.Compared != 3 {
				t.Errorf("of %d bytes: %+v", backup.Size, res)
			}
			if res.Restore == 0 || res.Check == 0 {
				t.Errorf("it took no time: %+v", res)
			}
			t.Logf("%d MB: restored in %s, checked in %s", backup.Size>>20, res.Restore, res.Check)
		})
	}
}

func TestADumpThatLostDataIsNotCalledRestored(t *testing.T) {
	t.Parallel()
	dump := backuptest.Dump(t, backuptest.Filled(t, mariadbd.Options{}))
	text, err := os.ReadFile(dump.Path)
	if err != nil {
		t.Fatal(err)
	}
	cut := backuptest.Text(t, string(text[:len(text)/2]))
	if res, err := Run(patient(t), newBench(t).cfg, cut); !errors.Is(err, ErrBackup) {
		t.Errorf("half a dump: %+v, %v", res, err)
	}
	// Whole as a file, but not of all that the server held.
	b := newBench(t)
	b.cfg.Expect = &job.Inventory{Schemas: map[string]job.Schema{"shop": {Count: 2, Tables: map[string]job.Rows{"plain": {}, "orders": {}}}}}
	if res, err := Run(patient(t), b.cfg, dump); !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), "`shop`.`orders` is missing") {
		t.Errorf("a table is missing: %+v, %v", res, err)
	}
}

// mydumper cannot dump a table with a backtick in its name.
func TestAFolderOfMydumperIsLoadedAndLookedThrough(t *testing.T) {
	t.Parallel()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret"})
	backuptest.Statements(t, m, "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT PRIMARY KEY)", "INSERT INTO shop.a SELECT seq FROM shop.seq_1_to_1000")
	res, err := Run(patient(t), newBench(t).cfg, backuptest.Folder(t, m))
	if err != nil || res.Rows < 1000 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestADamagedBackupIsNotCalledRestored(t *testing.T) {
	t.Parallel()
	m := backuptest.Filled(t, mariadbd.Options{})
	if err := m.Restart(bustest.Context(t)); err != nil { // so that preparing does not write the pages anew from the log
		t.Fatal(err)
	}
	good := backuptest.Physical(t, m)
	stream, err := os.ReadFile(good.Path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	// Sealed as if it had arrived like that: the hash agrees, only restoring can tell.
	damages := map[string][]byte{
		"cut":   stream[:len(stream)/2+rnd.IntN(1000)],
		"empty": {},
		"noise": bytes.Repeat([]byte("noise"), 1000),
	}
	rotten := bytes.Clone(stream)
	rotten[len(rotten)/2] ^= 1
	damages["one bit flipped"] = rotten
	damages["one bit flipped, its checksum made anew"] = resealed(t, stream, strings.Repeat("x", 100))
	for name, data := range damages {
		b := newBench(t)
		if res, err := Run(patient(t), b.cfg, backuptest.Stored(t, data)); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
	// Rotten on disk.
	if err := os.WriteFile(good.Path, rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	if _, err := Run(patient(t), b.cfg, good); !errors.Is(err, ErrBackup) {
		t.Errorf("a bit flipped on disk: %v", err)
	}
}

// resealed is a stream with one bit changed in a row that holds text, and the checksum of its chunk made anew: the format of
// the stream is that of a good one.
func resealed(t *testing.T, stream []byte, text string) []byte {
	t.Helper()
	out := bytes.Clone(stream)
	changed := false
	for at := 0; at < len(out) && !changed; {
		kind, path := out[at+9], at+14
		at = path + int(binary.LittleEndian.Uint32(out[path-4:]))
		if kind != 'P' {
			continue
		}
		log := strings.HasPrefix(string(out[path:at]), "ib_logfile")
		size := int(binary.LittleEndian.Uint64(out[at:]))
		sum, payload := out[at+16:], out[at+20:at+20+size]
		at += 20 + size
		if row := bytes.LastIndex(payload, []byte(text)); row >= 0 && !log {
			payload[row+len(text)/2] ^= 1
			binary.LittleEndian.PutUint32(sum, crc32.ChecksumIEEE(payload))
			changed = true
		}
	}
	check := xbstream.New()
	_, _ = check.Write(out)
	if err := check.Close(); err != nil || !changed {
		t.Errorf("changed: %t; the format alone finds %v", changed, err)
	}
	return out
}

func TestADrillThatCannotBeDoneBlamesNoBackup(t *testing.T) {
	t.Parallel()
	good := backuptest.Stored(t, []byte("whatever"))
	huge := good
	huge.Size = 1 << 60
	if _, err := Run(patient(t), newBench(t).cfg, huge); !errors.Is(err, ErrSpace) || errors.Is(err, ErrBackup) {
		t.Errorf("no space: %v", err)
	}
	sealed := good
	sealed.Encrypted = true
	if _, err := Run(patient(t), newBench(t).cfg, sealed); err == nil || errors.Is(err, ErrBackup) {
		t.Errorf("no identity: %v", err)
	}
	gone := good
	gone.Path += ".gone"
	if _, err := Run(patient(t), newBench(t).cfg, gone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestACanceledDrillLeavesNothing(t *testing.T) {
	t.Parallel()
	backup := backuptest.Physical(t, backuptest.Filled(t, mariadbd.Options{}))
	reason := errors.New("the job has ended")
	for _, phase := range []string{"unpack", "prepare", "start a private server", "check every table"} {
		b := newBench(t)
		ctx, cancel := context.WithCancelCause(patient(t))
		b.cfg.Step = func(what string) {
			if what == phase {
				time.AfterFunc(10*time.Millisecond, func() { cancel(reason) }) // in the middle, as near as can be
			}
		}
		if _, err := Run(ctx, b.cfg, backup); !errors.Is(err, reason) || errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", phase, err)
		}
		cancel(nil)
	}
}

// patient is a context for the work of tools and servers on a machine that does much else.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
