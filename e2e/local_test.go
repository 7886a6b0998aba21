package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
)

// query gives statements to a server and returns the connection, which lives until the test ends.
func query(t *testing.T, m *mariadbd.Server, statements ...string) *sql.Conn {
	t.Helper()
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(bustest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		_ = db.Close()
	})
	for _, s := range statements {
		if _, err := conn.ExecContext(bustest.Context(t), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return conn
}

func TestTasksOverSQLNeedNoScript(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password, Extra: []string{"log_output=TABLE", "general_log=1"}})
			s := newSite(t, options{mode: mode, servers: []*mariadbd.Server{primary, replica}, keys: `
scheduler-jobs-exec-remote = "mysqldump"
scheduler-db-servers-logs-table-keep = 3
monitoring-scheduler = true
scheduler-db-servers-schema-monitor = true
scheduler-db-servers-schema-monitor-cron = "* * * * * *"
`}).start()
			query(t, primary, "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT)", "INSERT INTO shop.a VALUES (1)")
			if err := mariadbd.CatchUp(t.Context(), primary, replica); err != nil {
				t.Fatal(err)
			}
			for _, task := range []string{"optimize", "analyze", "logstablerotate"} {
				s.mustCLI("run", "lab", task, "--wait") // on both servers
				j := s.await(task, "ended", func(j job.Job) bool { return !j.State.Live() })
				if j.State != job.Success || j.Mode != job.Local || !strings.HasPrefix(j.Evidence.Tool, "drydock") {
					t.Errorf("%s: %s (%s) in mode %s, %+v", task, j.State, j.Reason, j.Mode, j.Evidence)
				}
			}
			s.await("schemamonitor", "a success by cron", func(j job.Job) bool { return j.State == job.Success && j.Trigger.Kind == job.Cron })

			docs := store.NewDocs(s.bus())
			tables, ok, err := docs.Tables(bustest.Context(t), "lab", s.server())
			if err != nil || !ok || tables.Tables["shop.a"].Engine != "InnoDB" {
				t.Errorf("the table dictionary: %+v, %v", tables, err)
			}
			var facts store.Facts
			if ok, err := docs.Get(bustest.Context(t), "lab", job.Server{Host: "127.0.0.1", Port: replica.Port()}, store.DocFacts, &facts); err != nil || !ok || facts.Role != store.RoleReplica {
				t.Errorf("the facts: %+v, %v", facts, err)
			}
		})
	}
}

func TestKilledDrydockLeavesItsOwnJobToTheLease(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{keys: `
scheduler-jobs-exec-remote = "none"
scheduler-jobs-lease = "2s"
scheduler-jobs-retry = 1
maintenance-lock-timeout = "30s"
`}).start()
	lock := query(t, s.servers[0], "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT)", "LOCK TABLES shop.a WRITE")
	id := s.run("optimize")
	s.awaitState(id, "optimize", job.Processing)
	s.killAndStart()
	j := s.awaitState(id, "optimize", job.Halted)
	if !strings.Contains(j.Reason, "no sign of life") {
		t.Errorf("halted: %s", j.Reason)
	}
	if _, err := lock.ExecContext(bustest.Context(t), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if j := s.awaitState(id, "optimize", job.Success); j.Attempt != 2 {
		t.Errorf("attempt %d", j.Attempt)
	}
	var list []job.Job
	if err := json.Unmarshal([]byte(s.mustCLI("jobs", "--task", "optimize", "-o", "json")), &list); err != nil || len(list) != 1 {
		t.Errorf("%d jobs, %v", len(list), err)
	}
}

// An OPTIMIZE goes on on its server when drydock is killed. A backup beside it could be spoiled without any error.
func TestNoBackupBeginsBesideTheStatementOfAKilledDrydock(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, options{mode: mode, keys: `
scheduler-jobs-exec-remote = "none"
scheduler-jobs-lease = "6s"
maintenance-lock-timeout = "10m"
`}).start()
			lock := query(t, s.servers[0], "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT)", "LOCK TABLES shop.a READ")
			running := func() (n int) {
				t.Helper()
				err := lock.QueryRowContext(bustest.Context(t), "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%drydock run%' AND ID <> CONNECTION_ID()").Scan(&n)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			optimize := s.run("optimize")
			bustest.Until(t, 30e9, "the statement waits for the lock", func() bool { return running() == 1 })
			s.stop(syscall.SIGKILL)
			// A wait for a lock notices that its client is gone, a rebuild does not: this stands in for one of any size.
			rebuild := query(t, s.servers[0])
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = rebuild.ExecContext(context.Background(), "DO SLEEP(600) /* drydock run "+job.RunName(optimize, 1)+" */")
			}()
			t.Cleanup(func() { <-ended })
			bustest.Until(t, 30e9, "the statement goes on", func() bool { return running() == 1 })
			s.start()
			backup := s.run("mariabackup")
			s.host(0).background("--loop", "1")
			jobs := store.NewJobs(s.bus(), "test", nil)
			s.await("optimize", "without a lease", func(j job.Job) bool {
				if b, _, err := jobs.Last(bustest.Context(t), s.key("mariabackup")); err == nil && b.ID == backup && b.State != job.Queued && running() > 0 {
					t.Fatalf("the backup is %s while the statement runs", b.State)
				}
				return j.ID == optimize && j.State == job.Halted
			})
			if n := running(); n != 0 {
				t.Errorf("%d statements run when the lease has ended", n)
			}
			if _, err := lock.ExecContext(bustest.Context(t), "UNLOCK TABLES"); err != nil {
				t.Fatal(err)
			}
			if j := s.awaitEnd(backup, "mariabackup"); j.State != job.Success {
				t.Errorf("the backup is %s (%s)", j.State, j.Reason)
			}
			if !strings.Contains(s.proc.log.text(), "ended a statement that a job had left on its server") {
				t.Error("drydock does not say that it ended the statement")
			}
		})
	}
}
