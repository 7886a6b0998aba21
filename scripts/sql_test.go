package scripts

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"drydock/internal/mariadbd"
)

// The table as maintenance.txt 6.1.2.1 has it.
const jobsTable = `CREATE TABLE replication_manager_schema.jobs (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, task VARCHAR(20), port INT, server VARCHAR(255),
  done TINYINT NOT NULL DEFAULT 0, state TINYINT NOT NULL DEFAULT 0, result MEDIUMTEXT, payload MEDIUMTEXT,
  start DATETIME, end DATETIME, KEY idx1 (task, done), KEY idx2 (result(1), task), KEY idx3 (task, state), UNIQUE (task)
) ENGINE=InnoDB`

// sqlRun is a client in sql mode on a real server that writes a binary log.
type sqlRun struct {
	*client
	server *mariadbd.Server
	db     *sql.DB
}

func newSQLRun(t *testing.T) *sqlRun {
	server := startDB(t, "log-bin=binlog", "sql-mode=STRICT_ALL_TABLES")
	m := newManager(t, oddPassword, server.Port(), true)
	m.set(func() { m.mode = "sql" })
	db, err := server.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r := &sqlRun{client: newClient(t, m), server: server, db: db}
	r.exec("CREATE DATABASE replication_manager_schema")
	r.exec(jobsTable)
	return r
}

func (r *sqlRun) exec(stmt string, args ...any) {
	r.t.Helper()
	if _, err := r.db.ExecContext(context.Background(), stmt, args...); err != nil {
		r.t.Fatalf("%s: %v", stmt, err)
	}
}

// insert offers a job by row; port 0 means that it streams nothing.
func (r *sqlRun) insert(task string, port int, payload any) {
	r.t.Helper()
	r.exec("INSERT INTO replication_manager_schema.jobs (task, port, server, payload) VALUES (?, ?, '127.0.0.1', ?)", task, port, payload)
}

type row struct {
	state, done      int
	result           string
	started, stopped bool
}

func (r *sqlRun) row(task string) (got row) {
	r.t.Helper()
	err := r.db.QueryRow(`SELECT state, done, COALESCE(result, ''), start IS NOT NULL, end IS NOT NULL
		FROM replication_manager_schema.jobs WHERE task = ?`, task).Scan(&got.state, &got.done, &got.result, &got.started, &got.stopped)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// binlogPosition moves with every statement that is not kept out of the binary log.
func (r *sqlRun) binlogPosition() string {
	r.t.Helper()
	var file, position, do, ignore string
	if err := r.db.QueryRow("SHOW MASTER STATUS").Scan(&file, &position, &do, &ignore); err != nil {
		r.t.Fatal(err)
	}
	return file + ":" + position
}

func TestOptimizeRowIsClosedWithItsOutput(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	r.exec("CREATE DATABASE `we\"ird`")
	r.exec("CREATE TABLE `we\"ird`.`täble` (a INT PRIMARY KEY)")
	r.insert("optimize", 0, `{"drydock":1,"job":"01SQL","attempt":4}`)
	before := r.binlogPosition()
	r.mustCycle()
	got := r.row("optimize")
	if got.state != 3 || got.done != 1 || !got.started || !got.stopped ||
		!strings.Contains(got.result, "doing recreate + analyze instead") || !strings.Contains(got.result, `we"ird.täble`) {
		t.Errorf("row %+v", got)
	}
	end := r.m.last("optimize")
	if end.State != "done" || end.Identity.Job != "01SQL" || end.Identity.Attempt != 4 {
		t.Errorf("reported %+v", end)
	}
	if after := r.binlogPosition(); after != before {
		t.Errorf("the binary log went from %s to %s", before, after)
	}
	if n := r.m.countCalls("needs/"); n != 0 {
		t.Errorf("%d needs calls in sql mode", n)
	}
	r.mustCycle()
	if again := r.row("optimize"); again != got {
		t.Errorf("a second cycle changed the row to %+v", again)
	}
}

func TestFailedRowIsHaltedAndNotDone(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	r.fakeTool("mariadb-check", `printf "a.b\nError    : Table 'a.b' doesn't exist\n\xff\xfe it's \\\\ %%s\nstatus   : Operation failed\n"`)
	r.insert("optimize", 0, nil)
	r.mustCycle()
	got := r.row("optimize")
	if got.state != 5 || got.done != 0 || !got.stopped || !strings.Contains(got.result, `it's \ %s`) ||
		!strings.Contains(got.result, "some tables could not be optimized") {
		t.Errorf("row %+v", got)
	}
	if end := r.m.last("optimize"); end.State != "error" || end.Identity.Job != "" {
		t.Errorf("reported %+v", end)
	}
}

func TestLongResultKeepsItsEnd(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	r.m.set(func() { r.m.level = "ERROR" }) // the 20000 lines themselves are not the point
	r.fakeTool("mariadb-check", `for i in {1..20000}; do echo "a.t$i OK"; done`)
	r.insert("optimize", 0, nil)
	r.mustCycle()
	got := r.row("optimize")
	if got.state != 3 || len(got.result) < 60000 || len(got.result) > 65536 || !strings.Contains(got.result, "a.t20000 OK") {
		t.Errorf("state %d, %d bytes", got.state, len(got.result))
	}
}

func TestRowWithAReceiverIsStreamedThere(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	port := view(r.m, func() int { return r.m.receive("mariabackup") })
	r.insert("mariabackup", port, nil)
	r.mustCycle()
	if got := r.row("mariabackup"); got.state != 3 || got.done != 1 || !strings.Contains(got.result, "completed OK!") {
		t.Errorf("row %+v", got)
	}
	unpack(t, r.m.stream("mariabackup"))
}

func TestRowsAreServedWhileTheManagerIsAway(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	r.mustCycle()
	r.m.server.Close()
	r.fakeTool("mariadb-check", "echo fine")
	r.insert("optimize", 0, `{"drydock":1,"job":"01SQL","attempt":1}`)
	if code := r.cycle(); code != 1 {
		t.Errorf("status %d, want 1: the manager is out of reach", code)
	}
	if got := r.row("optimize"); got.state != 3 || got.done != 1 {
		t.Errorf("row %+v", got)
	}
}

func TestRowTakenBySomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	r.insert("optimize", 0, nil)
	r.exec("UPDATE replication_manager_schema.jobs SET state=1, result='processing'")
	got := library(t, oddPassword, `WORK=$1 DB_PORT=$2 DB_USER=drydock; row_claim 1 && echo mine || echo theirs; OUT=/dev/null; row_end 7 done && echo closed`,
		t.TempDir(), fmt.Sprint(r.server.Port()))
	if got != "theirs\nclosed\n" {
		t.Errorf("got %q", got)
	}
	if got := r.row("optimize"); got.state != 1 || got.result != "processing" {
		t.Errorf("row %+v", got)
	}
}

