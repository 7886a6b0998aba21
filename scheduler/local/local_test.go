package local

import (
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
	"drydock/window"
)

const shop = "CREATE DATABASE shop"

func TestTablesAreTendedWithoutATraceInTheBinaryLogAndPauseWhileAReplicaLags(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	r := newRig(t, primary, replica)
	r.cluster.MaxLag, r.cluster.MaxLoad = 1e9, 100
	r.sql(0, shop, "CREATE TABLE shop.a (i INT PRIMARY KEY, t TEXT)", "INSERT INTO shop.a SELECT seq, 'x' FROM mysql.help_topic, (SELECT 1 seq) s LIMIT 1",
		"CREATE TABLE shop.`o``dd na.me` (i INT)", "CREATE TABLE shop.m (i INT) ENGINE=MEMORY", "CREATE VIEW shop.v AS SELECT * FROM shop.a",
		"CREATE TABLE shop.y (i INT) ENGINE=MyISAM")
	if err := mariadbd.CatchUp(t.Context(), primary, replica); err != nil {
		t.Fatal(err)
	}
	r.start("scheduler@a")

	gtid := r.value(0, "SELECT @@gtid_binlog_pos")
	for _, task := range []string{"analyze", "optimize"} {
		j := r.do(0, task)
		if j.Evidence.Result != task+": 3 tables done, 0 failed" || !j.Evidence.Completed {
			t.Errorf("%s: %+v", task, j.Evidence)
		}
		if text := r.logged(j); !strings.Contains(text, "3 tables, 1 left out") {
			t.Errorf("the log of %s says %s", task, text)
		}
	}
	if now := r.value(0, "SELECT @@gtid_binlog_pos"); now != gtid {
		t.Errorf("the binary log went from %s to %s", gtid, now)
	}

	var primaryFacts, replicaFacts store.Facts
	bustest.Until(t, store.AskedEvery(0, 2)+factsTimeout, "both servers have facts", func() bool {
		a, _ := r.docs.Get(t.Context(), "lab", r.cluster.Servers[0], store.DocFacts, &primaryFacts)
		b, _ := r.docs.Get(t.Context(), "lab", r.cluster.Servers[1], store.DocFacts, &replicaFacts)
		return a && b
	})
	if f := primaryFacts; !f.Up || f.Role != store.RolePrimary || f.ReadOnly || f.Replicas != 1 || !strings.Contains(f.Version, "MariaDB") || f.Variables["log_bin"] != "ON" {
		t.Errorf("facts of the primary: %+v", f)
	}
	if f := replicaFacts; f.Role != store.RoleReplica || len(f.Sources) != 1 || f.Sources[0].From != primary.Addr() || f.Sources[0].SQL != "Yes" || f.Sources[0].Lag == nil {
		t.Errorf("facts of the replica: %+v", f)
	}

	r.sql(1, "STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=3600", "START SLAVE")
	r.sql(0, "INSERT INTO shop.y VALUES (1)")
	bustest.Until(t, 20e9, "the replica lags", func() bool {
		rows, err := records(t.Context(), r.dbs[1], "SHOW ALL SLAVES STATUS")
		return err == nil && len(rows) == 1 && rows[0]["Seconds_Behind_Master"].Valid && number(rows[0]["Seconds_Behind_Master"].String) > 2
	})
	j := r.queue(0, "analyze", job.Local)
	r.await(j, "paused", func(j job.Job) bool {
		return j.State == job.Processing && strings.HasPrefix(j.Reason, "paused: replica "+r.cluster.Servers[1].String()+" lags")
	})
	r.sql(1, "STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=0", "START SLAVE")
	if j = r.awaitState(j, job.Finished); j.Reason != "" {
		t.Errorf("the reason stayed: %s", j.Reason)
	}
}

func TestATableThatCannotBeLockedFailsTheJobAndNotTheOtherTables(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	lock := r.sql(0, shop, "CREATE TABLE shop.a (i INT)", "CREATE TABLE shop.b (i INT)", "CREATE TABLE shop.c (i INT)", "LOCK TABLES shop.b WRITE")
	r.start("scheduler@a")
	j := r.awaitState(r.queue(0, "optimize", job.Local), job.Halted)
	if want := "1 of 3 tables failed: shop.b: locked by others"; !strings.HasPrefix(j.Reason, want) || j.Evidence.Result != "optimize: 2 tables done, 1 failed" || len(j.Evidence.Errors) != 1 {
		t.Errorf("%s (%s), %+v", j.State, j.Reason, j.Evidence)
	}

	// One that is let go of in time is done at the end.
	if _, err := lock.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if j := r.do(0, "optimize"); j.Evidence.Result != "optimize: 3 tables done, 0 failed" {
		t.Errorf("%+v", j.Evidence)
	}
}

