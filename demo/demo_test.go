package demo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/demo"
	"drydock/internal/bustest"
)

// childEnv makes this test program a demo in the folder it names, for a test to kill.
const childEnv = "DEMO_TEST_CHILD"

const small = 20 << 20

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		err := demo.Run(context.Background(), demo.Options{Size: small, Dir: dir, Out: os.Stdout})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bustest.Main(m)
}

func TestDemoProvesEightJobsAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep %t", keep), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := newOutput()
			out.on("Ctrl-C ends it", func() {
				checkEnvironmentFile(t, dir)
				cancel()
			})
			if err := demo.Run(ctx, demo.Options{Size: small, Keep: keep, Dir: dir, Out: out}); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			text := out.String()
			for what, n := range map[string]int{
				" success ": 8, "--prepare on them: completed OK!": 2, "computed again: equal": 2, " fired ": 8, "GTID 0-": 2,
				"end line": 2, "cleaned up": 1,
			} {
				if got := strings.Count(text, what); got != n {
					t.Errorf("%q stands there %d times, not %d", what, got, n)
				}
			}
			if strings.Contains(text, "Everything goes on running") != keep {
				t.Error("it went on running, or did not, against what was asked for")
			}
			for _, line := range strings.Split(text, "\n") {
				if len([]rune(line)) > 100 && !strings.Contains(line, dir) {
					t.Errorf("wider than 100 columns: %s", line)
				}
			}
			checkNothingLeft(t, dir)
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

func checkEnvironmentFile(t *testing.T, dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*", "env"))
	if len(files) != 1 {
		t.Errorf("found %q", files)
		return
	}
	if st, err := os.Stat(files[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file with the passwords: %v, %v", st.Mode(), err)
	}
	const script = `set -eu; . "$1"; printf '%s' "$DEMO_DB_PASSWORD|$NATS_URL|$NATS_USER|${#NATS_PASSWORD}|${#DEMO_API_PASSWORD}"`
	got, err := exec.Command("bash", "-c", script, "bash", files[0]).CombinedOutput()
	if err != nil || !strings.Contains(string(got), ` p'a"s$w\o%r&d é#|nats://127.0.0.1:`) {
		t.Errorf("a shell reads %q, %v", got, err)
	}
}

func TestInterruptDuringABackupLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	out := newOutput()
	out.on("mariabackup processing", cancel)
	err := demo.Run(ctx, demo.Options{Size: small, Dir: dir, Out: out})
	if err == nil || err.Error() != "interrupted" {
		t.Errorf("error = %v\n%s", err, out)
	}
	checkNothingLeft(t, dir)
}

func TestServerThatDiesEndsTheDemoAndIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := newOutput()
	out.on("drydock is up", func() { killServer(t, dir, "api") })
	err := demo.Run(t.Context(), demo.Options{Size: small, Dir: dir, Out: out})
	if err == nil || !strings.Contains(err.Error(), "server of cluster api ended too soon") {
		t.Errorf("error = %v\n%s", err, out)
	}
	checkNothingLeft(t, dir)
}

func killServer(t *testing.T, dir, cluster string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*", "mariadb", cluster, "mariadbd.pid"))
	if len(files) != 1 {
		t.Errorf("no pid file: %q", files)
		return
	}
	text, err := os.ReadFile(files[0])
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err := errors.Join(err, convErr); err != nil {
		t.Error(err)
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

func TestJobsThatNeverEndAreNoSuccess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := newOutput()
	err := demo.Run(t.Context(), demo.Options{Size: small, Dir: dir, Out: out, Timeout: time.Second})
	if !errors.Is(err, demo.ErrNotProven) {
		t.Errorf("error = %v\n%s", err, out)
	}
	if n := strings.Count(out.String(), "no job was started"); n != 8 {
		t.Errorf("%d of 8 missing jobs are named\n%s", n, out)
	}
	checkNothingLeft(t, dir)
}

func TestKilledDemoLeavesNoProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out := newOutput()
	cmd.Stdout, cmd.Stderr = out, out
	out.on("mariabackup processing", func() { _ = cmd.Process.Kill() })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if !strings.Contains(fmt.Sprint(err), "killed") {
		t.Fatalf("the demo ended by itself: %v\n%s", err, out)
	}
	// The servers are gone at once; the scripts first try to tell the manager, which is gone too.
	deadline := time.Now().Add(90 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for left := processesOf(dir); len(left) > 0; left = processesOf(dir) {
		if time.Now().After(deadline) {
			for pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			t.Fatalf("long after its end are left: %v", left)
		}
		<-tick.C
	}
}

// checkNothingLeft looks for files in dir and for processes that have to do with it.
func checkNothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	if left := processesOf(dir); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}

// processesOf lists the processes with the folder on their command line or in their environment, but for this one.
func processesOf(dir string) map[int]string {
	found := map[int]string{}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range all {
		pid, _ := strconv.Atoi(filepath.Base(path))
		line, _ := os.ReadFile(path + "/cmdline")
		env, _ := os.ReadFile(path + "/environ")
		if pid != os.Getpid() && (strings.Contains(string(line), dir) || strings.Contains(string(env), dir)) {
			found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

// output keeps what is printed, and acts on it.
type output struct {
	mu   sync.Mutex
	text strings.Builder
	acts map[string]func()
}

func newOutput() *output { return &output{acts: map[string]func(){}} }

// on calls act once, when what has been printed.
func (o *output) on(what string, act func()) { o.acts[what] = act }

// Write keeps p.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	for what, act := range o.acts {
		if strings.Contains(o.text.String(), what) {
			delete(o.acts, what)
			act()
		}
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
