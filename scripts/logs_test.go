package scripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/internal/freeport"
)

func TestErrorLogArrivesWhileTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	m := newManager(t, oddPassword, db.Port(), false)
	c := newClient(t, m)
	c.mustCycle() // learns the paths
	if err := db.Kill(); err != nil {
		t.Fatal(err)
	}
	appendFile(t, db.ErrorLog(), "[ERROR] mysqld got signal 11 \x1b[1m \xff\xfe ;\n")
	m.offer("errorlog", "E1", 1)
	c.mustCycle()
	want, err := os.ReadFile(db.ErrorLog())
	if err != nil {
		t.Fatal(err)
	}
	if end := m.last("errorlog"); end.State != "done" || m.stream("errorlog") != string(want) {
		t.Errorf("ended as %+v, %d bytes of %d", end, len(m.stream("errorlog")), len(want))
	}
}

func TestEveryLogTaskFindsItsFile(t *testing.T) {
	t.Parallel()
	db := startDB(t, "plugin-load-add=server_audit", "plugin-load-add=sql_errlog", "plugin-maturity=unknown",
		"server_audit_logging=1", "server_audit_file_path=audit here.log", "slow_query_log_file=slow.log")
	m := newManager(t, oddPassword, db.Port(), false)
	c := newClient(t, m)
	files := map[string]string{
		"errorlog": db.ErrorLog(), "slowquery": filepath.Join(db.DataDir(), "slow.log"),
		"auditlog": filepath.Join(db.DataDir(), "audit here.log"), "sqlerrorlog": filepath.Join(db.DataDir(), "sql_errors.log"),
	}
	for task := range files {
		m.offer(task, "J-"+task, 1)
	}
	c.mustCycle()
	for task, path := range files {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The audit log grows while it is read; what came must be its beginning.
		got := m.stream(task)
		if end := m.last(task); end.State != "done" || !strings.HasPrefix(string(want), got) || (len(want) > 0 && got == "") {
			t.Errorf("%s ended as %s (%s), %d bytes of %d", task, end.State, end.Identity.Result, len(got), len(want))
		}
	}
}

// logRun is a client whose error log is a file of the test, and the number of jobs so far.
type logRun struct {
	*client
	path string
	jobs int
}

func newLogRun(t *testing.T) *logRun {
	m := newManager(t, oddPassword, freeport.Pick(t), false) // no database there
	c := newClient(t, m)
	r := &logRun{client: c, path: filepath.Join(t.TempDir(), "error.log")}
	knowVariables(t, c, map[string]string{"log_error": r.path})
	return r
}

// collect runs one errorlog job with the given end and returns what was streamed. An empty state leaves the job unknown.
func (r *logRun) collect(result string) string {
	r.t.Helper()
	r.jobs++
	id := fmt.Sprintf("LOG-%d", r.jobs)
	r.m.offer("errorlog", id, 1)
	r.m.set(func() { delete(r.m.streams, "errorlog") })
	r.mustCycle()
	if end := r.m.last("errorlog"); end.State != "done" || end.Identity.Job != id {
		r.t.Fatalf("job %s: %+v", id, end)
	}
	if result != "" {
		r.m.set(func() { r.m.results[id] = result })
	}
	return r.m.stream("errorlog")
}

func (r *logRun) want(got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("streamed %q, want %q", got, want)
	}
}

func TestLogIsSentOnceThroughRotationAndTruncation(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "2026-01-01 one\n")
	r.want(r.collect("success"), "2026-01-01 one\n")
	r.want(r.collect("success"), "") // nothing new: connected, zero bytes
	appendFile(t, r.path, "two\n")
	r.want(r.collect("success"), "two\n")

	appendFile(t, r.path, "three, before the rotation\n")
	rename(t, r.path, r.path+".1")
	appendFile(t, r.path, "2026-01-02 four\n")
	r.want(r.collect("success"), "three, before the rotation\n2026-01-02 four\n")

	// Two rotations between two jobs: the file between is sent whole.
	appendFile(t, r.path, "five\n")
	rename(t, r.path+".1", r.path+".3")
	lastYear := time.Now().AddDate(-1, 0, 0)
	if err := os.Chtimes(r.path+".3", lastYear, lastYear); err != nil {
		t.Fatal(err)
	}
	rename(t, r.path, r.path+".2")
	appendFile(t, r.path, "2026-01-03 six\n")
	rename(t, r.path, r.path+".1")
	appendFile(t, r.path, "2026-01-04 seven\n")
	r.want(r.collect("success"), "five\n2026-01-03 six\n2026-01-04 seven\n")

	// copytruncate: the rest of the copy, then the file from its beginning, although it has grown past the old offset.
	appendFile(t, r.path, "eight\n")
	text, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{".1", ".2"} {
		if err := os.Chtimes(r.path+old, lastYear, lastYear); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, r.path+"-20260105", string(text))
	if err := os.Truncate(r.path, 0); err != nil {
		t.Fatal(err)
	}
	appendFile(t, r.path, "2026-01-05 nine, and long enough\n")
	r.want(r.collect("success"), "eight\n2026-01-05 nine, and long enough\n")

	if err := os.Truncate(r.path, 0); err != nil {
		t.Fatal(err)
	}
	appendFile(t, r.path, "ten\n")
	r.want(r.collect("success"), "ten\n")
	if got, _ := os.ReadFile(r.path); string(got) != "ten\n" {
		t.Errorf("the log itself became %q", got)
	}
}

