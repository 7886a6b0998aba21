package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"drydock/internal/sshdtest"
	"drydock/job"
)

// exampleScript is the script of docs/custom-script.md, as a file.
func exampleScript(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/custom-script.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```bash\n")
	text, _, ends := strings.Cut(rest, "```\n")
	if !found || !ends || strings.Contains(rest[len(text):], "```bash") {
		t.Fatal("the page does not hold exactly one script")
	}
	path := filepath.Join(t.TempDir(), "custom.sh")
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExampleOfACustomScriptIsSound(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("shellcheck", "-S", "warning", exampleScript(t)).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// doesItsTasks runs the tasks of the example, and checks that each is a success that the example's own words prove.
func (s *site) doesItsTasks(cycle func(id, task string)) {
	s.t.Helper()
	for task, said := range map[string]string{"errorlog": "", "optimize": "mysql.db", "mariabackup": "completed OK!"} {
		id := s.run(task)
		cycle(id, task)
		j := s.awaitEnd(id, task)
		if j.State != job.Success || !strings.Contains(j.Evidence.Result, said) {
			s.t.Errorf("%s is %s (%s); evidence %+v", task, j.State, j.Reason, j.Evidence)
		}
		if task != "optimize" && (j.Stream == nil || !j.Stream.Complete || j.Stream.Bytes == 0) {
			s.t.Errorf("%s: stream %+v", task, j.Stream)
		}
	}
}

func TestCustomScriptOfTheDocumentationRunsByHand(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, options{mode: mode}).start()
			h, script := s.host(0), exampleScript(t)
			run := func() {
				t.Helper()
				cmd := exec.Command(script, "--once")
				cmd.Env = h.command().Env
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("the script ended with %v:\n%s", err, out)
				}
			}
			s.doesItsTasks(func(id, task string) {
				s.awaitState(id, task, job.Available)
				run()
			})
			run() // with nothing to do
			s.checkNoSecret(h)
		})
	}
}

func TestCustomScriptOfTheDocumentationRunsOverSSH(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			sshd := sshdtest.Start(t, nil)
			secret := password + "custom" + mode
			keys := sshKeys(sshd, sshd.KnownHosts) + fmt.Sprintf("onpremise-ssh-db-job-script = %q\n", exampleScript(t))
			s := newSite(t, options{mode: mode, keys: keys, secret: secret}).start()
			seen := watchArguments(t, secret)
			s.doesItsTasks(func(string, string) {})
			if !seen() {
				t.Error("no remote shell was among the processes")
			}
			s.checkNoSecret(s.host(0))
			if log := s.sinceUp(); strings.Contains(log, "ssh session failed") {
				t.Errorf("a session failed:\n%s", log)
			}
		})
	}
}
