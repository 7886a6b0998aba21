package archive

import (
	"slices"
	"testing"
	"time"

	"drydock/job"
	"drydock/store"
)

func TestPruneKeepsWhatTheKeysSayOfEachTask(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.cluster.Keep = Keep{Daily: 2}
	g.start("rcv")
	noon := time.Now().Truncate(24 * time.Hour).Add(12 * time.Hour)
	var dumps, physical []store.Manifest
	for day := range 3 {
		ended := noon.AddDate(0, 0, day-10)
		physical = append(physical, g.publish("rcv", "mariabackup", 1000, ended), g.publish("rcv", "mariabackup", 1000, ended.Add(time.Hour)))
	}
	dumps = append(dumps, g.publish("rcv", "mysqldump", 1000, noon.AddDate(-3, 0, 0)))
	g.succeeded(g.Ended(g.Queue(taskArchive, nil))) // all that are not archived
	if n := len(g.snapshots()); n != 7 {
		t.Fatalf("%d snapshots, want 7", n)
	}
	g.restic("backup", "--tag", "other", "--host", db1.String(), physical[0].Path) // not drydock's
	g.succeeded(g.Ended(g.Queue(taskPrune, nil)))
	var kept []string
	for _, m := range slices.Concat(physical, dumps) {
		now := g.record(m)
		if _, ok := now.Archived(); ok {
			kept = append(kept, m.ID)
		} else if len(now.Archives) != 1 || now.Archives[0].Gone.IsZero() {
			t.Errorf("%s: %+v", m.ID, now.Archives)
		}
	}
	want := []string{physical[3].ID, physical[5].ID, dumps[0].ID} // the newest of two days, and the only dump
	if !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	if n := len(g.snapshots()); n != 4 {
		t.Errorf("%d snapshots, want 3 and the one of somebody else", n)
	}
	g.succeeded(g.Ended(g.Queue(taskCheck, nil)))
}

func TestPruneTakesWhatIsLeftOfAnIncompleteArchiveAway(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start("rcv")
	m := g.publish("rcv", "mariabackup", 1000, time.Now().AddDate(0, 0, -1))
	g.succeeded(g.Ended(g.Queue(taskArchive, nil)))
	g.restic("backup", "--tag", tagsOf(m), "--host", hostOf(m.Server), m.Path+manifestSuffix) // newer, and without the backup
	g.succeeded(g.Ended(g.Queue(taskPrune, nil)))
	a, ok := g.record(m).Archived()
	if list := g.snapshots(); !ok || len(list) != 1 || list[0].ID != a.Snapshot {
		t.Errorf("snapshots %+v, on record %+v", list, a)
	}
}

func TestNothingIsForgottenWhenEveryKeepKeyIsZero(t *testing.T) {
	t.Parallel()
	if flags, ok := (Keep{}).args(); ok {
		t.Errorf("forgets with %v", flags)
	}
	if flags, ok := (Keep{Weekly: 2}).args(); !ok || !slices.Equal(flags, []string{"--keep-weekly", "2", "--keep-last", "1"}) {
		t.Errorf("flags %v, %v", flags, ok)
	}
	g := newRig(t)
	g.start("rcv")
	for i := range 2 {
		g.publish("rcv", "mariabackup", 1000, time.Now().AddDate(0, 0, i-2))
	}
	g.succeeded(g.Ended(g.Queue(taskArchive, nil)))
	g.succeeded(g.Ended(g.Queue(taskPrune, nil)))
	if n := len(g.snapshots()); n != 2 {
		t.Errorf("%d snapshots, want 2", n)
	}
}

func TestFailedPruneIsAFailedJob(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start("rcv")
	if j := g.Ended(g.Queue(taskPrune, nil)); j.State != job.Halted || j.Reason == "" {
		t.Errorf("without a repository the prune is %s (%s)", j.State, j.Reason)
	}
	if _, local := g.cluster.Local(); !local {
		t.Error("the repository is taken for a remote one")
	}
}
