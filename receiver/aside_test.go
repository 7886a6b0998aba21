package receiver

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// A backup that is too small to be believed is evidence: somebody will want to look at it. It must not look like a backup.
func TestABackupThatIsNotBelievedIsKeptAside(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	folder := filepath.Join(g.pool.cfg.folder(job.KindBackup, "prod", local), "rejected")
	reason := (job.Verdict{Event: job.Pass}).Within(job.Bounds{Min: 1 << 30}, 9).Reason
	refuse := func(data string) {
		t.Helper()
		j := g.event(g.streamed(g.processing("mariabackup"), []byte(data)), job.Done)
		g.apply(j, store.Change{Event: job.Refute, Reason: reason})
		bustest.Until(t, soon, "the file is aside", func() bool {
			files, _ := filepath.Glob(filepath.Join(folder, "mariabackup-*"+j.ID+"*"))
			if len(files) != 1 {
				return false
			}
			got, err := os.ReadFile(files[0])
			return err == nil && bytes.Equal(got, []byte(data))
		})
		bustest.Until(t, soon, "it is the only one", func() bool {
			files, _ := filepath.Glob(filepath.Join(folder, "*"))
			return len(files) == 1
		})
		g.noTemp(job.KindBackup)
	}
	refuse("too small")
	refuse("too small, too")
	if list, err := store.NewCatalog(g.conn).List(bustest.Context(t), "prod", local); err != nil || len(list) != 0 {
		t.Errorf("the catalogue: %+v, %v", list, err)
	}

	j := g.event(g.streamed(g.processing("mariabackup"), []byte("broken")), job.Done)
	g.apply(j, store.Change{Event: job.Refute, Reason: "format: cut"})
	g.noTemp(job.KindBackup)
	if files, _ := filepath.Glob(filepath.Join(folder, "*"+j.ID+"*")); len(files) != 0 {
		t.Errorf("one that failed otherwise is kept, too: %v", files)
	}
}

// The scheduler may find a backup too small while its receiver is away; the next start of it sweeps the folder.
func TestABackupThatIsNotBelievedIsKeptAsideOverARestart(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.event(g.streamed(g.processing("mariabackup"), []byte("too small")), job.Done)
	g.stop()
	j = g.apply(j, store.Change{Event: job.Refute, Reason: (job.Verdict{Event: job.Pass}).Within(job.Bounds{Min: 1 << 30}, 9).Reason})
	for range 2 { // a second start finds it aside already
		g.start(nil)
		files, _ := filepath.Glob(filepath.Join(g.pool.cfg.folder(job.KindBackup, "prod", local), "rejected", "*"+j.ID+"*"))
		if len(files) != 1 {
			t.Fatalf("aside: %v", files)
		}
		g.noTemp(job.KindBackup)
		g.stop()
	}
}
