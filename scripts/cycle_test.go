package scripts

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/internal/freeport"
)

func TestIdleCycleIsOneCall(t *testing.T) {
	t.Parallel()
	for _, overTLS := range []bool{false, true} {
		m := newManager(t, oddPassword, 3306, overTLS)
		c := newClient(t, m)
		knowVariables(t, c, nil)
		c.mustCycle() // logs in
		before := len(m.seen())
		start := time.Now()
		c.mustCycle()
		t.Logf("TLS %v: %v", overTLS, time.Since(start))
		calls := m.seen()[before:]
		if !slices.Equal(calls, []string{"jobs-pending"}) {
			t.Errorf("calls %v", calls)
		}
	}
}

// blockingTool stands in for an optimize that does not end until the returned file appears.
func blockingTool(t *testing.T, c *client) (release string) {
	release = filepath.Join(t.TempDir(), "go")
	c.fakeTool("mariadb-check", fmt.Sprintf("echo blocked; until [[ -e %q ]]; do read -r -t 0.1 <>%q; done; echo 'a.b OK'", release, fifo(t)))
	return release
}

func fifo(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBlockedJobDoesNotBlockTheOthers(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	release := blockingTool(t, r.client)
	r.m.offer("optimize", "SLOW", 1)
	_, wait := r.start("--once")
	eventually(t, r.m, "optimize runs", func() bool { return r.process("mariadb-check") != 0 })

	r.want(r.collect("success"), "one\n") // a second cycle, to its end
	if end := r.m.last("optimize"); end.State != "processing" {
		t.Errorf("the blocked job was reported %q", end.State)
	}
	// The task that runs is left to the process that runs it.
	r.m.offer("optimize", "NEXT", 1)
	r.mustCycle()
	if n := r.m.countCalls("needs/optimize"); n != 1 {
		t.Errorf("optimize was claimed %d times", n)
	}
	writeFile(t, release, "")
	wait()
	if end := r.m.last("optimize"); end.State != "done" || end.Identity.Job != "SLOW" {
		t.Errorf("%+v", end)
	}
}

func TestLoopGoesOnBesideABlockedJobAndEndsOnTerm(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	blockingTool(t, r.client)
	r.m.offer("optimize", "SLOW", 1)
	cmd, wait := r.start("--loop", "1")
	eventually(t, r.m, "optimize runs", func() bool { return r.process("mariadb-check") != 0 })
	r.m.offer("errorlog", "L1", 1)
	eventually(t, r.m, "the log arrives", func() bool { return r.m.last("errorlog").State == "done" })
	_ = cmd.Process.Signal(syscall.SIGTERM)
	wait()
	if end := r.m.last("optimize"); end.State != "error" || !strings.Contains(end.Identity.Result, "interrupted") {
		t.Errorf("%+v", end)
	}
	lingering(t, r.client)
}

func TestKilledScriptGoesOnWithItsLogAndReportsTheJob(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	c.fakeTool("mariadb-check", `for i in {1..7}; do echo "line $i"; done; touch "$HOME/written"; printf 'cut off'; read -r -t 100 <>`+fifo(t))
	m.offer("optimize", "K", 1)
	m.failing(func(path string) int { // only the first batch goes through
		if path == "write-log/optimize" && m.countCalls("write-log") > 1 {
			return 503
		}
		return 0
	})
	_, wait := c.start("--once")
	eventually(t, m, "the second batch fails", func() bool { return m.countCalls("write-log") > 1 && exists(filepath.Join(c.state, "../written")) })
	for pid := range c.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	wait()
	m.set(func() { m.fail = nil })
	// What a kill in other lines leaves: a checkpoint whose end was reported, a file that was being written.
	jobs := filepath.Join(c.folder(), "jobs")
	writeFile(t, filepath.Join(jobs, "GONE.pos"), "12\n")
	writeFile(t, filepath.Join(jobs, "K.pos.new.4194305"), "1") // no process has that number: pid_max is below
	c.mustCycle()
	var got []string
	for _, line := range m.logLines() {
		if !strings.Contains(line, "Job optimize") {
			got = append(got, strings.TrimPrefix(line, "INFO "))
		}
	}
	want := []string{"line 1", "line 2", "line 3", "line 4", "line 5", "line 6", "line 7", "cut off"}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q", got)
	}
	end := m.last("optimize")
	if end.State != "error" || end.Identity.Job != "K" || !strings.Contains(end.Identity.Result, "killed") {
		t.Errorf("%+v", end)
	}
	calls := len(m.seen())
	c.mustCycle()
	if got := m.seen()[calls:]; !slices.Equal(got, []string{"jobs-pending"}) {
		t.Errorf("the cycle after made %v", got)
	}
	nothingKept(t, jobs)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestLogLinesArriveAsWritten(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	c := newClient(t, m)
	c.fakeTool("mariadb-check", `printf 'tab\there\nquote " and \\ and \\n\n\e[31mred\e[0m\nbad \xff\xfe byte\n  spaces  \n\n'; printf '[ERROR] broken\nno line feed'`)
	m.offer("optimize", "O", 1)
	c.mustCycle()
	lines := m.logLines()
	want := []string{
		"INFO tab\there", `INFO quote " and \ and \n`, "INFO \x1b[31mred\x1b[0m", "INFO bad \ufffd\ufffd byte", "INFO   spaces  ", "INFO ",
		"ERROR [ERROR] broken", "INFO no line feed", "INFO Job optimize ended with state: Finished",
	}
	if !slices.Equal(lines[1:], want) {
		t.Errorf("lines %q", lines)
	}
	if end := m.last("optimize"); end.State != "done" || end.Lines != len(lines) {
		t.Errorf("%s was reported after %d of %d lines", end.State, end.Lines, len(lines))
	}
	// Five lines make a call, and within one a change of level makes another.
	if n := m.countCalls("write-log"); n != 4 {
		t.Errorf("%d calls", n)
	}
}

func TestPiledUpLinesGoOutInLargerCalls(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	c := newClient(t, m)
	c.fakeTool("mariadb-check", `for i in {1..1000}; do echo "line $i"; done`)
	m.offer("optimize", "P", 1)
	c.mustCycle()
	lines := m.logLines()
	if len(lines) != 1002 || lines[1] != "INFO line 1" || lines[1000] != "INFO line 1000" {
		t.Errorf("%d lines", len(lines))
	}
	// Five a call would be 200 calls, and the job would end long after its tool.
	if n := m.countCalls("write-log"); n > 30 {
		t.Errorf("%d calls", n)
	}
}

// Control characters take six bytes in JSON, and base64 adds a third: a batch counted as the tool wrote it would pass the
// manager's limit and be lost.
func TestLinesThatGrowInJSONStayBelowTheLimitOfABody(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	m.set(func() { m.limit = 1 << 20 })
	c := newClient(t, m)
	c.fakeTool("mariadb-check", `printf -v line '%032000d' 0; for i in {1..12}; do echo "$i ${line//0/$'\e'}"; done`)
	m.offer("optimize", "G", 1)
	c.mustCycle()
	lines := m.logLines()
	if len(lines) != 14 || lines[12] != "INFO 12 "+strings.Repeat("\x1b", 32000) {
		t.Errorf("%d lines", len(lines))
	}
	if largest := view(m, func() int { return m.largest }); largest > 700_000 || largest < 300_000 {
		t.Errorf("the largest body had %d bytes", largest)
	}
}

func TestBatchThatIsTooLargeForAManagerIsSentLineByLine(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	m.set(func() { m.limit = 2000 })
	c := newClient(t, m)
	c.fakeTool("mariadb-check", `printf -v fill '%0500d' 0; for i in {1..9}; do echo "$i $fill"; done; echo "$fill$fill$fill$fill"; echo last`)
	m.offer("optimize", "B", 1)
	c.mustCycle()
	var got []string
	for _, line := range m.logLines() {
		number, _, _ := strings.Cut(strings.TrimPrefix(line, "INFO "), " 00")
		got = append(got, number)
	}
	want := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "last", "Job optimize ended with state: Finished"}
	if len(got) < 1 || !slices.Equal(got[1:], want) {
		t.Errorf("lines %q", got)
	}
}

