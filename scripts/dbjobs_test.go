package scripts

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
)

// oddPassword has every character that shells, option files, SQL, JSON and printf formats give a meaning.
const oddPassword = `p'a"s s$w\o%r&d é#`

// client runs the real script against a manager.
type client struct {
	t     *testing.T
	m     *manager
	state string
	logs  string
	env   []string
}

func newClient(t *testing.T, m *manager) *client {
	dir := t.TempDir()
	c := &client{t: t, m: m, state: filepath.Join(dir, "state"), logs: filepath.Join(dir, "logs")}
	c.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir,
		"REPLICATION_MANAGER_URL=" + m.server.URL,
		"REPLICATION_MANAGER_CLUSTER_NAME=" + testCluster,
		"REPLICATION_MANAGER_HOST_NAME=" + testHost,
		"REPLICATION_MANAGER_HOST_PORT=" + strconv.Itoa(m.port),
		"REPLICATION_MANAGER_HOST_USER=drydock",
		"REPLICATION_MANAGER_HOST_PASSWORD=" + m.password,
		"DRYDOCK_STATE_DIR=" + c.state,
		"DRYDOCK_LOG_DIR=" + c.logs,
	}
	return c
}

// folder is the script's own state folder for the server.
func (c *client) folder() string {
	return filepath.Join(c.state, "our_cluster", fmt.Sprintf("%s_%d", testHost, c.m.port))
}

// command prepares "dbjobs args" in a process group of its own, killed with the test.
func (c *client) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	c.t.Cleanup(cancel)
	path, err := filepath.Abs("dbjobs")
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "bash", append([]string{path}, args...)...)
	cmd.Env = c.env
	cmd.Stderr = &testLog{t: c.t}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// cycle runs one cycle and returns the exit status.
func (c *client) cycle() int {
	c.t.Helper()
	cmd := c.command("--once")
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func (c *client) mustCycle() {
	c.t.Helper()
	if code := c.cycle(); code != 0 {
		c.t.Fatalf("cycle ended with status %d\n%s", code, c.apiLog())
	}
}

func (c *client) apiLog() string {
	text, _ := os.ReadFile(filepath.Join(c.logs, "api_calls.log"))
	return string(text)
}

// testLog passes the script's standard error to the test's log.
type testLog struct {
	t *testing.T
	b bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.b.Write(p)
	return len(p), nil
}

// eventually waits until ok holds, looking again after each call the manager gets and at least ten times a second.
func eventually(t *testing.T, m *manager, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-m.changed:
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not in time; calls %v", what, view(m, func() []string { return slices.Clone(m.calls) }))
		}
	}
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func startDB(t *testing.T, extra ...string) *mariadbd.Server {
	return mariadbdtest.Start(t, mariadbd.Options{Password: oddPassword, Extra: extra})
}

func TestBackupArrivesWholeThoughThePasswordIsHostile(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	m := newManager(t, oddPassword, db.Port(), true)
	c := newClient(t, m)
	c.env = append(c.env, "DRYDOCK_HASH=1")
	m.offer("mariabackup", "01JOB", 2)
	c.mustCycle()

	end := m.last("mariabackup")
	if end.State != "done" {
		t.Fatalf("ended as %q: %+v\n%s", end.State, end.Identity, strings.Join(m.logLines(), "\n"))
	}
	stream := m.stream("mariabackup")
	if len(stream) < 1<<20 || end.Identity.Bytes == nil || *end.Identity.Bytes != int64(len(stream)) {
		t.Errorf("%d bytes arrived, reported %v", len(stream), end.Identity.Bytes)
	}
	if sum := Checksum([]byte(stream)); end.Identity.SHA256 != sum {
		t.Errorf("hash reported %q, want %q", end.Identity.SHA256, sum)
	}
	if !slices.Equal(end.Identity.Exit, []int{0, 0, 0}) || end.Identity.Job != "01JOB" || end.Identity.Attempt != 2 {
		t.Errorf("end %+v", end.Identity)
	}
	unpack(t, stream)
	lines := m.logLines()
	if !strings.HasPrefix(lines[0], "INFO Job mariabackup initiated. ") ||
		!slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, "completed OK!") }) ||
		lines[len(lines)-1] != "INFO Job mariabackup ended with state: Finished" {
		t.Errorf("log:\n%s", strings.Join(lines, "\n"))
	}
	states := view(m, func() (s []string) {
		for _, r := range m.reports {
			s = append(s, r.State)
		}
		return s
	})
	if !slices.Equal(states, []string{"processing", "done"}) {
		t.Errorf("states %v", states)
	}
}

// unpack proves the stream with mariabackup's own reader and its prepare step.
func unpack(t *testing.T, stream string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("mbstream", "-x", "-C", dir)
	cmd.Stdin = strings.NewReader(stream)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mbstream: %v\n%s", err, out)
	}
	if out, err := exec.Command("mariadb-backup", "--prepare", "--target-dir="+dir).CombinedOutput(); err != nil {
		t.Fatalf("prepare: %v\n%s", err, out)
	}
}
