package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
)

// awaitAlertSlowly is awaitAlert for what is only asked every ten seconds and must be seen twice.
func (s *site) awaitAlertSlowly(code string, open bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience(90 * time.Second)); s.isOpen(code) != open; {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: open is still %v\n%s", code, !open, s.mustCLI("alerts", "--all"))
		}
		select {
		case <-s.t.Context().Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// wideJob is the newest job of a task of the whole cluster.
func (s *site) wideJob(task string) (j job.Job) {
	s.t.Helper()
	var list []job.Job
	if err := json.Unmarshal([]byte(s.mustCLI("jobs", "--task", task, "-o", "json")), &list); err != nil || len(list) == 0 {
		s.t.Fatalf("%d jobs, %v", len(list), err)
	}
	return list[0]
}

func TestTablesThatDifferAreAConditionUntilACleanComparison(t *testing.T) {
	t.Parallel()
	servers := mariadbdtest.Family(t, 2, mariadbd.Options{Password: password})
	s := newSite(t, options{servers: servers})
	query(t, servers[0], "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT PRIMARY KEY)", "INSERT INTO shop.a VALUES (1), (2)",
		"CREATE TABLE shop.b (i INT PRIMARY KEY)")
	for _, r := range servers[1:] {
		if err := mariadbd.CatchUp(t.Context(), servers[0], r); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	if out := s.mustCLI("run", "lab", "checksum", "--wait"); !strings.Contains(out, "checksum on the cluster lab") || !strings.Contains(out, "success") {
		t.Errorf("the CLI says %s", out)
	}
	if j := s.wideJob("checksum"); j.State != job.Success || j.Mode != job.Local || j.Server != (job.Server{}) || !strings.HasPrefix(j.Evidence.Result, "2 tables of ") {
		t.Errorf("%s (%s), %+v", j.State, j.Reason, j.Evidence)
	}

	query(t, servers[2], "SET sql_log_bin = 0", "DELETE FROM shop.a WHERE i = 1")
	what := "shop.a on " + servers[2].Addr() + ": the rows differ"
	if out, err := s.cli("run", "lab", "checksum", "--wait"); err == nil || !strings.Contains(out, what) {
		t.Errorf("the run that finds a difference: %v\n%s", err, out)
	}
	s.awaitAlert("DOCK0504", true)
	s.awaitAlert("DOCK0101", true)
	open := s.alerts()
	i := slices.IndexFunc(open, func(a bus.Alert) bool { return a.Code == "DOCK0504" })
	if a := open[i]; !strings.Contains(a.Text, what) || a.Cluster != "lab" || a.Server != (job.Server{}) || a.JobID != s.wideJob("checksum").ID {
		t.Errorf("the condition says %+v", a)
	}
	s.killAndStart()

	// About the other replica: that one is clean, and the condition stays.
	s.mustCLI("run", "lab", "checksum", "--server", servers[1].Addr(), "--wait")
	s.awaitAlert("DOCK0101", false)
	if !s.isOpen("DOCK0504") {
		t.Error("a run about another replica closed the condition")
	}
	query(t, servers[2], "SET sql_log_bin = 0", "INSERT INTO shop.a VALUES (1)")
	s.mustCLI("run", "lab", "checksum", "--wait")
	s.awaitAlert("DOCK0504", false)
	if got := s.edgesOf("DOCK0504"); !slices.Equal(got, []string{"opened", "closed"}) {
		t.Errorf("edges %v", got)
	}
}

func TestStoppedReplicationAndAServerThatIsDownAreConditions(t *testing.T) {
	t.Parallel()
	servers := mariadbdtest.Family(t, 1, mariadbd.Options{Password: password})
	s := newSite(t, options{servers: servers, keys: `
monitoring-scheduler = true
scheduler-db-servers-checksum = true
scheduler-db-servers-checksum-cron = "*/2 * * * * *"
`})
	query(t, servers[0], "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT PRIMARY KEY)")
	if err := mariadbd.CatchUp(t.Context(), servers[0], servers[1]); err != nil {
		t.Fatal(err)
	}
	s.start()
	key := job.Key{Cluster: "lab", Task: "checksum"}
	s.awaitKey(key, "a success by cron", func(j job.Job) bool { return j.State == job.Success && j.Trigger.Kind == job.Cron })
	if out := s.mustCLI("next"); !strings.Contains(out, "checksum") {
		t.Errorf("next says %s", out)
	}
	query(t, servers[1], "DROP DATABASE shop")
	query(t, servers[0], "INSERT INTO shop.a VALUES (1)") // breaks the SQL thread
	s.awaitAlertSlowly("DOCK0502", true)
	open := s.alerts()
	i := slices.IndexFunc(open, func(a bus.Alert) bool { return a.Code == "DOCK0502" })
	if a := open[i]; !strings.Contains(a.Text, "the SQL thread does not run: ") || !strings.Contains(a.Text, "shop") || a.Server.Port != servers[1].Port() {
		t.Errorf("the condition says %+v", a)
	}
	s.awaitKey(key, "without a replica to compare", func(j job.Job) bool {
		return j.State == job.Halted && strings.Contains(j.Reason, "no replica can be compared")
	})
	if err := servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	s.awaitAlertSlowly("DOCK0501", true)
	if !s.isOpen("DOCK0502") {
		t.Error("that the server is down closed what is known of its replication")
	}
	if err := servers[1].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	query(t, servers[1], "STOP SLAVE", "SET sql_log_bin = 0", "CREATE DATABASE IF NOT EXISTS shop", "CREATE TABLE IF NOT EXISTS shop.a (i INT PRIMARY KEY)", "SET sql_log_bin = 1", "START SLAVE")
	s.awaitAlertSlowly("DOCK0501", false)
	s.awaitAlertSlowly("DOCK0502", false)
	for _, code := range []string{"DOCK0501", "DOCK0502"} {
		if got := s.edgesOf(code); !slices.Equal(got, []string{"opened", "closed"}) {
			t.Errorf("%s: edges %v", code, got)
		}
	}
}

func TestAComparisonThatIsKilledLeavesTheTableFreeAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	servers := mariadbdtest.Family(t, 1, mariadbd.Options{Password: password})
	s := newSite(t, options{servers: servers, keys: `
scheduler-jobs-lease = "10s"
scheduler-jobs-retry = 1
`})
	conn := query(t, servers[0], "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT PRIMARY KEY, t TEXT)",
		"INSERT INTO shop.a SELECT seq, REPEAT('x', 200) FROM shop.seq_1_to_150000")
	if err := mariadbd.CatchUp(t.Context(), servers[0], servers[1]); err != nil {
		t.Fatal(err)
	}
	s.start()
	id := strings.Fields(s.mustCLI("run", "lab", "checksum"))[0]
	bustest.Until(t, 30*time.Second, "the sum is taken", func() bool {
		var n int
		err := conn.QueryRowContext(bustest.Context(t), "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CHECKSUM%'").Scan(&n)
		return err == nil && n > 0
	})
	s.stop(syscall.SIGKILL)
	if _, err := conn.ExecContext(bustest.Context(t), "UPDATE shop.a SET t = 'y' WHERE i = 1"); err != nil {
		t.Errorf("the table is not free: %v", err)
	}
	s.start()
	key := job.Key{Cluster: "lab", Task: "checksum"}
	if j := s.awaitKey(key, "tried again", func(j job.Job) bool { return j.ID == id && j.State == job.Success }); j.Attempt != 2 {
		t.Errorf("attempt %d", j.Attempt)
	}
}