// Two rotations within the clock's resolution: the file between is as old as the one before it, whichever name sorts first.
func TestRotatedFilesOfOneMomentAreAllSent(t *testing.T) {
	t.Parallel()
	for _, suffixes := range [][2]string{{".1", ".2"}, {".2", ".1"}} {
		r := newLogRun(t)
		appendFile(t, r.path, "2026-01-01 one\n")
		r.want(r.collect("success"), "2026-01-01 one\n")
		appendFile(t, r.path, "two\n")
		rename(t, r.path, r.path+suffixes[0])
		appendFile(t, r.path, "2026-01-02 three\n")
		rename(t, r.path, r.path+suffixes[1])
		appendFile(t, r.path, "2026-01-03 four\n")
		moment := time.Unix(1767225600, 0)
		for _, s := range suffixes {
			if err := os.Chtimes(r.path+s, moment, moment); err != nil {
				t.Fatal(err)
			}
		}
		r.want(r.collect("success"), "two\n2026-01-02 three\n2026-01-03 four\n")
	}
}

func TestTruncationWithTheSameBeginningStartsOver(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	head := strings.Repeat("the same header line of every log\n", 20)
	appendFile(t, r.path, head+"one\n")
	r.want(r.collect("success"), head+"one\n")
	writeFile(t, r.path, head)
	r.want(r.collect("success"), head)
}

func TestLogBytesAreSentAgainUntilTheManagerHasThem(t *testing.T) {
	t.Parallel()
	for _, fate := range []string{"failed", "halted", "expired", ""} {
		r := newLogRun(t)
		appendFile(t, r.path, "one\n")
		r.want(r.collect(fate), "one\n")
		r.want(r.collect("success"), "one\n")
		r.want(r.collect("success"), "")
	}
}

func TestNewLogJobWaitsForTheFateOfTheLast(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	r.want(r.collect("finished"), "one\n") // drydock still checks what it received
	r.m.offer("errorlog", "LOG-X", 1)
	r.mustCycle()
	if n := r.m.countCalls("needs/errorlog"); n != 1 {
		t.Errorf("claimed %d times, want once", n)
	}
	r.m.set(func() { r.m.results["LOG-1"] = "success" })
	r.mustCycle()
	if end := r.m.last("errorlog"); end.Identity.Job != "LOG-X" || end.State != "done" {
		t.Errorf("%+v", end)
	}
	r.want(r.m.stream("errorlog"), "")
}

// A second attempt of the same job must not wait for its own first one.
func TestSecondAttemptOfALogJobSendsAgain(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	r.want(r.collect("available"), "one\n")
	r.m.offer("errorlog", "LOG-1", 2)
	r.mustCycle()
	if end := r.m.last("errorlog"); end.Identity.Attempt != 2 || end.State != "done" {
		t.Errorf("%+v", end)
	}
	r.want(r.m.stream("errorlog"), "one\n")
}

// The end of a job that was killed behind its back is told by the next cycle. How far it had sent must be known by then: a storm had
// a piece of the error log collected twice.
func TestKilledWithItsEndRememberedALogJobSendsNothingTwice(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	killed := filepath.Join(t.TempDir(), "killed")
	r.fakeTool("mv", fmt.Sprintf(`/usr/bin/mv "$@" || exit
if [[ "$*" == */jobs/*.end && ! -e %[1]q ]] && grep -q done "${@: -1}"; then # not the end that it has while it works: killed
	touch %[1]q
	kill -9 "$PPID"
fi
`, killed))
	appendFile(t, r.path, "one\n")
	r.m.offer("errorlog", "LOG-K", 1)
	r.cycle() // its status is that of a script with a killed child
	r.want(r.m.stream("errorlog"), "one\n")
	if end := r.m.last("errorlog"); !exists(killed) || end.State == "done" {
		t.Fatalf("not killed before it told its end: %+v", end)
	}
	r.mustCycle()
	if end := r.m.last("errorlog"); end.Identity.Job != "LOG-K" || end.State != "done" {
		t.Fatalf("the next cycle told %+v", end)
	}
	r.m.set(func() { r.m.results["LOG-K"] = "success" })
	r.want(r.collect("success"), "")
}

func TestMissingErrorLogIsAnErrorNotAnEmptySuccess(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	r.m.offer("errorlog", "L", 1)
	r.mustCycle()
	if end := r.m.last("errorlog"); end.State != "error" || !strings.Contains(end.Identity.Result, "does not exist") {
		t.Errorf("%+v", end)
	}
}

func TestReceiverThatIsGoneKeepsTheOffset(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	r.m.set(func() { r.m.closed = map[string]bool{"errorlog": true} })
	r.m.offer("errorlog", "L", 1)
	r.mustCycle()
	if end := r.m.last("errorlog"); end.State != "error" || len(end.Identity.Exit) != 3 || end.Identity.Exit[1] == 0 {
		t.Errorf("%+v", end)
	}
	r.m.set(func() { r.m.closed = nil })
	r.want(r.collect("success"), "one\n")
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
