package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestEveryTickLiesAheadAndFiresOnceADay(t *testing.T) {
	t.Parallel()
	for _, now := range []time.Time{
		time.Date(2026, 3, 29, 1, 59, 55, 0, time.FixedZone("CET", 3600)),
		time.Date(2026, 12, 31, 23, 59, 52, 999, time.UTC),
	} {
		p := planTicks(now)
		if lead := p.logs.Sub(now); lead < tickLead-time.Second || lead > tickLead {
			t.Errorf("the first tick lies %s ahead", lead)
		}
		if !p.logs.Before(p.backup) || !p.backup.Before(p.optimize) {
			t.Errorf("the ticks are not in order: %v", p)
		}
		if p.of("errorlog") != p.logs || p.of("mariabackup") != p.backup || p.of("optimize") != p.optimize {
			t.Errorf("a task has another's tick: %v", p)
		}
	}
	if got := cronSpec(time.Date(2027, 1, 1, 0, 5, 9, 0, time.UTC)); got != "9 5 0 * * *" {
		t.Errorf("spec = %q", got)
	}
}

// TestChildLeavesNobodyInItsSession: the script's tasks leave its process group and may ignore SIGTERM.
func TestChildLeavesNobodyInItsSession(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	const script = `trap "" TERM; set -m; (trap "" TERM; echo $BASHPID >"$0"; while :; do sleep 60; done) & wait`
	c, err := startChild(exec.Command("bash", "-c", script, ready), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, 10*time.Second, "the script has started", func() bool {
		text, _ := os.ReadFile(ready)
		return len(text) > 0
	})
	c.stop(50 * time.Millisecond)
	if left := killSession(c.pid); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}

func TestSessionIsFoundBehindAnAwkwardName(t *testing.T) {
	t.Parallel()
	if state, session := readStat("12 (a) R (b) 3) S 1 12 77 0 -1"); state != "S" || session != 77 {
		t.Errorf("got %s, %d", state, session)
	}
	if _, session := readStat("12 (a"); session != 0 {
		t.Errorf("got session %d of half a line", session)
	}
}

func TestProofRefusesABackupThatIsNotWhatItsManifestSays(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "table.ibd"), []byte(strings.Repeat("data", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	make := exec.Command("mbstream", "-c", "table.ibd")
	make.Dir = source
	stream, err := make.Output()
	if err != nil {
		t.Fatal(err)
	}
	blake, sha := blake3.Sum256(stream), sha256.Sum256(stream)
	good := store.Manifest{Compress: "none", Size: int64(len(stream)), Algo: "blake3", Hash: hex.EncodeToString(blake[:])}
	tests := []struct {
		name   string
		change func(*store.Manifest)
		cut    int // bytes missing at the end of the file
		want   string
	}{
		{"whole", func(*store.Manifest) {}, 0, ""},
		{"sha256", func(m *store.Manifest) { m.Algo, m.Hash = "sha256", hex.EncodeToString(sha[:]) }, 0, ""},
		{"other hash", func(m *store.Manifest) { m.Hash = strings.Repeat("0", 64) }, 0, "hash of the content"},
		{"other size", func(m *store.Manifest) { m.Size++ }, 0, "size of the content"},
		{"cut", func(*store.Manifest) {}, 7, "mbstream"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := good
			test.change(&m)
			m.StoredHash, m.Path = m.Hash, filepath.Join(t.TempDir(), "b.xbstream")
			if err := os.WriteFile(m.Path, stream[:len(stream)-test.cut], 0o600); err != nil {
				t.Fatal(err)
			}
			p := &proof{m: m, dir: t.TempDir()}
			if err := os.Mkdir(p.target(), 0o700); err != nil {
				t.Fatal(err)
			}
			err := p.unpack(context.Background())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error = %v, want %q", err, test.want)
			}
		})
	}
}

