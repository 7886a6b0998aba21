package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// senderArg makes a process of this test binary a sender, as `drydock send-notification` is.
const senderArg = "send-notification"

// victimEnv makes it a notifier that kills itself; see [TestKillsAroundASendNeitherLoseNorRepeatWhatWasRecorded].
const victimEnv = "DRYDOCK_TEST_VICTIM"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == senderArg {
		os.Exit(SendMain(os.Stdin, os.Stderr))
	}
	if spec := os.Getenv(victimEnv); spec != "" {
		victim(spec)
	}
	bustest.Main(m)
}

const soon = 20 * time.Second // what happens at once happens within this, on a busy machine too

var (
	db1 = job.Server{Host: "10.0.1.5", Port: 3306}
	db2 = job.Server{Host: "10.0.1.6", Port: 3306}
)

// rig is a bus with conditions that the test opens and closes, and a clock that it sets.
type rig struct {
	t    *testing.T
	srv  *bus.Server
	conn *bus.Conn
	log  *lockedBuffer

	mu   sync.Mutex
	time time.Time
	seqs map[string]uint64
	open map[string]bus.Alert
}

func newRig(t *testing.T) *rig {
	t.Helper()
	srv, conn := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0"})
	return &rig{t: t, srv: srv, conn: conn, log: &lockedBuffer{}, time: time.Now(), seqs: map[string]uint64{}, open: map[string]bus.Alert{}}
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.time
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.time = r.time.Add(d)
}

// begin opens a condition of a cluster's server, as an evaluator would, and returns its name and the id of the edge.
func (r *rig) begin(cluster string, s job.Server, code string, severity bus.Severity) (name, id string) {
	r.t.Helper()
	return r.edge(bus.AlertSubject(cluster, s.Host, s.Port, code), bus.Alert{
		State: bus.AlertOpened, Code: code, Severity: severity, Cluster: cluster, Server: s, Text: code + " holds", Since: time.Now().UTC(),
	})
}

func (r *rig) end(cluster string, s job.Server, code string) {
	r.t.Helper()
	subject := bus.AlertSubject(cluster, s.Host, s.Port, code)
	a := r.open[subject]
	a.State = bus.AlertClosed
	r.edge(subject, a)
}

func (r *rig) edge(subject string, a bus.Alert) (name, id string) {
	r.t.Helper()
	a, seq, err := store.NewAlerts(r.conn, "alert@test").Append(bustest.Context(r.t), subject, r.seqs[subject], a)
	if err != nil {
		r.t.Fatal(err)
	}
	r.seqs[subject], r.open[subject] = seq, a
	return bus.Condition(subject), a.ID
}

// config is one for these destinations, without a pause to gather.
func (r *rig) config(actor string, destinations ...Destination) Config {
	for i := range destinations {
		if destinations[i].Timeout == 0 {
			destinations[i].Timeout = soon
		}
	}
	return Config{
		Actor: actor, Log: slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Destinations: destinations, Repeat: 4 * time.Hour, Sender: []string{os.Args[0], senderArg},
	}
}

// desk is a notifier that follows the bus and looks when the test says so.
type desk struct {
	*Notifier
	r       *rig
	workers map[string]*worker
	stop    func()
}

func (r *rig) desk(cfg Config) *desk {
	r.t.Helper()
	n, err := New(cfg, r.conn, store.NewView(r.conn))
	if err != nil {
		r.t.Fatal(err)
	}
	n.now = r.now
	d := &desk{Notifier: n, r: r, workers: map[string]*worker{}}
	for _, to := range cfg.Destinations {
		d.workers[to.Name] = &worker{n: n, to: to, kick: make(chan struct{}, 1)}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	known, recalled := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		_ = bus.Follow(ctx, r.conn, bus.StreamAlerts, bus.AllAlerts, bus.From{LastPerSubject: true}, n.learn, func() { close(known) })
	})
	wg.Go(func() {
		_ = bus.Follow(ctx, r.conn, bus.StreamNotifications, bus.AllNotifications, bus.From{}, n.recall, func() { close(recalled) })
	})
	<-known
	<-recalled
	d.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(d.stop)
	return d
}

// look waits until the notifier knows every edge, and has each worker look once.
func (d *desk) look() *desk {
	d.r.t.Helper()
	bustest.Until(d.r.t, soon, "the notifier knows every edge", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for subject, seq := range d.r.seqs {
			if d.conds[bus.Condition(subject)].seq < seq {
				return false
			}
		}
		return true
	})
	var wg sync.WaitGroup
	for _, w := range d.workers {
		wg.Go(func() {
			if err := w.runOnce(bustest.Context(d.r.t)); err != nil {
				d.r.t.Error(err)
			}
		})
	}
	wg.Wait()
	return d
}

// record lists what stands on the stream, oldest first.
func (r *rig) record() (out []bus.Notification) {
	r.t.Helper()
	err := bus.Read(bustest.Context(r.t), r.conn, bus.StreamNotifications, bus.AllNotifications, bus.From{}, func(_ bus.Meta, n bus.Notification) error {
		out = append(out, n)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// hook is a web server that takes notifications.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	bodies []string
	paths  []string
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{status: http.StatusOK}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.bodies, h.paths = append(h.bodies, string(body)), append(h.paths, r.URL.String())
		w.WriteHeader(h.status)
		fmt.Fprint(w, `{"id":"x","status":"ok"}`)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) answer(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

func (h *hook) got() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.bodies...)
}

// url is the hook as the library spells it; JSON is posted there.
func (h *hook) url() string { return "generic+" + h.URL + "/hook?template=json" }

// sent is the last JSON that came.
func (h *hook) sent(t *testing.T) (m struct{ ID, Title, Message, Severity string }) {
	t.Helper()
	all := h.got()
	if len(all) == 0 {
		t.Fatal("nothing came")
	}
	if err := json.Unmarshal([]byte(all[len(all)-1]), &m); err != nil {
		t.Fatalf("%v: %s", err, all[len(all)-1])
	}
	return m
}

func (h *hook) want(t *testing.T, n int, when string) {
	t.Helper()
	if got := h.got(); len(got) != n {
		t.Fatalf("%s: %d messages came, want %d: %q", when, len(got), n, got)
	}
}

// lockedBuffer is a log that goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// script puts a program into a folder of the test.
func script(t *testing.T, text string) (path, dir string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "script")
	if err := os.WriteFile(path, []byte("#!/bin/bash\ncd "+dir+"\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, dir
}

// victim runs a notifier, in a process of its own, that is killed at a step: "STEP URL-OF-THE-BUS URL-OF-THE-HOOK".
func victim(spec string) {
	f := strings.Fields(spec)
	conn, err := bus.ConnectRemote(bus.Remote{URL: f[1], User: "drydock", Password: "test"}, "victim", slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	n, err := New(Config{
		Actor: "alert@a", Destinations: []Destination{{Name: "chat", URL: f[2], Timeout: soon}}, Sender: []string{os.Args[0], senderArg},
	}, conn, store.NewView(conn))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	n.step = func(name string) {
		if name == f[0] {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it does not return
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Fprintln(os.Stderr, n.Run(ctx))
	os.Exit(1)
}
