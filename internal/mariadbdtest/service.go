package mariadbdtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"drydock/internal/mariadbd"
)

// Service is a stand-in for systemd that has one unit, a server of the test. Its systemctl takes `stop`, `start` and
// `restart` of that unit and nothing else, and behaves like the tool: it comes back when that is done, and what is so
// already is a success. A file FAIL-ACTION in Dir makes an action fail.
type Service struct {
	Dir  string // holds systemctl; to be put first in PATH
	Unit string
}

// serviceScript is filled with unit, pid file, socket, option file, output file.
const serviceScript = `#!/bin/bash
dir=${BASH_SOURCE%%/*}
echo "$*" >>"$dir/said"
[[ $# == 2 && $2 == %[1]s ]] || { echo "Unit or arguments not known: $*" >&2; exit 5; }
[[ ! -e $dir/FAIL-$1 ]] || { echo "Job for $2 failed." >&2; exit 1; }
running() {
	[[ -s %[2]s ]] || return 1
	read -r pid <%[2]s
	kill -0 "$pid" 2>/dev/null && [[ $(<"/proc/$pid/stat") != *') Z '* ]]
}
stop() {
	running || return 0
	kill -TERM "$pid"
	while running; do sleep 0.05; done
}
start() {
	running && return 0
	rm -f %[2]s
	root=()
	((EUID)) || root=(--user=root)
	setsid mariadbd --defaults-file=%[4]s "${root[@]}" >>%[5]s 2>&1 </dev/null &
	until [[ -s %[2]s ]] && mariadb-admin --no-defaults --socket=%[3]s ping >/dev/null 2>&1; do
		kill -0 $! 2>/dev/null || { echo "Job for $2 failed because the control process exited." >&2; exit 1; }
		sleep 0.05
	done
}
case $1 in
stop) stop ;;
start) start ;;
restart) stop; start ;;
*) exit 5 ;;
esac
`

// NewService writes the stand-in for a server. What it starts ends with the test.
func NewService(t testing.TB, m *mariadbd.Server, unit string) *Service {
	t.Helper()
	s := &Service{Dir: t.TempDir(), Unit: unit}
	quote := func(p string) string { return "'" + strings.ReplaceAll(p, "'", `'\''`) + "'" }
	pidFile := filepath.Join(m.Dir(), "mariadbd.pid")
	text := fmt.Sprintf(serviceScript, quote(unit), quote(pidFile), quote(m.Socket()), quote(m.ConfigFile()), quote(filepath.Join(m.Dir(), "mariadbd.out")))
	if err := os.WriteFile(filepath.Join(s.Dir, "systemctl"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	first := m.PID()
	t.Cleanup(func() {
		data, err := os.ReadFile(pidFile)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil || pid == first || pid == 0 {
			return // the first is the server's own to end
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		for syscall.Kill(pid, 0) == nil { // its folder must not be removed under it
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(stat), ") Z ") {
				break
			}
		}
	})
	return s
}

// Systemctl is the path of the stand-in.
func (s *Service) Systemctl() string { return filepath.Join(s.Dir, "systemctl") }

// Path is a PATH with the stand-in in front.
func (s *Service) Path() string { return s.Dir + ":" + os.Getenv("PATH") }

// Fail makes an action fail from now on, or not.
func (s *Service) Fail(t testing.TB, action string, yes bool) {
	t.Helper()
	file := filepath.Join(s.Dir, "FAIL-"+action)
	err := os.Remove(file)
	if yes {
		err = os.WriteFile(file, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Said are the arguments of all calls, one a line.
func (s *Service) Said(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.Dir, "said"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}
