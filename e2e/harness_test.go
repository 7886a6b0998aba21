// Package e2e runs the drydock binary as a user would: real mariadbd, mariadb-backup, socat, openssl, the real dbjobs
// script, one process that can be killed at any line.
package e2e

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/internal/bustest"
	"drydock/internal/freeport"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/internal/splitrig"
	"drydock/job"
	"drydock/store"
)

// password holds every character that has broken a script before.
// It is ours alone: tests of other packages, which run at the same time, hand theirs to clients as arguments.
const password = `p'a"s s$w\o%r&d é#e2e`

var (
	binary     string // the drydock under test, built once
	natsServer string // the official one, built once, with -split
)

// atOnce is how many tests run at once however few cores there are: they wait for servers and clocks most of their time.
const atOnce = "4"

func TestMain(m *testing.M) {
	if rig := os.Getenv(keeperVar); rig != "" {
		os.Exit(keepApart(rig, os.Args[1:]))
	}
	flag.Parse()
	os.Exit(func() int {
		parallel := atOnce
		if *apart {
			parallel, bustest.Patience = "1", slower // each is ten processes
		}
		if err := flag.Set("test.parallel", parallel); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		dir, err := os.MkdirTemp("", "drydock-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "drydock")
		if out, err := exec.Command("go", "build", "-o", binary, "drydock/cmd/drydock").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build drydock: %v\n%s", err, out)
			return 1
		}
		if natsServer = filepath.Join(dir, "nats-server"); *apart {
			if err := splitrig.Build("..", natsServer); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

// site is one drydock and the servers it looks after.
type site struct {
	t       *testing.T
	dir     string
	toml    string
	api     int // HTTPS port, fixed so that scripts find a restarted drydock
	servers []*mariadbd.Server
	secret  string // the database password
	here    string // data folder of the receiver on whose host the commands run

	rig     *splitrig.Rig // with -split; nil: one process
	offered job.Job       // with -split: the last that was seen to be offered
	proc    *process
}

// process is one running drydock.
type process struct {
	cmd   *exec.Cmd
	addrs chan app.Addresses // one send when it is up
	done  chan struct{}      // closed when it has ended
	log   *tailBuffer
}

// options of a site; zero values give one server, sql mode, fast timers.
type options struct {
	mode    string
	keys    string // further lines of [Default] or the cluster
	global  string
	servers []*mariadbd.Server
	secret  string // password of the server that is started when there are no others; empty: password
}

func newSite(t *testing.T, o options) *site {
	t.Helper()
	if o.mode == "" {
		o.mode = "sql"
	}
	if o.secret == "" {
		o.secret = password
	}
	if o.servers == nil {
		o.servers = []*mariadbd.Server{mariadbdtest.Start(t, mariadbd.Options{Password: o.secret, LogBin: true})}
	}
	s := &site{t: t, dir: t.TempDir(), api: freeport.Pick(t), servers: o.servers, secret: o.secret}
	s.here = filepath.Join(s.dir, "data")
	var hosts []string
	for _, m := range o.servers {
		hosts = append(hosts, m.Addr())
	}
	quoted, _ := json.Marshal("drydock:" + o.secret) // a TOML basic string reads like a JSON one here
	s.toml = filepath.Join(s.dir, "drydock.toml")
	where, claimed := `nats-listen = "127.0.0.1:0"`, "5s"
	if *apart {
		where, claimed = s.splitKeys(), "30s" // ten processes on two cores are slow
	}
	text := fmt.Sprintf(`
[Default]
monitoring-datadir = %q
monitoring-address = "127.0.0.1"
bind-address = "127.0.0.1"
http-server = false
api-port = %d
api-credentials = "admin:secret"
api-credentials-acl-allow = "admin:cluster db"
%s
log-format = "json"
log-level = "debug"
receiver-name = "test"
monitoring-ticker = "200ms"
disk-reserve = "0"
nats-jobs-max-bytes = "64MiB"
nats-tasks-max-bytes = "64MiB"
nats-logs-max-bytes = "64MiB"
nats-alerts-max-bytes = "16MiB"
nats-deadletters-max-bytes = "16MiB"
%s
[lab]
db-servers-hosts = %q
db-servers-credential = %s
scheduler-jobs-mode = %q
scheduler-jobs-check-timeout = "5s"
scheduler-jobs-claim-timeout = %q
%s
`, filepath.Join(s.dir, "data"), s.api, where, o.global, strings.Join(hosts, ","), quoted, o.mode, claimed, o.keys)
	if err := os.WriteFile(s.toml, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop(syscall.SIGTERM)
		if t.Failed() && s.proc != nil {
			t.Logf("drydock said:\n%s", s.proc.log.last(60))
		}
	})
	return s
}

// start runs drydock and returns when it is up.
func (s *site) start(args ...string) *site {
	s.t.Helper()
	p := &process{addrs: make(chan app.Addresses, 1), done: make(chan struct{}), log: &tailBuffer{}}
	p.cmd = s.serve(args...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go p.read(stderr)
	s.proc = p
	select {
	case <-p.addrs:
	case <-p.done:
		s.t.Fatalf("drydock ended at start:\n%s", p.log.last(20))
	case <-time.After(patience(2 * time.Minute)):
		s.t.Fatalf("drydock is not up:\n%s", p.log.last(20))
	}
	return s
}

func (p *process) read(r io.Reader) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		p.log.add(sc.Text())
		var line struct {
			Msg, API, NATS string
		}
		if json.Unmarshal(sc.Bytes(), &line) == nil && line.Msg == "drydock is up" {
			p.addrs <- app.Addresses{API: line.API, NATS: line.NATS}
		}
	}
	_ = p.cmd.Wait()
	close(p.done)
}

// stop ends drydock with a signal and waits for it.
func (s *site) stop(sig syscall.Signal) {
	s.t.Helper()
	p := s.proc
	if p == nil {
		return
	}
	select {
	case <-p.done:
		return
	default:
	}
	var parts []int
	if s.rig != nil {
		parts = childrenOf(p.cmd.Process.Pid)
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		s.t.Errorf("drydock did not stop on %s:\n%s", sig, p.log.last(30))
	}
	killed(s.t, parts)
}

// kill is kill -9, then a start on the same data.
func (s *site) killAndStart() {
	s.t.Helper()
	s.stop(syscall.SIGKILL)
	s.start()
}

// remote is how the bus is reached from outside of drydock.
func (s *site) remote() bus.Remote {
	s.t.Helper()
	cfg, err := config.Load(s.toml)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := app.Remote(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// bus connects as the CLI does.
func (s *site) bus() *bus.Conn {
	s.t.Helper()
	cfg, err := config.Load(s.toml)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := app.Dial(bustest.Context(s.t), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.NC.Close)
	return c
}

// cli runs a drydock command and returns what it printed.
func (s *site) cli(args ...string) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience(2*time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "--config", s.toml)...)
	cmd.Env = s.environ()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustCLI is cli for commands that have to work.
func (s *site) mustCLI(args ...string) string {
	s.t.Helper()
	out, err := s.cli(args...)
	if err != nil {
		s.t.Fatalf("drydock %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// run asks for a task on the first server and returns the job's id.
func (s *site) run(task string) string {
	s.t.Helper()
	out := s.mustCLI("run", "lab", task, "--server", s.servers[0].Addr())
	return strings.Fields(out)[0]
}

func (s *site) server() job.Server { return job.Server{Host: "127.0.0.1", Port: s.servers[0].Port()} }

func (s *site) key(task string) job.Key {
	return job.Key{Cluster: "lab", Server: s.server(), Task: task}
}

// await waits until the slot's last job fits.
func (s *site) await(task, what string, fits func(job.Job) bool) job.Job {
	s.t.Helper()
	return s.awaitKey(s.key(task), what, fits)
}

func (s *site) awaitKey(k job.Key, what string, fits func(job.Job) bool) job.Job {
	s.t.Helper()
	c := s.bus()
	jobs := store.NewJobs(c, "test", nil)
	deadline := time.Now().Add(patience(60 * time.Second))
	var last job.Job
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		j, _, err := jobs.Last(ctx, k)
		cancel()
		if err == nil {
			if last = j; fits(j) {
				return j
			}
		}
		select {
		case <-s.t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.t.Fatalf("%s: not %s; it is %s (%s), evidence %+v, stream %+v", k.Task, what, last.State, last.Reason, last.Evidence, last.Stream)
	return last
}

// awaitState waits for the job with this id to be in a state.
func (s *site) awaitState(id, task string, want job.State) job.Job {
	s.t.Helper()
	j := s.await(task, string(want), func(j job.Job) bool { return j.ID == id && j.State == want })
	if s.rig != nil && want == job.Available {
		s.offered = j
	}
	return j
}

// awaitEnd waits for the job with this id to end.
func (s *site) awaitEnd(id, task string) job.Job {
	s.t.Helper()
	return s.await(task, "ended", func(j job.Job) bool { return j.ID == id && !j.State.Live() })
}

// host is the database host of one server: it runs the real script there.
type host struct {
	s      *site
	server *mariadbd.Server
	state  string
	env    []string
	script string   // the file that is run; empty: the one of this version
	stderr *os.File // of the script in the background; nil: thrown away
}

func (s *site) host(i int) *host {
	return &host{s: s, server: s.servers[i], state: s.t.TempDir()}
}

// cycle runs one cycle of the script and returns what it printed.
func (h *host) cycle() string {
	h.s.t.Helper()
	begun, out := time.Now(), h.once()
	for range cyclesMissed {
		if !h.s.missed() {
			break
		}
		select {
		case <-h.s.t.Context().Done():
		case <-time.After(time.Second): // in life a minute
		}
		h.s.t.Logf("%s: the gateway had not heard of it; once more after %s", h.s.offered.Task, time.Since(begun))
		out += h.once()
	}
	h.s.offered = job.Job{}
	return out
}

func (h *host) once() string {
	h.s.t.Helper()
	cmd := h.command("--once")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.s.t.Logf("dbjobs: %v\n%s", err, out)
	}
	return string(out)
}

// background starts a cycle and returns its process, which is ended with the test.
func (h *host) background(args ...string) *exec.Cmd {
	h.s.t.Helper()
	cmd := h.command(args...)
	if h.stderr != nil {
		cmd.Stderr = h.stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	h.s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
	})
	return cmd
}

func (h *host) command(args ...string) *exec.Cmd {
	cmd := exec.Command(cmp.Or(h.script, "../scripts/dbjobs"), args...)
	cmd.Env = append(os.Environ(),
		"REPLICATION_MANAGER_URL=https://127.0.0.1:"+strconv.Itoa(h.s.api),
		"REPLICATION_MANAGER_URL_HOST=127.0.0.1",
		"REPLICATION_MANAGER_URL_PORT="+strconv.Itoa(h.s.api),
		"REPLICATION_MANAGER_CLUSTER_NAME=lab",
		"REPLICATION_MANAGER_HOST_NAME=127.0.0.1",
		"REPLICATION_MANAGER_HOST_PORT="+strconv.Itoa(h.server.Port()),
		"REPLICATION_MANAGER_HOST_USER=drydock",
		"REPLICATION_MANAGER_HOST_PASSWORD="+h.s.secret,
		"DRYDOCK_STATE_DIR="+h.state,
	)
	cmd.Env = append(cmd.Env, h.env...)
	return cmd
}

// tailBuffer keeps the last lines of a log.
type tailBuffer struct {
	mu    sync.Mutex
	lines []string
}

func (b *tailBuffer) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *tailBuffer) last(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines[max(0, len(b.lines)-n):], "\n")
}

func (b *tailBuffer) text() string { return b.last(1 << 30) }

func itoa(n int) string { return strconv.Itoa(n) }
