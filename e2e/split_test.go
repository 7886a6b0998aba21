package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/internal/splitrig"
	"drydock/job"
	"drydock/store"
)

// split is the profile of that name in compose.yaml, as processes.
type split struct {
	*site
	rig     *splitrig.Rig
	running map[string]*process
	conn    *bus.Conn // of the test; it outlives a server that is killed
}

func newSplit(t *testing.T) *split {
	t.Helper()
	s := &split{site: &site{t: t, dir: t.TempDir()}, running: map[string]*process{}}
	var err error
	if s.rig, err = splitrig.New("..", s.dir); err != nil {
		t.Fatal(err)
	}
	s.rig.Drydock, s.rig.NATS = binary, filepath.Join(s.dir, "nats-server")
	if err := splitrig.Build("..", s.rig.NATS); err != nil {
		t.Fatal(err)
	}
	s.secret = s.rig.Secrets["DB_PASSWORD"]
	s.servers = []*mariadbd.Server{
		mariadbdtest.Start(t, mariadbd.Options{Password: s.secret, LogBin: true}),
		mariadbdtest.Start(t, mariadbd.Options{Password: s.secret, LogBin: true}),
	}
	t.Cleanup(s.stopAll)
	return s
}

// config writes the file that compose mounts into a drydock, with this machine's addresses and folders, and returns its path.
// The second server is a cluster of its own in api mode, so that both ways of dispatching run beside each other.
func (s *split) config(name string) string {
	s.t.Helper()
	out, err := s.rig.Text(name)
	if err != nil {
		s.t.Fatal(err)
	}
	out = strings.Replace(out, "db-1:3306,db-2:3306", s.servers[0].Addr(), 1) + fmt.Sprintf(`
scheduler-db-servers-logs-cron  = "* * * * * *"
scheduler-db-servers-logs-tasks = "errorlog"

[api]
db-servers-hosts      = %q
db-servers-credential = "drydock:env:DB_PASSWORD"
scheduler-jobs-mode   = "api"
scheduler-jobs-retry  = 2
`, s.servers[1].Addr())
	out = strings.Replace(out, "[shop]", "[lab]\nscheduler-jobs-mode = \"sql\"", 1)
	if name == "cli" {
		for secret, value := range s.rig.Secrets {
			out = strings.ReplaceAll(out, "env:"+secret, value)
		}
	}
	path := filepath.Join(s.dir, name+".toml")
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// up starts services as compose would, and does not wait for them.
func (s *split) up(names ...string) {
	s.t.Helper()
	for _, name := range names {
		cmd, err := s.rig.Command(name, s.config(name), "DRYDOCK_MONITORING_TICKER=200ms", "DRYDOCK_DISK_RESERVE=0",
			"DRYDOCK_SCHEDULER_JOBS_LEASE=15s", "DRYDOCK_SCHEDULER_JOBS_CLAIM_TIMEOUT=5s")
		if err != nil {
			s.t.Fatal(err)
		}
		p := &process{cmd: cmd, done: make(chan struct{}), log: &tailBuffer{}}
		stderr, err := p.cmd.StderrPipe()
		if err == nil {
			err = p.cmd.Start()
		}
		if err != nil {
			s.t.Fatal(err)
		}
		go func() {
			for sc := bufio.NewScanner(stderr); sc.Scan(); {
				p.log.add(sc.Text())
			}
			_ = p.cmd.Wait()
			close(p.done)
		}()
		s.running[name] = p
	}
}

// kill is kill -9.
func (s *split) kill(names ...string) {
	for _, name := range names {
		_ = s.running[name].cmd.Process.Kill()
		<-s.running[name].done
	}
}

func (s *split) signal(sig syscall.Signal, names ...string) {
	for _, name := range names {
		_ = s.running[name].cmd.Process.Signal(sig)
	}
}

func (s *split) stopAll() {
	for name := range s.running {
		if splitrig.IsNATS(name) {
			defer s.kill(name) // after those that use it
			continue
		}
		s.signal(syscall.SIGTERM, name)
		s.signal(syscall.SIGCONT, name)
	}
	for name, p := range s.running {
		if !splitrig.IsNATS(name) {
			select {
			case <-p.done:
			case <-time.After(60 * time.Second):
				s.t.Errorf("%s does not stop", name)
				s.kill(name)
			}
		}
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", name, p.log.last(25))
		}
	}
}

