package local

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
	"drydock/store/attempt"
)

// family is a rig with a primary and replicas that have caught up with what was written.
func familyRig(t *testing.T, replicas int, extra []string, statements ...string) (*rig, []*mariadbd.Server) {
	t.Helper()
	servers := mariadbdtest.Family(t, replicas, mariadbd.Options{Password: password, Extra: extra})
	r := newRig(t, servers...)
	r.sql(0, append([]string{shop}, statements...)...)
	r.caughtUp(servers)
	return r, servers
}

func (r *rig) caughtUp(servers []*mariadbd.Server) {
	r.t.Helper()
	for _, s := range servers[1:] {
		if err := mariadbd.CatchUp(bustest.Context(r.t), servers[0], s); err != nil {
			r.t.Fatal(err)
		}
	}
}

// checksum runs the task to its end.
func (r *rig) checksum(args map[string]string) job.Job {
	r.t.Helper()
	j := r.ask("checksum", job.Server{}, args)
	j = r.await(j, "ended", func(j job.Job) bool { return j.State == job.Finished || !j.State.Live() })
	if j.State == job.Finished {
		r.apply(j, job.Pass)
	}
	return j
}

// found is the document of the cluster.
func (r *rig) found() (doc store.Checksum) {
	r.t.Helper()
	if ok, err := r.docs.Get(bustest.Context(r.t), "lab", job.Server{}, store.DocChecksum, &doc); !ok || err != nil {
		r.t.Fatalf("no document: %v", err)
	}
	return doc
}

func said(list []store.Finding) (out []string) {
	for _, f := range list {
		out = append(out, f.String())
	}
	slices.Sort(out)
	return out
}

