package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/internal/sshdtest"
	"drydock/job"
	"drydock/store"
)

// ping is nil when the server answers.
func ping(t *testing.T, m *mariadbd.Server) error {
	t.Helper()
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	return db.PingContext(bustest.Context(t))
}

// mustAnswer checks whether the server answers.
func mustAnswer(t *testing.T, m *mariadbd.Server, yes bool) {
	t.Helper()
	if err := ping(t, m); (err == nil) != yes {
		t.Errorf("answers: want %v, got %v", yes, err)
	}
}

// writeScript writes an executable script and gives its path.
func writeScript(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("#!/bin/bash\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDrydockStopsAndStartsServersThroughItsOrchestrators(t *testing.T) {
	t.Parallel()
	orchestrators := map[string]func(t *testing.T, s *mariadbdtest.Service) string{
		"local": func(t *testing.T, s *mariadbdtest.Service) string {
			return fmt.Sprintf("local-db-stop-command = '%[1]s stop db'\nlocal-db-start-command = '%[1]s start db'\n"+
				"local-db-restart-command = '%[1]s restart db'", s.Systemctl())
		},
		"script": func(t *testing.T, s *mariadbdtest.Service) string {
			stop, start := writeScript(t, s.Systemctl()+" stop db"), writeScript(t, s.Systemctl()+" start db")
			return fmt.Sprintf("prov-db-stop-script = %q\nprov-db-start-script = %q", stop, start)
		},
		"onpremise": func(t *testing.T, s *mariadbdtest.Service) string {
			sshd := sshdtest.Start(t, map[string]string{"PATH": s.Path()})
			return fmt.Sprintf("onpremise-ssh-db-unit = 'db'\nonpremise-ssh = true\nonpremise-ssh-port = %d\nonpremise-ssh-credential = %q\n"+
				"onpremise-ssh-private-key = %q\nonpremise-ssh-known-hosts = %q", sshd.Port, sshd.User, sshd.KeyFile, sshd.KnownHosts)
		},
	}
	for kind, keys := range orchestrators {
		for _, mode := range modes {
			t.Run(kind+" "+mode, func(t *testing.T) {
				t.Parallel()
				m := mariadbdtest.Start(t, mariadbd.Options{Password: password})
				service := mariadbdtest.NewService(t, m, "db")
				s := newSite(t, options{mode: mode, servers: []*mariadbd.Server{m}, keys: fmt.Sprintf(
					"scheduler-jobs-exec-remote = 'none'\nprov-orchestrator = '%s'\n%s\n", kind, keys(t, service))}).start()
				for _, step := range []struct {
					task string
					up   bool
				}{{"restart", true}, {"stop", false}, {"start", true}, {"stop", false}, {"restart", true}} {
					j := s.awaitEnd(s.run(step.task), step.task)
					if j.State != job.Success || j.Mode != job.Local || j.Evidence.Tool != "drydock" {
						t.Fatalf("%s: %s (%s) in mode %s by %s", step.task, j.State, j.Reason, j.Mode, j.Evidence.Tool)
					}
					mustAnswer(t, m, step.up)
				}
				service.Fail(t, "stop", true)
				if j := s.awaitEnd(s.run("stop"), "stop"); j.State == job.Success || !strings.Contains(j.Reason, "Job for db failed.") {
					t.Errorf("a failed stop is %s (%s)", j.State, j.Reason)
				}
				mustAnswer(t, m, true)
			})
		}
	}
}

func TestDrydockStopsAServerOverSQL(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{keys: "scheduler-jobs-exec-remote = 'none'"}).start()
	for range 2 { // one that is down already is stopped, too
		if j := s.awaitEnd(s.run("stop"), "stop"); j.State != job.Success {
			t.Fatalf("stop: %s (%s)", j.State, j.Reason)
		}
		mustAnswer(t, s.servers[0], false)
	}
	for _, task := range []string{"start", "restart"} {
		out, err := s.cli("run", "lab", task, "--server", s.servers[0].Addr())
		if err == nil || !strings.Contains(out, "prov-orchestrator") {
			t.Errorf("%s without an orchestrator: %v, %s", task, err, out)
		}
	}
}

// serviceHost is a database host whose script finds the stand-in for systemctl.
func serviceHost(s *site, service *mariadbdtest.Service, more ...string) *host {
	h := s.host(0)
	h.env = append([]string{"PATH=" + service.Path(), "DRYDOCK_DB_SERVICE=" + service.Unit, "DRYDOCK_SERVICE_WAIT=60"}, more...)
	return h
}

