package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"drydock/bench/paired"
)

const (
	cluster      = "lab"
	natsPassword = "bench-bus"
	maxServers   = 60_000 // loopback addresses that are handed out here
	upWithin     = 2 * time.Minute
)

// site is one drydock with so many servers.
type site struct {
	dir, mode   string
	own         bool // also the tasks that drydock does itself
	servers     int
	clusters    int                  // that they are shared out to
	ticker      int                  // monitoring-ticker, s
	dbPorts     []int                // of the real servers, which the entries are dealt out to
	dbCPU       func() time.Duration // what the real servers have used so far
	http, natsP int
	proc        *paired.Process
	pid         int
	started     time.Duration // from the start of the process until it says that it is ready
	nc          *nats.Conn
	js          jetstream.JetStream
}

// newSite starts a drydock whose schedules are off, and waits until it is ready.
func (b *bench) newSite(ctx context.Context, mode string, servers int, dbPorts []int) (s *site, err error) {
	s = &site{mode: mode, own: b.own, servers: servers, clusters: min(b.clusters, servers), ticker: b.ticker, dbPorts: dbPorts, dbCPU: b.dbCPU}
	if s.dir, err = os.MkdirTemp(b.dir, "site-"); err != nil {
		return nil, err
	}
	for _, port := range []*int{&s.http, &s.natsP} {
		if *port, err = paired.FreePort("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	if err := s.configure(time.Time{}); err != nil {
		return nil, err
	}
	cmd := exec.Command(b.binary, "serve", "--config", s.file())
	begun := time.Now()
	if s.proc, err = paired.Start(cmd); err != nil {
		return nil, err
	}
	s.pid = cmd.Process.Pid
	if err := s.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.started = time.Since(begun)
	s.nc, err = nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", s.natsP), nats.UserInfo("drydock", natsPassword), nats.Timeout(30*time.Second))
	if err == nil {
		s.js, err = jetstream.New(s.nc, jetstream.WithDefaultTimeout(30*time.Second))
	}
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *site) file() string { return filepath.Join(s.dir, "drydock.toml") }

// tasks are those that the script does and a schedule starts on every server. With own also those that drydock does itself.
var (
	tasks    = []string{"errorlog", "slowquery", "auditlog", "sqlerrorlog", "mariabackup", "optimize"}
	ownTasks = []string{"analyze", "logstablerotate", "schemamonitor"}
)

// free are those that wait for no other job of their server: the others need it for themselves, one after the other.
var free = map[string]bool{"errorlog": true, "slowquery": true, "auditlog": true, "sqlerrorlog": true}

// configure writes the configuration; every task falls due at due, none while that is zero.
func (s *site) configure(due time.Time) error {
	var keys strings.Builder
	names := []string{"logs", "physical-backup", "optimize"}
	if s.own {
		names = append(names, "analyze", "logs-table-rotate", "schema-monitor")
	}
	for _, name := range names {
		due := due.UTC()
		fmt.Fprintf(&keys, "scheduler-db-servers-%s = %t\n", name, due.Year() > 1)
		fmt.Fprintf(&keys, "scheduler-db-servers-%s-cron = \"%d %d %d * * *\"\n", name, due.Second(), due.Minute(), due.Hour())
	}
	text := fmt.Appendf(nil, `
[Default]
monitoring-datadir = %q
monitoring-address = "127.0.0.1"
monitoring-ticker = "%ds"
bind-address = "127.0.0.1"
http-server = true
http-port = %d
api-port = 0
api-credentials = "admin:secret"
api-credentials-acl-allow = "admin:cluster db"
nats-listen = "127.0.0.1:%d"
nats-password = %q
disk-reserve = "0"
log-level = "warn"
`, filepath.Join(s.dir, "data"), s.ticker, s.http, s.natsP, natsPassword)
	for c := range s.clusters {
		var hosts []string
		for i := c * s.servers / s.clusters; i < (c+1)*s.servers/s.clusters; i++ {
			hosts = append(hosts, s.server(i))
		}
		text = fmt.Appendf(text, `[%s]
db-servers-hosts = %q
db-servers-credential = "%s:%s"
monitoring-scheduler = true
scheduler-timezone = "UTC"
scheduler-jobs-mode = %q
scheduler-db-servers-logs-tasks = "errorlog,slowquery,auditlog,sqlerrorlog"
scheduler-db-servers-receiver-ports = "20000-24095"
%s`, clusterName(c), strings.Join(hosts, ","), user, password, s.mode, keys.String())
	}
	return os.WriteFile(s.file(), text, 0o600)
}

// clusterName is the name of one of several clusters; the first has the name of an only one.
func clusterName(i int) string {
	if i == 0 {
		return cluster
	}
	return fmt.Sprintf("%s%d", cluster, i)
}

// server is an entry as the configuration has it.
func (s *site) server(i int) string {
	return fmt.Sprintf("%s:%d", address(i), s.dbPorts[i%len(s.dbPorts)])
}

// address is a loopback address of its own for an entry.
func address(i int) string { return fmt.Sprintf("127.%d.%d.%d", 1+i/62_500, 1+i/250%250, 1+i%250) }

// entry is which one has the address.
func entry(ip net.IP) int {
	ip = ip.To4()
	return (int(ip[1])-1)*62_500 + (int(ip[2])-1)*250 + int(ip[3]) - 1
}

// due are the tasks of the second that is measured.
func (s *site) due() []string {
	if s.own {
		return slices.Concat(tasks, ownTasks)
	}
	return tasks
}

// arm makes every task fall due in a moment, once.
func (s *site) arm() (due time.Time, err error) {
	// Far enough away for a reload with this many servers, which takes part in the tick otherwise.
	due = time.Now().Truncate(time.Second).Add(8*time.Second + time.Duration(s.servers/1000+s.clusters/30)*time.Second)
	if err := s.configure(due); err != nil {
		return due, err
	}
	return due, syscall.Kill(s.pid, syscall.SIGHUP)
}

func (s *site) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/readyz", s.http), nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.proc.Done():
			_, err := s.proc.Wait(ctx)
			return errors.Join(errors.New("drydock ended"), err)
		case <-ctx.Done():
			return fmt.Errorf("wait for drydock with %d servers: %w", s.servers, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop ends drydock and removes its folder. One that does not end in time is killed: its figures are known by then.
func (s *site) stop() error {
	if s.nc != nil {
		s.nc.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), upWithin)
	defer cancel()
	err := s.proc.Stop(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// idle is what drydock uses while nothing is due.
type idle struct {
	memory int64   // bytes
	cpu    float64 // of one core
}

// rest lets drydock settle, then looks at it for a while.
func (s *site) rest(ctx context.Context, settle, look time.Duration) (i idle, err error) {
	if err := pause(ctx, settle); err != nil {
		return i, err
	}
	before, err := s.proc.CPU()
	if err != nil {
		return i, err
	}
	begun := time.Now()
	if err := pause(ctx, look); err != nil {
		return i, err
	}
	after, err := s.proc.CPU()
	if err != nil {
		return i, err
	}
	i.cpu = (after - before).Seconds() / time.Since(begun).Seconds()
	i.memory, err = s.proc.Memory()
	return i, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
