package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/gateway"
	"drydock/internal/bustest"
)

// dialed opens a connection to a port of a gateway; secure ones have shaken hands.
func dialed(t *testing.T, addr net.Addr, secure bool) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr.String(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if secure {
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if err := s.Handshake(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	return c
}

// Slow-loris: whoever opens connections and says nothing, or a byte now and then, must not keep them.
func TestSilentAndSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.cfg
	cfg.TLSDir = t.TempDir()
	g, err := gateway.New(cfg, r.deps)
	if err != nil {
		t.Fatal(err)
	}
	if was := g.Deadlines(500*time.Millisecond, time.Second, 500*time.Millisecond); was[0] <= 0 || was[0] > 15*time.Second || was[1] <= 0 || was[1] > time.Minute || was[2] <= 0 || was[2] > 5*time.Minute {
		t.Errorf("deadlines of headers, requests, idle connections: %v", was)
	}
	run(t, g)
	const whole = "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\n\r\n"
	login := "POST " + path("api", db1, "/secret-login") + " HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\nContent-Length: 1000\r\n\r\n"
	for _, c := range []struct {
		name, first string
		drip        byte // sent every now and then, 0 for nothing
	}{
		{"says nothing", "", 0},
		{"half a header", "GET /healthz HTTP/1.1\r\nX-A: ", 0},
		{"a header byte by byte", "GET /healthz HTTP/1.1\r\nX-A: ", 'a'},
		{"half a body", login, 0},
		{"a body byte by byte", login, 'a'},
		{"idle after an answer", whole, 0},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%v", c.name, secure), func(t *testing.T) {
				t.Parallel()
				addr := g.HTTPAddr()
				if secure {
					addr = g.APIAddr()
				}
				conn := dialed(t, addr, secure)
				if _, err := io.WriteString(conn, c.first); err != nil {
					t.Fatal(err)
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, _ = io.Copy(io.Discard, conn) // ends with the connection, however that ends
				}()
				begun, tick := time.Now(), time.NewTicker(100*time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-ended:
						return
					case <-tick.C:
						if time.Since(begun) > 30*time.Second {
							t.Fatal("still open after 30 s")
						}
						if c.drip != 0 {
							_, _ = conn.Write([]byte{c.drip})
						}
					}
				}
			})
		}
	}
	t.Run("no handshake", func(t *testing.T) {
		t.Parallel()
		conn := dialed(t, g.APIAddr(), false)
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("still open: %v", err)
		}
	})
}

// Thousands of idle connections must cost their owner his place, and nobody else: scripts are served at once meanwhile.
func TestIdleConnectionsPushOutEachOtherAndNobodyElse(t *testing.T) {
	t.Parallel()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const kept = 2000
	opened := kept + 500
	if int(limit.Cur) < 2*opened+1000 { // both ends are in this process
		t.Fatalf("the limit of open files is %d, %d are needed: ulimit -n", limit.Cur, 2*opened+1000)
	}
	r := newRig(t, func(c *gateway.Config) { c.MaxConnections = kept })
	serves := func(when string) {
		t.Helper()
		begun := time.Now()
		r.want(r.call("GET", path("api", db1, "/needs/stop"), "x", nil), 401, "")
		out, _ := raw(t, r.g.APIAddr(), true, true, shellRequest("GET", "/healthz", "", ""))
		if took := time.Since(begun); !strings.HasPrefix(out, "HTTP/1.1 200 ") || took > 10*time.Second {
			t.Errorf("%s: %.40q after %s", when, out, took)
		}
	}
	var conns []net.Conn
	for i := range opened {
		c, err := net.DialTimeout("tcp", r.g.HTTPAddr().String(), 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if conns = append(conns, c); i%1000 == 999 {
			serves(fmt.Sprintf("with %d", i+1))
		}
	}
	bustest.Until(t, 20*time.Second, "the limit holds", func() bool { return r.g.Connections() <= kept })
	serves("at the limit")
	if n := r.g.Connections(); n < kept/2 {
		t.Errorf("%d of %d are left", n, kept)
	}
	// The oldest went, and the last one works.
	_ = conns[0].SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conns[0].Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the longest idle connection is still there: %v", err)
	}
	last := conns[len(conns)-1]
	if !answersOn(last) {
		t.Error("the newest connection does not work")
	}
	for _, c := range conns {
		c.Close()
	}
	bustest.Until(t, 20*time.Second, "closed connections are forgotten", func() bool { return r.g.Connections() < 10 })
}

