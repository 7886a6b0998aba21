package rolling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
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

func TestAReplicaThatDoesNotComeBackEndsTheOperationBeforeThePrimary(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.cluster.GateTimeout = 3 * time.Second
	r.onRestart = func(i int) error {
		db, err := r.servers[i].DB()
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.ExecContext(r.t.Context(), "STOP SLAVE")
		return err
	}
	r.host()
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	j := r.awaitState(taskRestart, job.Halted)
	if got := r.restarts(); !slices.Equal(got, []int{1}) {
		t.Errorf("restarted %v", got)
	}
	if p, _ := r.stage(j, 0); p.State != job.StagePending || !p.Began.IsZero() {
		t.Errorf("the primary was touched: %+v", p)
	}
	if s, _ := r.stage(j, 1); s.State != job.StageFailed {
		t.Errorf("the replica's stage is %+v", s)
	}
	if !strings.Contains(j.Reason, "does not replicate") || !strings.Contains(j.Reason, "0 of 2 servers restarted") {
		t.Error(j.Reason)
	}
}

func TestNoOperationBeginsOnATopologyThatIsNotWell(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.host()
	r.start("scheduler@a")
	lone := slices.Clone(r.cluster.Servers)
	r.sql(1, "STOP SLAVE")
	r.sql(1, "RESET SLAVE ALL")
	r.ask(taskRestart, nil)
	// Which of the two depends on whether the facts from before were still at hand at the first look.
	if j := r.awaitState(taskRestart, job.Halted); !strings.Contains(j.Reason, "2 primaries") && !strings.Contains(j.Reason, "the topology has changed") {
		t.Error(j.Reason)
	}
	if err := r.servers[1].Stop(bustest.Context(t)); err != nil {
		t.Fatal(err)
	}
	first := r.last(whole(taskRestart)).ID
	r.ask(taskRestart, nil)
	j := r.await(taskRestart, "refused", func(j job.Job) bool { return j.ID != first && j.State == job.Halted })
	if !strings.Contains(j.Reason, "cannot be reached") {
		t.Error(j.Reason)
	}
	if got := r.restarts(); len(got) > 0 {
		t.Errorf("restarted %v", got)
	}
	r.ask(taskRestart, map[string]string{job.ArgSkip: lone[1].String()})
	j = r.awaitState(taskRestart, job.Success)
	if got := r.restarts(); !slices.Equal(got, []int{0}) {
		t.Errorf("restarted %v", got)
	}
	if s, _ := r.stage(j, 1); s.State != job.StageSkipped {
		t.Errorf("%+v", s)
	}
}

func TestPauseResumeAndAbortTakeEffectBetweenServers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	gate := make(chan struct{})
	r.onRestart = func(int) error { <-gate; return nil }
	r.host()
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	j := r.awaitPhase(taskRestart, 1, "restart")
	order := func(word string) {
		t.Helper()
		for range 2 { // it may be repeated
			if _, err := r.jobs.Order(bustest.Context(t), j, word, "alice"); err != nil {
				t.Fatal(err)
			}
		}
	}
	order(job.OrderPause)
	close(gate)
	j = r.await(taskRestart, "paused", func(j job.Job) bool { return !j.Plan.Paused.IsZero() })
	if s, _ := r.stage(j, 1); s.State != job.StageDone || !strings.Contains(j.Reason, "asked for by alice") {
		t.Errorf("%s, stage %+v", j.Reason, s)
	}
	control := store.NewControl(r.conn)
	if _, err := control.SetHold(bustest.Context(t), store.Hold{Cluster: "lab", Reason: "storage move", By: "bob"}); err != nil {
		t.Fatal(err)
	}
	order(job.OrderResume)
	r.await(taskRestart, "held", func(j job.Job) bool { return strings.Contains(j.Reason, "storage move") && !j.Plan.Paused.IsZero() })
	order(job.OrderAbort)
	j = r.awaitState(taskRestart, job.Canceled)
	if got := r.restarts(); !slices.Equal(got, []int{1}) {
		t.Errorf("restarted %v", got)
	}
	if !strings.Contains(j.Reason, "aborted by alice; 1 of 2") {
		t.Error(j.Reason)
	}
}

