package scripts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// launched is dbjobs_start beside a script that stands in for dbjobs.
type launched struct {
	t      *testing.T
	folder string
	cmd    *exec.Cmd
}

// launch puts the launcher with a script and an environment file into a folder of an awkward name, and starts it.
func launch(t *testing.T, script, env string, args ...string) *launched {
	t.Helper()
	l := &launched{t: t, folder: filepath.Join(t.TempDir(), "a b'c", "init")}
	if err := os.MkdirAll(l.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"dbjobs_start": string(Launcher()), "dbjobs_new": script, "dbjobs.env": env} {
		writeFile(t, filepath.Join(l.folder, name), text)
	}
	l.cmd = exec.Command("bash", append([]string{filepath.Join(l.folder, "dbjobs_start")}, args...)...)
	l.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	l.cmd.Stderr = &testLog{t: t}
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-l.cmd.Process.Pid, syscall.SIGKILL) })
	return l
}

// lines are what the script has written into the file `said` of the folder.
func (l *launched) lines() []string {
	text, _ := os.ReadFile(filepath.Join(l.folder, "said"))
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func (l *launched) await(what string, ok func(lines []string) bool) {
	l.t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok(l.lines()) {
		select {
		case <-tick.C:
		case <-deadline:
			l.t.Fatalf("%s: not in time; the script wrote %q", what, l.lines())
		}
	}
}

// end waits for the launcher and returns its exit status.
func (l *launched) end() int {
	l.t.Helper()
	timer := time.AfterFunc(60*time.Second, func() { _ = l.cmd.Process.Kill() })
	defer timer.Stop()
	_ = l.cmd.Wait()
	return l.cmd.ProcessState.ExitCode()
}

// alive reports whether a process of the launcher's group is left.
func (l *launched) alive() bool { return syscall.Kill(-l.cmd.Process.Pid, 0) == nil }

const say = `say() { printf '%s\n' "$*" >>"${BASH_SOURCE[0]%/*}/said"; }` + "\n"

func TestLauncherStartsTheScriptAgainWhenItDies(t *testing.T) {
	t.Parallel()
	l := launch(t, say+`say "$$ $* [$SECRET] $DRYDOCK_STATE_DIR"; kill -KILL $$`, `export SECRET='it'\''s'`+"\n", "7")
	l.await("three starts", func(lines []string) bool { return len(lines) >= 3 })
	pids := map[string]bool{}
	for _, line := range l.lines() {
		pid, rest, _ := strings.Cut(line, " ")
		pids[pid] = true
		if rest != "--loop 7 [it's] "+l.folder+"/state" {
			t.Errorf("started with %q", rest)
		}
	}
	if len(pids) < 3 {
		t.Errorf("processes %v", pids)
	}
	begun := time.Now()
	_ = l.cmd.Process.Signal(syscall.SIGTERM) // while it waits for the next start
	if code := l.end(); code != 0 || l.alive() || time.Since(begun) > 3*time.Second {
		t.Errorf("exit %d after %s, alive %v", code, time.Since(begun), l.alive())
	}
}

func TestLauncherTellsTheScriptToStopAndWaitsForIt(t *testing.T) {
	t.Parallel()
	script := say + `trap 'say stopping; sleep 1; say stopped; exit 0' TERM; say up; while :; do sleep 0.1; done`
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			l := launch(t, script, "", "1")
			l.await("it runs", func(lines []string) bool { return lines[0] == "up" })
			_ = l.cmd.Process.Signal(sig)
			_ = l.cmd.Process.Signal(sig) // impatience does no harm
			code := l.end()
			if got := fmt.Sprint(l.lines()); code != 0 || l.alive() || !strings.HasSuffix(got, "stopped]") || strings.Count(got, "up") != 1 {
				t.Errorf("exit %d, alive %v, the script wrote %s", code, l.alive(), got)
			}
		})
	}
}

func TestLauncherReadsItsEnvironmentAtEachStart(t *testing.T) {
	t.Parallel()
	l := launch(t, say+`say "$PASSWORD"; [[ $PASSWORD == old ]] || sleep 60 & wait`, "export PASSWORD=old\n")
	l.await("the old one", func(lines []string) bool { return lines[0] == "old" })
	fresh := filepath.Join(l.folder, "fresh")
	writeFile(t, fresh, "export PASSWORD=new\n")
	if err := os.Rename(fresh, filepath.Join(l.folder, "dbjobs.env")); err != nil {
		t.Fatal(err)
	}
	l.await("the new one", func(lines []string) bool { return lines[len(lines)-1] == "new" })
}

func TestLauncherRefusesAnIntervalThatIsNone(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"0"}, {"x"}, {"-1"}, {"1", "2"}} {
		if code := launch(t, "", "", args...).end(); code != 2 {
			t.Errorf("%q: exit %d", args, code)
		}
	}
}