// write changes tables until the test ends.
func (r *rig) writers(statements ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, s := range statements {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := r.dbs[0].ExecContext(ctx, s, n); err != nil && ctx.Err() == nil {
					r.t.Errorf("writer %d: %v", i, err)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(stop)
	return stop
}

func TestOnlyWhatWasChangedBehindReplicationsBackDiffersWhileOthersWrite(t *testing.T) {
	t.Parallel()
	r, servers := familyRig(t, 2, nil,
		"CREATE TABLE shop.a (i INT PRIMARY KEY AUTO_INCREMENT, t TEXT, d DATETIME(6) DEFAULT NOW(6), n INT DEFAULT 0)",
		"INSERT INTO shop.a (t) SELECT REPEAT('x', 500) FROM shop.seq_1_to_20000",
		"CREATE TABLE shop.`o``dd na.me` (i INT, v VARCHAR(20), b BIT(3))", "INSERT INTO shop.`o``dd na.me` VALUES (1, NULL, b'101')",
		"CREATE TABLE shop.empty (i INT)", "CREATE TABLE shop.y (i INT, t TEXT) ENGINE=MyISAM CHECKSUM=1", "INSERT INTO shop.y VALUES (1, 'y')",
		"CREATE TABLE shop.z (i INT, t TEXT) ENGINE=MyISAM", "INSERT INTO shop.z VALUES (1, 'y')",
		"CREATE TABLE shop.aria (i INT) ENGINE=Aria", "CREATE TABLE shop.m (i INT) ENGINE=MEMORY", "CREATE VIEW shop.v AS SELECT 1",
		"CREATE TABLE shop.ver (i INT PRIMARY KEY) WITH SYSTEM VERSIONING", "INSERT INTO shop.ver VALUES (1)", "UPDATE shop.ver SET i = 2",
		"CREATE TABLE shop.part (i INT PRIMARY KEY) PARTITION BY HASH (i) PARTITIONS 3", "INSERT INTO shop.part VALUES (1), (2), (3)")
	r.start("scheduler@a")
	stop := r.writers("INSERT INTO shop.a (t, n) VALUES (RAND(), ?)", "UPDATE shop.a SET n = n + 1, d = NOW(6) WHERE i = 1 + ? % 20000",
		"DELETE FROM shop.a WHERE i = 20000 - ?", "UPDATE shop.y SET i = ?")
	j := r.checksum(nil)
	if want := "8 tables of " + r.cluster.Servers[0].String() + " compared with 2 replicas: 0 differences, 1 left out"; j.State != job.Finished || j.Evidence.Result != want {
		t.Fatalf("%s (%s): %+v\n%s", j.State, j.Reason, j.Evidence, r.logged(j))
	}
	if doc := r.found(); !doc.Complete || len(doc.Differs) != 0 || doc.Tables != 8 || len(doc.Replicas) != 2 || doc.JobID != j.ID {
		t.Errorf("%+v", doc)
	}

	one, two := r.cluster.Servers[1], r.cluster.Servers[2]
	r.sql(1, "SET sql_log_bin = 0", "UPDATE shop.part SET i = 4 WHERE i = 3", "UPDATE shop.z SET t = 'z'", "CREATE TABLE shop.extra (i INT)")
	r.sql(2, "SET sql_log_bin = 0", "DROP TABLE shop.empty", "ALTER TABLE shop.`o``dd na.me` MODIFY v VARCHAR(30)")
	j = r.checksum(nil)
	want := []string{
		"shop.empty on " + two.String() + ": the table is missing there",
		"shop.extra on " + one.String() + ": the table is only there, not on the primary",
		"shop.part on " + one.String() + ": the rows differ",
		"shop.z on " + one.String() + ": the rows differ",
	}
	doc := r.found()
	if got := said(doc.Differs); !slices.Equal(got, want) {
		t.Errorf("found %q\nwant %q\n%s", got, want, r.logged(j))
	}
	if j.State != job.Halted || !strings.HasPrefix(j.Reason, "4 differences: ") || len(j.Evidence.Errors) != 4 {
		t.Errorf("%s (%s): %+v", j.State, j.Reason, j.Evidence)
	}
	for _, f := range want {
		if !strings.Contains(j.Reason, f) || !strings.Contains(r.logged(j), "ERROR "+f) {
			t.Errorf("the reason or the log lacks %q: %s", f, j.Reason)
		}
	}

	// One replica is mended. A run on the other one leaves what is known of it.
	r.sql(1, "SET sql_log_bin = 0", "UPDATE shop.part SET i = 3 WHERE i = 4", "UPDATE shop.z SET t = 'y'", "DROP TABLE shop.extra")
	j = r.checksum(map[string]string{job.ArgServer: one.String()})
	doc = r.found()
	if got := said(doc.Differs); j.State != job.Finished || !slices.Equal(got, want[:1]) || !slices.Equal(doc.Replicas, []job.Server{one}) {
		t.Errorf("%s (%s): %q", j.State, j.Reason, got)
	}
	r.sql(2, "SET sql_log_bin = 0", "CREATE TABLE shop.empty (i INT)")
	j = r.checksum(map[string]string{job.ArgServer: r.cluster.Servers[0].String()})
	if doc = r.found(); j.State != job.Finished || len(doc.Differs) != 0 {
		t.Errorf("%s (%s): %+v", j.State, j.Reason, doc)
	}
	stop()
	r.caughtUp(servers)
	r.leftNothing()
}

// leftNothing looks for what a comparison must not leave.
func (r *rig) leftNothing() {
	r.t.Helper()
	id := r.value(0, "SELECT @@server_id")
	for i := range r.dbs {
		if n := r.value(i, "SELECT COUNT(*) FROM information_schema.INNODB_TRX"); n != "0" {
			r.t.Errorf("%s transactions are open on server %d", n, i)
		}
		if pos := r.value(i, "SELECT @@gtid_binlog_pos"); !strings.Contains(pos, "-"+id+"-") || strings.Contains(pos, ",") {
			r.t.Errorf("server %d has written to its binary log itself: %s", i, pos)
		}
		if i == 0 {
			continue
		}
		rows, err := records(bustest.Context(r.t), r.dbs[i], "SHOW ALL SLAVES STATUS")
		if err != nil || len(rows) != 1 || rows[0]["Slave_SQL_Running"].String != "Yes" {
			r.t.Errorf("replication of server %d: %v, %v", i, rows, err)
		}
	}
}

// The whole design rests on this: CHECKSUM TABLE reads what the transaction it runs in sees.
func TestAChecksumIsThatOfItsSnapshot(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	r.sql(0, shop, "CREATE TABLE shop.a (i INT PRIMARY KEY)", "INSERT INTO shop.a SELECT seq FROM shop.seq_1_to_1000")
	s, err := openSide(bustest.Context(t), r.cluster, r.cluster.Servers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.session.close()
	a := table{"shop", "a"}
	sum := func() string {
		t.Helper()
		v, err := s.sum(bustest.Context(t), a, 0)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := sum()
	if absent, err := s.snapshot(bustest.Context(t), a); absent || err != nil {
		t.Fatal(absent, err)
	}
	r.sql(0, "DELETE FROM shop.a WHERE i > 500")
	if in := sum(); in != before {
		t.Errorf("%s in the snapshot, %s before", in, before)
	}
	e := r.sql(0, "SET lock_wait_timeout = 1")
	if _, err := e.ExecContext(bustest.Context(t), "ALTER TABLE shop.a ADD j INT"); !isNumber(err, erLockWait) {
		t.Errorf("the table's form can be changed under the snapshot: %v", err)
	}
	if err := s.session.exec(bustest.Context(t), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if after := sum(); after == before {
		t.Error("the deletion is not seen after the snapshot either")
	}
	if n, err := strconv.ParseUint(before, 10, 64); err != nil || n == 0 {
		t.Errorf("checksum %q", before)
	}
}

func TestWhatCannotBeComparedIsNamedAndEverythingElseCompared(t *testing.T) {
	t.Parallel()
	r, servers := familyRig(t, 2, nil, "CREATE TABLE shop.a (i INT PRIMARY KEY)", "INSERT INTO shop.a VALUES (1)", "CREATE TABLE shop.b (i INT)",
		"CREATE TABLE shop.c (i INT)")
	lock := r.sql(0, "BEGIN", "INSERT INTO shop.a VALUES (2)") // whoever writes keeps the lock away
	r.start("scheduler@a")
	j := r.checksum(nil)
	if want := "1 tables or replicas could not be compared: shop.a: not compared: locked by others"; j.State != job.Halted || !strings.HasPrefix(j.Reason, want) {
		t.Errorf("%s (%s)\n%s", j.State, j.Reason, r.logged(j))
	}
	if !strings.HasPrefix(j.Evidence.Result, "2 tables of ") {
		t.Errorf("%+v", j.Evidence)
	}
	if _, err := lock.ExecContext(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	r.caughtUp(servers)

	// A replica somebody holds up; and one whose thread stands.
	two := r.cluster.Servers[2]
	r.sql(2, "STOP SLAVE SQL_THREAD")
	held := r.sql(1, "LOCK TABLES shop.b WRITE")
	j = r.checksum(nil)
	if want := "1 tables or replicas could not be compared: shop.b: not compared: " + r.cluster.Servers[1].String() + ": locked by others"; j.State != job.Halted || !strings.HasPrefix(j.Reason, want) {
		t.Errorf("%s (%s)\n%s", j.State, j.Reason, r.logged(j))
	}
	doc := r.found()
	if got := said(doc.Left); len(got) != 1 || !strings.HasPrefix(got[0], two.String()+": left out: the SQL thread does not run") {
		t.Errorf("left out: %q", got)
	}
	if doc.Tables != 2 || len(doc.Undone) != 1 || len(doc.Differs) != 0 {
		t.Errorf("%+v", doc)
	}
	if _, err := held.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	r.sql(2, "START SLAVE")
	r.leftNothing()
}

func TestFilteredTablesAndOtherDefinitionsAreNoDifferences(t *testing.T) {
	t.Parallel()
	servers := mariadbdtest.Family(t, 1, mariadbd.Options{Password: password, Extra: []string{"replicate-wild-ignore-table=shop.tmp%", "slave-type-conversions=ALL_NON_LOSSY"}})
	r := newRig(t, servers...)
	r.sql(0, shop, "CREATE TABLE shop.a (i INT PRIMARY KEY)", "INSERT INTO shop.a VALUES (1)", "CREATE TABLE shop.tmp_x (i INT)",
		"CREATE TABLE shop.b (i INT PRIMARY KEY)", "INSERT INTO shop.b VALUES (1)")
	r.caughtUp(servers)
	r.sql(1, "SET sql_log_bin = 0", "ALTER TABLE shop.b MODIFY i BIGINT")
	r.start("scheduler@a")
	j := r.checksum(nil)
	doc := r.found()
	if j.State != job.Finished || len(doc.Differs) != 0 || doc.Tables != 2 {
		t.Fatalf("%s (%s): %+v\n%s", j.State, j.Reason, doc, r.logged(j))
	}
	replica := r.cluster.Servers[1].String()
	if got := said(doc.Left); !slices.Equal(got, []string{"shop.tmp_x on " + replica + ": left out: a replication filter keeps it away"}) {
		t.Errorf("left out: %q", got)
	}
	if got := said(doc.Unlike); len(got) != 1 || !strings.HasPrefix(got[0], "shop.b on "+replica+": its columns or row format are others there") {
		t.Errorf("not to be told: %q", got)
	}
}

func TestAReplicaThatLagsHoldsNoLockAndIsLeftOutInTheEnd(t *testing.T) {
	t.Parallel()
	r, _ := familyRig(t, 2, nil, "CREATE TABLE shop.a (i INT PRIMARY KEY)", "CREATE TABLE shop.b (i INT)", "CREATE TABLE shop.c (i INT)", "CREATE TABLE shop.d (i INT)")
	r.sql(2, "STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=3600", "START SLAVE")
	r.sql(0, "INSERT INTO shop.a VALUES (7)")
	r.start("scheduler@a")
	began := time.Now()
	j := r.ask("checksum", job.Server{}, nil)
	r.await(j, "at work", func(j job.Job) bool { return j.State == job.Processing })
	for n, slowest := 0, time.Duration(0); time.Since(began) < catchUpFor; n++ {
		now := time.Now()
		r.sql(0, "UPDATE shop.a SET i = i + 1")
		if slowest = max(slowest, time.Since(now)); slowest > lockedFor+3*time.Second {
			t.Fatalf("a write took %s", slowest)
		}
		pause(t.Context(), 100*time.Millisecond)
	}
	j = r.awaitIn(j, 2*time.Minute, "ended", func(j job.Job) bool { return !j.State.Live() || j.State == job.Finished })
	doc := r.found()
	if want := "1 tables or replicas could not be compared: " + r.cluster.Servers[2].String() + ": left out from here on: the replica did not catch up"; j.State != job.Halted || !strings.HasPrefix(j.Reason, want) {
		t.Errorf("%s (%s)\n%s", j.State, j.Reason, r.logged(j))
	}
	if doc.Tables != 4 || len(doc.Replicas) != 1 || !doc.Complete {
		t.Errorf("%+v", doc)
	}
}

func TestACanceledOrStoppedComparisonLeavesNoLockAndNoStatement(t *testing.T) {
	t.Parallel()
	r, _ := familyRig(t, 1, nil, "CREATE TABLE shop.a (i INT PRIMARY KEY, t TEXT)", "INSERT INTO shop.a SELECT seq, REPEAT('x', 200) FROM shop.seq_1_to_400000")
	busy := "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CHECKSUM%' OR INFO LIKE 'LOCK%'"
	stop := r.start("scheduler@a")
	for _, end := range []string{"cancel", "stop"} {
		j := r.ask("checksum", job.Server{}, nil)
		bustest.Until(t, 20*time.Second, "the sum is taken", func() bool { return r.value(0, busy) != "0" || r.value(1, busy) != "0" })
		if end == "cancel" {
			r.apply(j, job.Cancel)
		} else {
			stop()
			if j = r.last(j); j.State != job.Halted || j.Reason != "drydock was stopped while it worked" {
				t.Errorf("%s (%s)", j.State, j.Reason)
			}
		}
		for i := range r.dbs {
			bustest.Until(t, 10*time.Second, "nothing runs after "+end, func() bool { return r.value(i, busy) == "0" })
		}
		r.sql(0, "UPDATE shop.a SET t = 'y' WHERE i = 1")
	}
}

func TestAReplicaThatHangsIsLeftOut(t *testing.T) {
	t.Parallel()
	r, servers := familyRig(t, 2, nil, "CREATE TABLE shop.a (i INT PRIMARY KEY, t TEXT)", "INSERT INTO shop.a SELECT seq, REPEAT('x', 200) FROM shop.seq_1_to_400000")
	r.cluster.Lease = 3e9
	r.start("scheduler@a")
	j := r.ask("checksum", job.Server{}, nil)
	bustest.Until(t, 20*time.Second, "the sum is taken", func() bool {
		return r.value(2, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CHECKSUM%'") != "0"
	})
	if err := syscall.Kill(servers[2].PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(servers[2].PID(), syscall.SIGCONT) }()
	j = r.awaitIn(j, 2*time.Minute, "ended", func(j job.Job) bool { return !j.State.Live() || j.State == job.Finished })
	if j.State != job.Halted || !strings.Contains(j.Reason, r.cluster.Servers[2].String()+": left out from here on: the server has not answered for scheduler-jobs-lease") {
		t.Errorf("%s (%s)\n%s", j.State, j.Reason, r.logged(j))
	}
	if doc := r.found(); doc.Tables != 1 || len(doc.Replicas) != 1 || !doc.Complete {
		t.Errorf("%+v", doc)
	}
}

// A statement that changes the table's form has everybody else waiting behind it.
func TestAComparisonGivesWayToWhoWaitsForTheTable(t *testing.T) {
	t.Parallel()
	r, _ := familyRig(t, 1, nil, "CREATE TABLE shop.a (i INT PRIMARY KEY)")
	s, err := openSide(bustest.Context(t), r.cluster, r.cluster.Servers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.session.close()
	a := table{"shop", "a"}
	if _, err := s.snapshot(bustest.Context(t), a); err != nil {
		t.Fatal(err)
	}
	if s.crowded(bustest.Context(t), a, time.Second) {
		t.Error("nobody waits yet")
	}
	conn := r.sql(0)
	altered := make(chan error, 1) // one send
	go func() {
		_, err := conn.ExecContext(bustest.Context(t), "ALTER TABLE shop.a ADD j INT")
		altered <- err
	}()
	slept := make(chan error, 1) // one send
	go func() {
		_, err := s.session.conn.ExecContext(bustest.Context(t), "DO SLEEP(60)") // in place of a long sum
		slept <- err
	}()
	c := &comparison{work: &work{Runner: &Runner{log: bustest.Log(t)}, cluster: r.cluster, lines: attempt.NewLines(bus.NewBatcher(r.conn, bus.StreamLogs), bustest.Log(t), job.Job{})}, primary: s}
	stop := c.giveWay(bustest.Context(t), a, nil)
	defer stop()
	select {
	case <-slept:
	case <-time.After(20 * time.Second):
		t.Fatal("the reading goes on")
	}
	if err := s.session.exec(bustest.Context(t), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-altered; err != nil {
		t.Error(err)
	}
}

func TestAComparisonWaitsForTheHeavyJobsOfAllServersAndTheyForIt(t *testing.T) {
	t.Parallel()
	r, _ := familyRig(t, 1, nil, "CREATE TABLE shop.a (i INT PRIMARY KEY)")
	backup := r.queue(1, "mariabackup", job.API)
	r.apply(backup, job.Offer, job.Claim, job.Start)
	r.start("scheduler@a")
	j := r.ask("checksum", job.Server{}, nil)
	r.await(j, "held", func(j job.Job) bool { return j.Held() && strings.Contains(j.Reason, "mariabackup "+backup.ID) })
	r.apply(r.do(0, "analyze"), job.Note) // what waits for another server holds nobody up
	lock := r.sql(0, "LOCK TABLES shop.a WRITE")
	r.cluster.LockTimeout = time.Minute
	r.apply(backup, job.Error)
	r.await(j, "at work", func(j job.Job) bool { return j.State == job.Processing })
	live, err := r.jobs.LiveHeavy(bustest.Context(t), "lab", r.cluster.Servers[1])
	if first, busy := job.NextHeavy(live); err != nil || !busy || first.ID != j.ID {
		t.Errorf("the replica is free for %+v, %v", first, err)
	}
	if _, err := lock.ExecContext(bustest.Context(t), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	r.awaitState(j, job.Finished)
}
