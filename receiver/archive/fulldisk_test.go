package archive

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/job"
)

func TestFullDiskOfTheRepositoryIsNamed(t *testing.T) {
	t.Parallel()
	g := newRig(t)
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
