package proving

import (
	"errors"
	"slices"
	"testing"
	"time"

	"drydock/job"
	"drydock/store"
)

func TestWhichBackupIsDrilledNext(t *testing.T) {
	t.Parallel()
	now := time.Now()
	drills := func(days ...int) (out []store.Drill) { // negative: it did not restore
		for _, d := range days {
			if d < 0 {
				out = append(out, store.Drill{Time: now.AddDate(0, 0, d), Problem: "rotten"})
			} else {
				out = append(out, store.Drill{Time: now.AddDate(0, 0, -d)})
			}
		}
		return out
	}
	backup := func(id, host string, d ...store.Drill) store.Manifest {
		return store.Manifest{ID: id, Server: job.Server{Host: host, Port: 3306}, Task: "mariabackup", Receiver: "on-" + host, Drills: d}
	}
	for _, c := range []struct {
		what string
		list []store.Manifest // newest first
		want []string
	}{
		{"nothing", nil, nil},
		{"the newest unproven one", []store.Manifest{backup("3", "a", drills(1)...), backup("2", "a"), backup("1", "a")}, []string{"2"}},
		{"a server that makes its backups last does not keep the others from a proof",
			[]store.Manifest{backup("4", "b"), backup("3", "a"), backup("2", "b", drills(1)...), backup("1", "a", drills(9)...)}, []string{"3", "4"}},
		{"never proven comes before proven long ago",
			[]store.Manifest{backup("4", "a"), backup("3", "b"), backup("1", "a", drills(90)...)}, []string{"3", "4"}},
		{"all proven: the oldest proof", []store.Manifest{backup("4", "a", drills(1)...), backup("3", "b", drills(3)...), backup("1", "b", drills(9)...)}, []string{"3", "4"}},
		{"unproven before proven again", []store.Manifest{backup("4", "a", drills(1)...), backup("3", "b", drills(300)...), backup("1", "a")}, []string{"1", "3"}},
		{"what does not restore is left alone", []store.Manifest{backup("2", "a", drills(-1)...), backup("1", "a", drills(5, -4)...)}, nil},
	} {
		var got []string
		for _, m := range choose(c.list) {
			got = append(got, m.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	list := []store.Manifest{backup("3", "a"), backup("2", "a"), backup("1", "b")}
	for name, want := range map[string]int{"on-a": 0, "on-b": 1} {
		if n, ok := rank(list, name); !ok || n != want {
			t.Errorf("%s has place %d, %t", name, n, ok)
		}
	}
	if _, ok := rank(list, "on-c"); ok {
		t.Error("a receiver without any backup drills")
	}
}

// A backup whose tool is not on this machine, or that does not fit on the disk, is first in its turn the next night, too: a few of them
// would keep all others from a drill.
func TestABackupThatCannotBeDrilledGivesItsTurnToTheOthers(t *testing.T) {
	t.Parallel()
	w, now := New(Config{}, nil), time.Now()
	order := func(task string) (ids string) {
		for _, m := range w.untriedFirst(task, []store.Manifest{{ID: "a"}, {ID: "b"}, {ID: "c"}}) {
			ids += m.ID
		}
		return ids
	}
	w.tried(taskDrill, store.Manifest{ID: "a"}, now, errors.New("no tool"))
	w.tried(taskDrill, store.Manifest{ID: "b"}, now.Add(time.Hour), errors.New("no space"))
	if got := order(taskDrill); got != "cab" {
		t.Errorf("drilled in the order %s", got)
	}
	if got := order(taskVerify); got != "abc" {
		t.Errorf("verified in the order %s", got)
	}
	w.tried(taskDrill, store.Manifest{ID: "b"}, now.Add(2*failedKept), nil)
	if got := order(taskDrill); got != "abc" || len(w.failed) != 0 {
		t.Errorf("after a success and a long time: %s, %v", got, w.failed)
	}
}
