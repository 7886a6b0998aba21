package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"drydock/internal/mariadbd"
	"drydock/internal/splitrig"
)

const (
	password     = `ch"a'o s$\%` // has what breaks quoting
	natsPassword = "chaos-bus"
	cluster      = "lab"
	receiverName = "chaos"
	fillBytes    = 8 << 20
	upWithin     = 2 * time.Minute // on a loaded machine too
)

// site is one drydock, its database, and the script that works there.
type site struct {
	dir, binary, scriptFile string
	jobsMode                string // api or sql
	pace                    pace
	marker                  string // in the environment of all that is started
	api, nats               int    // ports of drydock, when it is one process
	disk                    disk   // of the data folder, when it is one process; otherwise of the server slowed
	split                   *split // the processes that it is split over; nil: it is one

	db     *mariadbd.Server
	parts  map[string]*process // of drydock, the bus's servers among them
	script *process
	notes  []string // what happened beside the plan
	// crashed says which part of drydock ended without being struck.
	crashed []string
	// staging are the folders outside of its own in which drydock had the bus stage its groups of messages.
	staging map[string]bool
}

// whole is the name of the only part of a drydock that is not split.
const whole = "drydock"

// newSite starts everything below dir.
func newSite(ctx context.Context, dir string, o options) (*site, error) {
	s := &site{dir: dir, binary: o.binary, scriptFile: o.script, jobsMode: o.jobsMode(), pace: o.pace, marker: "DRYDOCK_CHAOS=" + dir, parts: map[string]*process{}, staging: map[string]bool{}}
	for _, name := range []string{"data", "state", "tmp", "tool", "sent", "db"} {
		if err := os.MkdirAll(s.path(name), 0o700); err != nil {
			return s, err
		}
	}
	var err error
	if s.db, err = mariadbd.Start(ctx, mariadbd.Options{Dir: s.path("db"), Password: password, LogBin: true}); err != nil {
		return s, err
	}
	if err := mariadbd.Generate(ctx, s.db, fillBytes, nil); err != nil {
		return s, err
	}
	if o.split() {
		err = s.prepareSplit(o)
	} else {
		err = s.prepareWhole()
	}
	if err != nil {
		return s, err
	}
	if err := s.writeTool(); err != nil {
		return s, err
	}
	if err := s.writeConfig(true); err != nil {
		return s, err
	}
	if err := s.start(ctx, s.names()...); err != nil {
		return s, err
	}
	return s, s.startScript()
}

// prepareWhole makes the small disk and chooses the ports of a drydock that is one process.
func (s *site) prepareWhole() (err error) {
	if s.disk, err = mountDisk(s.path("data"), s.path("disk.img")); err != nil {
		s.note("no small disk, so none gets full or slow: %v", err)
	} else if s.disk.device == "" {
		s.note("a small disk in memory, which does not get slow: %v", s.disk.why)
	}
	if s.api, err = freePort(); err != nil {
		return err
	}
	s.nats, err = freePort()
	return err
}

// names are the parts in the order in which they are started.
func (s *site) names() []string {
	if s.split != nil {
		return append(s.split.servers(), s.split.drydocks()...)
	}
	return []string{whole}
}

// drydocks are the parts that are processes of drydock.
func (s *site) drydocks() []string {
	if s.split != nil {
		return s.split.drydocks()
	}
	return []string{whole}
}

// receivers are the names of the receivers on the bus.
func (s *site) receivers() []string {
	if s.split != nil {
		return []string{"receiver-1", "receiver-2"}
	}
	return []string{receiverName}
}

// homes are the folders in which the processes of drydock keep their files.
func (s *site) homes() (out []string) {
	if s.split == nil {
		return []string{s.path("data")}
	}
	for _, name := range s.drydocks() {
		out = append(out, s.split.rig.Home(name))
	}
	return out
}

// urls are where the API is.
func (s *site) urls() []string {
	if s.split != nil {
		return s.split.urls()
	}
	return []string{fmt.Sprintf("https://127.0.0.1:%d", s.api)}
}

