package scheduler

import (
	"errors"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// knows writes what a server said of itself.
func (r *rig) knows(s job.Server, f store.Facts) {
	r.t.Helper()
	f.Time = time.Now()
	if err := r.docs.Put(r.ctx, "prod", s, store.DocFacts, f); err != nil {
		r.t.Fatal(err)
	}
}

var (
	primaryFacts = store.Facts{Up: true, Role: store.RolePrimary}
	downFacts    = store.Facts{Err: "connection refused"}
)

func replicaFacts(lag int64) store.Facts {
	return store.Facts{Up: true, Role: store.RoleReplica, Sources: []store.Source{{From: "x:1", IO: "Yes", SQL: "Yes", Lag: &lag}}}
}

func TestLogicalBackupIsTakenOfOneServerWhichIsChosenWhenItRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	e := r.runNow("mysqldump") // db1 and db2 are not known when it is asked for
	r.knows(db1, primaryFacts)
	r.knows(db2, replicaFacts(3))
	r.give(e)
	// The replica is gone when the tick comes again: its job stands all the same.
	r.knows(db2, downFacts)
	r.give(e)
	all := r.history()
	if len(all) != 1 || all[0].Server != db2 || all[0].Mode != job.Local || !strings.Contains(all[0].Reason, "asked for by alice; "+db2.String()+" is the healthy replica with the least lag, 3s") {
		t.Fatalf("%+v", all)
	}
	// The next tick comes while that job is live, and the primary would be chosen.
	r.give(r.runNow("mysqldump"))
	entries := r.entries()
	if last := entries[len(entries)-1]; last.Outcome != bus.Skipped || !strings.Contains(last.Reason, "on "+db2.String()+" is still queued") || len(r.history()) != 1 {
		t.Errorf("%+v", last.Tick)
	}
	r.apply(all[0], job.Cancel)
	r.give(r.runNow("mysqldump"))
	if j := r.want("mysqldump", job.Queued); !strings.Contains(j.Reason, "is the primary, and there is no healthy replica ("+db2.String()+" is down: connection refused)") {
		t.Errorf("%s", j.Reason)
	}
	r.give(e) // its slot has gone on, or another server has the newer job: nothing is started twice
	if n := len(r.history()); n != 2 {
		t.Errorf("%d jobs", n)
	}
}

func TestLogicalBackupOfANamedServerIsNotChosenElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.knows(db1, downFacts)
	r.knows(db2, replicaFacts(0))
	r.give(r.runNow("mydumper", db1))
	r.want("mydumper", job.Queued)
}

func TestPreferredServersAndForcedRemoteDecideForALogicalBackup(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.Preferred, c.ExecRemote = []job.Server{db1}, []string{"mysqldump"}
	r := newRig(t, bustest.Start(t), c)
	r.knows(db1, primaryFacts)
	r.knows(db2, replicaFacts(0))
	r.give(r.runNow("mysqldump"))
	if j := r.want("mysqldump", job.Queued); j.Mode != job.API || !strings.Contains(j.Reason, "db-servers-backup-hosts") {
		t.Errorf("%s in mode %s", j.Reason, j.Mode)
	}
}

func TestTickOfALogicalBackupWaitsAMomentForAServerThatIsFit(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.knows(db1, downFacts)
	r.knows(db2, downFacts)
	e := r.runNow("mysqldump")
	e.Time = r.now()
	if err := r.fanout(r.ctx, e.meta, e.Tick); err == nil || errors.Is(err, store.ErrNoSource) {
		t.Errorf("not left for later: %v", err)
	}
	r.knows(db1, primaryFacts)
	r.give(e)
	r.want("mysqldump", job.Queued)
}
