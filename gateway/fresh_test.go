package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/gateway"
	"drydock/internal/bustest"
	"drydock/scripts"
	"drydock/store"
)

// tap passes connections on to a gateway and keeps what the clients sent: what somebody on the network sees.
type tap struct {
	addr net.Addr
	mu   sync.Mutex
	seen []*bytes.Buffer // by connection
}

func newTap(t *testing.T, to net.Addr) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: l.Addr()}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.pass(c, to) })
		}
	})
	return p
}

func (p *tap) pass(c net.Conn, to net.Addr) {
	defer c.Close()
	up, err := net.DialTimeout("tcp", to.String(), 10*time.Second)
	if err != nil {
		return
	}
	defer up.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_ = up.SetDeadline(time.Now().Add(time.Minute))
	copied := new(bytes.Buffer)
	p.mu.Lock()
	p.seen = append(p.seen, copied)
	p.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(c, up); _ = c.(*net.TCPConn).CloseWrite() })
	_, _ = io.Copy(up, io.TeeReader(c, lockedWriter{&p.mu, copied}))
	_ = up.(*net.TCPConn).CloseWrite()
	back.Wait()
}

type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

// requests are those that contain a text.
func (p *tap) requests(with string) (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.seen {
		if s := b.String(); strings.Contains(s, with) {
			out = append(out, s)
		}
	}
	return out
}

// records keeps the messages of a log.
type records struct {
	mu  sync.Mutex
	all []string
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }
func (r *records) Handle(_ context.Context, rec slog.Record) error {
	var b strings.Builder
	b.WriteString(rec.Message)
	rec.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&b, " %s=%s", a.Key, a.Value); return true })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, b.String())
	return nil
}

func (r *records) has(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(strings.Join(r.all, "\n"), text)
}

