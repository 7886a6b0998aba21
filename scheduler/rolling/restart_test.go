package rolling

import (
	"slices"
	"testing"

	"drydock/job"
)

func TestReplicasAreRestartedBeforeTheirPrimary(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cluster.PrimaryReadOnly = true
	r.host()
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	j := r.awaitState(taskRestart, job.Success)
	if got := r.restarts(); len(got) != 3 || got[2] != 0 || slices.Index(got, 1) < 0 || slices.Index(got, 2) < 0 {
		t.Errorf("restarted in the order %v", got)
	}
	for _, s := range j.Plan.Stages {
		if s.State != job.StageDone || s.After == nil || !s.After.Started.After(s.Before.Started) || s.ReadOnly {
			t.Errorf("stage %+v", s)
		}
	}
	if p := j.Plan.Stages[2]; p.Role != "primary" || len(p.Before.Replicas) != 2 || len(p.After.Replicas) != 2 {
		t.Errorf("the primary's stage is %+v", p)
	}
	if r.readOnly(0) {
		t.Error("the primary was left read-only")
	}
	if j.Evidence.Result != "3 of 3 servers restarted" {
		t.Error(j.Evidence.Result)
	}
}