func TestCutLineSaysSo(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	c := newClient(t, m)
	c.fakeTool("mariadb-check", `printf '%032768d\n' 1; printf '%032769d\n' 2`)
	m.offer("optimize", "C", 1)
	c.mustCycle()
	lines := m.logLines()
	zeros := strings.Repeat("0", 32767)
	if len(lines) != 4 || lines[1] != "INFO "+zeros+"1" || lines[2] != "INFO "+zeros+"0... [cut]" {
		t.Errorf("%d lines: %.40q", len(lines), lines)
	}
}

func TestSharedLogFolderIsNotCleanedForOthers(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	c := newClient(t, m)
	long := time.Now().Add(-30 * 24 * time.Hour)
	old := func(path, text string) string {
		t.Helper()
		writeFile(t, path, text)
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
		return path
	}
	large := strings.Repeat("theirs\n", 200_000)
	theirs := map[string]string{
		old(filepath.Join(c.logs, "nohup.out"), "theirs"):       "theirs",
		old(filepath.Join(c.logs, "optimize.out"), "theirs"):    "theirs",
		old(filepath.Join(c.logs, "api_calls.log"), large):      large,
		old(filepath.Join(c.logs, "dbjobs", "x.out"), "theirs"): "theirs",
	}
	ours := old(filepath.Join(c.logFolder(), "OLD-JOB.out"), "ours")
	c.fakeTool("mariadb-check", "echo fine")
	m.offer("optimize", "S", 1)
	c.mustCycle()
	for path, want := range theirs {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %v, %d bytes of %d", path, err, len(got), len(want))
		}
	}
	if exists(ours) {
		t.Errorf("%s is still there", ours)
	}
	if link, err := os.Readlink(filepath.Join(c.logFolder(), "optimize.out")); err != nil || link != "S.out" {
		t.Errorf("the link to the newest output: %q, %v", link, err)
	}
}

