package e2e

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/app"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// awaitArchived waits until drydock has archived the primary's binary log up to its last transaction, and returns that.
func (r *reseedSite) awaitArchived() (gtid string) {
	r.t.Helper()
	want := r.read(r.primary, "SELECT @@gtid_binlog_pos")
	list := store.NewBinlogs(r.bus())
	bustest.Until(r.t, time.Minute, "all is archived", func() bool {
		segments, err := list.List(bustest.Context(r.t), "lab")
		if err != nil {
			return false
		}
		for _, s := range segments {
			if s.After == want {
				return true
			}
		}
		return false
	})
	return want
}

// refusedPoint asks for what must be refused before anything is touched.
func (r *reseedSite) refusedPoint(name, want string, args ...string) {
	r.t.Helper()
	if out, err := r.cli(append([]string{"restore"}, args...)...); err == nil || !strings.Contains(out, want) {
		r.t.Errorf("%s: %v\n%s", name, err, out)
	}
}

// awaitPlan waits until drydock knows enough of the servers to say that nothing stands against a restore.
func (r *reseedSite) awaitPlan(args ...string) (p app.RestorePlan) {
	r.t.Helper()
	bustest.Until(r.t, time.Minute, "nothing stands against it", func() bool {
		out, err := r.cli(append(append([]string{"restore", "plan"}, args...), "-o", "json")...)
		return err == nil && json.Unmarshal([]byte(out), &p) == nil
	})
	return p
}

// pointJob is the slot of the job that makes the backup of a point.
func (r *reseedSite) pointJob() job.Key { return r.key("pointrestore") }

// Somebody drops a table on the primary. A server must come back with all that was written before and not the drop; while that is
// being prepared, killed or refused, it must not be touched; and what the archive does not lead to must be said, and called out.
func TestAServerIsTakenToTheLastTransactionBeforeAMistake(t *testing.T) {
	t.Parallel()
	r := newReseedSite(t, options{mode: "api", keys: `compress-backups = "zstd"` + "\n" + `backup-binlogs = true`})
	early := r.read(r.primary, "SELECT @@gtid_binlog_pos")
	r.exec(r.primary, "CREATE DATABASE life", "CREATE TABLE life.t (id INT PRIMARY KEY)", "INSERT INTO life.t VALUES (1)")
	backup := r.backup(r.onPrimary)
	r.exec(r.primary, "INSERT INTO life.t VALUES (2), (3)", "CREATE TABLE life.late (t TEXT)", "INSERT INTO life.late VALUES ('before')",
		"CREATE EVENT life.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO life.late VALUES ('by the event')")
	point := r.read(r.primary, "SELECT @@gtid_binlog_pos")
	r.exec(r.primary, "DROP TABLE life.t", "INSERT INTO life.late VALUES ('after')")
	r.awaitArchived()
	to := func(point string, more ...string) []string {
		return append([]string{backup, "--to-server", r.replica.Addr(), "--to", point}, more...)
	}
	p := r.awaitPlan(to(point)...)
	if p.Point == nil || p.Point.To != point || p.Point.Segments == 0 {
		t.Errorf("the plan says %+v", p.Point)
	}

	pid := r.replica.PID()
	confirm := []string{"--confirm", r.replica.Addr()}
	r.refusedPoint("without a confirmation", "confirm with", append([]string{"apply"}, to(point)...)...)
	r.refusedPoint("beyond the archive", "does not reach", append([]string{"apply"}, to("0-1-999999", confirm...)...)...)
	r.refusedPoint("after the archive", "does not reach", append([]string{"apply"}, to("2099-01-01T00:00:00Z", confirm...)...)...)
	r.refusedPoint("before the backup", "choose an older one", append([]string{"apply"}, to(early, confirm...)...)...)
	r.refusedPoint("a server that others replicate from", "replica", "apply", backup, "--to-server", r.primary.Addr(), "--to", point, "--confirm", r.primary.Addr())
	if out, err := r.cli("run", "lab", "pointrestore", "--server", r.replica.Addr()); err == nil || !strings.Contains(out, "replaces data") {
		t.Errorf("as a mere task: %v\n%s", err, out)
	}

	r.killWhileThePointIsMade(append([]string{"restore", "apply"}, to(point)...))
	r.loseLogs(backup) // and what lies before them can be had all the same
	if err := syscall.Kill(pid, 0); err != nil || r.read(r.replica, "SELECT GROUP_CONCAT(t) FROM life.late WHERE t='after'") != "after" {
		t.Errorf("the server was touched: %v", err)
	}

	said := r.restoreToPoint(append([]string{"restore", "apply", "--wait"}, to(point, confirm...)...), point)
	for query, want := range map[string]string{
		"SELECT COUNT(*) FROM life.t": "3", "SELECT GROUP_CONCAT(t) FROM life.late": "before", "SELECT @@gtid_slave_pos": point,
		"SELECT COUNT(*) FROM mysql.user WHERE user LIKE 'drydock-%'":                     "0",
		"SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Slave%'": "0",
		"SELECT COUNT(*) FROM information_schema.events WHERE event_schema='life'":        "1",
	} {
		if got := r.read(r.replica, query); got != want {
			t.Errorf("%s: %s, not %s", query, got, want)
		}
	}
	if !strings.Contains(said, "pointrestore") || !strings.Contains(said, "flashbackmariabackup") {
		t.Errorf("--wait says:\n%s", said)
	}
	r.checkNothingLeft()
	r.checkNoSecret(r.onReplica)
	r.stop(syscall.SIGTERM)
	r.start() // gaps are looked for at the start, and then once a minute
	r.awaitAlert("DOCK0211", true)
}