// A captured secret-login body opens the door for as long as the password lives, for key and IV never change. Here the real
// script logs in over a wire that somebody listens to, and what was heard is sent again, byte by byte: to the gateway that
// took it, to another one, and to a gateway that was restarted.
func TestRecordedLoginIsRefusedEverywhereWhereFreshOnesAreRequired(t *testing.T) {
	t.Parallel()
	log := new(records)
	r := newRig(t, func(c *gateway.Config) {
		c.Clusters = c.Clusters[:2] // sql without, api with
		c.Clusters[1].FreshLogin = time.Minute
		c.Log = slog.New(log)
	})
	t.Cleanup(func() { close(r.rx.checks) }) // the script has itself compared
	second := r.cfg
	second.TLSDir, second.Name = t.TempDir(), "gateway@second"
	other, _ := start(t, second, r.deps)

	capture := func(cluster string) string {
		t.Helper()
		wire := newTap(t, r.g.HTTPAddr())
		dir := t.TempDir()
		script := filepath.Join(dir, "dbjobs")
		if err := os.WriteFile(script, scripts.Script(), 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(bustest.Context(t), "bash", script, "--once")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "REPLICATION_MANAGER_URL=http://" + wire.addr.String(),
			"REPLICATION_MANAGER_CLUSTER_NAME=" + cluster, "REPLICATION_MANAGER_HOST_NAME=" + db1.Host, "REPLICATION_MANAGER_HOST_PORT=3306",
			"REPLICATION_MANAGER_HOST_USER=drydock", "REPLICATION_MANAGER_HOST_PASSWORD=" + password,
			"DRYDOCK_STATE_DIR=" + dir + "/state", "DRYDOCK_LOG_DIR=" + dir + "/logs",
		}
		out, err := cmd.CombinedOutput() // without a database it need not end well
		logins, after := wire.requests("/secret-login "), wire.requests("Authorization: Bearer ")
		if len(logins) != 1 || len(after) == 0 {
			t.Fatalf("%d logins, %d calls with the token: %v %s", len(logins), len(after), err, out)
		}
		return logins[0]
	}
	again := func(at net.Addr, request string) string {
		t.Helper()
		out, _ := raw(t, at, false, true, request)
		return strings.TrimPrefix(out[:min(len(out), 12)], "HTTP/1.1 ")
	}

	if got := again(r.g.HTTPAddr(), capture("sql")); got != "200" {
		t.Errorf("without the key a recorded login got %s, want 200 as ever", got)
	}
	heard := capture("api")
	for name, at := range map[string]net.Addr{"the same gateway": r.g.HTTPAddr(), "another gateway": other.HTTPAddr()} {
		if got := again(at, heard); got != "401" {
			t.Errorf("%s answered a recorded login with %s, want 401", name, got)
		}
	}
	if !log.has("reason=it was used before") {
		t.Error("the log does not say that a login came again")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	restarted, _ := start(t, r.cfg, r.deps)
	if got := again(restarted.HTTPAddr(), heard); got != "401" {
		t.Errorf("after a restart a recorded login got %s, want 401", got)
	}
}

func TestOldOrUnmarkedLoginsAreRefusedWhereFreshOnesAreRequired(t *testing.T) {
	t.Parallel()
	log := new(records)
	r := newRig(t, func(c *gateway.Config) {
		for i := range c.Clusters {
			c.Clusters[i].FreshLogin = time.Minute
		}
		c.Log = slog.New(log)
	})
	nonce := func(n int) string { return fmt.Sprintf(`"nonce":"%032d"`, n) }
	at := func(d time.Duration) string { return fmt.Sprintf(`"time":%d`, time.Now().Add(d).Unix()) }
	for i, c := range []struct {
		name    string
		members []string
		want    int
		log     string
	}{
		{"a client of before", nil, 401, "it has no time and nonce"},
		{"no nonce", []string{at(0)}, 401, "it has no time and nonce"},
		{"short nonce", []string{at(0), `"nonce":"12345"`}, 401, "it has no time and nonce"},
		{"no time", []string{nonce(1)}, 401, "it has no time and nonce"},
		{"old", []string{at(-3 * time.Minute), nonce(2)}, 401, "before drydock's"},
		{"from the future", []string{at(3 * time.Minute), nonce(3)}, 401, "its time is -"},
		{"a nonce that was changed on the way", []string{at(0), `"nonce":"0000000000000000000000000000000\u00e9"`}, 401, "or not one of each"},
		{"a second nonce", []string{at(0), nonce(6), nonce(7)}, 401, "or not one of each"},
		{"a second time", []string{at(0), at(0), nonce(8)}, 401, "or not one of each"},
		{"fresh", []string{at(0), nonce(4)}, 200, ""},
		{"slow clock", []string{at(-30 * time.Second), nonce(5)}, 200, ""},
		{"nonce again with another time", []string{at(-10 * time.Second), nonce(4)}, 401, "it was used before"},
	} {
		got := r.call("POST", path("api", db1, "/secret-login"), "", seal(db1, c.members...))
		if got.status != c.want || c.want == 401 && got.body != `{"error":{"code":"unauthorized","message":"wrong credentials"}}` {
			t.Errorf("%s: got %s, want %d", c.name, got, c.want)
		}
		if c.log != "" && !log.has(c.log) {
			t.Errorf("%s: the log does not say %q", c.name, c.log)
		}
		// In sql mode the same body serves without a token: there it must be as fresh.
		if i > 8 {
			continue // those nonces are used
		}
		if got := r.call("POST", path("sql", db1, "/needs/stop"), "", seal(db1, c.members...)); got.status != 401 {
			t.Errorf("%s as proof of a call: %s", c.name, got)
		}
	}
	body := seal(db1, at(0), nonce(10))
	r.want(r.call("POST", path("sql", db1, "/needs/stop"), "", body), 500, "false")
	r.want(r.call("POST", path("sql", db1, "/needs/stop"), "", body), 401, "")
	// Somebody else's token, who may do nothing there, makes an old body no better.
	stranger, one := r.user("viewer"), decode[struct{ Token string }](t, r.call("POST", path("sql", db2, "/secret-login"), "", seal(db2, at(0), nonce(12)))).Token
	for _, token := range []string{stranger, one} {
		r.want(r.call("POST", path("sql", db1, "/needs/stop"), token, body), 401, "")
		r.want(r.call("POST", path("sql", db1, "/needs/stop"), token, seal(db1)), 401, "")
	}
	// With a token the body proves nothing and may come again: the script repeats a call whose answer was lost.
	token := decode[struct{ Token string }](t, r.call("POST", path("sql", db1, "/secret-login"), "", seal(db1, at(0), nonce(11)))).Token
	r.want(r.call("POST", path("sql", db1, "/needs/stop"), token, body), 500, "false")
	r.want(r.call("POST", path("sql", db1, "/needs/stop"), token, body), 500, "false")
}

// Two gateways that are sent the same body at once must not both take it.
func TestNonceIsTakenOnce(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for range 16 {
		wg.Go(func() {
			err := store.NewLogins(conn).Take(bustest.Context(t), "db1:3306", "0123456789abcdef")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				taken++
			} else if !errors.Is(err, store.ErrUsed) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken != 1 {
		t.Errorf("taken %d times", taken)
	}
	stream, _ := bus.BucketStream(bus.BucketLogins)
	s, err := conn.JS.Stream(bustest.Context(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	if age := s.CachedInfo().Config.MaxAge; age < 2*gateway.MaxFreshLogin {
		t.Errorf("nonces are forgotten after %s, and bodies may be good for %s", age, 2*gateway.MaxFreshLogin)
	}
}
