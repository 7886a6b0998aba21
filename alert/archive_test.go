package alert

import (
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
)

func TestBackupsWithoutAnArchiveAreAConditionOfTheirServer(t *testing.T) {
	t.Parallel()
	key := bus.StateKey("prod", db1.Host, db1.Port, taskArchive)
	missing := func(age time.Duration) map[string]Missing {
		return map[string]Missing{key: {Count: 2, Oldest: noon.Add(-age)}}
	}
	subject := bus.AlertSubject("prod", db1.Host, db1.Port, notArchived.Name)
	failed, succeeded := slotOf(taskArchive, job.Halted, "wrong password"), slotOf(taskArchive, job.Success, "")
	for name, c := range map[string]struct {
		slots   []Slot
		missing map[string]Missing
		off     bool
		want    bool
	}{
		"the last try failed":                  {[]Slot{failed}, missing(time.Minute), false, true},
		"it failed and was not counted yet":    {[]Slot{failed}, nil, false, true},
		"success":                              {[]Slot{succeeded}, nil, false, false},
		"success, and the next one is young":   {[]Slot{succeeded}, missing(time.Hour), false, false},
		"nobody archives":                      {nil, missing(7 * time.Hour), false, true},
		"without backup-restic nothing is ill": {[]Slot{failed}, missing(7 * time.Hour), true, false},
	} {
		cluster := testCluster()
		cluster.Archive = !c.off
		found := Holding(Snapshot{Now: noon, Up: noon, Clusters: []Cluster{cluster}, Slots: c.slots, Missing: c.missing})
		if _, holds := found[subject]; holds != c.want {
			t.Errorf("%s: holds %v", name, holds)
		}
	}
}

func TestFailedPruneIsAConditionOfTheCluster(t *testing.T) {
	t.Parallel()
	slot := slotOf("archiveprune", job.Halted, "the repository is locked").with(func(s *Slot) { s.Job.Server = job.Server{} })
	found := Holding(Snapshot{Now: noon, Up: noon, Clusters: []Cluster{testCluster()}, Slots: []Slot{slot}})
	if a, holds := found[bus.AlertSubject("prod", "", 0, "DOCK0101-archiveprune")]; !holds || a.Server != (job.Server{}) {
		t.Errorf("found %s", names(found))
	}
}
