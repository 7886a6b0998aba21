package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"drydock/internal/mariadbd"
)

const (
	password     = `ch"a'o s$\%` // has what breaks quoting
	natsPassword = "chaos-bus"
	cluster      = "lab"
	receiverName = "chaos"
	diskSize     = "512m"
	fillBytes    = 8 << 20
	upWithin     = 60 * time.Second
)

// schedule is how often each task is due, in seconds; each divides a minute, so that the instants are those seconds.
var schedule = map[string]int{"errorlog": 5, "slowquery": 5, "mariabackup": 10, "optimize": 15, "analyze": 6}

// site is one drydock, its database, and the script that works there.
type site struct {
	dir, binary, scriptFile string
	mode                    string
	marker                  string // in the environment of all that is started
	api, nats               int
	mounted                 bool // the data folder is a small file system of its own

	db      *mariadbd.Server
	drydock *process
	script  *process
	notes   []string // what happened beside the plan
}

// newSite starts everything below dir.
func newSite(ctx context.Context, dir, binary, scriptFile, mode string) (*site, error) {
	s := &site{dir: dir, binary: binary, scriptFile: scriptFile, mode: mode, marker: "DRYDOCK_CHAOS=" + dir}
	for _, name := range []string{"data", "state", "tmp", "tool", "sent", "db"} {
		if err := os.MkdirAll(s.path(name), 0o700); err != nil {
			return s, err
		}
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=0700,size="+diskSize, "tmpfs", s.path("data")).CombinedOutput(); err != nil {
		s.note("no small disk, so none gets full: mount: %v: %s", err, strings.TrimSpace(string(out)))
	} else {
		s.mounted = true
	}
	var err error
	if s.db, err = mariadbd.Start(ctx, mariadbd.Options{Dir: s.path("db"), Password: password, LogBin: true}); err != nil {
		return s, err
	}
	if err := mariadbd.Generate(ctx, s.db, fillBytes, nil); err != nil {
		return s, err
	}
	if s.api, err = freePort(); err != nil {
		return s, err
	}
	if s.nats, err = freePort(); err != nil {
		return s, err
	}
	if err := s.writeTool(); err != nil {
		return s, err
	}
	if err := s.writeConfig(true); err != nil {
		return s, err
	}
	if err := s.startDrydock(ctx); err != nil {
		return s, err
	}
	return s, s.startScript()
}

func (s *site) path(name ...string) string { return filepath.Join(append([]string{s.dir}, name...)...) }