func TestAnAbortEndsTheWaitOfAGateAndUndoesReadOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.cluster.PrimaryReadOnly = true
	r.onRestart = func(i int) error {
		if i == 0 {
			r.sql(1, "STOP SLAVE") // so that the primary's gate waits
			r.sql(0, "SET GLOBAL read_only=1")
		}
		return nil
	}
	r.host()
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	j := r.awaitPhase(taskRestart, 0, "gate")
	if _, err := r.jobs.Cancel(bustest.Context(t), j, "alice"); err != nil {
		t.Fatal(err)
	}
	j = r.awaitState(taskRestart, job.Canceled)
	if s, _ := r.stage(j, 0); s.ReadOnly || r.readOnly(0) {
		t.Errorf("read_only was not undone: %+v", s)
	}
}

func TestATransactionThatDoesNotEndKeepsThePrimaryUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.cluster.PrimaryReadOnly, r.cluster.DrainTimeout = true, 2*time.Second
	r.sql(0, "CREATE DATABASE d")
	r.sql(0, "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB")
	tx, err := r.db(0).BeginTx(t.Context(), &sql.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO d.t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	r.host()
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	j := r.awaitState(taskRestart, job.Halted)
	if !strings.Contains(j.Reason, "rolling-drain-timeout") || len(r.restarts()) > 0 {
		t.Errorf("%s; restarted %v", j.Reason, r.restarts())
	}
	if s, _ := r.stage(j, 0); s.ReadOnly || r.readOnly(0) {
		t.Errorf("read_only was not undone: %+v", s)
	}
	if err := tx.Commit(); err != nil {
		t.Errorf("the transaction was lost: %v", err)
	}
}