func TestLinesBelowTheLevelStayHere(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	m.set(func() { m.level = "WARN" })
	c := newClient(t, m)
	c.fakeTool("mariadb-check", `echo "a.b OK"; echo "Warning: slow"; echo "DEBUG: x"`)
	m.offer("optimize", "O", 1)
	c.mustCycle()
	if lines := m.logLines(); !slices.Equal(lines, []string{"WARN Warning: slow"}) {
		t.Errorf("lines %q", lines)
	}
}

func TestFailedCallIsTriedThreeTimesAndNoted(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	m.failing(func(path string) int {
		if path == "jobs-pending" {
			return 502
		}
		return 0
	})
	c := newClient(t, m)
	c.env = append(c.env, "DRYDOCK_TASKS=optimize")
	writeFile(t, filepath.Join(c.folder(), "mode"), "api\n")
	start := time.Now()
	if code := c.cycle(); code != 1 {
		t.Errorf("status %d, want 1", code)
	}
	if took := time.Since(start); took < 4*time.Second {
		t.Errorf("3 tries took only %v", took)
	}
	if n := m.countCalls("jobs-pending"); n != 3 {
		t.Errorf("%d tries", n)
	}
	log := c.apiLog()
	if strings.Count(log, "jobs-pending: status 502, try ") != 3 || strings.Contains(log, "tok.en") {
		t.Errorf("api_calls.log:\n%s", log)
	}
}

func TestTerminalStateIsTriedFiveTimesThenByTheNextCycle(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	c.fakeTool("mariadb-check", "echo fine")
	m.failing(func(path string) int {
		if path == "actions/job-state/optimize/done" {
			return 500
		}
		return 0
	})
	m.offer("optimize", "O", 3)
	c.mustCycle()
	if n := m.countCalls("actions/job-state/optimize/done"); n != 5 {
		t.Errorf("%d tries", n)
	}
	m.set(func() { m.fail = nil })
	c.mustCycle()
	if end := m.last("optimize"); end.State != "done" || end.Identity.Job != "O" || end.Identity.Attempt != 3 {
		t.Errorf("%+v", end)
	}
}

func TestRefusedCredentialsAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	m := newManager(t, "another", 3306, true)
	c := newClient(t, m)
	c.env = append(c.env, "REPLICATION_MANAGER_HOST_PASSWORD=wrong")
	if code := c.cycle(); code != 3 {
		t.Errorf("status %d, want 3", code)
	}
	if !slices.Equal(m.seen(), []string{"secret-login"}) {
		t.Errorf("calls %v", m.seen())
	}
}

func TestExpiredTokenIsRenewed(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, false)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	writeFile(t, filepath.Join(c.folder(), "token"), "an.old.token\n")
	c.mustCycle()
	if want := []string{"jobs-pending", "secret-login", "jobs-pending"}; !slices.Equal(m.seen(), want) {
		t.Errorf("calls %v", m.seen())
	}
}

func TestSlowAnswerIsStillRead(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, true)
	m.holding(func(path string) {
		if path == "jobs-pending" {
			time.Sleep(1500 * time.Millisecond) // the slowness under test: socat by itself waits 0.5 s
		}
	})
	c := newClient(t, m)
	knowVariables(t, c, nil)
	c.mustCycle()
	if n := m.countCalls("jobs-pending"); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestStreamGoesToTheAddressTheManagerNames(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	r.m.set(func() { r.m.address = "[::1]" })
	r.want(r.collect("success"), "one\n")
}

func TestManagerOverIPv6(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, true)
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	m.wg.Go(func() { forward(l, m.server.Listener.Addr().String()) })
	c := newClient(t, m)
	knowVariables(t, c, nil)
	c.env = append(c.env, fmt.Sprintf("REPLICATION_MANAGER_URL=https://%s", l.Addr()))
	c.mustCycle()
}

// forward passes one connection after the other on to addr.
func forward(l net.Listener, addr string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", addr)
		if err != nil {
			_ = in.Close()
			continue
		}
		go func() {
			_, _ = io.Copy(out, in)
			_ = out.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(in, out)
		_, _ = in.Close(), out.Close()
	}
}

func TestCertificateIsCheckedWhenACAIsGiven(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, true)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	pemFile := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, pemFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.server.Certificate().Raw})))
	c.env = append(c.env, "DRYDOCK_API_CA="+pemFile)
	c.mustCycle()
	other := library(t, "p", `placeholder_certificate "$1"`, pemFile)
	if other != "" {
		t.Fatal(other)
	}
	writeFile(t, filepath.Join(c.folder(), "mode"), "api\n")
	if code := c.cycle(); code != 1 {
		t.Errorf("status %d with another manager's certificate, want 1", code)
	}
}

func TestTruncatedScriptDoesNothing(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, false)
	c := newClient(t, m)
	whole := len(dbjobs) - len("# EOF\n")
	cuts := []int{whole - 2, whole - 3, whole - 10, whole - 25}
	for n := 500; n < whole; n += 1777 {
		cuts = append(cuts, n, bytes.LastIndexByte(dbjobs[:n], '\n')+1)
	}
	for _, n := range cuts {
		cmd := exec.Command("bash", "-s", "--", "--once")
		cmd.Stdin = bytes.NewReader(dbjobs[:n])
		cmd.Env = c.env
		_ = cmd.Run()
		if calls := len(m.seen()); calls > 0 || exists(c.state) {
			t.Fatalf("cut at %d of %d it made %d calls", n, len(dbjobs), calls)
		}
	}
}

