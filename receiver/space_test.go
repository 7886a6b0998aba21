package receiver

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"drydock/bus"
	"drydock/job"
)

// smallDisk puts the backups of the server onto a file system of a few MiB.
func (g *rig) smallDisk(size string) {
	g.t.Helper()
	folder := g.pool.cfg.folder(job.KindBackup, "prod", local)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		g.t.Fatal(err)
	}
	if err := syscall.Mount("drydock-test", folder, "tmpfs", 0, "size="+size); err != nil {
		g.t.Fatalf("mount a small file system (needs root): %v", err)
	}
	g.t.Cleanup(func() {
		g.stop()
		if err := syscall.Unmount(folder, 0); err != nil {
			g.t.Error(err)
		}
	})
}

func noRoom(err error) bool {
	var se *bus.ServiceError
	return errors.As(err, &se) && se.Code == bus.CodeNoSpace
}

func TestABackupThatWillNotFitIsNotBegun(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.smallDisk("4m")
	first := g.queued("mariabackup") // nothing is known of its size
	if _, err := g.open(first); err != nil {
		t.Fatal(err)
	}
	g.event(first, job.Cancel)
	done := g.event(g.streamed(g.processing("mariabackup"), randomBytes(3<<20)), job.Done)
	file := g.published(done).Path
	g.event(done, job.Pass)
	second := g.queued("mariabackup")
	_, err := g.open(second)
	if !noRoom(err) || !strings.Contains(err.Error(), "disk-reserve") {
		t.Fatalf("a backup like the last one was promised a port: %v", err)
	}
	if _, err := g.open(g.queued("errorlog")); err != nil {
		t.Errorf("a log must come through: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := g.open(second); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

func TestTwoBackupsAreNotPromisedTheSameSpace(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.smallDisk("8m")
	g.succeed(g.streamed(g.processing("mariabackup"), randomBytes(2<<20)))
	g.succeed(g.streamed(g.processing("xtrabackup"), randomBytes(2<<20)))
	g.offered(g.queued("mariabackup"))
	second := g.queued("xtrabackup")
	if _, err := g.open(second); !noRoom(err) {
		t.Errorf("4 MiB are left and 2.2 are promised: %v", err)
	}
	g.stop()
	g.start(nil)
	if _, err := g.open(second); !noRoom(err) {
		t.Errorf("a restart of the receiver forgot what it had promised: %v", err)
	}
}

func TestTheReserveIsKept(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(cfg *Config) { cfg.Reserve = 1 << 60 })
	if _, err := g.open(g.queued("mariabackup")); !noRoom(err) {
		t.Errorf("the first backup takes the reserve: %v", err)
	}
}