func TestOtherJobsWaitForTheOperationAndItForThem(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	gate := make(chan struct{})
	r.onRestart = func(int) error { <-gate; return nil }
	r.host()
	r.start("scheduler@a")
	slot := job.Key{Cluster: "lab", Server: r.cluster.Servers[0], Task: "errorlog"}
	due := time.Now().UTC()
	running, err := r.jobs.Create(bustest.Context(t), job.Job{
		State: job.Queued, ID: job.NewID(due, "t", slot), Cluster: "lab", Server: slot.Server, Task: slot.Task, Mode: job.SQL, Due: due,
	}, "due")
	if err != nil {
		t.Fatal(err)
	}
	apply := func(e job.Event) {
		t.Helper()
		if _, err := r.jobs.Apply(bustest.Context(t), store.RefOf(running), store.Change{Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	apply(job.Offer)
	apply(job.Start)
	r.ask(taskRestart, nil)
	r.await(taskRestart, "waiting", func(j job.Job) bool { return j.State == job.Queued && strings.Contains(j.Reason, running.ID) })
	order := store.Order{Cluster: "lab", Task: "analyze", Trigger: job.Trigger{Kind: job.Manual, By: "test"}}
	if _, err := store.NewLedger(r.conn, "test").Run(bustest.Context(t), order); err != nil {
		t.Fatal(err)
	}
	later := job.Key{Cluster: "lab", Server: slot.Server, Task: "analyze"}
	bustest.Until(t, 30*time.Second, "the later job waits", func() bool { return r.last(later).Gate == job.GateRolling })
	apply(job.Cancel)
	r.awaitPhase(taskRestart, 0, "restart")
	if j := r.last(later); j.State != job.Queued || j.Gate != job.GateRolling {
		t.Errorf("the later job is %s behind gate %q", j.State, j.Gate)
	}
	close(gate)
	r.awaitState(taskRestart, job.Success)
	bustest.Until(t, 30*time.Second, "the later job may begin", func() bool { return r.last(later).Gate == "" })
}

func TestAnUploadToTheArchiveDelaysNoOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.host()
	r.start("scheduler@a")
	slot, due := job.Key{Cluster: "lab", Server: r.cluster.Servers[0], Task: "archive"}, time.Now().UTC()
	running, err := r.jobs.Create(bustest.Context(t), job.Job{
		State: job.Queued, ID: job.NewID(due, "t", slot), Cluster: "lab", Server: slot.Server, Task: slot.Task, Mode: job.ByReceiver, Due: due,
	}, "due")
	for _, e := range []job.Event{job.Offer, job.Start} {
		if err == nil {
			_, err = r.jobs.Apply(bustest.Context(t), store.RefOf(running), store.Change{Event: e})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	r.ask(taskRestart, nil)
	r.awaitState(taskRestart, job.Success)
	if j := r.last(slot); j.State != job.Processing {
		t.Errorf("the upload is %s", j.State)
	}
}

func TestARestartThatWaitsBehindTheOperationIsDoneByIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	r.cluster.PreScript = script(t, "read -r < "+quoted(gate))
	r.host()
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	op := r.awaitPhase(taskRestart, 0, "pre-script")
	order := store.Order{Cluster: "lab", Task: "restart", Servers: r.cluster.Servers, Trigger: job.Trigger{Kind: job.Manual, By: "test"}}
	tick, err := store.NewLedger(r.conn, "test").Run(bustest.Context(t), order)
	if err != nil {
		t.Fatal(err)
	}
	slot := job.Key{Cluster: "lab", Server: r.cluster.Servers[0], Task: "restart"}
	bustest.Until(t, 30*time.Second, "the restart waits", func() bool { return r.last(slot).Gate == job.GateRolling })
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	r.awaitState(taskRestart, job.Success)
	j, err := r.jobs.Find(bustest.Context(t), job.NewID(tick.Due, tick.ID, slot))
	if err != nil || j.State != job.Skipped || !strings.Contains(j.Reason, op.ID) {
		t.Errorf("the restart that waited is %s (%s), %v", j.State, j.Reason, err)
	}
	if got := r.restarts(); !slices.Equal(got, []int{0}) {
		t.Errorf("restarted %v", got)
	}
}

// facts answers as servers would.
type facts map[job.Server]store.Facts

func (f facts) Fresh(_ context.Context, _ string, s job.Server, _ time.Duration) (store.Facts, error) {
	return f[s], nil
}

func TestAServerThatWasMadeThePrimaryMeanwhileKeepsItsData(t *testing.T) {
	t.Parallel()
	s := job.Server{Host: "db1", Port: 3306}
	for name, c := range map[string]struct {
		facts store.Facts
		again bool
		want  string
	}{
		"a replica":                          {store.Facts{Up: true, Role: store.RoleReplica}, false, ""},
		"a replica, cut":                     {store.Facts{Up: true, Role: store.RoleReplica}, true, ""},
		"down, cut":                          {store.Facts{}, true, ""},
		"down":                               {store.Facts{}, false, "of unknown role"},
		"a primary":                          {store.Facts{Up: true, Role: store.RolePrimary}, false, "a primary"},
		"promoted while nobody looked after": {store.Facts{Up: true, Role: store.RolePrimary}, true, "a primary"},
	} {
		w := &work{
			Runner:  &Runner{facts: facts{s: c.facts}},
			cluster: Cluster{Name: "lab", Servers: []job.Server{s}},
			job:     job.Job{Plan: &job.Plan{Stages: []job.Stage{{Server: s}}}},
		}
		err := w.mayLose(t.Context(), 0, c.again)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestNothingIsOwedToAServerThatIsNoLongerConfigured(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	due := time.Now().UTC()
	j, err := r.jobs.Create(bustest.Context(t), job.Job{
		State: job.Queued, ID: job.NewID(due, "t", whole(taskRestart)), Cluster: "lab", Task: taskRestart, Mode: job.Local, Due: due,
	}, "due")
	gone := job.Server{Host: "gone", Port: 3306}
	for _, ch := range []store.Change{
		{Event: job.Note, Edit: func(j *job.Job) { j.Plan = &job.Plan{Stages: []job.Stage{{Server: gone, ReadOnly: true}}} }}, {Event: job.Cancel},
	} {
		if err == nil {
			_, err = r.jobs.Apply(bustest.Context(t), store.RefOf(j), ch)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	r.start("scheduler@a")
	r.await(taskRestart, "settled", func(j job.Job) bool { return !j.Plan.Owes() })
}

func TestAReprovisioningWhoseOrchestratorWasTakenAwayEnds(t *testing.T) {
	t.Parallel()
	why := errors.New("none is configured")
	w := &work{Runner: &Runner{}, cluster: Cluster{NoOrchestrator: why}, job: job.Job{Plan: &job.Plan{Stages: []job.Stage{{}}}}}
	if err := w.reprovision(t.Context(), 0); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestAnOperationIsSkippedWhenOtherJobsDoNotEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.cluster.WaitTimeout = time.Second
	slot := job.Key{Cluster: "lab", Server: r.cluster.Servers[0], Task: "errorlog"}
	due := time.Now().UTC()
	j, err := r.jobs.Create(bustest.Context(t), job.Job{
		State: job.Queued, ID: job.NewID(due, "t", slot), Cluster: "lab", Server: slot.Server, Task: slot.Task, Mode: job.SQL, Due: due,
	}, "due")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []job.Event{job.Offer, job.Start} {
		if _, err := r.jobs.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	if op := r.awaitState(taskRestart, job.Skipped); !strings.Contains(op.Reason, j.ID) || !strings.Contains(op.Reason, "rolling-wait-timeout") {
		t.Error(op.Reason)
	}
}

func TestAHookThatFailsEndsTheOperationBeforeItsServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	dir := t.TempDir()
	r.cluster.PreScript = script(t, fmt.Sprintf(`env | grep '^DRYDOCK_' | sort >%[1]s/$DRYDOCK_ROLE; [ "$DRYDOCK_ROLE" != primary ] || { echo "not today" >&2; exit 3; }`, dir))
	r.cluster.PostScript = script(t, fmt.Sprintf(`echo "$DRYDOCK_HOOK $DRYDOCK_PORT" >>%s/post`, dir))
	r.host()
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	j := r.awaitState(taskRestart, job.Halted)
	if !strings.Contains(j.Reason, "exit status 3: not today") {
		t.Error(j.Reason)
	}
	if got := r.restarts(); !slices.Equal(got, []int{1}) {
		t.Errorf("restarted %v", got)
	}
	got, err := os.ReadFile(filepath.Join(dir, "replica"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("DRYDOCK_CLUSTER=lab\nDRYDOCK_HOOK=pre\nDRYDOCK_HOST=127.0.0.1\nDRYDOCK_JOB=%s\nDRYDOCK_PORT=%d\nDRYDOCK_ROLE=replica\n"+
		"DRYDOCK_STEP=1\nDRYDOCK_STEPS=2\nDRYDOCK_TASK=rollingrestart\n", j.ID, r.cluster.Servers[1].Port)
	if string(got) != want {
		t.Errorf("the hook saw\n%s, want\n%s", got, want)
	}
	if post, _ := os.ReadFile(filepath.Join(dir, "post")); string(post) != fmt.Sprintf("post %d\n", r.cluster.Servers[1].Port) {
		t.Errorf("after the replica ran %q", post)
	}
}

func TestAHookMayMoveThePrimary(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	// What replicates is the other's writes; both have the same position, so they can be turned around.
	account := func(i int) string {
		return fmt.Sprintf("mariadb --no-defaults --protocol=tcp -h127.0.0.1 -P%d -udrydock", r.servers[i].Port())
	}
	if err := mariadbd.CatchUp(t.Context(), r.servers[0], r.servers[1]); err != nil {
		t.Fatal(err)
	}
	r.sql(1, "CREATE OR REPLACE USER mover@'127.0.0.1' IDENTIFIED BY 'x'")
	r.sql(1, "GRANT REPLICATION SLAVE ON *.* TO mover@'127.0.0.1'")
	r.cluster.PreScript = script(t, fmt.Sprintf(`[ "$DRYDOCK_ROLE" = primary ] || exit 0
export MYSQL_PWD=%s
%s -e "STOP SLAVE; RESET SLAVE ALL" && %s -e "SET GLOBAL gtid_slave_pos=@@GLOBAL.gtid_current_pos; CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='mover', MASTER_PASSWORD='x', MASTER_USE_GTID=no; START SLAVE" || exit 1
echo "primary=127.0.0.1:%d"`, quoted(password), account(1), account(0), r.servers[1].Port(), r.servers[1].Port()))
	r.host()
	r.start("scheduler@a")
	r.ask(taskRestart, nil)
	j := r.awaitState(taskRestart, job.Success)
	if got := r.restarts(); !slices.Equal(got, []int{1, 0}) {
		t.Errorf("restarted %v", got)
	}
	if s, _ := r.stage(j, 0); s.Role != "replica" || s.From != r.cluster.Servers[1].String() {
		t.Errorf("the former primary's stage is %+v", s)
	}
}

func TestAnotherSchedulerGoesOnWithoutASecondRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	gate := make(chan struct{})
	r.onRestart = func(int) error { <-gate; return nil }
	r.host()
	stop := r.start("scheduler@a")
	r.start("scheduler@b")
	r.ask(taskRestart, nil)
	j := r.awaitPhase(taskRestart, 1, "restart")
	if j.Plan.Worker == "scheduler@a" {
		stop()
		r.await(taskRestart, "taken up by the other", func(j job.Job) bool { return j.Plan.Worker == "scheduler@b" && j.Plan.Term == 2 })
	}
	close(gate)
	r.awaitState(taskRestart, job.Success)
	if got := r.restarts(); !slices.Equal(got, []int{1, 0}) {
		t.Errorf("restarted %v", got)
	}
}

func TestAReplicaIsMadeAnewAndSeededAndThePrimaryIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	var remade []job.Server
	r.cluster.Orchestrator = remake{do: func(ctx context.Context, s job.Server) error {
		remade = append(remade, s)
		return r.servers[1].Restart(ctx)
	}}
	r.cluster.SeedTask = "optimize" // stands for a task that seeds; what a real one does is tested where it is built
	r.also = []string{"optimize"}
	r.host()
	r.start("scheduler@a")
	r.ask(taskReprov, nil)
	j := r.awaitState(taskReprov, job.Success)
	if !slices.Equal(remade, r.cluster.Servers[1:]) {
		t.Errorf("made anew: %v", remade)
	}
	if s, _ := r.stage(j, 0); s.State != job.StageSkipped || !strings.Contains(s.Reason, "primary") {
		t.Errorf("the primary's stage is %+v", s)
	}
	seed := r.last(job.Key{Cluster: "lab", Server: r.cluster.Servers[1], Task: "optimize"})
	if seed.Trigger != (job.Trigger{Kind: job.Rolling, By: j.ID}) || seed.State != job.Success ||
		seed.Args[job.ArgConfirm] != r.cluster.Servers[1].String() || seed.Args[job.ArgPrimary] != r.cluster.Servers[0].Addr() {
		t.Errorf("the seed is %+v", seed)
	}
}

func TestNoReplicaIsMadeAnewThatCannotBeFilledOrThatOthersFollow(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	last := mariadbdtest.Start(t, mariadbd.Options{Password: password, LogBin: true})
	r.servers, r.cluster.Servers = append(r.servers, last), append(r.cluster.Servers, job.Server{Host: "127.0.0.1", Port: last.Port()})
	r.replicate(1, last)
	r.cluster.Orchestrator = remake{do: func(context.Context, job.Server) error {
		t.Error("a server was made anew")
		return nil
	}}
	r.host()
	r.cluster.SeedTask = "no-such-task"
	stop := r.start("scheduler@a")
	r.ask(taskReprov, nil)
	j := r.awaitState(taskReprov, job.Halted)
	if !strings.Contains(j.Reason, "rolling-reprov-seed") {
		t.Error(j.Reason)
	}
	stop()
	r.cluster.SeedTask = "optimize"
	r.start("scheduler@a")
	r.ask(taskReprov, map[string]string{job.ArgSkip: r.cluster.Servers[2].String()})
	j = r.await(taskReprov, "ended", func(now job.Job) bool { return now.ID != j.ID && now.State == job.Halted })
	if want := r.cluster.Servers[2].String() + " replicates from it"; !strings.Contains(j.Reason, want) {
		t.Errorf("%s, want %s", j.Reason, want)
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(file, []byte("#!/bin/bash\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
