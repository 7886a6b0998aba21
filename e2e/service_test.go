package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/internal/sshdtest"
	"drydock/job"
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