// The same over TLS, where each costs more and whose handshakes may stop in the middle: below the limit all are held and still work,
// at the limit the oldest go, and scripts, who must shake hands too, are served at once.
func TestIdleTLSConnectionsPushOutEachOtherAndNobodyElse(t *testing.T) {
	t.Parallel()
	const kept, more = 250, 100
	for _, c := range []struct {
		name string
		open func(*testing.T, net.Addr) net.Conn
		asks bool // can be asked for something afterwards
	}{
		{"shaken hands", func(t *testing.T, at net.Addr) net.Conn {
			c := dialed(t, at, true)
			if !answersOn(c) { // one that never asked is closed after ten seconds: less than this may take
				t.Fatal("a new connection does not work")
			}
			return c
		}, true},
		{"half a handshake", func(t *testing.T, at net.Addr) net.Conn { return half(t, at) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *gateway.Config) { c.MaxConnections = kept })
			serves := func(when string) {
				t.Helper()
				begun := time.Now()
				out, _ := raw(t, r.g.APIAddr(), true, true, shellRequest("GET", "/healthz", "", ""))
				if took := time.Since(begun); !strings.HasPrefix(out, "HTTP/1.1 200 ") || took > 10*time.Second {
					t.Errorf("%s: %.40q after %s", when, out, took)
				}
			}
			var conns []net.Conn
			for range kept - 20 { // room for the callers
				conns = append(conns, c.open(t, r.g.APIAddr()))
			}
			serves("below the limit")
			if n := r.g.Connections(); c.asks && n < len(conns) {
				t.Errorf("%d of %d are left below the limit", n, len(conns))
			}
			if c.asks && !answersOn(conns[0]) {
				t.Error("the oldest does not work below the limit")
			}
			for range more {
				conns = append(conns, c.open(t, r.g.APIAddr()))
			}
			bustest.Until(t, 20*time.Second, "the limit holds", func() bool { return r.g.Connections() <= kept })
			serves("at the limit")
			if c.asks && (answersOn(conns[1]) || !answersOn(conns[len(conns)-1])) {
				t.Error("the oldest still works, or the newest does not")
			}
			for _, conn := range conns {
				conn.Close()
			}
			bustest.Until(t, 20*time.Second, "closed connections are forgotten", func() bool { return r.g.Connections() < 10 })
		})
	}
}

// half begins a handshake over TLS, and does not go on when the server has answered.
func half(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	c := dialed(t, addr, false)
	stop := &stopping{Conn: c}
	if err := tls.Client(stop, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil || !stop.answered {
		t.Fatalf("the handshake ended: %v, answered %v", err, stop.answered)
	}
	return c
}

// stopping is a connection whose first bytes from the server are not handed on.
type stopping struct {
	net.Conn
	answered bool
}

func (s *stopping) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.answered = n > 0
	return 0, errors.Join(errors.New("gone"), err)
}

// answersOn asks for something on a connection that was idle.
func answersOn(c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\n\r\n"); err != nil {
		return false
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body) // the next answer comes after it
	return err == nil && res.StatusCode == http.StatusOK
}

