package e2e

import (
	"context"
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

// rollingSite is a drydock with a primary and a replica whose scripts restart them, each when the test lets it.
type rollingSite struct {
	*site
	primary, replica *mariadbd.Server
	services         map[*mariadbd.Server]*mariadbdtest.Service
	holds            map[*mariadbd.Server]string // folder in which the test holds systemctl: it writes began, and waits for go
	hooks            string                      // folder in which the test holds the hook in the same way
}

func newRollingSite(t *testing.T, keys string) *rollingSite {
	t.Helper()
	r := &rollingSite{services: map[*mariadbd.Server]*mariadbdtest.Service{}, holds: map[*mariadbd.Server]string{}, hooks: t.TempDir()}
	r.primary, r.replica = mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	hook := writeScript(t, fmt.Sprintf(`d=%s; echo "$DRYDOCK_ROLE" >>$d/ran; : >$d/began; while [ ! -e $d/go ]; do sleep 0.05; done`, r.hooks))
	r.site = newSite(t, options{servers: []*mariadbd.Server{r.primary, r.replica}, keys: fmt.Sprintf(
		"rolling-pre-script = %q\nrolling-gate-timeout = '2m'\nrolling-primary-read-only = true\nrolling-drain-timeout = '1m'\n%s", hook, keys)})
	for i, m := range r.servers {
		service, dir := mariadbdtest.NewService(t, m, "db"), t.TempDir()
		r.services[m], r.holds[m] = service, dir
		wrapper := fmt.Sprintf("#!/bin/bash\nd=%s\n: >$d/began\nwhile [ ! -e $d/go ]; do sleep 0.05; done\n%s \"$@\" || exit\n"+
			"[ ! -e $d/stop-slave ] || mariadb --defaults-file=%s -u%s -e 'STOP SLAVE'\n", dir, service.Systemctl(), r.clientFile(m), m.User())
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(wrapper), 0o755); err != nil {
			t.Fatal(err)
		}
		h := r.host(i)
		h.env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "DRYDOCK_DB_SERVICE=db", "DRYDOCK_SERVICE_WAIT=60"}
		h.background("--loop", "1")
	}
	r.start()
	mariadbdtest.Settle(t, r.primary, r.replica)
	return r
}

// clientFile is an option file with which a client logs in.
func (r *rollingSite) clientFile(m *mariadbd.Server) string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "client.cnf")
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(m.Password())
	text := fmt.Sprintf("[client]\nsocket=%s\npassword=\"%s\"\n", m.Socket(), quoted)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return file
}

// operation waits until the rolling restart fits.
func (r *rollingSite) operation(what string, fits func(job.Job) bool) (j job.Job) {
	r.t.Helper()
	jobs := store.NewJobs(r.bus(), "test", nil)
	bustest.Until(r.t, 2*time.Minute, what, func() bool {
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		var err error
		j, _, err = jobs.Last(ctx, job.Key{Cluster: "lab", Task: "rollingrestart"})
		if err == nil && !j.State.Live() && !fits(j) {
			r.t.Fatalf("%s: it is %s (%s), plan %+v", what, j.State, j.Reason, j.Plan)
		}
		return err == nil && fits(j)
	})
	return j
}

// phase waits until the turn of a server is in a phase.
func (r *rollingSite) phase(m *mariadbd.Server, phase string) {
	r.t.Helper()
	r.operation(phase+" of "+m.Addr(), func(j job.Job) bool {
		return j.Plan != nil && slices.ContainsFunc(j.Plan.Stages, func(s job.Stage) bool { return s.Server.Port == m.Port() && s.Phase == phase })
	})
}

func (r *rollingSite) exec(m *mariadbd.Server, statement string) {
	r.t.Helper()
	if _, err := query(r.t, m).ExecContext(bustest.Context(r.t), statement); err != nil {
		r.t.Fatalf("%s: %v", statement, err)
	}
}

func (r *rollingSite) readOnly(m *mariadbd.Server) (on bool) {
	r.t.Helper()
	db, err := m.DB()
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.QueryRowContext(r.t.Context(), "SELECT @@GLOBAL.read_only").Scan(&on); err != nil {
		r.t.Fatal(err)
	}
	return on
}