func TestCanceledRowIsNotOverwritten(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	release := blockingTool(t, r.client)
	r.insert("optimize", 0, `{"drydock":1,"job":"01SQL","attempt":1}`)
	_, wait := r.start("--once")
	eventually(t, r.m, "optimize runs", func() bool { return r.process("mariadb-check") != 0 })
	r.exec("UPDATE replication_manager_schema.jobs SET state=5, result='halted by drydock'")
	writeFile(t, release, "")
	wait()
	if got := r.row("optimize"); got.state != 5 || got.done != 0 || got.result != "halted by drydock" {
		t.Errorf("row %+v", got)
	}
}

func TestTableErrorOfTheRealCheckIsAnError(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	r.exec("CREATE DATABASE broken")
	r.exec("CREATE VIEW broken.v AS SELECT 1")
	r.exec("CREATE TABLE broken.t (a INT) ENGINE=MyISAM")
	r.exec("INSERT INTO broken.t VALUES (1)")
	r.exec("FLUSH TABLES")
	writeFile(t, r.server.DataDir()+"/broken/t.MYI", "this is no index file")
	r.insert("optimize", 0, nil)
	r.mustCycle()
	if got := r.row("optimize"); got.state != 5 {
		t.Errorf("row %+v", got)
	}
}

// Another manager does not know drydock's routes: it is asked what the protocol has.
func TestAnotherManagerInSQLMode(t *testing.T) {
	t.Parallel()
	r := newSQLRun(t)
	r.m.set(func() { r.m.foreign = true })
	r.fakeTool("mariadb-check", "echo fine")
	r.insert("optimize", 0, nil)
	r.mustCycle()
	if got := r.row("optimize"); got.state != 3 {
		t.Errorf("row %+v", got)
	}
	if !slices.Contains(r.m.logLines(), "INFO fine") || r.m.countCalls("jobs-log-level/optimize/INFO") != 1 {
		t.Errorf("calls %v", r.m.seen())
	}
	if n := r.m.countCalls("needs/optimize"); n != 0 {
		t.Errorf("%d needs calls", n)
	}
}

func TestAnotherManagerInAPIMode(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	r.m.set(func() { r.m.foreign = true })
	appendFile(t, r.path, "one\n")
	run := func(want string) {
		t.Helper()
		r.m.set(func() {
			r.m.jobs = []*managerJob{{task: "errorlog"}}
			delete(r.m.streams, "errorlog")
		})
		r.mustCycle()
		if end := r.m.last("errorlog"); end.State != "done" || end.Identity.Job != "" {
			t.Errorf("%+v", end)
		}
		r.want(r.m.stream("errorlog"), want)
	}
	run("one\n")
	run("")
	appendFile(t, r.path, "two\n")
	run("two\n")
	if n := r.m.countCalls("actions/heartbeat") + r.m.countCalls("actions/job-result"); n > 0 {
		t.Errorf("%d calls that manager cannot know", n)
	}
}
