package sshrun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/job"
	"drydock/scripts"
)

// bash runs what the remote shell would.
func bash(t *testing.T, input []byte) (out string, exit int) {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Stdin = bytes.NewReader(input)
	text, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return pidLine.ReplaceAllString(string(text), ""), cmd.ProcessState.ExitCode()
}

func mustFeed(t *testing.T, env []scripts.Variable, script string) []byte {
	t.Helper()
	input, err := feed(env, []byte(script))
	if err != nil {
		t.Fatal(err)
	}
	return input
}

func TestNoValueBreaksOutOfItsQuotes(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", "plain", `'`, `''`, `'; touch broken; '`, `p'a"s s$w\o%r&d é#`, "$(touch broken)", "`touch broken`", `\'`, `\`, `a\`,
		"two\nlines", "\ttab ", "!history", "*", "~", "EOF", "\xff\xfe", "-n", "a'\\''b",
	} {
		input := mustFeed(t, []scripts.Variable{{Name: "SECRET", Value: value}, {Name: "NEXT", Value: "x"}}, `printf '%s|%s' "$SECRET" "$NEXT"`)
		if out, exit := bash(t, input); out != value+"|x" || exit != 0 {
			t.Errorf("%q came as %q, exit %d", value, out, exit)
		}
	}
	if _, err := os.Stat("broken"); err == nil {
		t.Error("a value was run")
	}
	if _, err := feed([]scripts.Variable{{Name: "SECRET", Value: "a\x00b"}}, nil); err == nil || strings.Contains(err.Error(), "a\x00") {
		t.Errorf("a zero byte: %v", err)
	}
}

func TestCommandsThatReadStandardInputDoNotEatTheScript(t *testing.T) {
	t.Parallel()
	out, exit := bash(t, mustFeed(t, nil, `#!/bin/bash
cat
read -r line
shopt -s extglob
case abc in !(x)) echo "glob $line" ;; esac
( cat ) &
wait
echo "reached with $1 from ${BASH_SOURCE[0]-nowhere}"
exit 7
`))
	if out != "glob \nreached with --once from nowhere\n" || exit != 7 {
		t.Errorf("exit %d, printed %q", exit, out)
	}
}

func TestHalfAScriptIsNotRun(t *testing.T) {
	t.Parallel()
	whole := mustFeed(t, []scripts.Variable{{Name: "A", Value: "it's"}}, "echo RAN\necho RAN\n")
	if out, _ := bash(t, whole); out != "RAN\nRAN\n" {
		t.Fatalf("the whole printed %q", out)
	}
	for n := range len(whole) {
		if out, exit := bash(t, whole[:n]); strings.Contains(out, "RAN\n") {
			t.Fatalf("%d of %d bytes printed %q, exit %d", n, len(whole), out, exit)
		}
	}
}

func TestBuiltInScriptRunsFromTheFeed(t *testing.T) {
	t.Parallel()
	input := mustFeed(t, []scripts.Variable{{Name: "REPLICATION_MANAGER_CLUSTER_NAME", Value: "c"}}, string(scripts.Script()))
	if out, exit := bash(t, input); exit != 2 || !strings.Contains(out, "REPLICATION_MANAGER_HOST_NAME must be set") {
		t.Errorf("exit %d: %s", exit, out)
	}
}

func TestEnvironmentIsThatOfTheManual(t *testing.T) {
	t.Parallel()
	c := Config{APIHost: "2001:db8::5", APIPort: 10005, APIUser: "admin", APIPassword: "ap"}
	server := job.Server{Host: "db4", Port: 3307}
	cl := Cluster{Name: "prod", Servers: []job.Server{{}, server}, User: "drydock", Password: "dp", ReceiverPorts: []int{4444, 4445}}
	var got []string
	for _, v := range c.Environment(cl, server) {
		got = append(got, v.Name+"="+v.Value)
	}
	want := `REPLICATION_MANAGER_URL=https://[2001:db8::5]:10005
REPLICATION_MANAGER_URL_HOST=2001:db8::5
REPLICATION_MANAGER_URL_PORT=10005
REPLICATION_MANAGER_USER=admin
REPLICATION_MANAGER_PASSWORD=ap
REPLICATION_MANAGER_HOST_NAME=db4
REPLICATION_MANAGER_HOST_PORT=3307
REPLICATION_MANAGER_HOST_USER=drydock
REPLICATION_MANAGER_HOST_PASSWORD=dp
MYSQL_ROOT_PASSWORD=dp
REPLICATION_MANAGER_CLUSTER_NAME=prod
DRYDOCK_API_SCHEME=https
DRYDOCK_RECEIVER_PORT=4445`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestSecretsAreBlottedOutOfTheOutput(t *testing.T) {
	t.Parallel()
	out := newTail()
	_, _ = out.Write([]byte("+ mysql -pgeh"))
	_, _ = out.Write([]byte("eim\n"))
	if got := out.text([]string{"geheim", ""}); got != "+ mysql -p[secret]" {
		t.Errorf("got %q", got)
	}
	long := newTail()
	for range 3000 {
		_, _ = long.Write([]byte("geheim geheim\n"))
	}
	if got := long.text([]string{"geheim"}); len(got) > keptOutput || len(got) < keptOutput/2 || strings.Contains(got, "heim") {
		t.Errorf("%d bytes: %q", len(got), got[:40])
	}
}

func TestFailureThatGoesOnIsLoggedOnceAnHour(t *testing.T) {
	t.Parallel()
	h := newHealth(nil)
	now := time.Now()
	var warned int
	for i := range 121 {
		// The local port is another one each time.
		if level, _ := h.change(targetKey{}, fmt.Sprintf("read tcp 10.0.0.1:%d->10.0.0.2:22: connection reset", 40000+i), now); level > 0 {
			warned++
		}
		now = now.Add(time.Minute)
	}
	if warned != 3 {
		t.Errorf("%d warnings in two hours", warned)
	}
	for _, other := range []string{"exit status 3", "exit status 1"} {
		if level, _ := h.change(targetKey{}, other, now); level <= 0 {
			t.Errorf("another failure was kept quiet: %s", other)
		}
	}
	if _, past := h.change(targetKey{}, "", now); past.count != 123 {
		t.Errorf("it is well again after %d failures", past.count)
	}
	if _, past := h.change(targetKey{}, "", now); past.count != 0 {
		t.Error("well twice")
	}
}

func TestScriptLiesInTheServersFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := job.Server{Host: "db1", Port: 3306}
	path := filepath.Join(dir, "prod", "db1_3306", "init", "init", "dbjobs_new")
	for _, before := range []string{"", "an old one"} {
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := lay(dir, "prod", s); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(text, scripts.Script()) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	for name, want := range map[string]os.FileMode{path: 0o755, filepath.Dir(path): 0o700, filepath.Join(dir, "prod"): 0o700} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
