package scripts

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
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
	// script is the file that is run; the package's own by default.
	script string
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
	t.Cleanup(func() { // only a script that fails its test leaves any
		for pid := range c.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
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
	path, err := filepath.Abs(cmp.Or(c.script, "dbjobs"))
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

// logFolder is the script's own folder for output below the one it was given.
func (c *client) logFolder() string {
	return filepath.Join(c.logs, "dbjobs", "our_cluster", fmt.Sprintf("%s_%d", testHost, c.m.port))
}

func (c *client) apiLog() string {
	text, _ := os.ReadFile(filepath.Join(c.logFolder(), "api_calls.log"))
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

func startDB(t *testing.T, extra ...string) *mariadbd.Server {
	return mariadbdtest.Start(t, mariadbd.Options{Password: oddPassword, Extra: extra})
}

// knowVariables stands in for a server that was asked before it went down.
func knowVariables(t *testing.T, c *client, vars map[string]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("datadir\t" + t.TempDir() + "/\n")
	for name, value := range vars {
		b.WriteString(name + "\t" + value + "\n")
	}
	writeFile(t, filepath.Join(c.folder(), "variables"), b.String())
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendFile(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// fakeTool puts an executable before all others in the client's path.
func (c *client) fakeTool(name, body string) {
	c.t.Helper()
	dir := c.t.TempDir()
	path := filepath.Join(dir, name)
	writeFile(c.t, path, "#!/bin/bash\n"+body)
	if err := os.Chmod(path, 0o700); err != nil {
		c.t.Fatal(err)
	}
	c.env = slices.Clone(c.env)
	for i, v := range c.env {
		if rest, ok := strings.CutPrefix(v, "PATH="); ok {
			c.env[i] = "PATH=" + dir + ":" + rest
		}
	}
}

// processes returns the command lines of all processes of the client, by process id. They are known by the state
// folder in the environment they inherit.
func (c *client) processes() map[int]string {
	found := map[int]string{}
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, []byte("DRYDOCK_STATE_DIR="+c.state+"\x00")) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
	}
	return found
}

// process returns the id of the client's process whose command contains name, or 0.
func (c *client) process(name string) int {
	for pid, line := range c.processes() {
		if strings.Contains(line, name) {
			return pid
		}
	}
	return 0
}

// start starts a cycle in the background; the returned function waits for its end and returns the exit status.
func (c *client) start(args ...string) (cmd *exec.Cmd, wait func() int) {
	c.t.Helper()
	cmd = c.command(args...)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	wait = func() int {
		<-done
		return cmd.ProcessState.ExitCode()
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		wait()
	})
	return cmd, wait
}

// library runs shell code with the script's functions loaded and main left out, and returns its output.
func library(t *testing.T, password, code string, args ...string) string {
	t.Helper()
	text, _, ok := strings.Cut(string(dbjobs), "\n{ main ")
	if !ok {
		t.Fatal("the script's last command has changed")
	}
	path := filepath.Join(t.TempDir(), "lib")
	writeFile(t, path, text+"\nsettings\nDB_PASSWORD=$PASSWORD DB_HOST=127.0.0.1 DB_ADDRESS=127.0.0.1 DB_PORT=3306\n"+code+"\n")
	cmd := exec.Command("bash", append([]string{path}, args...)...)
	cmd.Env = append(os.Environ(), "PASSWORD="+password)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Fatalf("%v: %s", err, errs.String())
	}
	return string(out)
}