func (s *site) note(format string, args ...any) {
	s.notes = append(s.notes, time.Now().UTC().Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

// writeConfig writes drydock's configuration, with the schedules on or off.
func (s *site) writeConfig(on bool) error {
	text := fmt.Sprintf(`
[Default]
monitoring-datadir = %q
monitoring-address = "127.0.0.1"
monitoring-ticker = "200ms"
bind-address = "127.0.0.1"
http-server = false
api-port = %d
api-credentials = "admin:secret"
api-credentials-acl-allow = "admin:cluster db"
nats-listen = "127.0.0.1:%d"
nats-password = %q
log-format = "json"
receiver-name = %q
receiver-accept-timeout = "10s"
receiver-idle-timeout = "10s"
receiver-drain-timeout = "2s"
disk-reserve = "0"
nats-jobs-max-bytes = "256MiB"
nats-tasks-max-bytes = "128MiB"
nats-logs-max-bytes = "256MiB"
nats-alerts-max-bytes = "16MiB"
nats-notifications-max-bytes = "16MiB"
nats-audit-max-bytes = "16MiB"
nats-deadletters-max-bytes = "16MiB"

[%s]
db-servers-hosts = %q
db-servers-credential = %s
monitoring-scheduler = %t
scheduler-timezone = "UTC"
scheduler-jobs-mode = %q
scheduler-jobs-lease = "15s"
scheduler-jobs-pickup-timeout = "30s"
scheduler-jobs-claim-timeout = "5s"
scheduler-jobs-check-timeout = "5s"
scheduler-jobs-retry = 1
compress-backups = "zstd"
backup-hash = "sha256"
scheduler-db-servers-logs = true
scheduler-db-servers-logs-cron = "*/%d * * * * *"
scheduler-db-servers-physical-backup = true
scheduler-db-servers-physical-backup-cron = "*/%d * * * * *"
scheduler-db-servers-optimize = true
scheduler-db-servers-optimize-cron = "*/%d * * * * *"
scheduler-db-servers-analyze = true
scheduler-db-servers-analyze-cron = "*/%d * * * * *"
`, s.path("data"), s.api, s.nats, natsPassword, receiverName, cluster, s.db.Addr(), strconv.Quote("drydock:"+password), on, s.mode,
		schedule["errorlog"], schedule["mariabackup"], schedule["optimize"], schedule["analyze"])
	return os.WriteFile(s.path("drydock.toml"), []byte(text), 0o600)
}

// writeTool puts a mariadb-backup before the real one that notes the SHA-256 of what the real one wrote, and how it
// ended: what a backup is compared with comes from before the script had a hand in it.
func (s *site) writeTool() error {
	text := `#!/bin/bash
real=$(PATH=${PATH#*:} command -v mariadb-backup)
case " $* " in *" --stream="*) ;; *) exec "$real" "$@" ;; esac
base=` + s.path("sent") + `/$(date +%s%N)-$$
mkfifo "$base.pipe"
sha256sum < "$base.pipe" > "$base.sum" & sum=$!
"$real" "$@" | tee "$base.pipe"
ends="${PIPESTATUS[*]}"
wait "$sum"
rm -f "$base.pipe"
echo "$ends" > "$base.exit"
exit "${ends%% *}"
`
	for _, name := range []string{"mariadb-backup", "mariabackup"} {
		if err := os.WriteFile(s.path("tool", name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// startDrydock starts drydock and waits until it is up.
func (s *site) startDrydock(ctx context.Context) error {
	if err := s.launchDrydock(); err != nil {
		return err
	}
	return s.awaitUp(ctx)
}

func (s *site) launchDrydock() (err error) {
	cmd := exec.Command(s.binary, "serve", "--config", s.path("drydock.toml"))
	cmd.Env = append(os.Environ(), s.marker, "TMPDIR="+s.path("tmp"))
	s.drydock, err = start(cmd, `"drydock is up"`)
	return err
}

var errNotUp = errors.New("drydock is not up")

func (s *site) awaitUp(ctx context.Context) error {
	select {
	case <-s.drydock.up:
		return nil
	case <-s.drydock.done:
		return fmt.Errorf("%w: it ended:\n%s", errNotUp, s.drydock.said())
	case <-time.After(upWithin):
		return fmt.Errorf("%w after %s:\n%s", errNotUp, upWithin, s.drydock.said())
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *site) startScript() (err error) {
	cmd := exec.Command("bash", s.scriptFile, "--loop", "1")
	port := strconv.Itoa(s.api)
	cmd.Env = append(os.Environ(), s.marker, "TMPDIR="+s.path("tmp"),
		"PATH="+s.path("tool")+":"+os.Getenv("PATH"),
		"REPLICATION_MANAGER_URL=https://127.0.0.1:"+port,
		"REPLICATION_MANAGER_URL_HOST=127.0.0.1",
		"REPLICATION_MANAGER_URL_PORT="+port,
		"REPLICATION_MANAGER_CLUSTER_NAME="+cluster,
		"REPLICATION_MANAGER_HOST_NAME=127.0.0.1",
		"REPLICATION_MANAGER_HOST_PORT="+strconv.Itoa(s.db.Port()),
		"REPLICATION_MANAGER_HOST_USER=drydock",
		"REPLICATION_MANAGER_HOST_PASSWORD="+password,
		"DRYDOCK_STATE_DIR="+s.path("state"))
	s.script, err = start(cmd, "")
	return err
}

// scriptProcesses are those of the script, its loop and orphans of earlier ones included.
func (s *site) scriptProcesses() []relative {
	return relatives("DRYDOCK_STATE_DIR=" + s.path("state"))
}

// close ends everything and says what would not go. The folder stays the caller's.
func (s *site) close() (err error) {
	if s.script != nil {
		if e := s.script.stop(30 * time.Second); e != nil {
			err = errors.Join(err, e)
		}
	}
	if s.drydock != nil {
		if e := s.drydock.stop(60 * time.Second); e != nil {
			err = errors.Join(err, fmt.Errorf("%w:\n%s", e, s.drydock.said()))
		}
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Kill())
	}
	return err
}

// sweep kills what is left of the run.
func (s *site) sweep() {
	for _, r := range relatives(s.marker) {
		_ = syscall.Kill(r.pid, syscall.SIGKILL)
	}
}

// remove takes the folder of the run away, and the small disk in it.
func (s *site) remove() {
	if s.mounted {
		_ = exec.Command("umount", "-l", s.path("data")).Run()
	}
	_ = os.RemoveAll(s.dir)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