func TestTheScriptStopsAndStartsItsServer(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, options{mode: mode}).start()
			service := mariadbdtest.NewService(t, s.servers[0], "db")
			h := serviceHost(s, service)
			do := func(task string, want job.State, up bool) job.Job {
				t.Helper()
				id := s.run(task)
				s.awaitState(id, task, job.Available)
				h.cycle()
				j := s.awaitEnd(id, task)
				if j.State != want || j.Mode != job.Mode(mode) {
					t.Fatalf("%s: %s (%s) in mode %s, %+v", task, j.State, j.Reason, j.Mode, j.Evidence)
				}
				mustAnswer(t, s.servers[0], up)
				return j
			}
			h.cycle()
			do("restart", job.Success, true)
			service.Fail(t, "restart", true)
			do("restart", job.Halted, true)
			service.Fail(t, "restart", false)
			stopped := do("stop", job.Success, false)
			h.cycle() // the row cannot be closed; nothing goes wrong by it
			if mode == "sql" {
				if out, err := s.cli("run", "lab", "start", "--server", s.servers[0].Addr()); err == nil || !strings.Contains(out, "scheduler-jobs-mode = api") {
					t.Errorf("start in sql mode: %v, %s", err, out)
				}
				startService(t, service)
				s.awaitRow(h, stopped)
			} else {
				if j := do("errorlog", job.Success, false); j.Stream.Bytes == 0 {
					t.Error("the error log of a server that is down is empty")
				}
				do("start", job.Success, true)
			}
			s.checkNoSecret(h)
		})
	}
}

// startService starts the server as a person would.
func startService(t *testing.T, s *mariadbdtest.Service) {
	t.Helper()
	if out, err := exec.Command(s.Systemctl(), "start", s.Unit).CombinedOutput(); err != nil {
		t.Fatalf("start: %v\n%s", err, out)
	}
}

// awaitRow waits until the row of a job that ended while the database was down is closed, and the script has nothing left.
func (s *site) awaitRow(h *host, j job.Job) {
	s.t.Helper()
	for deadline := time.Now().Add(patience(time.Minute)); ; {
		h.cycle()
		var state, done int
		err := query(s.t, s.servers[0]).QueryRowContext(bustest.Context(s.t),
			"SELECT state, done FROM replication_manager_schema.jobs WHERE task = ?", j.Task).Scan(&state, &done)
		left, _ := filepath.Glob(filepath.Join(h.state, "*", "*", "jobs", "*.end"))
		if err == nil && state == job.CodeSuccess && done == 1 && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("row state %d, done %d, %v; left %v", state, done, err, left)
		}
	}
}

func TestAStopOfAPrimaryWantsToBeConfirmed(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	s := newSite(t, options{servers: []*mariadbd.Server{primary, replica}, keys: "scheduler-jobs-exec-remote = 'none'"}).start()
	docs := store.NewDocs(s.bus())
	for _, m := range s.servers {
		s.awaitFacts(docs, job.Server{Host: "127.0.0.1", Port: m.Port()}, func(f store.Facts) bool { return f.Up })
	}
	s.awaitFacts(docs, s.server(), func(f store.Facts) bool { return f.Replicas > 0 })
	out, err := s.cli("run", "lab", "stop", "--server", primary.Addr())
	if err == nil || !strings.Contains(out, "--confirm") {
		t.Errorf("stop of the primary: %v, %s", err, out)
	}
	s.mustCLI("run", "lab", "stop", "--server", replica.Addr(), "--wait")
	mustAnswer(t, replica, false)
	s.mustCLI("run", "lab", "stop", "--server", primary.Addr(), "--wait", "--confirm")
	mustAnswer(t, primary, false)
}

func (s *site) awaitFacts(docs *store.Docs, server job.Server, fits func(store.Facts) bool) {
	s.t.Helper()
	bustest.Until(s.t, time.Minute, "facts of "+server.String()+" that fit", func() bool {
		var f store.Facts
		ok, err := docs.Get(bustest.Context(s.t), "lab", server, store.DocFacts, &f)
		return err == nil && ok && fits(f)
	})
}

func TestAStartDoesNotWaitForWhatWaitsForTheServer(t *testing.T) {
	t.Parallel()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: password})
	service := mariadbdtest.NewService(t, m, "db")
	s := newSite(t, options{servers: []*mariadbd.Server{m}, keys: fmt.Sprintf(
		"scheduler-jobs-exec-remote = 'none'\nprov-orchestrator = 'local'\nlocal-db-start-command = '%[1]s start db'\nlocal-db-stop-command = '%[1]s stop db'",
		service.Systemctl())}).start()
	backup := s.run("mariabackup")
	s.awaitState(backup, "mariabackup", job.Available)
	s.await("mariabackup", "offered", func(j job.Job) bool { return j.Dispatch.Row > 0 })
	if out, err := exec.Command(service.Systemctl(), "stop", "db").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	analyze := s.run("analyze") // done by drydock, which cannot reach the server
	s.await("analyze", "waiting", func(j job.Job) bool { return j.ID == analyze && j.Reason != "" })
	if j := s.awaitEnd(s.run("start"), "start"); j.State != job.Success {
		t.Fatalf("start: %s (%s)", j.State, j.Reason)
	}
	mustAnswer(t, m, true)
}