// bodies are the routes that read a body: by the API's document, and both methods of the scripts' routes.
func bodies(t *testing.T, all []string) (routes []string) {
	t.Helper()
	data, err := gateway.APIDocument()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			RequestBody json.RawMessage `json:"requestBody"`
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	for _, route := range all {
		method, path, _ := strings.Cut(route, " ")
		item := doc.Paths[regexp.MustCompile(`:([a-z]+)`).ReplaceAllString(path, "{$1}")]
		read := item[strings.ToLower(method)].RequestBody != nil
		if method == "GET" { // of the scripts: OpenAPI has no body for GET
			read = item["post"].RequestBody != nil && slices.Contains([]string{ofHost, ofCluster, secret}, routeNeeds[route].kind)
		}
		if read {
			routes = append(routes, route)
		}
	}
	return routes
}

// A body that is too large, unpacks to a gigabyte or is nested without end must cost its sender an error and drydock
// nothing, on every route that reads one.
func TestHostileBodiesAreRefusedOnEveryRoute(t *testing.T) {
	t.Parallel()
	a := newAccessRig(t)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = z.Write(make([]byte, 1<<20)) // 64 MiB in 64 KiB
	}
	_ = z.Close()
	deepList := bytes.Repeat([]byte("["), 1<<20)
	deepObject := bytes.Repeat([]byte(`{"a":`), 200_000)
	deepSealed := cipher.Seal([]byte(identity(db1, password, `"restore":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000))))
	large := bytes.Repeat([]byte(" "), 2<<20)
	routes := bodies(t, a.g.Routes())
	if len(routes) < 40 {
		t.Fatalf("only %d routes read a body: %q", len(routes), routes)
	}
	for _, c := range []struct {
		name     string
		body     []byte
		encoding string
		chunked  bool
		want     int // 0: any error of the client's
	}{
		{"too large", large, "", false, 413},
		{"too large, of unknown length", large, "", true, 413},
		{"gzip bomb", bomb.Bytes(), "gzip", false, 415},
		{"list without end", deepList, "", false, 0},
		{"object without end", deepObject, "", false, 0},
		{"deep and sealed", deepSealed, "", false, 0},
	} {
		for _, route := range routes {
			method, path, _ := strings.Cut(route, " ")
			who := slices.IndexFunc(a.callers, func(c caller) bool { return c.name == "administrator" })
			if k := routeNeeds[route].kind; k == ofHost || k == ofCluster {
				who = slices.IndexFunc(a.callers, func(c caller) bool { return c.name == "that host" })
			}
			var body io.Reader = bytes.NewReader(c.body)
			if c.chunked {
				body = io.MultiReader(body)
			}
			req, err := http.NewRequest(method, "http://"+a.g.HTTPAddr().String()+a.address(path), body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("User-Agent", "hard-test")
			req.Header.Set("Authorization", "Bearer "+a.callers[who].token())
			if c.encoding != "" {
				req.Header.Set("Content-Encoding", c.encoding)
			}
			begun := time.Now()
			res, err := a.client.Do(req)
			if err != nil {
				t.Fatalf("%s on %s: %v", c.name, route, err)
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			switch {
			case c.want != 0 && res.StatusCode != c.want:
				t.Errorf("%s on %s: %d %.100s, want %d", c.name, route, res.StatusCode, text, c.want)
			case c.want == 0 && res.StatusCode >= 500 && string(text) != "false":
				t.Errorf("%s on %s: %d %.100s", c.name, route, res.StatusCode, text)
			case time.Since(begun) > 10*time.Second:
				t.Errorf("%s on %s took %s", c.name, route, time.Since(begun))
			}
			clear(a.logins)
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, secure := range []bool{false, true} {
		addr := r.g.HTTPAddr()
		if secure {
			addr = r.g.APIAddr()
		}
		for name, request := range map[string]string{
			"one long":  "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 100<<10) + "\r\n\r\n",
			"many":      "GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: aaaaaaaaaaaaaaaaaaaa\r\n", 4000) + "\r\n",
			"long path": "GET /" + strings.Repeat("a", 100<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			conn := dialed(t, addr, secure)
			go func() { _, _ = io.WriteString(conn, request) }() // it is cut in the middle
			answer := make([]byte, 12)
			if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 431" {
				t.Errorf("%s, tls %v: %q, %v", name, secure, answer, err)
			}
		}
	}
}