func TestARollingRestartSurvivesKillNineInEveryPhase(t *testing.T) {
	t.Parallel()
	r := newRollingSite(t, "")
	r.exec(r.primary, "CREATE DATABASE d")
	r.exec(r.primary, "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB")
	touch(t, filepath.Join(r.holds[r.replica], "stop-slave"))
	out := r.mustCLI("run", "lab", "rollingrestart")
	if !strings.Contains(out, "rollingrestart on the cluster lab") {
		t.Error(out)
	}

	awaitFile(t, filepath.Join(r.hooks, "began"))
	r.killAndStart() // the hook ends with drydock and is run again
	touch(t, filepath.Join(r.hooks, "go"))

	awaitFile(t, filepath.Join(r.holds[r.replica], "began"))
	r.killAndStart() // the script goes on with the restart
	touch(t, filepath.Join(r.holds[r.replica], "go"))

	r.phase(r.replica, "gate")
	r.killAndStart() // replication does not run yet
	tx, err := query(t, r.primary).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO d.t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	r.exec(r.replica, "START SLAVE")

	r.phase(r.primary, "drain")
	bustest.Until(t, time.Minute, "the primary is read-only", func() bool { return r.readOnly(r.primary) })
	r.killAndStart()
	if !r.readOnly(r.primary) {
		t.Error("the primary is not read-only any more while the operation is drained")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, filepath.Join(r.holds[r.primary], "began"))
	r.killAndStart()
	touch(t, filepath.Join(r.holds[r.primary], "go"))

	j := r.operation("success", func(j job.Job) bool { return j.State == job.Success })
	if j.Plan.Term < 6 || j.Plan.Term > 6 && r.rig == nil { // of two schedulers each may take over from one that is late
		t.Errorf("taken up in %d terms, want 6: %+v", j.Plan.Term, j.Steps)
	}
	for m, service := range r.services {
		if said := service.Said(t); strings.Count(said, "restart db") != 1 {
			t.Errorf("%s was told %q", m.Addr(), said)
		}
	}
	if r.readOnly(r.primary) {
		t.Error("the primary was left read-only")
	}
	if ran, err := os.ReadFile(filepath.Join(r.hooks, "ran")); err != nil || string(ran) != "replica\nreplica\nprimary\n" {
		t.Errorf("the hook ran for %q, %v", ran, err)
	}
	if out := r.mustCLI("rolling", "show", "lab"); !strings.Contains(out, "is success") || strings.Count(out, "done") != 2 {
		t.Error(out)
	}
}

func TestAPausedOperationIsAbortedFromTheCommandLineAndReported(t *testing.T) {
	t.Parallel()
	r := newRollingSite(t, "")
	r.mustCLI("run", "lab", "rollingrestart")
	awaitFile(t, filepath.Join(r.hooks, "began"))
	r.mustCLI("rolling", "pause", "lab")
	r.mustCLI("rolling", "pause", "lab")
	for _, dir := range []string{r.hooks, r.holds[r.replica], r.holds[r.primary]} {
		touch(t, filepath.Join(dir, "go"))
	}
	j := r.operation("paused", func(j job.Job) bool { return j.Plan != nil && !j.Plan.Paused.IsZero() })
	r.killAndStart()
	if out := r.mustCLI("jobs", j.ID); !strings.Contains(out, "rollingrestart") || !strings.Contains(out, r.replica.Addr()) {
		t.Error(out)
	}
	optimize := r.run("optimize")
	r.await("optimize", "waiting", func(o job.Job) bool { return o.ID == optimize && o.Gate == job.GateRolling })
	r.mustCLI("cancel", j.ID)
	r.operation("canceled", func(j job.Job) bool { return j.State == job.Canceled })
	bustest.Until(t, time.Minute, "the condition is open", func() bool {
		out, err := r.cli("alerts")
		return err == nil && strings.Contains(out, "DOCK0601")
	})
	if j := r.awaitEnd(optimize, "optimize"); j.State != job.Success {
		t.Errorf("the job that waited is %s (%s)", j.State, j.Reason)
	}
	if out, err := r.cli("rolling", "resume", "lab"); err == nil || !strings.Contains(out, "has ended") {
		t.Errorf("resume after the end: %v, %s", err, out)
	}
	if said := r.services[r.primary].Said(t); said != "" {
		t.Errorf("the primary was told %q", said)
	}
}

func TestARestartByDrydockItselfIsLookedAtAfterKillNine(t *testing.T) {
	t.Parallel()
	for name, finished := range map[string]bool{"the command went on": true, "the command hangs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mariadbdtest.Start(t, mariadbd.Options{Password: password})
			service, dir := mariadbdtest.NewService(t, m, "db"), t.TempDir()
			command := writeScript(t, fmt.Sprintf(`d=%s; : >$d/began; while [ ! -e $d/go ]; do sleep 0.05; done; %s restart db && : >$d/done; : >$d/left`, dir, service.Systemctl()))
			s := newSite(t, options{servers: []*mariadbd.Server{m}, keys: fmt.Sprintf("scheduler-jobs-exec-remote = 'none'\nprov-orchestrator = 'local'\n"+
				"local-db-restart-command = '%s'\nscheduler-jobs-lease = '3s'\nrolling-gate-timeout = '1m'\n", command)}).start()
			r := &rollingSite{site: s}
			mariadbdtest.Settle(t, m)
			t.Cleanup(func() { touch(t, filepath.Join(dir, "go")); awaitFile(t, filepath.Join(dir, "left")) })
			s.mustCLI("run", "lab", "rollingrestart")
			awaitFile(t, filepath.Join(dir, "began"))
			if !finished {
				s.killAndStart()
				j := r.operation("halted", func(j job.Job) bool { return j.State == job.Halted })
				if !strings.Contains(j.Reason, "nobody knows what became of it") {
					t.Error(j.Reason)
				}
				return
			}
			s.stop(syscall.SIGKILL)
			touch(t, filepath.Join(dir, "go"))
			awaitFile(t, filepath.Join(dir, "done"))
			s.start()
			r.operation("success", func(j job.Job) bool { return j.State == job.Success })
			if said := service.Said(t); said != "restart db\n" {
				t.Errorf("systemctl was told %q", said)
			}
		})
	}
}