func (s *site) path(name ...string) string { return filepath.Join(append([]string{s.dir}, name...)...) }

func (s *site) note(format string, args ...any) {
	s.notes = append(s.notes, time.Now().UTC().Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

// writeConfig writes drydock's configuration, with the schedules on or off.
func (s *site) writeConfig(on bool) error {
	own := fmt.Sprintf(`
monitoring-datadir = %q
monitoring-address = "127.0.0.1"
bind-address = "127.0.0.1"
api-port = %d
nats-listen = "127.0.0.1:%d"
nats-password = %q
receiver-name = %q
`, s.path("data"), s.api, s.nats, natsPassword, receiverName)
	if s.split != nil {
		own = s.split.keys // the rest stands in each one's environment
	}
	text := fmt.Sprintf(`
[Default]
%s
monitoring-ticker = "200ms"
http-server = false
api-credentials = "admin:secret"
api-credentials-acl-allow = "admin:cluster db"
log-format = "json"
receiver-accept-timeout = %q
receiver-idle-timeout = %q
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
scheduler-jobs-lease = %q
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
`, own, s.pace.accept, s.pace.accept, cluster, s.db.Addr(), strconv.Quote("drydock:"+password), on, s.jobsMode, s.pace.lease,
		s.pace.schedule["errorlog"], s.pace.schedule["mariabackup"], s.pace.schedule["optimize"], s.pace.schedule["analyze"])
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

// start starts parts and waits until they are up.
func (s *site) start(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := s.launch(name); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := s.awaitUp(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// launch starts a part and does not wait for it.
func (s *site) launch(name string) (err error) {
	s.noteStaging() // of the one before
	cmd, up := exec.Command(s.binary, "serve", "--config", s.path("drydock.toml")), `"drydock is up"`
	if s.split != nil {
		if cmd, err = s.split.command(name, s.path("drydock.toml")); err != nil {
			return err
		}
		if splitrig.IsNATS(name) {
			up = "Server is ready"
		}
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, s.marker, "TMPDIR="+s.path("tmp"))
	s.parts[name], err = start(cmd, up)
	return err
}

var errNotUp = errors.New("not up")

func (s *site) awaitUp(ctx context.Context, name string) error {
	p := s.parts[name]
	select {
	case <-p.up:
		return nil
	case <-p.done:
		return fmt.Errorf("%s is %w: it ended:\n%s", name, errNotUp, p.said())
	case <-time.After(upWithin):
		return fmt.Errorf("%s is %w after %s:\n%s", name, errNotUp, upWithin, p.said())
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *site) startScript() (err error) {
	cmd := exec.Command("bash", s.scriptFile, "--loop", "1")
	if s.split != nil {
		cmd = exec.Command("bash", s.split.loop) // which looks for a gateway that answers
	}
	cmd.Env = append(os.Environ(), s.marker, "TMPDIR="+s.path("tmp"),
		"PATH="+s.path("tool")+":"+os.Getenv("PATH"),
		"REPLICATION_MANAGER_URL="+s.urls()[0], "REPLICATION_MANAGER_URL_HOST=", "REPLICATION_MANAGER_URL_PORT=",
		"DRYDOCK_URLS="+strings.Join(s.urls(), " "), "DRYDOCK_EVERY=1", "DBJOBS="+s.scriptFile,
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

// noteStaging remembers where drydock stages groups of messages now.
func (s *site) noteStaging() {
	if dir, err := os.Readlink(s.path("data", "nats", "staging")); err == nil {
		s.staging[dir] = true
	}
}

// close ends everything and says what would not go. The folder stays the caller's.
func (s *site) close() (err error) {
	s.noteStaging()
	if s.script != nil {
		if e := s.script.stop(30 * time.Second); e != nil {
			err = errors.Join(err, e)
		}
	}
	for _, name := range slices.Backward(s.names()) { // the bus is there for the last words
		if p := s.parts[name]; p != nil {
			if e := p.stop(60 * time.Second); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w:\n%s", name, e, p.said()))
			}
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
	if s.split != nil {
		s.split.roads.close()
	}
	s.disk.unmount()
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
