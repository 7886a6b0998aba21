package keeper

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/jobtest"
	"drydock/job"
	"drydock/pruning"
	"drydock/receiver/duty"
	"drydock/store"
)

// The job of a cluster is done by one receiver, for all of them, and tells what became of each backup and what was freed.
func TestTheJobOfAClusterPrunesAtEveryReceiver(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var all []store.Manifest
	for i := range 3 {
		all = append(all, g.publish("a", "mariabackup", time.Duration(i)*day), g.publish("b", "mariabackup", time.Duration(i)*day+time.Hour))
	}
	g.start("a")
	g.start("b")
	view := store.NewView(g.conn)
	runner, err := duty.New(duty.Config{Name: "a", Log: bustest.Log(t), Leases: map[string]time.Duration{"prod": time.Minute}}, g.conn,
		store.NewJobs(g.conn, "receiver@a", view), view, Worker{map[string]Cluster{"prod": g.cluster}, pruning.NewDesk(g.conn)})
	g.must(err)
	bustest.Run(t, view.Run, runner.Run)
	sched := jobtest.New(t, g.conn, "prod", db1)
	j := sched.When(sched.Queue(pruning.Task, nil), "the job is done", func(j job.Job) bool { return j.State == job.Finished })
	if want := "4 deleted, 4000 bytes freed, 2 kept"; j.Evidence.Result != want {
		t.Errorf("result %q, want %q", j.Evidence.Result, want)
	}
	if got := g.there(all...); !slices.Equal(got, ids(all[0], all[1])) {
		t.Errorf("there are %v", got)
	}
	var log []string
	bustest.Until(t, soon, "the log is written", func() bool {
		log = nil
		short, stop := context.WithTimeout(bustest.Context(t), time.Second)
		defer stop()
		_ = bus.Follow(short, g.conn, bus.StreamLogs, bus.AllLogs, bus.From{}, func(_ bus.Meta, b bus.LogBatch) error {
			log = append(log, b.Lines...)
			return nil
		}, stop)
		return strings.Contains(strings.Join(log, "\n"), "4 deleted")
	})
	for _, m := range all[2:] {
		if text := strings.Join(log, "\n"); !strings.Contains(text, "delete backup "+m.ID) || !strings.Contains(text, "deleted "+m.ID) {
			t.Errorf("the log does not say why %s is gone:\n%s", m.ID, text)
		}
	}
}
