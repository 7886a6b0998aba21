package archive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
)

// locked starts a restic that holds the repository for itself, until it is killed with the signal or the test ends. What
// it backs up comes from a pipe that stays open.
func (g *rig) locked(t *testing.T) (end func(syscall.Signal)) {
	t.Helper()
	cmd := g.command("backup", "--stdin", "--tag", "other")
	in, err := cmd.StdinPipe()
	if err == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func(sig syscall.Signal) {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(sig)
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(func() { end(syscall.SIGKILL) })
	bustest.Until(t, soon, "the other restic holds a lock", func() bool { return len(g.locks()) > 0 })
	return end
}

func (g *rig) locks() []os.DirEntry {
	list, err := os.ReadDir(filepath.Join(g.cluster.Location, "locks"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.t.Fatal(err)
	}
	// A lock that is being written is none yet.
	return slices.DeleteFunc(list, func(e os.DirEntry) bool { return strings.Contains(e.Name(), "-tmp-") })
}

func TestLockOfADeadResticIsHealed(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start("rcv")
	g.succeeded(g.archive(g.publish("rcv", "mariabackup", 1000, time.Now())))
	g.locked(t)(syscall.SIGKILL)
	if len(g.locks()) != 1 {
		t.Fatal("the dead restic left no lock: the test proves nothing")
	}
	g.succeeded(g.Ended(g.Queue(taskPrune, nil))) // needs the repository for itself
	if n := len(g.locks()); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

func TestLockOfALivingResticIsWaitedFor(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start("rcv")
	g.succeeded(g.archive(g.publish("rcv", "mariabackup", 1000, time.Now())))
	end := g.locked(t)
	lock := g.locks()[0].Name()
	j := g.Queue(taskCheck, nil)
	j = g.When(j, "the job waits", func(j job.Job) bool { return strings.Contains(j.Reason, "waits for another restic") })
	if j.State != job.Processing {
		t.Errorf("the job is %s", j.State)
	}
	if now := g.locks(); len(now) != 1 || now[0].Name() != lock {
		t.Fatalf("the lock of a living restic is gone: %v", now)
	}
	end(syscall.SIGINT)
	g.succeeded(g.Ended(j))
}

func TestCanceledArchiveEndsItsRestic(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.cluster.UploadKiB = 50
	stop := g.start("rcv")
	m := g.publish("rcv", "mariabackup", 600_000, time.Now()) // 12 s
	j := g.Queue(taskArchive, map[string]string{argBackup: m.ID})
	bustest.Until(t, soon, "restic works", func() bool { return len(g.locks()) > 0 })
	g.Apply(j, job.Cancel)
	stop() // returns when every restic has ended
	if len(g.record(m).Archives) != 0 || len(g.snapshots()) != 0 {
		t.Error("the canceled archive was made")
	}
	g.cluster.UploadKiB = 0
	g.start("rcv")
	g.succeeded(g.Ended(g.Queue(taskPrune, nil))) // whatever lock is left is stale
	g.succeeded(g.archive(m))
}