func TestCanceledOrStoppedWorkLeavesNoStatementBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	r.cluster.LockTimeout, r.cluster.Lease = 60e9, 1e9
	signs := make(chan bus.Progress, 100) // more than there can be
	sub, err := bus.Listen(r.conn, bus.AllProgress, func(p bus.Progress) { signs <- p })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	r.sql(0, shop, "CREATE TABLE shop.a (i INT)", "LOCK TABLES shop.a WRITE")
	stop := r.start("scheduler@a")
	waiting := "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'OPTIMIZE%'"

	j := r.queue(0, "optimize", job.Local)
	bustest.Until(t, 10e9, "the statement waits", func() bool { return r.value(0, waiting) == "1" })
	for range 5 { // longer than the lease
		select {
		case p := <-signs:
			if p.JobID != j.ID || p.Attempt != 1 || p.Sign != bus.SignHeartbeat {
				t.Errorf("%+v", p)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no sign of life while the statement waits")
		}
	}
	r.apply(j, job.Cancel)
	bustest.Until(t, 10e9, "the canceled statement is gone", func() bool { return r.value(0, waiting) == "0" })
	if j = r.last(j); j.State != job.Canceled {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}

	j = r.queue(0, "optimize", job.Local)
	bustest.Until(t, 10e9, "the statement waits", func() bool { return r.value(0, waiting) == "1" })
	stop()
	if j = r.last(j); j.State != job.Halted || j.Reason != "drydock was stopped while it worked" {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
	if n := r.value(0, waiting); n != "0" {
		t.Errorf("%s statements go on after the stop", n)
	}
}

func TestTwoRunnersDoAJobOnceAndOneHeavyJobAtATime(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	r.sql(0, shop, "CREATE TABLE shop.a (i INT)")
	backup := r.queue(0, "mariabackup", job.API)
	r.apply(backup, job.Offer, job.Claim, job.Start)
	r.start("scheduler@a")
	r.start("scheduler@b")
	j := r.queue(0, "analyze", job.Local)
	r.await(j, "held", func(j job.Job) bool { return j.Held() && strings.Contains(j.Reason, "mariabackup "+backup.ID) })
	light := r.do(0, "schemamonitor") // only reads, and waits for nobody
	if light.Held() {
		t.Error("the schema monitor waited")
	}
	r.apply(backup, job.Error)
	r.apply(r.awaitState(j, job.Finished), job.Pass)
	for range 10 {
		r.do(0, "analyze")
	}
	claims := map[string]int{}
	err := bus.Read(bustest.Context(t), r.conn, bus.StreamJobs, bus.AllJobs, bus.From{}, func(_ bus.Meta, ev bus.JobEvent) error {
		if ev.Event == job.Claim {
			claims[ev.Job.ID]++
		}
		return nil
	})
	if err != nil || len(claims) != 13 {
		t.Errorf("%d jobs were claimed, %v", len(claims), err)
	}
	for id, n := range claims {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
}

func TestAServerOutOfReachIsAReasonAndNoEnd(t *testing.T) {
	t.Parallel()
	m := server(t)
	r := newRig(t, m)
	r.start("scheduler@a")
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	j := r.queue(0, "analyze", job.Local)
	r.await(j, "waiting for the database", func(j job.Job) bool {
		return j.State == job.Queued && strings.HasPrefix(j.Reason, job.ReasonNoSQL+"dial 127.0.0.1")
	})
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.awaitState(j, job.Finished)
}

func TestLogTablesAreRotatedWhileLoggingIsOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t, "log_output=TABLE", "general_log=1"))
	r.cluster.LogsTableKeep = 2
	stop := r.start("scheduler@a")
	gtid := r.value(0, "SELECT @@gtid_binlog_pos")
	mark := func(s string) { r.value(0, "SELECT '"+s+"'") }
	holds := func(table, s string) bool {
		return r.value(0, "SELECT COUNT(*) FROM mysql."+table+" WHERE argument = CONCAT('SELECT ''', '"+s+"', '''')") == "1"
	}
	for _, s := range []string{"one", "two", "three", "four"} {
		mark(s)
		if j := r.do(0, "logstablerotate"); !strings.Contains(j.Evidence.Result, "general_log: rotated") || !strings.Contains(j.Evidence.Result, "slow_log: empty") {
			t.Errorf("%+v", j.Evidence)
		}
	}
	mark("five")
	if !holds("general_log_1", "four") || !holds("general_log_2", "three") || !holds("general_log", "five") {
		t.Error("the copies do not hold what was logged in their time")
	}
	if n := r.value(0, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='mysql' AND TABLE_NAME LIKE 'general\\_log%'"); n != "3" {
		t.Errorf("%s tables are left", n)
	}
	stop()

	r.cluster.LogsTableKeep = 0
	r.start("scheduler@a")
	r.do(0, "logstablerotate")
	if holds("general_log", "five") {
		t.Error("the log was not emptied")
	}
	if n := r.value(0, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='mysql' AND TABLE_NAME LIKE 'general\\_log%'"); n != "1" {
		t.Errorf("%s tables are left", n)
	}
	if now := r.value(0, "SELECT @@gtid_binlog_pos"); now != gtid {
		t.Errorf("the binary log went from %q to %q", gtid, now)
	}
}

func TestSchemaChangesAreReportedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	r.sql(0, shop, "CREATE TABLE shop.a (i INT)", "CREATE TABLE shop.b (i INT)", "CREATE TABLE shop.c (i INT)")
	r.start("scheduler@a")
	if j := r.do(0, "schemamonitor"); j.Evidence.Result != "3 tables, 0 MiB; nothing to compare with yet" {
		t.Errorf("%+v", j.Evidence)
	}
	r.sql(0, "ALTER TABLE shop.a ADD COLUMN t INT, ALGORITHM=INSTANT", "DROP TABLE shop.b", "CREATE VIEW shop.v AS SELECT 1",
		"ALTER TABLE shop.c ENGINE=MyISAM")
	j := r.do(0, "schemamonitor")
	if !strings.HasSuffix(j.Evidence.Result, "; 1 added, 1 removed, 2 changed") {
		t.Errorf("%+v", j.Evidence)
	}
	text := r.logged(j)
	for _, want := range []string{"changed shop.a: columns", "removed shop.b", `changed shop.c: engine "InnoDB" -> "MyISAM"`, "added shop.v (view)"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
	r.sql(0, "INSERT INTO shop.a VALUES (1, 2)", "OPTIMIZE TABLE shop.a")
	if j := r.do(0, "schemamonitor"); !strings.HasSuffix(j.Evidence.Result, "; 0 added, 0 removed, 0 changed") {
		t.Errorf("%+v, %s", j.Evidence, r.logged(j))
	}
	doc, ok, err := r.docs.Tables(t.Context(), "lab", r.cluster.Servers[0])
	if err != nil || !ok || doc.Count != 3 || doc.Tables["shop.c"].Engine != "MyISAM" {
		t.Errorf("%+v, %v, %v", doc, ok, err)
	}
}

// A pause without an end would keep every backup of the server waiting behind a job that does nothing.
func TestAPauseThatDoesNotEndFailsTheJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, mariadbdtest.Start(t, mariadbd.Options{Password: password}))
	r.cluster.MaxLoad, r.cluster.MaxPause = 1, 300*time.Millisecond
	r.sql(0, shop, "CREATE TABLE shop.a (i INT PRIMARY KEY)")
	r.busy(0)
	r.start("scheduler@a")
	j := r.awaitState(r.queue(0, "analyze", job.Local), job.Halted)
	if !strings.Contains(j.Reason, "maintenance-max-pause") || !strings.Contains(j.Reason, "Threads_running") {
		t.Errorf("the reason is %q", j.Reason)
	}
}

// What a window is there to prevent is work at another hour: a job that waits beyond its end would go on then.
func TestAScheduledJobDoesNotPauseOutsideItsWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t, mariadbdtest.Start(t, mariadbd.Options{Password: password}))
	now := time.Now().UTC()
	closed, err := window.Parse(now.Add(48*time.Hour).Format("Mon") + " 00:00-01:00")
	if err != nil {
		t.Fatal(err)
	}
	r.cluster.MaxLoad, r.cluster.MaxPause, r.cluster.Windows, r.cluster.Zone = 1, time.Hour, closed, time.UTC
	r.sql(0, shop, "CREATE TABLE shop.a (i INT PRIMARY KEY)")
	stop := r.busy(0)
	r.start("scheduler@a")
	j := r.queueAs(0, "analyze", job.Local, job.Cron)
	if j = r.awaitState(j, job.Halted); !strings.Contains(j.Reason, "maintenance-windows") || !strings.Contains(j.Reason, "Threads_running") {
		t.Errorf("the reason is %q", j.Reason)
	}
	// A person who runs it at such an hour means that hour.
	j = r.queueAs(0, "optimize", job.Local, job.Manual)
	r.await(j, "paused", func(j job.Job) bool { return j.State == job.Processing && strings.HasPrefix(j.Reason, "paused") })
	stop()
	r.awaitState(j, job.Finished)
}
