package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/app"
	"drydock/config"
	"drydock/internal/bustest"
)

// embedded is a drydock with a bus of its own, in this process.
type embedded struct {
	t    *testing.T
	file string
	addr string // of the bus
}

func newEmbedded(t *testing.T) *embedded {
	t.Helper()
	file := filepath.Join(t.TempDir(), "drydock.toml")
	text := fmt.Sprintf("[Default]\nmonitoring-datadir = %q\nnats-listen = \"127.0.0.1:0\"\n[prod]\ndb-servers-hosts = \"10.0.1.5:3306\"\ndb-servers-credential = \"drydock:x\"\n", t.TempDir())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &embedded{t: t, file: file}
}

// start runs it until stop is called.
func (e *embedded) start() (stop func()) {
	e.t.Helper()
	cfg, err := config.Load(e.file)
	if err != nil {
		e.t.Fatal(err)
	}
	up, ended := make(chan app.Addresses, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ended <- app.Run(ctx, app.Options{Config: cfg, Roles: []string{app.RoleAlert}, Log: slog.New(slog.DiscardHandler), Started: func(a app.Addresses) { up <- a }})
	}()
	select {
	case a := <-up:
		e.addr = a.NATS
	case err := <-ended:
		cancel()
		e.t.Fatal(err)
	}
	return func() {
		cancel()
		if err := <-ended; err != nil {
			e.t.Error(err)
		}
	}
}

// run runs a command line and gives what it prints and says.
func (e *embedded) run(line string) (out, said string) {
	e.t.Helper()
	var o, s strings.Builder
	if code := execute(bustest.Context(e.t), append(strings.Fields(line), "--config", e.file), &o, &s); code != 0 {
		e.t.Fatalf("%s: %d %s", line, code, &s)
	}
	return o.String(), s.String()
}

// A password that is printed once must let in at once and after a restart, until it is taken back, and be nowhere else.
func TestAUserOfTheBusComesAndGoesWithoutARestart(t *testing.T) {
	t.Parallel()
	e := newEmbedded(t)
	stop := e.start()
	out, said := e.run("nats user add grafana --read-only")
	password := strings.TrimSpace(out)
	if len(password) < 20 || strings.Contains(said, password) {
		t.Fatalf("it prints %q and says %q", out, said)
	}
	in := func(what string) *nats.Conn {
		t.Helper()
		var nc *nats.Conn
		bustest.Until(t, 30*time.Second, what, func() (ok bool) {
			var err error
			nc, err = nats.Connect("nats://"+e.addr, nats.UserInfo("grafana", password), nats.NoReconnect())
			return err == nil
		})
		t.Cleanup(nc.Close)
		return nc
	}
	in("it gets in")
	stop()
	defer e.start()()
	nc := in("it gets in after a restart")
	for _, line := range []string{"nats user list", "nats user list -o json", "audit -o json"} {
		if out, _ := e.run(line); !strings.Contains(out, "grafana") || strings.Contains(out, password) || strings.Contains(out, "$2a$") {
			t.Errorf("%s: %s", line, out)
		}
	}
	e.run("nats user remove grafana")
	bustest.Until(t, 30*time.Second, "it is out", nc.IsClosed)
	for line, want := range map[string]string{
		"nats user remove grafana": "there is no", "nats user add x": "--read-only", "nats user add drydock --read-only": "nats-user", "nats user add a/b --read-only": "letters",
	} {
		var errs strings.Builder
		if code := execute(bustest.Context(t), append(strings.Fields(line), "--config", e.file), &errs, &errs); code != 1 || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: %d %s", line, code, &errs)
		}
	}
}

// drydock cannot add users to somebody else's server: it says what stands in its configuration, and keeps nothing.
func TestForAServerOfItsOwnTheConfigurationIsPrinted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	out, err := b.run("", "nats", "user", "add", "grafana", "--read-only")
	if err != nil || !strings.Contains(out, `user: "grafana", password: "$2a$`) || len(b.acts()) != 0 {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := b.run("", "nats", "user", "list"); err == nil || !strings.Contains(err.Error(), "nats-url") {
		t.Errorf("its list: %v", err)
	}
}
