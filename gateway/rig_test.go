package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/gateway"
	"drydock/gateway/envelope"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

const password = `p'a"s s$w\o%r&d é#`

var (
	db1 = job.Server{Host: "127.0.0.1", Port: 3306}
	db2 = job.Server{Host: "db2.example.com", Port: 3307}
	db6 = job.Server{Host: "fd00::6", Port: 3306}
)

// rig is a gateway on a real bus and real listeners, with a receiver that only answers.
type rig struct {
	t    *testing.T
	conn *bus.Conn
	view *store.View
	jobs *store.Jobs
	deps gateway.Deps
	g    *gateway.Gateway
	cfg  gateway.Config
	stop func() error // ends the gateway and returns what Run said; may be called twice
	rx   *fakeReceiver
}

// newRig starts a gateway with the clusters `sql`, `api` and `apisecret`, each with the same servers.
func newRig(t *testing.T, change ...func(*gateway.Config)) *rig {
	t.Helper()
	conn := bustest.Start(t)
	r := &rig{t: t, conn: conn, view: store.NewView(conn)}
	bustest.Run(t, r.view.Run)
	r.jobs = store.NewJobs(conn, "gateway@test", r.view)
	r.deps = gateway.Deps{Conn: conn, Jobs: r.jobs, Ledger: store.NewLedger(conn, "gateway@test"), View: r.view, Catalog: store.NewCatalog(conn), Docs: store.NewDocs(conn)}
	r.cfg = config(t)
	for _, f := range change {
		f(&r.cfg)
	}
	r.g, r.stop = start(t, r.cfg, r.deps)
	<-r.view.Ready()
	r.rx = newFakeReceiver(t, conn)
	return r
}

func config(t *testing.T) gateway.Config {
	cluster := func(name string, mode job.Mode, secret bool) gateway.Cluster {
		return gateway.Cluster{Name: name, Servers: []job.Server{db1, db2, db6}, User: "drydock", Password: password, Mode: mode, AcceptSecret: secret, BatchSize: 7, LogLevel: "WARN"}
	}
	return gateway.Config{
		Name: "gateway@test", Bind: "127.0.0.1", Address: "10.0.1.5", TLSDir: t.TempDir(), Version: "1.2.3", Log: bustest.Log(t),
		Users:    map[string]string{"admin": "repman", "dba": "x", "viewer": "y", "nobody": "z"},
		Grants:   map[string][]string{"admin": {"cluster", "db", "prov"}, "dba": {"db-logs", "db-jobs"}, "viewer": {"proxy"}},
		Clusters: []gateway.Cluster{cluster("sql", job.SQL, false), cluster("api", job.API, false), cluster("apisecret", job.API, true)},
	}
}

func start(t *testing.T, cfg gateway.Config, deps gateway.Deps) (*gateway.Gateway, func() error) {
	t.Helper()
	g, err := gateway.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return g, run(t, g)
}

// run runs a gateway until stop is called or the test ends.
func run(t *testing.T, g *gateway.Gateway) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return stop
}

// fakeReceiver answers reservations from a pool of one port per call.
type fakeReceiver struct {
	mu     sync.Mutex
	opened []bus.OpenRequest
	fail   *bus.ServiceError
	checks chan bus.CheckReply // one for each awaited script
	subs   []*nats.Subscription
}

func newFakeReceiver(t *testing.T, conn *bus.Conn) *fakeReceiver {
	t.Helper()
	rx := &fakeReceiver{checks: make(chan bus.CheckReply)}
	answer := func(m *nats.Msg, v any, fail *bus.ServiceError) {
		out := nats.NewMsg(m.Reply)
		if fail != nil {
			out.Header.Set("Nats-Service-Error-Code", fail.Code)
			out.Header.Set("Nats-Service-Error", fail.Message)
		} else {
			out.Data, _ = json.Marshal(v)
		}
		_ = m.RespondMsg(out)
	}
	for subject, f := range map[string]nats.MsgHandler{
		bus.SubjectReceiverOpen: func(m *nats.Msg) {
			var req bus.OpenRequest
			_ = json.Unmarshal(m.Data, &req)
			rx.mu.Lock()
			defer rx.mu.Unlock()
			if rx.fail == nil {
				rx.opened = append(rx.opened, req)
			}
			answer(m, bus.OpenReply{Receiver: "rx", Address: "10.9.8.7", Port: 4001}, rx.fail)
		},
		bus.ReceiverSubject("rx", bus.VerbCheck): func(m *nats.Msg) {
			if got, ok := <-rx.checks; ok {
				answer(m, got, nil)
			}
		},
	} {
		sub, err := conn.NC.Subscribe(subject, f)
		if err != nil {
			t.Fatal(err)
		}
		rx.subs = append(rx.subs, sub)
	}
	t.Cleanup(rx.leave)
	if err := conn.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	return rx
}

