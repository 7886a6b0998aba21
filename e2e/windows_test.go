package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// ticks reads the ledger, newest first.
func (s *site) ticks() (out []bus.Tick) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.mustCLI("ticks", "--limit", "10000", "-o", "json")), &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}

func TestAHoldOutlivesKill9SkipsTicksAndRefusesRunsUntilItIsLifted(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api", keys: `
monitoring-scheduler = true
scheduler-db-servers-logs = true
scheduler-db-servers-logs-tasks = "errorlog"
scheduler-db-servers-logs-cron = "* * * * * *"
`}).start()
	s.await("errorlog", "offered by cron", func(j job.Job) bool { return j.State == job.Available })
	out := s.mustCLI("hold", "--reason", "storage move")
	if !strings.Contains(out, "the fleet is on hold since") || !strings.Contains(out, "storage move") {
		t.Errorf("hold says %s", out)
	}
	s.killAndStart()
	held := s.await("errorlog", "called back", func(j job.Job) bool { return j.Gate == job.GateHold })
	if !strings.Contains(held.Reason, "storage move") {
		t.Errorf("the job waits with the reason %q", held.Reason)
	}
	s.mustCLI("cancel", held.ID)
	deadline := time.Now().Add(patience(20 * time.Second))
	for skipped := false; !skipped; {
		for _, k := range s.ticks() {
			skipped = skipped || k.Outcome == bus.Skipped && strings.Contains(k.Reason, "the fleet is on hold") && k.Trigger.Kind == job.Cron
		}
		if time.Now().After(deadline) {
			t.Fatalf("no tick was skipped for the hold:\n%s", s.mustCLI("ticks"))
		}
	}
	if next := s.mustCLI("next"); !strings.Contains(next, "skipped: the fleet is on hold") {
		t.Errorf("next says\n%s", next)
	}
	if out, err := s.cli("run", "lab", "optimize"); err == nil || !strings.Contains(out, "storage move; --force runs it anyway") {
		t.Errorf("a run during the hold: %v\n%s", err, out)
	}
	h := s.host(0)
	h.background("--loop", "1")
	forced := strings.Fields(s.mustCLI("run", "lab", "optimize", "--force"))[0]
	if j := s.awaitEnd(forced, "optimize"); j.State != job.Success || !j.Trigger.Force {
		t.Errorf("the forced run is %+v", j)
	}
	if j := s.await("errorlog", "there", func(job.Job) bool { return true }); j.ID != held.ID {
		t.Errorf("a job began during the hold: %+v", j)
	}
	s.mustCLI("unhold")
	s.await("errorlog", "a success after the hold", func(j job.Job) bool { return j.State == job.Success && j.ID != held.ID })
	if out, err := s.cli("unhold"); err == nil || !strings.Contains(out, "not on hold") {
		t.Errorf("unhold twice: %v %s", err, out)
	}
}

func TestATickInABlackoutWaitsForItsEndAndRunsOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "sql", keys: `
monitoring-scheduler = true
maintenance-window-policy = "wait"
scheduler-max-concurrent-backups = 1
`}).start()
	closed := patience(8 * time.Second)
	out := s.mustCLI("blackout", "add", "lab", "--for", closed.String(), "--reason", "freeze")
	if out, err := s.cli("blackout", "add", "--to", "2020-01-01"); err == nil || !strings.Contains(out, "ends at") {
		t.Errorf("a blackout in the past: %v %s", err, out)
	}
	if ls := s.mustCLI("blackout", "ls"); !strings.Contains(ls, "freeze") || !strings.Contains(ls, strings.Fields(out)[0]) || !strings.Contains(ls, "closed") {
		t.Errorf("ls says\n%s", ls)
	}
	// A schedule's tick, written as a scheduler writes it.
	due := time.Now().UTC()
	open := due.Add(closed - patience(time.Second))
	_, _, _, err := store.NewLedger(s.bus(), "scheduler@test").Update(t.Context(), "lab", "mariabackup", func(bus.Tick) (bus.Tick, bool) {
		return bus.Tick{Outcome: bus.Fired, Due: due, Trigger: job.Trigger{Kind: job.Cron}}, true
	})
	if err != nil {
		t.Fatal(err)
	}
	s.host(0).background("--loop", "1")
	j := s.await("mariabackup", "waiting", func(j job.Job) bool { return j.Gated() })
	if !strings.Contains(j.Reason, "cluster lab is blacked out") || !strings.Contains(j.Reason, "freeze") {
		t.Errorf("reason %q", j.Reason)
	}
	j = s.awaitEnd(j.ID, "mariabackup")
	if j.State != job.Success || j.Started().Before(open) {
		t.Errorf("the backup is %s (%s), started %s, due %s", j.State, j.Reason, j.Started(), due)
	}
}
