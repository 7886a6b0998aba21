package orchestrator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/scheduler/sshrun"
)

const password = "pass word'\"$x"

// program writes an executable script and gives its path.
func program(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte("#!/bin/bash\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func config(kind string) Config {
	return Config{
		Kind: kind, Timeout: time.Minute, Unit: "mariadb",
		Host:    sshrun.Config{APIHost: "drydock.example", APIPort: 10005, APIPassword: "api secret"},
		Cluster: sshrun.Cluster{Name: "prod", Servers: []job.Server{server}, User: "u", Password: password, ReceiverPorts: []int{4444}},
	}
}

var server = job.Server{Host: "127.0.0.1", Port: 3399}

func mustNew(t *testing.T, cfg Config) Orchestrator {
	t.Helper()
	o, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestNewTellsWhatThereIsNot(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]error{"": ErrNone, None: ErrNone, "opensvc": ErrNotBuilt, "kube": ErrNotBuilt, "slapos": ErrNotBuilt} {
		if _, err := New(Config{Kind: kind}); !errors.Is(err, want) {
			t.Errorf("New(%q): %v, want %v", kind, err, want)
		}
	}
}

func TestEveryActionRunsItsScriptWithTheEnvironment(t *testing.T) {
	t.Parallel()
	said := filepath.Join(t.TempDir(), "said")
	// The name of the program is what it was called for; its arguments must be none.
	text := `echo "${0##*/} $# $DRYDOCK_ACTION $host $port $cluster" >>` + said + "\n" +
		`[[ $REPLICATION_MANAGER_HOST_PASSWORD == "$MYSQL_ROOT_PASSWORD" && $REPLICATION_MANAGER_HOST_PASSWORD == 'pass word'\''"$x' ]] || exit 9`
	cfg := config(Script)
	cfg.Script = Actions{
		Stop: program(t, "a-stop", text), Start: program(t, "a-start", text),
		Cleanup: program(t, "a-cleanup", text), Bootstrap: program(t, "a-bootstrap", text),
	}
	o := mustNew(t, cfg)
	target := Target{Cluster: "prod", Server: server}
	for _, do := range []func(context.Context, Target) error{o.Stop, o.Start, o.Restart, o.Reprovision} {
		if err := do(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	var want string
	for _, action := range []string{"stop", "start", "stop", "start", "cleanup", "bootstrap"} {
		named := strings.Replace(action, "bootstrap", "reprovision", 1)
		want += "a-" + action + " 0 " + named + " 127.0.0.1 3399 prod\n"
	}
	if got := read(t, said); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestALocalCommandIsNotRunByAShell(t *testing.T) {
	t.Parallel()
	said := filepath.Join(t.TempDir(), "said")
	cfg := config(Local)
	tool := program(t, "tool", `printf '<%s>' "$@" >`+said)
	cfg.Local = Actions{Start: tool + ` start "two words" $host ; false`}
	if err := mustNew(t, cfg).Start(t.Context(), Target{Cluster: "prod", Server: server}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, said); got != "<start><two words><$host><;><false>" {
		t.Errorf("arguments are %s", got)
	}
}

func TestAFailureSaysItsLastWordsWithoutSecrets(t *testing.T) {
	t.Parallel()
	cfg := config(Script)
	cfg.Script.Stop = program(t, "stop", `for i in 1 2 3; do echo "line $i"; done; echo "the password is $MYSQL_ROOT_PASSWORD" >&2; printf 'no end'; exit 3`)
	var lines []string
	err := mustNew(t, cfg).Stop(t.Context(), Target{Cluster: "prod", Server: server, Output: func(s string) { lines = append(lines, s) }})
	if err == nil || !strings.HasSuffix(err.Error(), "prov-db-stop-script: exit status 3: line 3; the password is [secret]; no end") {
		t.Errorf("error is %v", err)
	}
	if got := strings.Join(lines, "|"); got != "line 1|line 2|line 3|the password is [secret]|no end" {
		t.Errorf("output is %s", got)
	}
}

func TestAnActionWithoutASettingNamesItsKey(t *testing.T) {
	t.Parallel()
	stop := program(t, "stop", "touch "+filepath.Join(t.TempDir(), "stopped"))
	target := Target{Cluster: "prod", Server: server}
	for _, kind := range []string{Local, Script} {
		cfg := config(kind)
		cfg.Local.Stop, cfg.Script.Stop, cfg.Script.Cleanup = stop, stop, stop
		o := mustNew(t, cfg)
		for key, do := range map[string]func(context.Context, Target) error{"-db-start-": o.Restart, "db-": o.Reprovision} {
			if err := do(t.Context(), target); !errors.Is(err, ErrUnset) || !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	if err := mustNew(t, config(OnPremise)).Reprovision(t.Context(), target); !errors.Is(err, ErrUnset) {
		t.Errorf("onpremise: %v", err)
	}
}

func TestABackgroundServiceDoesNotHoldItsStartUp(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	cfg := config(Script)
	cfg.Script.Start = program(t, "start", `setsid sleep 300 & echo $! >`+file)
	began := time.Now()
	err := mustNew(t, cfg).Start(t.Context(), Target{Cluster: "prod", Server: server})
	pid, _ := strconv.Atoi(strings.TrimSpace(read(t, file)))
	if kill := syscall.Kill(pid, syscall.SIGKILL); kill != nil {
		t.Errorf("the service does not run on: %v", kill)
	}
	if err != nil || time.Since(began) > time.Minute {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestACommandEndsWithItsContextAndAllItStarted(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"timeout", "cancel"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pids")
			cfg := config(Script)
			cfg.Script.Stop = program(t, "stop", `sleep 300 & echo "$$ $!" >`+file+`.new; mv `+file+`.new `+file+`; wait`)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if by == "timeout" {
				cfg.Timeout = 2 * time.Second
			}
			ended := make(chan error, 1)
			go func() { ended <- mustNew(t, cfg).Stop(ctx, Target{Cluster: "prod", Server: server}) }()
			bustest.Until(t, time.Minute, "it comes to that", func() bool { _, err := os.Stat(file); return err == nil })
			if by == "cancel" {
				cancel(errors.New("somebody said no"))
			}
			err := <-ended
			if want := map[string]string{"timeout": "prov-orchestrator-timeout", "cancel": "somebody said no"}[by]; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v", err)
			}
			for _, word := range strings.Fields(read(t, file)) {
				pid, _ := strconv.Atoi(word)
				bustest.Until(t, time.Minute, "it comes to that", func() bool { return gone(pid) })
			}
		})
	}
}

// gone reports whether a process has ended, buried or not.
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestProblemsAreFoundBeforeAnythingIsRun(t *testing.T) {
	t.Parallel()
	fine := program(t, "fine", "touch "+filepath.Join(t.TempDir(), "run"))
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind    string
		actions Actions
		want    []string
	}{
		{None, Actions{}, nil},
		{"kube", Actions{}, []string{"not built yet"}},
		{Script, Actions{Stop: fine, Start: fine}, nil},
		{Script, Actions{Stop: plain, Start: "/not/there"}, []string{"prov-db-stop-script: " + plain + " may not be executed", "prov-db-start-script"}},
		{Script, Actions{Stop: fine}, []string{"prov-db-stop-script or prov-db-start-script is not set"}},
		{Local, Actions{Stop: fine + " a", Start: "true"}, nil},
		{Local, Actions{Stop: "no-such-program-here", Start: "true 'a"}, []string{"local-db-stop-command", "quote"}},
		{OnPremise, Actions{}, nil},
		{OnPremise, Actions{Stop: plain, Start: "/not/there"}, []string{"onpremise-ssh-start-db-script"}},
	} {
		cfg := config(c.kind)
		cfg.OnPremise, cfg.Local, cfg.Script = c.actions, c.actions, c.actions
		got := Problems(cfg)
		if len(got) != len(c.want) {
			t.Errorf("%s %+v: %v", c.kind, c.actions, got)
			continue
		}
		for i, err := range got {
			if !strings.Contains(err.Error(), c.want[i]) {
				t.Errorf("%s: %v, want %q", c.kind, err, c.want[i])
			}
		}
	}
}

func TestARestartThatIsCutLeavesNoServerDown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stop    string
		timeout time.Duration
	}{
		"canceled":       {`echo stopped >>"$1.said"; exec sleep 300`, time.Minute},
		"without an end": {`echo stopped >>"$1.said"; exec sleep 300`, time.Second},
		"failed":         {`echo stopped >>"$1.said"; exit 4`, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := filepath.Join(t.TempDir(), "server")
			cfg := config(Local)
			cfg.Timeout = c.timeout
			cfg.Local = Actions{Stop: program(t, "stop", c.stop) + " " + base, Start: program(t, "start", `echo started >>"$1.said"`) + " " + base}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			ended := make(chan error, 1)
			go func() { ended <- mustNew(t, cfg).Restart(ctx, Target{Cluster: "prod", Server: server}) }()
			bustest.Until(t, time.Minute, "it comes to that", func() bool {
				text, _ := os.ReadFile(base + ".said")
				return len(text) > 0
			})
			if name == "canceled" {
				cancel(errors.New("somebody said no"))
			}
			if err := <-ended; err == nil {
				t.Error("a stop that failed counts as a restart")
			}
			if got := read(t, base+".said"); got != "stopped\nstarted\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}
