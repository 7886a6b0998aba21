package archive

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/job"
)

// small makes the disk of the repository too small for a pack.
func (g *rig) small(t *testing.T) {
	t.Helper()
	if err := os.Mkdir(g.cluster.Location, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("drydock-test", g.cluster.Location, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mount a small tmpfs (run the tests as root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(g.cluster.Location, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestFullDiskOfTheRepositoryIsNamed(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.small(t)
	g.start("rcv")
	small := g.publish("rcv", "mariabackup", 1000, time.Now().Add(-time.Hour))
	g.succeeded(g.archive(small))
	large := g.publish("rcv", "mariabackup", 20<<20, time.Now())
	j := g.archive(large)
	if j.State != job.Halted || !strings.Contains(j.Reason, "no space left") { // what WARN0100 goes by
		t.Errorf("the job is %s (%s)", j.State, j.Reason)
	}
	if len(g.record(large).Archives) != 0 || len(g.snapshots()) != 1 {
		t.Error("half an archive is recorded")
	}
	if err := present(large); err != nil {
		t.Errorf("the backup was touched: %v", err)
	}
}

// restic 0.14 can hang on a full disk (one run of the test above in 50 does), and kept every archive of the repository
// waiting for a day. What hangs here is a script in its place, which goes on saying what restic does.
func TestAResticThatHangsOnAFullDiskIsEnded(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.small(t)
	g.cluster.Binary = filepath.Join(g.dir, "restic")
	script := `#!/bin/sh
case " $* " in *" backup "*) ;; *) exec restic "$@" ;; esac
trap 'exit 130' INT
while sleep 1; do echo '{"message_type":"status","percent_done":1,"bytes_done":1000}'; done
`
	if err := os.WriteFile(g.cluster.Binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	g.start("rcv")
	j := g.archive(g.publish("rcv", "mariabackup", 1000, time.Now()))
	if j.State != job.Halted || !strings.Contains(j.Reason, "no space left") {
		t.Errorf("the job is %s (%s)", j.State, j.Reason)
	}
}

func TestOnlyAFullDiskMakesAStandstillAnError(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.small(t)
	start := time.Now()
	at := func(s int64, kind string, done int64) (status, time.Time) {
		return status{Kind: kind, Done: done}, start.Add(time.Duration(s) * time.Second)
	}
	for name, c := range map[string]struct {
		repository string
		second     int64
		kind       string
		done       int64
		ended      bool
	}{
		"it stands still":        {g.cluster.Location, 31, "status", 1, true},
		"not for long":           {g.cluster.Location, 29, "status", 1, false},
		"it moves":               {g.cluster.Location, 31, "status", 2, false},
		"it is done":             {g.cluster.Location, 31, "summary", 1, false},
		"there is room":          {g.dir, 31, "status", 1, false},
		"the repository is away": {"sftp:host:" + g.cluster.Location, 31, "status", 1, false},
	} {
		still := standstill{repository: Repository{Location: c.repository}}
		if err := still.see(at(0, "status", 1)); err != nil {
			t.Errorf("%s: %v at once", name, err)
		}
		if err := still.see(at(c.second, c.kind, c.done)); (err != nil) != c.ended {
			t.Errorf("%s: %v", name, err)
		}
	}
}
