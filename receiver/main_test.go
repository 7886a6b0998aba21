package receiver

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/freeport"
	"drydock/job"
	"drydock/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon = 10 * time.Second // what happens at once happens within this, on a busy machine too

var local = job.Server{Host: "127.0.0.1", Port: 3306}

// rig is a pool on a real bus, and the rest of drydock's part played by the test.
type rig struct {
	t    *testing.T
	conn *bus.Conn
	view *store.View
	jobs *store.Jobs
	dir  string
	pool *Pool
	stop func() // ends the pool and waits; may be repeated
	n    atomic.Int64
}

func newRig(t *testing.T, edit func(*Config)) *rig {
	t.Helper()
	g := &rig{t: t, conn: bustest.Start(t), dir: t.TempDir(), stop: func() {}}
	g.follow(g.conn)
	g.start(edit)
	return g
}

// follow runs the view and ends the pool before it.
func (g *rig) follow(c *bus.Conn) {
	g.view = store.NewView(c)
	g.jobs = store.NewJobs(c, "receiver@rcv", g.view)
	bustest.Run(g.t, g.view.Run)
	g.t.Cleanup(func() { g.stop() })
}

func (g *rig) config(edit func(*Config)) Config {
	cfg := Config{
		Name: "rcv", DataDir: g.dir, Bind: "127.0.0.1", Address: "127.0.0.1", DrainTimeout: 50 * time.Millisecond,
		Clusters: map[string]Cluster{"prod": {Servers: []job.Server{local}}}, Log: bustest.Log(g.t),
	}
	signer, err := store.NewSigner(bustest.Context(g.t), g.conn)
	if err != nil {
		g.t.Fatal(err)
	}
	cfg.Sign = signer.Sign
	if edit != nil {
		edit(&cfg)
	}
	return cfg
}

// start runs a pool: the first one, or the next process on the same folder and bus.
func (g *rig) start(edit func(*Config)) {
	g.t.Helper()
	pool, err := New(g.config(edit), g.conn, g.jobs, g.view, store.NewCatalog(g.conn))
	if err != nil {
		g.t.Fatal(err)
	}
	pool.watchEvery = 10 * time.Millisecond
	g.run(pool)
}

func (g *rig) run(pool *Pool) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := pool.Run(ctx); err != nil {
			g.t.Error(err)
		}
	})
	g.pool = pool
	g.stop = func() {
		cancel()
		wg.Wait()
	}
	// What it serves is announced one by one, this one last.
	bustest.Until(g.t, soon, "the receiver answers", func() bool {
		_, err := bus.Request[struct{}](bustest.Context(g.t), g.conn, bus.ReceiverSubject("rcv", bus.VerbSend), bus.SendRequest{})
		return !errors.Is(err, bus.ErrNobody)
	})
}

// queued makes a job of the task, due at a time of its own.
func (g *rig) queued(task string) job.Job { return g.queuedAt(local, task) }

func (g *rig) queuedAt(s job.Server, task string) job.Job {
	g.t.Helper()
	k := job.Key{Cluster: "prod", Server: s, Task: task}
	due := time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC).Add(time.Duration(g.n.Add(1)) * time.Second)
	j, err := g.jobs.Create(bustest.Context(g.t), job.Job{
		State: job.Queued, ID: job.NewID(due, "t", k), Cluster: "prod", Server: s, Task: task, Due: due, Mode: job.SQL,
	}, "due")
	if err != nil {
		g.t.Fatal(err)
	}
	return j
}

func (g *rig) open(j job.Job) (bus.OpenReply, error) {
	return bus.Request[bus.OpenReply](bustest.Context(g.t), g.conn, bus.SubjectReceiverOpen,
		bus.OpenRequest{Key: j.Key(), JobID: j.ID, Attempt: j.Attempt})
}

// offered reserves a port and offers the job there.
func (g *rig) offered(j job.Job) job.Job {
	g.t.Helper()
	rep, err := g.open(j)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.offer(j, job.Dispatch{Receiver: rep.Receiver, Address: rep.Address, Port: rep.Port, Row: 1})
}

func (g *rig) offer(j job.Job, d job.Dispatch) job.Job {
	g.t.Helper()
	return g.apply(j, store.Change{Event: job.Offer, Edit: func(j *job.Job) { j.Dispatch = d }})
}

func (g *rig) apply(j job.Job, ch store.Change) job.Job {
	g.t.Helper()
	j, err := g.jobs.Apply(bustest.Context(g.t), store.RefOf(j), ch)
	if err != nil {
		g.t.Fatalf("%s: %v", ch.Event, err)
	}
	return j
}

func (g *rig) event(j job.Job, events ...job.Event) job.Job {
	g.t.Helper()
	for _, e := range events {
		j = g.apply(j, store.Change{Event: e, Reason: "test"})
	}
	return j
}

