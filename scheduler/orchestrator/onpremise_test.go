package orchestrator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/internal/sshdtest"
	"drydock/scheduler/sshrun"
)

// host is a real SSH server with a systemctl that writes down what it is asked for.
func host(t *testing.T, systemctl string) (cfg Config, said string) {
	t.Helper()
	bin := t.TempDir()
	said = filepath.Join(bin, "said")
	for _, name := range []string{"systemctl", "sudo"} {
		text := `printf '%s' "${0##*/}" >>` + said + `; printf ' <%s>' "$@" >>` + said + `; echo >>` + said + "\n" + systemctl
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/bash\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sshd := sshdtest.Start(t, map[string]string{"PATH": bin + ":" + os.Getenv("PATH")})
	cfg = config(OnPremise)
	cfg.Cluster.Login = sshrun.Login{Port: sshd.Port, User: sshd.User, KeyFile: sshd.KeyFile, KnownHosts: sshd.KnownHosts}
	return cfg, said
}

func TestOnPremiseCallsSystemctl(t *testing.T) {
	t.Parallel()
	cfg, said := host(t, "echo done >&2")
	var lines []string
	target := Target{Cluster: "prod", Server: server, Output: func(s string) { lines = append(lines, s) }}
	o := mustNew(t, cfg)
	for _, do := range []func(context.Context, Target) error{o.Stop, o.Start, o.Restart} {
		if err := do(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Sudo, cfg.Unit = true, "mariadb@3307.service"
	if err := mustNew(t, cfg).Stop(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	want := "systemctl <stop> <mariadb>\nsystemctl <start> <mariadb>\nsystemctl <restart> <mariadb>\n" +
		"sudo <-n> <systemctl> <stop> <mariadb@3307.service>\n"
	if got := read(t, said); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := strings.Join(lines, " "); got != "done done done done" {
		t.Errorf("output is %q", got)
	}
	for _, unit := range []string{"a; touch x", "-H", "", "a b", "$(x)"} {
		cfg.Unit = unit
		if err := mustNew(t, cfg).Stop(t.Context(), target); err == nil {
			t.Errorf("unit %q is taken", unit)
		}
	}
	if got := read(t, said); got != want {
		t.Errorf("a wrong unit was handed on:\n%s", got)
	}
}

func TestOnPremiseSaysWhatSystemctlSaid(t *testing.T) {
	t.Parallel()
	cfg, _ := host(t, "echo 'Unit mariadb.service not found.' >&2; exit 5")
	err := mustNew(t, cfg).Stop(t.Context(), Target{Cluster: "prod", Server: server})
	if err == nil || !strings.Contains(err.Error(), "systemctl stop mariadb on 127.0.0.1: exit status 5: Unit mariadb.service not found.") {
		t.Errorf("error is %v", err)
	}
}

func TestOnPremiseFeedsTheUsersScript(t *testing.T) {
	t.Parallel()
	cfg, said := host(t, "")
	out := filepath.Join(t.TempDir(), "out")
	// The argument list of the shell shows that nothing secret is in it.
	text := `echo "$DRYDOCK_ACTION $REPLICATION_MANAGER_HOST_PORT" >>` + out + "\n" +
		`tr '\0' ' ' </proc/$$/cmdline >>` + out + `; [[ $MYSQL_ROOT_PASSWORD == 'pass word'\''"$x' ]]`
	script := program(t, "script", text)
	cfg.OnPremise = Actions{Stop: script, Start: script, Bootstrap: script}
	o := mustNew(t, cfg)
	for _, do := range []func(context.Context, Target) error{o.Restart, o.Reprovision} {
		if err := do(t.Context(), Target{Cluster: "prod", Server: server}); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, out); got != "stop 3399\nbash -s start 3399\nbash -s reprovision 3399\nbash -s " {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(said); err == nil {
		t.Error("systemctl was called")
	}
}

func TestOnPremiseEndsWhatRunsThere(t *testing.T) {
	t.Parallel()
	cfg, _ := host(t, "")
	file := filepath.Join(t.TempDir(), "pids")
	cfg.OnPremise.Stop = program(t, "stop", `sleep 300 & echo "$$ $!" >`+file+`.new; mv `+file+`.new `+file+`; wait`)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- mustNew(t, cfg).Stop(ctx, Target{Cluster: "prod", Server: server}) }()
	bustest.Until(t, time.Minute, "it comes to that", func() bool { _, err := os.Stat(file); return err == nil })
	cancel(errors.New("somebody said no"))
	began := time.Now()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "somebody said no") {
		t.Errorf("error is %v", err)
	}
	for _, word := range strings.Fields(read(t, file)) {
		pid, _ := strconv.Atoi(word)
		bustest.Until(t, time.Minute, "it comes to that", func() bool { return gone(pid) })
	}
	if late := time.Since(began); late > 8*time.Second { // else the connection was cut, and nobody asked for the end
		t.Errorf("the end took %s", late)
	}
}