// leave makes nobody answer any more.
func (rx *fakeReceiver) leave() {
	for _, sub := range rx.subs {
		_ = sub.Unsubscribe()
	}
}

func (rx *fakeReceiver) refuse(code, message string) {
	rx.mu.Lock()
	defer rx.mu.Unlock()
	rx.fail = nil
	if code != "" {
		rx.fail = &bus.ServiceError{Code: code, Message: message}
	}
}

func (rx *fakeReceiver) count() int {
	rx.mu.Lock()
	defer rx.mu.Unlock()
	return len(rx.opened)
}

// offered is a job of a task that waits to be taken.
func (r *rig) offered(cluster string, s job.Server, task string) job.Job {
	r.t.Helper()
	key := job.Key{Cluster: cluster, Server: s, Task: task}
	mode := job.API
	if cluster == "sql" {
		mode = job.SQL
	}
	due := time.Now().UTC()
	_, err := r.jobs.Create(r.ctx(), job.Job{
		State: job.Queued, ID: job.NewID(due, bus.NewMessageID(), key), Cluster: cluster, Server: s, Task: task, Mode: mode,
		Trigger: job.Trigger{Kind: job.Manual, By: "test"}, Due: due,
	}, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return r.apply(key, job.Offer, nil)
}

// apply moves the job of a slot.
func (r *rig) apply(key job.Key, e job.Event, edit func(*job.Job)) job.Job {
	r.t.Helper()
	j, err := r.jobs.Apply(r.ctx(), store.Ref{Key: key}, store.Change{Event: e, Reason: "test", Edit: edit})
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

// last is what the log says of a slot's job.
func (r *rig) last(key job.Key) (job.Job, uint64) {
	r.t.Helper()
	j, seq, err := r.jobs.Last(r.ctx(), key)
	if err != nil && !errors.Is(err, store.ErrNone) {
		r.t.Fatal(err)
	}
	return j, seq
}

func (r *rig) ctx() context.Context { return bustest.Context(r.t) }

// batches are the log messages on disk.
func (r *rig) batches() []bus.LogBatch {
	r.t.Helper()
	var out []bus.LogBatch
	if err := bus.Read(r.ctx(), r.conn, bus.StreamLogs, bus.AllLogs, bus.From{}, func(_ bus.Meta, b bus.LogBatch) error {
		out = append(out, b)
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
	return out
}

func path(cluster string, s job.Server, rest string) string {
	return fmt.Sprintf("/api/clusters/%s/servers/%s/%d%s", cluster, s.Host, s.Port, rest)
}

// answer is what a client saw.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %q", a.status, a.body) }

// call is an ordinary keep-alive client's request; auth is a token or empty.
func (r *rig) call(method, path, token string, body []byte) answer {
	r.t.Helper()
	return callAt(r.t, r.g.HTTPAddr(), method, path, token, body)
}

func callAt(t *testing.T, addr net.Addr, method, path, token string, body []byte) answer {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+addr.String()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "drydock-dbjobs/test")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	got := do(t, req)
	conforms(t, method, path, got)
	return got
}

func do(t *testing.T, req *http.Request) answer {
	t.Helper()
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(data)}
}

// want fails the test unless the answer is exactly this.
func (r *rig) want(got answer, status int, body string) {
	r.t.Helper()
	if got.status != status || body != "" && got.body != body {
		r.t.Errorf("got %s, want %d %q", got, status, body)
	}
}

var cipher = envelope.New(password)

// seal is the body of a client; members are further members of the identity as JSON, for example `"log":"x"`.
func seal(s job.Server, members ...string) []byte {
	return cipher.Seal([]byte(identity(s, password, members...)))
}

func identity(s job.Server, secret string, members ...string) string {
	name, _ := json.Marshal(s.String())
	pass, _ := json.Marshal(secret)
	return fmt.Sprintf(`{"server":%s,"secret":%s%s}`, name, pass, strings.Join(append([]string{""}, members...), ","))
}

// token logs a database host in.
func (r *rig) token(cluster string, s job.Server) string {
	r.t.Helper()
	got := r.call("POST", path(cluster, s, "/secret-login"), "", seal(s))
	var out struct{ Token string }
	if err := json.Unmarshal([]byte(got.body), &out); err != nil || out.Token == "" {
		r.t.Fatalf("secret-login answered %s", got)
	}
	return out.Token
}

// user logs an operator in.
func (r *rig) user(name string) string {
	r.t.Helper()
	body, _ := json.Marshal(map[string]string{"username": name, "password": r.cfg.Users[name]})
	got := r.call("POST", "/api/login", "", body)
	var out struct{ Token string }
	if err := json.Unmarshal([]byte(got.body), &out); err != nil || out.Token == "" {
		r.t.Fatalf("login answered %s", got)
	}
	return out.Token
}

// decode reads a JSON answer.
func decode[T any](t *testing.T, got answer) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(got.body), &v); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	return v
}