// processing is a job whose worker works and may stream to the port.
func (g *rig) processing(task string) job.Job {
	g.t.Helper()
	return g.event(g.offered(g.queued(task)), job.Start)
}

func (g *rig) last(j job.Job) job.Job {
	g.t.Helper()
	now, _, err := g.jobs.Last(bustest.Context(g.t), j.Key())
	if err != nil {
		g.t.Fatal(err)
	}
	return now
}

// when waits until the job is as wanted.
func (g *rig) when(j job.Job, what string, ok func(job.Job) bool) job.Job {
	g.t.Helper()
	bustest.Until(g.t, soon, what, func() bool { return ok(g.last(j)) })
	return g.last(j)
}

func (g *rig) whenState(j job.Job, s job.State) job.Job {
	g.t.Helper()
	return g.when(j, "the job is "+string(s), func(j job.Job) bool { return j.State == s })
}

func complete(j job.Job) bool { return j.Stream != nil && j.Stream.Complete }
func opened(j job.Job) bool   { return j.Stream != nil && !j.Stream.Opened.IsZero() }

// streamed sends data to the job's port and waits until it is recorded as whole.
func (g *rig) streamed(j job.Job, data []byte) job.Job {
	g.t.Helper()
	c := g.dial(j)
	if _, err := c.Write(data); err != nil {
		g.t.Fatal(err)
	}
	c.Close()
	return g.when(j, "the stream is recorded as complete", complete)
}

func (g *rig) dial(j job.Job) *net.TCPConn {
	g.t.Helper()
	return dialFrom(g.t, "127.0.0.1", j.Dispatch.Port)
}

func dialFrom(t *testing.T, from string, port int) *net.TCPConn {
	t.Helper()
	c, err := tryDial(t, from, port)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryDial(t *testing.T, from string, port int) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: soon}
	c, err := d.DialContext(bustest.Context(t), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn), nil
}

// wantTurnedAway connects from an address that is not the server's.
func wantTurnedAway(t *testing.T, port int) {
	t.Helper()
	c, err := tryDial(t, "127.0.0.2", port)
	if err == nil {
		wantReset(t, c)
	} else if !errors.Is(err, syscall.ECONNRESET) { // the reset may come before connect returns
		t.Error(err)
	}
}

func (g *rig) commit(j job.Job) (bus.CommitReply, error) {
	return bus.Request[bus.CommitReply](bustest.Context(g.t), g.conn, bus.ReceiverSubject("rcv", bus.VerbCommit),
		bus.CommitRequest{Job: j, Checks: []job.Check{{Name: "stream", Held: true}}})
}

func (g *rig) published(j job.Job) bus.CommitReply {
	g.t.Helper()
	rep, err := g.commit(j)
	if err != nil {
		g.t.Fatal(err)
	}
	return rep
}

// succeed takes a job whose stream is complete to its end, as the closer does.
func (g *rig) succeed(j job.Job) job.Job {
	g.t.Helper()
	g.published(g.event(j, job.Done))
	return g.event(j, job.Pass)
}

// files lists the folder of the local server, hidden names too.
func (g *rig) files(kind job.Kind) (names []string) {
	g.t.Helper()
	entries, err := os.ReadDir(g.pool.cfg.folder(kind, "prod", local))
	if err != nil && !os.IsNotExist(err) {
		g.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// temps are the files being received.
func (g *rig) temps(kind job.Kind) (names []string) {
	for _, n := range g.files(kind) {
		if strings.HasSuffix(n, ".part") {
			names = append(names, n)
		}
	}
	return names
}

func (g *rig) noTemp(kind job.Kind) {
	g.t.Helper()
	bustest.Until(g.t, soon, "no temporary file is left", func() bool { return len(g.temps(kind)) == 0 })
}

// portFree waits until somebody else may bind the port.
func (g *rig) portFree(port int) {
	g.t.Helper()
	bustest.Until(g.t, soon, "the port is free", func() bool {
		g.pool.ports.mu.Lock()
		defer g.pool.ports.mu.Unlock()
		_, held := g.pool.ports.held[port]
		return !held
	})
}

// wantFailure writes until the connection breaks: an orderly end would look like success to the sender.
func wantFailure(t *testing.T, c *net.TCPConn) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(soon))
	block := make([]byte, 64<<10)
	for {
		if _, err := c.Write(block); err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				t.Error("the sender was never told")
			}
			return
		}
	}
}

// wantReset reads until the other side resets.
func wantReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(soon))
	if _, err := io.Copy(io.Discard, c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
}

func freePorts(t *testing.T, n int) (out []int) {
	t.Helper()
	for range n {
		out = append(out, freeport.Pick(t))
	}
	return out
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func changeOf(e job.Event, reason string) store.Change { return store.Change{Event: e, Reason: reason} }