// killWhileThePointIsMade orders a restore, and kills drydock in the middle of it: nothing is ordered on the server, and nothing in
// clear is left.
func (r *reseedSite) killWhileThePointIsMade(order []string) {
	r.t.Helper()
	id := r.reseed(order...)
	r.awaitKey(r.pointJob(), "at work in a private server", func(j job.Job) bool {
		return j.ID == id && j.State == job.Processing && strings.Contains(j.Reason, "private server")
	})
	r.killAndStart()
	j := r.awaitKey(r.pointJob(), "ended", func(j job.Job) bool { return j.ID == id && !j.State.Live() })
	if j.State != job.Halted || !strings.Contains(j.Reason, "restart") {
		r.t.Errorf("it is %s: %s", j.State, j.Reason)
	}
	bustest.Until(r.t, time.Minute, "the data in clear are gone", func() bool {
		return len(r.glob("drills", "*", "drill-*")) == 0
	})
	if out := r.mustCLI("jobs", "-o", "json"); strings.Contains(out, "flashbackmariabackup") {
		r.t.Errorf("a flashback was asked for:\n%s", out)
	}
}

// restoreToPoint orders a restore with --wait, and lets the script of the replica do its part of it.
func (r *reseedSite) restoreToPoint(order []string, point string) (said string) {
	r.t.Helper()
	r.awaitPlan(order[3], "--to-server", r.replica.Addr(), "--to", point)
	type answer struct {
		out string
		err error
	}
	waited := make(chan answer, 1) // one send
	go func() {
		out, err := r.cli(order...)
		waited <- answer{out, err}
	}()
	j := r.awaitKey(r.pointJob(), "a success", func(j job.Job) bool { return j.State == job.Success })
	flash := r.key("flashbackmariabackup")
	made := r.awaitKey(flash, "asked for", func(j job.Job) bool { return j.Args[job.ArgBackup] != "" })
	made = r.cycleUntilEnded(r.onReplica, made.ID, flash.Task)
	if made.State != job.Success || !strings.Contains(j.Evidence.Result, point) {
		r.t.Fatalf("%s is %s (%s); before it: %s", made.Task, made.State, made.Reason, j.Evidence.Result)
	}
	r.besides(r.pathOf(made.Args[job.ArgBackup]))
	if m := r.mustCLI("backups", "verify", made.Args[job.ArgBackup]); !strings.Contains(m, "OK") {
		r.t.Errorf("the backup of the point: %s", m)
	}
	a := <-waited
	if a.err != nil {
		r.t.Errorf("--wait: %v\n%s", a.err, a.out)
	}
	return a.out
}

// loseLogs purges binary logs while drydock is down: a point behind the gap is refused.
func (r *reseedSite) loseLogs(backup string) {
	r.t.Helper()
	if r.isOpen("DOCK0211") {
		r.t.Error("a gap is called out where none is")
	}
	r.stop(syscall.SIGTERM)
	r.exec(r.primary, "INSERT INTO life.late VALUES ('lost')", "FLUSH BINARY LOGS", "INSERT INTO life.late VALUES ('behind the gap')")
	bustest.Until(r.t, time.Minute, "the log is purged", func() bool {
		list := r.logs()
		r.exec(r.primary, "PURGE BINARY LOGS TO '"+list[len(list)-1]+"'")
		return len(list) == 1
	})
	r.start()
	behind := r.awaitArchived()
	bustest.Until(r.t, time.Minute, "the gap is the reason", func() bool {
		out, err := r.cli("restore", "plan", backup, "--to-server", r.replica.Addr(), "--to", behind)
		return err != nil && strings.Contains(out, "does not reach") && strings.Contains(out, "gap")
	})
}

// logs are the names of the primary's binary logs, oldest first.
func (r *reseedSite) logs() (names []string) {
	r.t.Helper()
	db, err := r.primary.DB()
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(r.t.Context(), "SHOW BINARY LOGS")
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var size int64
		if err := rows.Scan(&name, &size); err != nil {
			r.t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}
