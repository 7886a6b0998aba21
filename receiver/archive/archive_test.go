package archive

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestArchiveRestoresToTheSameBytes(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	m := g.publish("rcv", "mariabackup", 3<<20, time.Now().Add(-time.Hour))
	g.start("rcv")
	j := g.succeeded(g.archive(m))
	now := g.record(m)
	if len(now.Archives) != 1 || now.Archives[0].Bytes <= m.Stored || now.Archives[0].Added == 0 {
		t.Fatalf("recorded: %+v", now.Archives)
	}
	list := g.snapshots()
	if len(list) != 1 || list[0].ID != now.Archives[0].Snapshot {
		t.Fatalf("snapshots: %+v, recorded %+v", list, now.Archives)
	}
	for _, tag := range []string{"drydock", "cluster=lab", "server=10.0.1.5:3306", "task=mariabackup", "backup=" + m.ID} {
		if !slices.Contains(list[0].Tags, tag) {
			t.Errorf("tag %s is missing among %v", tag, list[0].Tags)
		}
	}
	to := filepath.Join(g.dir, "restored")
	g.restic("restore", now.Archives[0].Snapshot, "--target", to)
	sameFile(t, m.Path, filepath.Join(to, m.Path))
	sameFile(t, m.Path+manifestSuffix, filepath.Join(to, m.Path+manifestSuffix))
	if j.Evidence.Tool != "restic" || j.Dispatch.Receiver != "rcv" {
		t.Errorf("evidence %+v, dispatch %+v", j.Evidence, j.Dispatch)
	}
}

func TestBackupWithoutArchiveIsOrderedOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	m := g.publish("rcv", "mariabackup", 1000, time.Now().Add(-time.Minute))
	stop := g.start("rcv")
	ticks := func() (out []bus.Tick) {
		err := bus.Read(bustest.Context(t), g.conn, bus.StreamTasks, bus.AllTasks, bus.From{}, func(_ bus.Meta, x bus.Tick) error {
			out = append(out, x)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	bustest.Until(t, soon, "the archive is ordered", func() bool { return len(ticks()) > 0 })
	stop() // killed before anybody made a job of it
	g.start("rcv")
	other := g.publish("elsewhere", "mariabackup", 1000, time.Now())
	j := g.succeeded(g.archive(m)) // proves that the second process has looked
	list := ticks()
	if len(list) != 1 || list[0].Args[argBackup] != m.ID || !list[0].Due.Equal(m.Ended) || list[0].Trigger.Kind != job.Cron {
		t.Errorf("ticks: %+v", list)
	}
	if len(g.record(other).Archives) != 0 {
		t.Errorf("archived what another receiver holds; %v", j)
	}
}

func TestRepositoryIsMadeOnceAndNeverOverALostOne(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start("rcv")
	first := g.publish("rcv", "mariabackup", 1000, time.Now().Add(-time.Hour))
	g.succeeded(g.archive(first))
	second := g.publish("rcv", "mariabackup", 1000, time.Now())
	g.succeeded(g.archive(second))
	if n := len(g.snapshots()); n != 2 {
		t.Fatalf("%d snapshots, want 2", n)
	}
	if err := os.Rename(g.cluster.Location, g.cluster.Location+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(g.cluster.Location, 0o700); err != nil { // an empty mount point
		t.Fatal(err)
	}
	third := g.publish("rcv", "mariabackup", 1000, time.Now())
	j := g.archive(third)
	if j.State != job.Halted {
		t.Errorf("the job is %s", j.State)
	}
	if found, _ := os.ReadDir(g.cluster.Location); len(found) > 0 {
		t.Errorf("a repository was made in the place of a lost one: %v; %s", found, j.Reason)
	}
}

func TestEachReceiverArchivesWhatItHolds(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a, b := g.publish("a", "mariabackup", 1000, time.Now().Add(-time.Minute)), g.publish("b", "mariabackup", 1000, time.Now())
	g.start("a")
	g.start("b")
	for _, m := range []struct{ id, receiver string }{{b.ID, "b"}, {a.ID, "a"}} {
		j := g.succeeded(g.Ended(g.Queue(taskArchive, map[string]string{argBackup: m.id})))
		if j.Dispatch.Receiver != m.receiver {
			t.Errorf("the backup of %s was archived by %s", m.receiver, j.Dispatch.Receiver)
		}
	}
	for range 3 { // anybody may do it, and only one does
		g.succeeded(g.Ended(g.Queue(taskCheck, nil)))
	}
	if n := len(g.snapshots()); n != 2 {
		t.Errorf("%d snapshots, want 2", n)
	}
}

func TestSnapshotWithoutARecordIsRecordedAndNotMadeAgain(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	m := g.publish("rcv", "mariabackup", 1000, time.Now())
	g.restic("init")
	g.restic("backup", "--host", hostOf(m.Server), "--tag", tagsOf(m), m.Path) // of a process that died: half of it
	x := restic{g.cluster.ready(g.dir)}
	whole, err := x.backup(bustest.Context(t), m, func(status) {}) // and of one that died just before the record
	if err != nil {
		t.Fatal(err)
	}
	g.start("rcv")
	g.succeeded(g.archive(m))
	if now := g.record(m); len(now.Archives) != 1 || now.Archives[0].Snapshot != whole.Snapshot {
		t.Errorf("recorded %+v, want %s", now.Archives, whole.Snapshot)
	}
	if n := len(g.snapshots()); n != 2 {
		t.Errorf("%d snapshots, want the two that were there", n)
	}
}

func TestChangedBackupIsNotArchived(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	m := g.publish("rcv", "mariabackup", 1000, time.Now())
	if err := os.Truncate(m.Path, 999); err != nil {
		t.Fatal(err)
	}
	g.start("rcv")
	if j := g.archive(m); j.State != job.Halted || len(g.record(m).Archives) != 0 {
		t.Errorf("a backup that lost a byte is %s (%s)", j.State, j.Reason)
	}
}

func TestOrderAfterAnotherJobIsAnotherOrder(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	m := g.publish("rcv", "mariabackup", 1000, time.Now().Add(-time.Hour))
	r := &Worker{ledger: g.ledger}
	ids := map[string]bool{}
	for _, last := range []job.Job{{}, {ID: "X", Since: time.Now()}, {ID: "Y", Since: time.Now(), Args: map[string]string{argBackup: m.ID}}} {
		for range 2 { // given twice, it is one
			if err := r.order(bustest.Context(t), m, last); err != nil {
				t.Fatal(err)
			}
		}
	}
	ticks, err := g.ledger.List(bustest.Context(t), store.TickFilter{Cluster: "lab", Task: taskArchive})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ticks {
		ids[job.NewID(x.Due, x.ID, job.Key{Cluster: "lab", Server: db1, Task: taskArchive})] = true
	}
	if len(ticks) != 3 || len(ids) != 3 {
		t.Errorf("%d ticks for %d jobs, want 3 of each", len(ticks), len(ids))
	}
}

// An order that the bus does not take, whatever the reason, must not keep the backups of all other servers out of the repository.
func TestAnOrderThatCannotBeGivenKeepsNoOtherServerFromItsArchive(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	other := g.cluster
	other.Name = "other"
	for i, name := range []string{"lab", "other"} { // oldest first
		m := store.Manifest{
			Type: store.ManifestType, ID: name, Cluster: name, Server: db1, Task: "mariabackup", Receiver: "rcv", Path: "/nowhere/" + name,
			Ended: time.Now().Add(time.Duration(i-2) * time.Hour),
		}
		if err := g.catalog.Put(bustest.Context(t), m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.conn.JS.Publish(t.Context(), bus.TaskSubject("lab", taskArchive), []byte(`{"type":"drydock.v999.tick"}`)); err != nil {
		t.Fatal(err)
	}
	r := New(Config{Name: "rcv", DataDir: g.dir, Log: bustest.Log(t), Clusters: []Cluster{g.cluster, other}}, g.ledger, store.NewView(g.conn), g.catalog)
	if !r.orderMissing(bustest.Context(t), place{}) {
		t.Error("all is looked at again for the one that failed")
	}
	ticks, err := g.ledger.List(bustest.Context(t), store.TickFilter{Cluster: "other", Task: taskArchive})
	if err != nil || len(ticks) != 1 {
		t.Errorf("ordered for the other cluster: %v, %v", ticks, err)
	}
	if !r.fresh[place{"lab", db1}] || len(r.fresh) != 1 {
		t.Errorf("looked at again: %v", r.fresh)
	}
}

func TestABackupThatWasDeletedIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	deleted, kept := g.publish("rcv", "mariabackup", 1000, time.Now().Add(-time.Hour)), g.publish("rcv", "mariabackup", 1000, time.Now())
	for _, path := range []string{deleted.Path, deleted.Path + manifestSuffix} {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}
	ordered := func() (ids []string) {
		err := bus.Read(bustest.Context(t), g.conn, bus.StreamTasks, bus.AllTasks, bus.From{}, func(_ bus.Meta, x bus.Tick) error {
			ids = append(ids, x.Args[argBackup])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	stop := g.start("rcv")
	bustest.Until(t, soon, "an archive is ordered", func() bool { return len(ordered()) > 0 })
	stop()
	if a := g.record(deleted).Archives; len(a) != 1 || a[0].Gone.IsZero() || a[0].Snapshot != "" || !slices.Equal(ordered(), []string{kept.ID}) {
		t.Errorf("on record: %+v, ordered: %v", a, ordered())
	}
	for _, path := range []string{deleted.Path, deleted.Path + manifestSuffix} {
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	g.start("rcv")
	bustest.Until(t, soon, "it is ordered when it has come back", func() bool { return slices.Contains(ordered(), deleted.ID) })
	g.succeeded(g.archive(deleted))
	if _, ok := g.record(deleted).Archived(); !ok {
		t.Errorf("on record: %+v", g.record(deleted).Archives)
	}
}

func TestABackupWhoseFolderIsMissingIsNotGivenUp(t *testing.T) {
	t.Parallel()
	m := store.Manifest{Path: filepath.Join(t.TempDir(), "not mounted", "a.xbstream")}
	if deleted(m) {
		t.Error("taken for deleted")
	}
}
