package gateway_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/gateway"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestCallInFlightIsFinishedWhenTheGatewayStops(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := string(seal(db1, `"log":"the last line"`))
	request := shellRequest("POST", path("sql", db1, "/write-log/main"), "", body)
	conn, err := net.Dial("tcp", r.g.HTTPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// Half a request: the handler runs as soon as the header is there, and waits for the body.
	if _, err := io.WriteString(conn, request[:len(request)-10]); err != nil {
		t.Fatal(err)
	}
	r.want(r.call("GET", "/healthz", "", nil), 200, "") // a whole call later, the other one has begun
	done := make(chan error, 1)
	go func() { done <- r.stop() }()
	bustest.Until(t, 10*time.Second, "no new calls", func() bool {
		c, err := net.DialTimeout("tcp", r.g.HTTPAddr().String(), time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(conn, request[len(request)-10:]); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(out), "HTTP/1.1 200 ") {
		t.Errorf("%q, %v", out, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if b := r.batches(); len(b) != 1 {
		t.Errorf("%d batches on disk", len(b))
	}
}

// A gateway whose listener fails must end and say so, whatever still follows the bus: a process that serves nothing and
// does not end is never restarted.
func TestAListenerThatFailsEndsTheGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g, err := gateway.New(r.cfg, r.deps)
	if err != nil {
		t.Fatal(err)
	}
	g.Close() // its listeners fail at once
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		cancel()
		t.Errorf("it does not end; when it is stopped it says %v", <-done)
	}
}

func TestGatewayStartsAndStopsManyTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		g, err := gateway.New(r.cfg, r.deps)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // stopped before it began
		if err := g.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	g, err := gateway.New(r.cfg, r.deps)
	if err != nil {
		t.Fatal(err)
	}
	addr := g.APIAddr().String()
	g.Close()
	if l, err := net.Listen("tcp", addr); err != nil {
		t.Errorf("a closed gateway keeps its port: %v", err)
	} else {
		l.Close()
	}
}

func TestBusyPortIsNamedWithItsKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.cfg
	cfg.APIPort = r.g.APIAddr().(*net.TCPAddr).Port
	_, err := gateway.New(cfg, r.deps)
	if err == nil || !strings.Contains(err.Error(), "api-port") || !strings.Contains(err.Error(), fmt.Sprint(cfg.APIPort)) {
		t.Errorf("got %v", err)
	}
}

func TestHTTPInClearCanBeOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.HTTPPort = -1 })
	if a := r.g.HTTPAddr(); a != nil {
		t.Errorf("serves in clear at %s", a)
	}
	if out, _ := raw(t, r.g.APIAddr(), true, true, shellRequest("GET", "/healthz", "", "")); !strings.HasPrefix(out, "HTTP/1.1 200 ") {
		t.Errorf("%q", out)
	}
}

func TestUnusableConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, change := range map[string]func(*gateway.Config){
		"no name":          func(c *gateway.Config) { c.Name = "" },
		"no log":           func(c *gateway.Config) { c.Log = nil },
		"no certificate":   func(c *gateway.Config) { c.TLSDir = "" },
		"half a pair":      func(c *gateway.Config) { c.CertFile = "cert.pem" },
		"missing files":    func(c *gateway.Config) { c.CertFile, c.KeyFile = "/none/c.pem", "/none/k.pem" },
		"port":             func(c *gateway.Config) { c.APIPort = 70000 },
		"no password":      func(c *gateway.Config) { c.Clusters[0].Password = "" },
		"no mode":          func(c *gateway.Config) { c.Clusters[0].Mode = "ssh" },
		"cluster twice":    func(c *gateway.Config) { c.Clusters[1].Name = "sql" },
		"cluster nameless": func(c *gateway.Config) { c.Clusters[1].Name = "" },
		"server twice": func(c *gateway.Config) {
			c.Clusters[0].Servers = []job.Server{db2, {Host: "DB2.example.com", Port: 3307}}
		},
		"user sans word":    func(c *gateway.Config) { c.Users["eve"] = "" },
		"negative lifetime": func(c *gateway.Config) { c.TokenLifetime = -1 },
	} {
		cfg := config(t)
		change(&cfg)
		g, err := gateway.New(cfg, r.deps)
		if !errors.Is(err, gateway.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%s: the error tells a password", name)
		}
		if g != nil {
			g.Close()
		}
	}
}

func TestCertificateIsMadeOnceAndPrivate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	serial := func(g *gateway.Gateway) string {
		t.Helper()
		conn, err := tls.Dial("tcp", g.APIAddr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		state := conn.ConnectionState()
		if state.Version < tls.VersionTLS12 || state.PeerCertificates[0].VerifyHostname("localhost") != nil || state.PeerCertificates[0].VerifyHostname("127.0.0.1") != nil {
			t.Errorf("version %x, names %v", state.Version, state.PeerCertificates[0].DNSNames)
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	first := serial(r.g)
	file := filepath.Join(r.cfg.TLSDir, "api.pem")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	second, _ := start(t, r.cfg, r.deps)
	if serial(second) != first {
		t.Error("the certificate was made again")
	}
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	third, _ := start(t, r.cfg, r.deps)
	if serial(third) == first {
		t.Error("a damaged certificate was used")
	}
	ending := endsTomorrow(t)
	if err := os.WriteFile(file, ending, 0o600); err != nil {
		t.Fatal(err)
	}
	third, _ = start(t, r.cfg, r.deps)
	if now, err := os.ReadFile(file); err != nil || bytes.Equal(now, ending) {
		t.Errorf("a certificate that is about to end was kept (%v)", err)
	}
	// One that is configured is used as it is.
	cfg := r.cfg
	cfg.CertFile, cfg.KeyFile, cfg.TLSDir = file, file, ""
	fourth, _ := start(t, cfg, r.deps)
	if serial(fourth) != serial(third) {
		t.Error("the configured certificate is not used")
	}
	if left, err := filepath.Glob(filepath.Join(r.cfg.TLSDir, "*")); err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// endsTomorrow is a certificate with its key, as the gateway keeps it.
func endsTomorrow(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	conn, err := tls.Dial("tcp", r.g.APIAddr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func TestLostBusIsSaidAndNothingIsCalledDone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := bustest.Start(t)
	other.NC.Close()
	deps := r.deps
	lost := func(d *gateway.Deps) {
		d.Conn, d.Docs, d.Ledger = other, store.NewDocs(other), store.NewLedger(other, "x")
		d.Jobs = store.NewJobs(other, "x", nil)
	}
	cfg := r.cfg
	if g, err := func() (*gateway.Gateway, error) { d := deps; lost(&d); return gateway.New(cfg, d) }(); err == nil {
		g.Close()
		t.Error("started without the key that signs tokens")
	}
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	r.conn.NC.Close()
	for _, c := range []string{"/write-log/optimize", "/actions/job-state/optimize/done", "/jobs-pending", "/needs/jobs-check", "/actions/receive-jobs-check"} {
		if got := r.call("POST", path("sql", db1, c), "", seal(db1, `"log":"x"`)); got.status != 503 || strings.Contains(got.body, "nats") {
			t.Errorf("%s: %s", c, got)
		}
	}
	r.want(r.call("GET", "/readyz", "", nil), 503, `{"missing":["bus"],"status":"not ready"}`)
	r.want(r.call("GET", "/healthz", "", nil), 200, "")
}