// ready asks /readyz of a gateway, 0 when nobody answers.
func (s *split) ready(name string) (code int, body string) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	res, err := client.Get("https://" + s.rig.Addrs[name] + ":10005/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

func (s *split) awaitReady(names ...string) {
	s.t.Helper()
	for _, name := range names {
		bustest.Until(s.t, 90*time.Second, name+" is ready", func() bool {
			code, _ := s.ready(name)
			return code == http.StatusOK
		})
	}
}

// scriptOf runs the loop that the database containers run, on the host of server i.
func (s *split) scriptOf(i int, cluster string) (tool string) {
	h := s.host(i)
	h.script = "../packaging/compose/dbjobs-loop"
	dir := h.slowTool(s.t)
	h.env = append(h.env, "REPLICATION_MANAGER_URL_HOST=", "REPLICATION_MANAGER_URL_PORT=", "REPLICATION_MANAGER_CLUSTER_NAME="+cluster,
		"DRYDOCK_URLS=https://"+s.rig.Addrs["gateway-1"]+":10005 https://"+s.rig.Addrs["gateway-2"]+":10005",
		"DRYDOCK_EVERY=1", "DBJOBS=../scripts/dbjobs")
	h.background()
	return dir
}

// ask asks for a task until the bus takes the order: while it elects a leader it takes none.
func (s *split) ask(cluster, task string, i int) (id string) {
	s.t.Helper()
	bustest.Until(s.t, 90*time.Second, task+" can be asked for", func() bool {
		out, err := s.cli("run", cluster, task, "--server", s.servers[i].Addr())
		if err != nil {
			s.t.Logf("drydock run: %v: %s", err, out)
			return false
		}
		id = strings.Fields(out)[0]
		return true
	})
	return id
}

// endsWithin is for a job whose receiver, gateway, scheduler and bus leader die at once: on a quiet machine the lease (15 s), the
// wait before the next attempt (5 s), an election (10 s) and the script's tries at the dead gateway (20 s) are a minute
// together, and each grows with the load.
const endsWithin = 4 * time.Minute

// awaitJob waits until the slot's last job fits, also while the bus elects a leader.
func (s *split) awaitJob(k job.Key, what string, fits func(job.Job) bool) (last job.Job) {
	s.t.Helper()
	jobs := store.NewJobs(s.conn, "test", nil)
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the slot's last job: %+v", last)
		}
	}()
	bustest.Until(s.t, endsWithin, k.Cluster+" "+k.Task+" is "+what, func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		defer cancel()
		j, _, err := jobs.Last(ctx, k)
		if err == nil {
			last = j
		}
		return err == nil && fits(j)
	})
	return last
}

func (s *split) slot(i int, cluster, task string) job.Key {
	return job.Key{Cluster: cluster, Server: job.Server{Host: "127.0.0.1", Port: s.servers[i].Port()}, Task: task}
}

