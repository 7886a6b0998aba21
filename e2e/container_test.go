package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/job"
)

// fetchConfig downloads the archive of the first server with curl, as an init container does, and unpacks it with tar.
func (s *site) fetchConfig(args ...string) (folder string) {
	s.t.Helper()
	folder = s.t.TempDir()
	archive := filepath.Join(folder, "config.tar.gz")
	url := "https://127.0.0.1:" + itoa(s.api) + "/api/clusters/lab/servers/" + strings.ReplaceAll(s.servers[0].Addr(), ":", "/") + "/config"
	for _, cmd := range []*exec.Cmd{
		exec.Command("curl", append([]string{"-sSfk", "-0", "-o", archive, url}, args...)...),
		exec.Command("tar", "-xzf", archive, "-C", folder),
	} {
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			s.t.Fatalf("%s: %v %s", cmd.Args[0], err, out)
		}
	}
	for name, want := range map[string]os.FileMode{"dbjobs_new": 0o755, "dbjobs_start": 0o755, "dbjobs.env": 0o600} {
		info, err := os.Stat(filepath.Join(folder, "init", "init", name))
		if err != nil || info.Mode() != want {
			s.t.Fatalf("%s: %v, %v", name, info, err)
		}
	}
	return folder
}

// container starts the launcher of an unpacked archive with nothing of this process's environment but PATH.
func (s *site) container(folder string, env ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(folder, "init", "init", "dbjobs_start"), "1")
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"))
	cmd.Stderr = s.t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	return cmd
}

// ended stops a container as its runtime does, and checks that nothing of it is left.
func (s *site) ended(cmd *exec.Cmd) {
	s.t.Helper()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		s.t.Errorf("the launcher ended with %v", err)
	}
	deadline := time.After(10 * time.Second) // for the machine's init to collect what was killed
	for syscall.Kill(-cmd.Process.Pid, 0) == nil {
		select {
		case <-deadline:
			s.t.Fatal("processes of the launcher are left")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// scriptOf is the process id of the dbjobs that a launcher runs.
func (s *site) scriptOf(cmd *exec.Cmd, not int) int {
	s.t.Helper()
	deadline := time.Now().Add(patience(30 * time.Second))
	for time.Now().Before(deadline) {
		files, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, f := range files {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
			if !strings.Contains(string(line), "dbjobs_new\x00--loop\x00") {
				continue
			}
			stat, _ := os.ReadFile(f)
			_, rest, _ := strings.Cut(string(stat), ") ")
			if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == itoa(cmd.Process.Pid) {
				if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f))); pid != not {
					return pid
				}
			}
		}
		select {
		case <-s.t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.t.Fatal("the launcher runs no script")
	return 0
}

func TestContainerFetchesItsScriptAndServesTheDatabaseBesideIt(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, options{mode: mode}).start()
			folder := s.fetchConfig("--user", "admin:secret")
			cmd := s.container(folder)
			for _, task := range []string{"mariabackup", "errorlog"} {
				if j := s.awaitEnd(s.run(task), task); j.State != job.Success {
					t.Errorf("%s is %s (%s); evidence %+v", task, j.State, j.Reason, j.Evidence)
				}
			}
			first := s.scriptOf(cmd, 0)
			_ = syscall.Kill(first, syscall.SIGKILL)
			second := s.scriptOf(cmd, first)
			if j := s.awaitEnd(s.run("slowquery"), "slowquery"); j.State != job.Success {
				t.Errorf("after kill -9 of the script, slowquery is %s (%s)", j.State, j.Reason)
			}
			if first == second {
				t.Error("the script was not started again")
			}
			s.ended(cmd)
			s.checkNoSecret(&host{s: s, state: filepath.Join(folder, "init", "init", "state")})
		})
	}
}

func TestOpenConfigWorksWithThePasswordOfTheContainer(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api", global: "api-credentials-secure-config = false"}).start()
	folder := s.fetchConfig()
	env, err := os.ReadFile(filepath.Join(folder, "init", "init", "dbjobs.env"))
	if err != nil || strings.Contains(string(env), "PASSWORD") {
		t.Errorf("%v; the environment is\n%s", err, env)
	}
	cmd := s.container(folder, "MYSQL_ROOT_PASSWORD="+s.secret)
	if j := s.awaitEnd(s.run("errorlog"), "errorlog"); j.State != job.Success {
		t.Errorf("errorlog is %s (%s)", j.State, j.Reason)
	}
	s.ended(cmd)
	if !strings.Contains(s.proc.log.text(), "api-credentials-secure-config is false") {
		t.Error("drydock did not warn")
	}
}
