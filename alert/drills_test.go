package alert

import (
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

func TestABadBackupIsAConditionUntilANewerOneOfItsToolIsProven(t *testing.T) {
	t.Parallel()
	now := time.Now()
	server := job.Server{Host: "db1", Port: 3306}
	backup := func(task string, age time.Duration, drills ...store.Drill) store.Manifest {
		return store.Manifest{ID: task + age.String(), Cluster: "lab", Server: server, Task: task, Ended: now.Add(-age), Drills: drills}
	}
	restored := func(age time.Duration) store.Drill { return store.Drill{Time: now.Add(-age)} }
	bad := store.Drill{Time: now.Add(-time.Hour), Problem: "rotten"}
	const day = 24 * time.Hour
	for _, c := range []struct {
		what string
		list []store.Manifest // newest first
		off  bool
		want []Code
	}{
		{what: "no backup at all"},
		{what: "young and not drilled", list: []store.Manifest{backup("mariabackup", day)}},
		{what: "old and never drilled", list: []store.Manifest{backup("mariabackup", day), backup("mariabackup", 8*day)}, want: []Code{notProven}},
		{what: "drills are off", list: []store.Manifest{backup("mariabackup", 8*day)}, off: true},
		{what: "a proof that is old", list: []store.Manifest{backup("mariabackup", 9*day, restored(8*day))}, want: []Code{notProven}},
		{what: "a proof of an old backup", list: []store.Manifest{backup("mariabackup", day), backup("mariabackup", 9*day, restored(day))}},
		{what: "bad", list: []store.Manifest{backup("mariabackup", day, bad)}, want: []Code{doesNotRestore}},
		{what: "bad, found by hand", list: []store.Manifest{backup("mariabackup", day, bad)}, off: true, want: []Code{doesNotRestore}},
		{what: "bad, then restored after all", list: []store.Manifest{backup("mariabackup", day, bad, restored(0))}},
		{what: "a newer one is not drilled yet", list: []store.Manifest{backup("mariabackup", 0), backup("mariabackup", day, bad)}, want: []Code{doesNotRestore}},
		{what: "a newer one restores", list: []store.Manifest{backup("mariabackup", 0, restored(0)), backup("mariabackup", day, bad)}},
		{what: "an older one restores", list: []store.Manifest{backup("mariabackup", day, bad), backup("mariabackup", 2*day, restored(day))}, want: []Code{doesNotRestore}},
		{what: "a newer one of another tool restores", list: []store.Manifest{backup("mysqldump", 0, restored(0)), backup("mariabackup", day, bad)}, want: []Code{doesNotRestore}},
	} {
		found := Holding(Snapshot{
			Now: now, Up: now, Proofs: proofsOf(c.list), Backups: map[string]time.Time{"lab": now},
			Clusters: []Cluster{{Name: "lab", Servers: []job.Server{server}, Lease: time.Minute, PickupTimeout: time.Hour, Drills: !c.off, DrillMaxAge: 7 * day}},
		})
		if len(found) != len(c.want) {
			t.Errorf("%s: %v, want %v", c.what, found, c.want)
		}
		for _, code := range c.want {
			if _, ok := found[code.subject(bus.Alert{Cluster: "lab", Server: server})]; !ok {
				t.Errorf("%s: no %s in %v", c.what, code.Name, found)
			}
		}
	}
}