// TestProofNeedsMoreThanToolsThatExitWithZero: mbstream does so for a stream that holds a file twice, which is what a
// backup looks like when tables were optimized meanwhile.
func TestProofNeedsMoreThanToolsThatExitWithZero(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		`mbstream -c a`:                   "prepare b.xbstream", // unpacks, and is no backup
		`mbstream -c a; mbstream -c a`:    "File exists",
		`mbstream -c a; echo XBSTCK01 oh`: "unpack b.xbstream",
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("sh", "-c", "echo none >a && { "+script+"; }")
			cmd.Dir = t.TempDir()
			stream, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "b.xbstream")
			if err := os.WriteFile(path, stream, 0o600); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(stream)
			m := store.Manifest{Path: path, Size: int64(len(stream)), Algo: "sha256", Hash: hex.EncodeToString(sum[:])}
			m.StoredHash = m.Hash
			err = (&proof{m: m, dir: t.TempDir()}).run(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v, want %q", err, want)
			}
		})
	}
}

func TestBoardEndsOnlyWhenEveryJobHasAndSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	key := job.Key{Cluster: "sql", Server: job.Server{Host: "127.0.0.1", Port: 3306}, Task: "mariabackup"}
	other := key
	other.Task = "optimize"
	b := &board{rows: []*row{{key: key}, {key: other}}}
	event := func(s job.State, reason string) bus.JobEvent {
		return bus.JobEvent{State: s, Job: job.Job{ID: "J", State: s, Reason: reason, Cluster: key.Cluster, Server: key.Server, Task: key.Task}}
	}
	b.onLog(bus.LogBatch{Cluster: key.Cluster, Server: key.Server, Task: key.Task, Lines: []string{"  disk \x1b[2J full ", ""}})
	b.onJob(event(job.Processing, ""))
	b.onJob(event(job.Processing, "")) // a note, not news
	b.onJob(event(job.Halted, strings.Repeat("no room ", 30)))
	if n := len(b.takeNews()); n != 2 || len(b.takeNews()) != 0 {
		t.Errorf("%d lines for two changes", n)
	}
	if b.ended() {
		t.Error("ended before the second job has begun")
	}
	b.onTick(bus.Tick{Outcome: bus.Fired, Cluster: "sql", Task: "optimize"})
	b.onTick(bus.Tick{Outcome: bus.Skipped, Cluster: "sql", Task: "optimize", Servers: []job.Server{{Host: "other", Port: 1}}})
	if b.ended() {
		t.Error("ended by a tick that starts a job, or by one for another server")
	}
	b.onTick(bus.Tick{Outcome: bus.Skipped, Cluster: "sql", Task: "optimize", Reason: "busy"})
	if !b.ended() {
		t.Error("a skipped tick is awaited for ever")
	}
	rows := b.snapshot()
	if got := strings.Join(rows[0].explain(), "|"); !strings.HasPrefix(got, "sql/127.0.0.1:3306/mariabackup: halted: no room") || !strings.Contains(got, "disk") {
		t.Errorf("the failure reads %q", got)
	}
	if got := rows[1].explain(); got[0] != "sql/127.0.0.1:3306/optimize: skipped: busy" {
		t.Errorf("the skip reads %q", got)
	}
	for _, line := range b.table(time.Now()) {
		if n := len([]rune(line)); n > maxWidth || strings.ContainsRune(line, '\x1b') {
			t.Errorf("%d characters: %q", n, line)
		}
	}
}

func TestLogOfAHostCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	if got := clip("a\x1b[2J\tb\xff\u009b31m", 100); got != "a [2J b? 31m" {
		t.Errorf("got %q", got)
	}
	if got := clip("äöüäöüäöü", 6); got != "äöü..." {
		t.Errorf("got %q", got)
	}
}

func TestTooLittleRoomIsSaidBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	err := Run(t.Context(), Options{Dir: t.TempDir(), Size: 1 << 50, Out: os.Stderr})
	if err == nil || !strings.Contains(err.Error(), "--size") {
		t.Errorf("error = %v", err)
	}
}
