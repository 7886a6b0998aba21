package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"drydock/internal/sshdtest"
	"drydock/job"
	"drydock/scheduler/sshrun"
	"drydock/scripts"
)

// sshKeys switch the SSH runner on, with a session each second.
func sshKeys(sshd *sshdtest.Server, knownHosts string) string {
	return fmt.Sprintf(`
monitoring-scheduler = true
scheduler-jobs-ssh = true
scheduler-jobs-ssh-cron = "*/1 * * * * *"
onpremise-ssh = true
onpremise-ssh-port = %d
onpremise-ssh-credential = %q
onpremise-ssh-private-key = %q
onpremise-ssh-known-hosts = %q
`, sshd.Port, sshd.User, sshd.KeyFile, knownHosts)
}

func TestScriptRunsOverSSHWithNothingInstalledOnTheHost(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			secret := password + rand.Text() // nobody else's on this machine
			sshd := sshdtest.Start(t, map[string]string{"DRYDOCK_STATE_DIR": state})
			s := newSite(t, options{mode: mode, keys: sshKeys(sshd, sshd.KnownHosts), secret: secret}).start()
			seen := watchArguments(t, secret)
			for _, task := range []string{"errorlog", "mariabackup"} {
				if j := s.awaitEnd(s.run(task), task); j.State != job.Success {
					t.Errorf("%s is %s (%s); evidence %+v", task, j.State, j.Reason, j.Evidence)
				}
			}
			if !seen() {
				t.Error("no remote shell was among the processes")
			}
			if out := s.mustCLI("check"); !strings.Contains(out, "lab: ssh "+sshd.User+"@127.0.0.1:"+strconv.Itoa(sshd.Port)) || !strings.Contains(out, "can log in") {
				t.Errorf("check says:\n%s", out)
			}
			laid := 0
			for _, dir := range s.homes() { // of whichever scheduler it was
				if text, err := os.ReadFile(sshrun.LaidScript(dir, "lab", s.server())); err == nil && string(text) == string(scripts.Script()) {
					laid++
				}
			}
			if laid == 0 {
				t.Error("the script that was sent is not laid down")
			}
			s.stop(15)
			s.checkNoSecret(&host{s: s, state: state})
			if log := s.sinceUp(); strings.Contains(log, "ssh session failed") {
				t.Errorf("a session failed:\n%s", log)
			}
		})
	}
}

// watchArguments looks at the argument lists of all processes until the function it returns is called, which says
// whether a remote shell was seen. The secret in any of them is an error.
func watchArguments(t *testing.T, secret string) (seen func() bool) {
	t.Helper()
	stop, ended, found := make(chan struct{}), make(chan struct{}), false
	go func() {
		defer close(ended)
		for {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, f := range files {
				line, _ := os.ReadFile(f)
				found = found || strings.Contains(string(line), "bash\x00-s\x00--\x00--once")
				if strings.Contains(string(line), secret) {
					t.Errorf("the password is an argument: %q", line)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() bool {
		close(stop)
		<-ended
		return found
	}
}

func TestHostWithAnotherKeyGetsNothingAndCheckSaysWhy(t *testing.T) {
	t.Parallel()
	sshd := sshdtest.Start(t, nil)
	s := newSite(t, options{mode: "api", keys: sshKeys(sshd, sshd.WrongKnownHosts(t))}).start()
	deadline := time.After(patience(30 * time.Second))
	for strings.Count(s.proc.log.text(), "ssh session failed") < 3 {
		select {
		case <-deadline:
			t.Fatal("no session was tried")
		case <-time.After(50 * time.Millisecond):
		}
	}
	log := s.proc.log.text()
	schedulers := 1
	if s.rig != nil {
		schedulers = 2
	}
	if n := strings.Count(log, `"level":"WARN","msg":"ssh session failed"`); n < 1 || n > schedulers || !strings.Contains(log, "SHA256:") {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	out, err := s.cli("check")
	if err == nil || !strings.Contains(out, "host key refused") || !strings.Contains(out, "SHA256:") || !strings.Contains(out, "ssh-keyscan -p "+strconv.Itoa(sshd.Port)) {
		t.Errorf("check: %v\n%s", err, out)
	}
}