func TestScriptFedThroughStandardInput(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	r.m.extra = []string{"jobs-check", "jobs-upgrade"} // a script without a file has nothing to check or replace
	r.m.offer("errorlog", "L1", 1)
	r.m.offer("optimize", "O1", 1)
	r.fakeTool("mariadb-check", "cat; echo fine") // would wait for ever for the end of an open standard input
	cmd := r.command()
	cmd.Args = []string{"bash", "-s"}
	var feed strings.Builder
	for _, v := range r.env {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(&feed, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	stdin, err := cmd.StdinPipe() // stays open, as ssh's does
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, feed.String()+string(dbjobs)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	r.want(r.m.stream("errorlog"), "one\n")
	if n := r.m.countCalls("actions/receive-jobs-check"); n != 0 {
		t.Errorf("%d checks", n)
	}
}

func TestAnswersAreNotTrusted(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, false)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	extra := []string{
		"task optimize $(touch${IFS}x) 1", "task ../optimize J 1", "task nonsense J 1", "task optimize " + strings.Repeat("j", 41) + " 1",
		"task optimize J one", "batch $(id)", "heartbeat 0", "mode both",
	}
	m.set(func() { m.extra = extra })
	c.mustCycle()
	if n := m.countCalls("needs/"); n != 0 {
		t.Errorf("claimed: %v", m.seen())
	}
}

func TestVersionIsTheScripts(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("bash", "dbjobs", "--version").Output()
	if err != nil || strings.TrimSpace(string(out)) != Version || Version == "" {
		t.Errorf("script says %q, package says %q: %v", out, Version, err)
	}
	if !bytes.HasSuffix(Script(), []byte("\n# EOF\n")) {
		t.Error("the last line is not # EOF")
	}
}

func TestShellcheck(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("shellcheck", "dbjobs").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// In a container the server's name in the configuration need not lead to it.
func TestDatabaseIsReachedWhereTheEnvironmentSays(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]string{"": testHost, "DRYDOCK_DB_ADDRESS=127.0.0.3": "127.0.0.3", "DRYDOCK_DB_ADDRESS=localhost": "127.0.0.1"} {
		m := newManager(t, oddPassword, 3306, false)
		c := newClient(t, m)
		c.env = append(c.env, env)
		knowVariables(t, c, nil)
		c.fakeTool("mariadb-check", `sed -n 's/^host=//p' "${1#*=}" | sort -u >"$HOME/host"`)
		m.offer("optimize", "J1", 1)
		c.mustCycle()
		if got, err := os.ReadFile(filepath.Join(c.state, "../host")); err != nil || string(got) != want+"\n" {
			t.Errorf("%s: the tool was sent to %q, %v", env, got, err)
		}
	}
}

// TestLinesOutliveTheReportOfTheirJob: the manager takes the end of the job and not yet its lines.
func TestLinesOutliveTheReportOfTheirJob(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	c.fakeTool("mariadb-check", `echo "why it went so"`)
	m.offer("optimize", "K", 1)
	m.failing(func(path string) int {
		if path == "write-log/optimize" {
			return 503
		}
		return 0
	})
	c.mustCycle()
	if end := m.last("optimize"); end.State != "done" {
		t.Fatalf("%+v", end)
	}
	m.set(func() { m.fail = nil })
	c.mustCycle()
	if !slices.Contains(m.logLines(), "INFO why it went so") {
		t.Errorf("lines %q", m.logLines())
	}
	nothingKept(t, filepath.Join(c.folder(), "jobs"))
}

// TestAnEndWithoutAnIDIsToldOnce: told again by a later cycle, it would end the task's next job, which has not run yet.
func TestAnEndWithoutAnIDIsToldOnce(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	m.set(func() { m.foreign = true })
	c := newClient(t, m)
	knowVariables(t, c, nil)
	c.fakeTool("mariadb-check", `echo "why it went so"`)
	m.failing(func(path string) int {
		if path == "write-log/optimize" {
			return 503
		}
		return 0
	})
	next := func() { m.set(func() { m.jobs = []*managerJob{{task: "optimize"}} }) }
	next()
	c.mustCycle()
	if n := m.countCalls("actions/job-state/optimize/done"); n != 1 {
		t.Fatalf("the end was told %d times: %v", n, m.seen())
	}
	m.set(func() { m.fail, m.calls = nil, nil })
	next()
	c.mustCycle()
	calls := m.seen()
	if ends := m.countCalls("actions/job-state/optimize/done"); ends != 1 || slices.Index(calls, "actions/job-state/optimize/done") < slices.Index(calls, "actions/job-state/optimize/processing") {
		t.Errorf("the next job was ended before it ran: %v", calls)
	}
	lines := m.logLines()
	if n := len(slices.DeleteFunc(lines, func(l string) bool { return l != "INFO why it went so" })); n != 2 {
		t.Errorf("%d of the lines of two jobs came", n)
	}
}

func nothingKept(t *testing.T, folder string) {
	t.Helper()
	kept, err := os.ReadDir(folder)
	if err != nil || len(kept) > 0 {
		t.Errorf("kept %v, %v", kept, err)
	}
}