// TestSplitLosesNothingWhenOneProcessOfEachRoleDies: the dangers are a process that does not start before its bus or
// never recovers from its absence, an offer, lease or stream that died with its owner and holds the server for ever, and
// a tick, backup or log line that two processes take for theirs.
func TestSplitLosesNothingWhenOneProcessOfEachRoleDies(t *testing.T) {
	t.Parallel()
	s := newSplit(t)
	s.toml = s.config("cli")

	// A gateway that is there before its bus says so, and gets well by itself.
	s.up("gateway-1")
	bustest.Until(t, 30*time.Second, "the gateway answers", func() bool { code, _ := s.ready("gateway-1"); return code != 0 })
	if code, body := s.ready("gateway-1"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"bus"`) {
		t.Errorf("without a bus /readyz answers %d %s", code, body)
	}
	s.up("nats-1", "nats-2", "nats-3", "scheduler-1", "scheduler-2", "gateway-2", "receiver-1", "receiver-2", "alert")
	s.awaitReady("gateway-1", "gateway-2")

	s.conn = s.bus()

	tools := []string{s.scriptOf(0, "lab"), s.scriptOf(1, "api")}
	clusters := []string{"lab", "api"}
	ids := make([]string, 2)
	for i, cluster := range clusters {
		ids[i] = s.ask(cluster, "mariabackup", i)
	}
	var victim string
	for i, cluster := range clusters {
		awaitFile(t, filepath.Join(tools[i], "half"))
		j := s.awaitJob(s.slot(i, cluster, "mariabackup"), "streaming", func(j job.Job) bool { return j.State == job.Processing })
		victim = j.Dispatch.Receiver
		if j.Dispatch.Address != s.rig.Addrs[victim] {
			t.Errorf("%s says that it is reached at %s, not at %s", victim, j.Dispatch.Address, s.rig.Addrs[victim])
		}
	}
	dead := []string{victim, "gateway-1", "scheduler-1", s.leader(), "alert"}
	s.kill(dead...)
	for _, dir := range tools {
		touch(t, filepath.Join(dir, "go"))
	}
	for i, cluster := range clusters {
		k := s.slot(i, cluster, "mariabackup")
		j := s.awaitJob(k, "a success in spite of all", func(j job.Job) bool { return j.ID == ids[i] && j.State == job.Success })
		t.Logf("%s: attempt %d, by %s; dead: %v", cluster, j.Attempt, j.Dispatch.Receiver, dead)
	}
	s.up(dead...)
	s.awaitReady("gateway-1", "gateway-2")
	collect := func(when string, still ...string) {
		for i, cluster := range clusters {
			id, k := s.ask(cluster, "errorlog", i), s.slot(i, cluster, "errorlog")
			collected := func(j job.Job) bool { return j.ID >= id && j.State == job.Success }
			// What had all of a stream when it was stopped is the only one that can publish it, and is waited for ten minutes.
			holds := func(j job.Job) bool { return j.State == job.Finished && slices.Contains(still, j.Dispatch.Receiver) }
			j := s.awaitJob(k, "collected "+when, func(j job.Job) bool { return collected(j) || holds(j) })
			if !holds(j) {
				continue
			}
			s.signal(syscall.SIGCONT, j.Dispatch.Receiver)
			s.awaitJob(k, "published, and collected "+when, collected)
			s.signal(syscall.SIGSTOP, j.Dispatch.Receiver)
		}
	}
	collect("after the deaths")
	// What stands still closes no connection, and still nobody waits for it.
	still := []string{"gateway-2", "scheduler-1", "receiver-1", s.leader(), "alert"}
	s.signal(syscall.SIGSTOP, still...)
	collect("while one of each role stands still", still...)
	s.signal(syscall.SIGCONT, still...)
	s.awaitReady("gateway-1", "gateway-2")
	collect("after the others went on")
	s.checkTicksOnce()
	s.checkBackupsOnce()
	for i, cluster := range clusters {
		s.checkLogOnce(i, cluster)
	}
}

// leader is the NATS server that leads the stream of the jobs.
func (s *split) leader() string {
	s.t.Helper()
	stream, err := s.conn.JS.Stream(s.t.Context(), "DRYDOCK_JOBS")
	if err != nil {
		s.t.Fatal(err)
	}
	info := stream.CachedInfo()
	if info.Config.Replicas != 3 || info.Cluster == nil {
		s.t.Fatalf("the stream has %d copies", info.Config.Replicas)
	}
	if info.Config.Compression != jetstream.NoCompression {
		s.t.Error("the stream is compressed, which NATS servers do not survive in a cluster (bus/DESIGN.md)")
	}
	return info.Cluster.Leader
}

// checkBackupsOnce: one catalogued backup per server that verifies, and no file beside it on any receiver.
func (s *split) checkBackupsOnce() {
	s.t.Helper()
	var listed []struct{ Path string }
	if err := json.Unmarshal([]byte(s.mustCLI("backups", "-o", "json")), &listed); err != nil {
		s.t.Fatal(err)
	}
	var files []string
	for _, r := range []string{"receiver-1", "receiver-2"} {
		found, _ := filepath.Glob(filepath.Join(s.dir, r, "Backups", "*", "*", "*.xbstream"))
		files = append(files, found...)
	}
	if len(listed) != 2 || len(files) != 2 {
		s.t.Errorf("%d backups are listed, these files are there: %v", len(listed), files)
	}
}

// checkLogOnce compares what all receivers together have of a server's error log with the log itself.
func (s *split) checkLogOnce(i int, cluster string) {
	s.t.Helper()
	var got string
	for _, r := range []string{"receiver-1", "receiver-2"} {
		text, err := os.ReadFile(filepath.Join(s.dir, r, cluster, "127.0.0.1_"+itoa(s.servers[i].Port()), "log_error.log"))
		if err == nil {
			got += string(text)
		}
	}
	whole, err := os.ReadFile(s.servers[i].ErrorLog())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(got) == 0 || len(got) > len(whole) {
		s.t.Fatalf("%s: the receivers have %d bytes of an error log of %d", cluster, len(got), len(whole))
	}
	sorted := func(text string) string {
		lines := strings.SplitAfter(text, "\n")
		slices.Sort(lines)
		return strings.Join(lines, "")
	}
	if sorted(got) != sorted(string(whole[:len(got)])) {
		s.t.Errorf("%s: the receivers have other lines than the server wrote:\n%s\n---\n%s", cluster, got, whole)
	}
}
