package binlog

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
)

const (
	childEnv = "DRYDOCK_BINLOG_CHILD"
	soon     = 2 * time.Minute // for what happens at once, on a busy machine
	password = `p'a"s s$w\o%r&d é#`
)

// child is what a receiver in a process of its own works from.
type child struct {
	Name, Dir, Bus, Recipient, Compress string
	Servers                             []job.Server
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := archiveInChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	bustest.Main(m)
}

// archiveInChild is a receiver that can be killed.
func archiveInChild(text string) error {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // the test is gone
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(1)
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	conn, err := bus.ConnectRemote(bus.Remote{URL: c.Bus, User: "drydock", Password: "test"}, c.Name, log)
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	signer, err := store.NewSigner(ctx, conn)
	if err != nil {
		return err
	}
	cl := Cluster{Name: "prod", On: true, Servers: c.Servers, User: "drydock", Password: password, Flush: 50 * time.Millisecond, Compress: c.Compress}
	if c.Recipient != "" {
		if cl.Recipients, err = age.ParseRecipients(strings.NewReader(c.Recipient)); err != nil {
			return err
		}
	}
	cfg := Config{Name: c.Name, Actor: "receiver@" + c.Name, Dir: c.Dir, Clusters: []Cluster{cl}, Sign: signer.SignSegment, Log: log}
	return New(cfg, conn).Run(ctx)
}

// rig is a bus, two database servers and receivers that can be killed. The test plays the scheduler that asks for facts.
type rig struct {
	t       *testing.T
	conn    *bus.Conn
	url     string
	key     store.PublicKey
	servers []*mariadbd.Server
	id      *age.X25519Identity
	root    string
}

func newRig(t *testing.T, servers ...*mariadbd.Server) *rig {
	t.Helper()
	s, conn := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0"})
	signer, err := store.NewSigner(bustest.Context(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, conn: conn, url: s.Addr(), key: signer.Public(), servers: servers, id: id, root: t.TempDir()}
}

func serverOf(s *mariadbd.Server) job.Server { return job.Server{Host: "127.0.0.1", Port: s.Port()} }

// primary tells the receivers which server is the primary.
func (g *rig) primary(p *mariadbd.Server) {
	g.t.Helper()
	docs := store.NewDocs(g.conn)
	for _, s := range g.servers {
		f := store.Facts{Up: true, Role: store.RoleReplica, Time: time.Now().Add(time.Hour)}
		if s == p {
			f.Role = store.RolePrimary
		}
		if err := docs.Put(bustest.Context(g.t), "prod", serverOf(s), store.DocFacts, f); err != nil {
			g.t.Fatal(err)
		}
	}
}

// runner is a receiver that runs.
type runner struct {
	g   *rig
	cmd *exec.Cmd
	log string
}

// start runs a receiver in a process of its own.
func (g *rig) start(name string) *runner {
	g.t.Helper()
	c := child{Name: name, Dir: filepath.Join(g.root, name), Bus: g.url, Recipient: g.id.Recipient().String(), Compress: "zstd"}
	for _, s := range g.servers {
		c.Servers = append(c.Servers, serverOf(s))
	}
	text, err := json.Marshal(c)
	if err != nil {
		g.t.Fatal(err)
	}
	r := &runner{g: g, cmd: exec.Command(os.Args[0]), log: filepath.Join(g.root, name+".log")}
	_, err = os.Stat(r.log)
	first := err != nil
	out, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer out.Close()
	r.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	r.cmd.Stdout, r.cmd.Stderr = out, out
	if _, err := r.cmd.StdinPipe(); err != nil {
		g.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		r.kill()
		if text, err := os.ReadFile(r.log); first && err == nil && g.t.Failed() {
			g.t.Logf("log of %s:\n%s", name, text[max(0, len(text)-8<<10):])
		}
	})
	return r
}

func (r *runner) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
}

// stop ends it in order.
func (r *runner) stop() {
	r.g.t.Helper()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	if err := r.cmd.Wait(); err != nil {
		r.g.t.Errorf("the receiver ended with %v", err)
	}
}

func (g *rig) segments() []store.Segment {
	g.t.Helper()
	list, err := store.NewBinlogs(g.conn).List(bustest.Context(g.t), "prod")
	if err != nil {
		g.t.Fatal(err)
	}
	return list
}

// archived waits until the archive has all that the server has.
func (g *rig) archived(s *mariadbd.Server) {
	g.t.Helper()
	want := one(g.t, s, "SELECT @@gtid_binlog_pos")
	bustest.Until(g.t, soon, "the archive reaches "+want, func() bool {
		list := g.segments()
		return len(list) > 0 && list[len(list)-1].Own == want && list[len(list)-1].Server == serverOf(s)
	})
}

func run(t *testing.T, s *mariadbd.Server, statements ...string) {
	t.Helper()
	db := open(t, s)
	defer db.Close()
	for _, q := range statements {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func open(t *testing.T, s *mariadbd.Server) *sql.DB {
	t.Helper()
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func one(t *testing.T, s *mariadbd.Server, query string) (v string) {
	t.Helper()
	db := open(t, s)
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// target is a fresh server that a replay goes to.
func (g *rig) target() (*mariadbd.Server, Target) {
	s := mariadbdtest.Start(g.t, mariadbd.Options{Password: password})
	return s, Target{Socket: s.Socket(), User: s.User(), Password: password}
}

func (g *rig) request(base Base, until Until) Request {
	return Request{Segments: g.segments(), Base: base, Until: until, Keys: []store.PublicKey{g.key}, Identities: []age.Identity{g.id}}
}

// replay plans and runs, and must succeed.
func (g *rig) replay(base Base, until Until, to Target) *Plan {
	g.t.Helper()
	p, err := Prepare(g.t.Context(), g.request(base, until))
	if err != nil {
		g.t.Fatal(err)
	}
	if err := p.Run(g.t.Context(), to, g.t.TempDir()); err != nil {
		g.t.Fatal(err)
	}
	return p
}
