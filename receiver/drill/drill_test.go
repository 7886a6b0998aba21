package drill

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/xbstream"
)

// physical takes a real backup of a server and returns it as a receiver would have stored it.
func physical(t *testing.T, m *mariadbd.Server) Backup {
	t.Helper()
	cmd := exec.CommandContext(bustest.Context(t), "mariadb-backup", "--defaults-file="+m.ConfigFile(), "--backup", "--stream=xbstream",
		"--socket="+m.Socket(), "--user="+m.User(), "--password="+m.Password(), "--target-dir="+t.TempDir())
	var said bytes.Buffer
	cmd.Stderr = &said
	stream, err := cmd.Output()
	if err != nil {
		t.Fatalf("take a backup: %v: %s", err, said.String())
	}
	return stored(t, stream)
}

func stored(t *testing.T, stream []byte) Backup {
	t.Helper()
	sum := sha256.Sum256(stream)
	b := Backup{Path: filepath.Join(t.TempDir(), "backup"), Compress: "none", Algo: "sha256", Hash: hex.EncodeToString(sum[:]), Size: int64(len(stream)), Format: job.XBStream}
	if err := os.WriteFile(b.Path, stream, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

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

func filled(t *testing.T) *mariadbd.Server {
	t.Helper()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret"})
	statements(t, m,
		"CREATE DATABASE shop", "CREATE TABLE shop.`odd ``name` (i INT PRIMARY KEY, t TEXT)",
		"INSERT INTO shop.`odd ``name` SELECT seq, REPEAT('x', 100) FROM shop.seq_1_to_20000",
		"CREATE TABLE shop.plain (i INT) ENGINE=MyISAM", "INSERT INTO shop.plain VALUES (1), (2)",
		// What must not come to life in a scratch server.
		"CREATE EVENT shop.e ON SCHEDULE EVERY 1 SECOND DO DELETE FROM shop.plain",
	)
	return m
}

func statements(t *testing.T, m *mariadbd.Server, list ...string) {
	t.Helper()
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range list {
		if _, err := db.ExecContext(bustest.Context(t), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestARealBackupIsRestoredAndLookedThrough(t *testing.T) {
	t.Parallel()
	backup := physical(t, filled(t))
	b := newBench(t)
	res, err := Run(bustest.Context(t), b.cfg, backup)
	if err != nil {
		t.Fatal(err)
	}
	if res.Rows < 20_002 || res.Tables < 20 || !strings.Contains(res.Version, "MariaDB") || len(res.Problems) != 0 {
		t.Errorf("%+v", res)
	}
	if res.Restore == 0 || res.Check == 0 {
		t.Errorf("it took no time: %+v", res)
	}
}

func TestADumpIsLoadedAndLookedThrough(t *testing.T) {
	t.Parallel()
	m := filled(t)
	conn := []string{"--no-defaults", "--socket=" + m.Socket(), "--user=" + m.User(), "--password=" + m.Password()}
	text, err := exec.CommandContext(bustest.Context(t), "mariadb-dump", append(conn, "--single-transaction", "--events", "--all-databases")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	dump := stored(t, text)
	dump.Format = job.SQLText
	b := newBench(t)
	res, err := Run(bustest.Context(t), b.cfg, dump)
	if err != nil || res.Rows < 20_002 {
		t.Errorf("%+v, %v", res, err)
	}
	cut := stored(t, text[:len(text)/2])
	cut.Format = job.SQLText
	if res, err := Run(bustest.Context(t), newBench(t).cfg, cut); !errors.Is(err, ErrBackup) {
		t.Errorf("half a dump: %+v, %v", res, err)
	}
}

// mydumper cannot dump a table with a backtick in its name.
func TestAFolderOfMydumperIsLoadedAndLookedThrough(t *testing.T) {
	t.Parallel()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret"})
	statements(t, m, "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT PRIMARY KEY)", "INSERT INTO shop.a SELECT seq FROM shop.seq_1_to_1000")
	dir := t.TempDir()
	out, err := exec.CommandContext(bustest.Context(t), "mydumper", "--socket="+m.Socket(), "--user="+m.User(), "--password="+m.Password(),
		"--database=shop", "--threads=1", "--outputdir="+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	archive, err := exec.CommandContext(bustest.Context(t), "sh", "-c", `cd "$1" && tar -cf - *`, "sh", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	dump := stored(t, archive)
	dump.Format = job.Tar
	res, err := Run(bustest.Context(t), newBench(t).cfg, dump)
	if err != nil || res.Rows < 1000 {
		t.Errorf("%+v, %v", res, err)
	}
	climbing, err := exec.CommandContext(bustest.Context(t), "sh", "-c", `cd "$1" && tar -cPf - --transform 's|^|../|' *`, "sh", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	evil := stored(t, climbing)
	evil.Format = job.Tar
	b := newBench(t)
	if _, err := Run(bustest.Context(t), b.cfg, evil); !errors.Is(err, ErrBackup) {
		t.Errorf("an archive that climbs: %v", err)
	}
}

func TestADamagedBackupIsNotCalledRestored(t *testing.T) {
	t.Parallel()
	m := filled(t)
	if err := m.Restart(bustest.Context(t)); err != nil { // so that preparing does not write the pages anew from the log
		t.Fatal(err)
	}
	good := physical(t, m)
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
		if res, err := Run(bustest.Context(t), b.cfg, stored(t, data)); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
	// Rotten on disk.
	if err := os.WriteFile(good.Path, rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	if _, err := Run(bustest.Context(t), b.cfg, good); !errors.Is(err, ErrBackup) {
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
	good := stored(t, []byte("whatever"))
	huge := good
	huge.Size = 1 << 60
	if _, err := Run(bustest.Context(t), newBench(t).cfg, huge); !errors.Is(err, ErrSpace) || errors.Is(err, ErrBackup) {
		t.Errorf("no space: %v", err)
	}
	sealed := good
	sealed.Encrypted = true
	if _, err := Run(bustest.Context(t), newBench(t).cfg, sealed); err == nil || errors.Is(err, ErrBackup) {
		t.Errorf("no identity: %v", err)
	}
	gone := good
	gone.Path += ".gone"
	if _, err := Run(bustest.Context(t), newBench(t).cfg, gone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// A disk that fills up under a drill is no fault of the backup's: it must not lose its good name for it.
func TestAFullDiskBlamesNoBackup(t *testing.T) {
	t.Parallel()
	backup := physical(t, filled(t))
	b := newBench(t)
	d := &drill{cfg: b.cfg, backup: backup}
	if err := os.MkdirAll(b.cfg.Folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", b.cfg.Folder, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(b.cfg.Folder, 0), os.Remove(b.cfg.Folder)); err != nil {
			t.Error(err)
		}
	})
	if err := d.unpack(bustest.Context(t)); !errors.Is(err, ErrSpace) || errors.Is(err, ErrBackup) {
		t.Errorf("%v", err)
	}
}

func TestACanceledDrillLeavesNothing(t *testing.T) {
	t.Parallel()
	backup := physical(t, filled(t))
	reason := errors.New("the job has ended")
	for _, phase := range []string{"unpack", "prepare", "start a scratch server", "check every table"} {
		b := newBench(t)
		ctx, cancel := context.WithCancelCause(bustest.Context(t))
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
