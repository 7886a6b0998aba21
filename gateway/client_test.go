package gateway_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
)

// raw sends a request as the shell clients do and reads until the server closes. With half, the sending side is closed
// right after the request (wire.md section 1).
func raw(t *testing.T, addr net.Addr, secure, half bool, request string) (string, time.Duration) {
	t.Helper()
	begun := time.Now()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	type half1 interface {
		io.ReadWriter
		CloseWrite() error
	}
	var c half1 = conn.(*net.TCPConn)
	if secure {
		c = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if half {
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	out, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	return string(out), time.Since(begun)
}

// shellRequest is a request as the deployed shell client writes it: no agent, no Connection header, no port in Host.
func shellRequest(method, path, token, body string) string {
	auth := ""
	if token != "" {
		auth = "Authorization: Bearer " + token + "\r\n"
	}
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, auth, len(body), body)
}

func TestHalfClosingClientIsAnsweredAndClosedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.offered("sql", db1, "optimize")
	for _, secure := range []bool{false, true} {
		for _, half := range []bool{true, false} {
			addr := r.g.HTTPAddr()
			if secure {
				addr = r.g.APIAddr()
			}
			var took []time.Duration
			for range 7 {
				out, d := raw(t, addr, secure, half, shellRequest("POST", path("sql", db1, "/actions/job-state/optimize/processing"), "", string(seal(db1))))
				if !strings.HasPrefix(out, "HTTP/1.1 200 ") {
					t.Fatalf("tls %v, half-close %v: %q", secure, half, out)
				}
				took = append(took, d)
			}
			slices.Sort(took)
			t.Logf("tls %v, half-close %v: median %s", secure, half, took[3])
			if took[3] > 250*time.Millisecond { // 50 ms on a quiet machine; 0.5 s is the client's own timer
				t.Errorf("tls %v, half-close %v: median %s", secure, half, took[3])
			}
		}
	}
	// The work itself was done, although net/http had cancelled the requests by then.
	if j, _ := r.last(job.Key{Cluster: "sql", Server: db1, Task: "optimize"}); j.State != job.Processing {
		t.Errorf("job is %s", j.State)
	}
}

func TestWorkGoesOnWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	// Writes of lines and of a job's state under a context that net/http has cancelled: each must be whole.
	for i := range 20 {
		body := string(seal(db1, fmt.Sprintf(`"log":"line %d"`, i)))
		out, _ := raw(t, r.g.HTTPAddr(), false, true, shellRequest("POST", path("sql", db1, "/write-log/main"), "", body))
		if !strings.HasPrefix(out, "HTTP/1.1 200 ") {
			t.Fatalf("call %d: %q", i, out)
		}
	}
	if n := len(r.batches()); n != 20 {
		t.Errorf("%d batches on disk", n)
	}
}

func TestKeepAliveClientsKeepTheirConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	conn, err := net.Dial("tcp", r.g.HTTPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200 ")) || bytes.Contains(buf[:n], []byte("Connection: close")) {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
}

func TestAnswersAreNeverChunked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, s := range []job.Server{db1, db2, db6} {
		for _, task := range []string{"optimize", "errorlog", "slowquery", "auditlog", "mariabackup"} {
			r.offered("sql", s, task)
		}
	}
	admin, host := r.user("admin"), r.token("sql", db1)
	for _, c := range [][2]string{
		{"/api/jobs", admin}, // larger than what net/http would measure by itself
		{"/api/clusters/sql/servers", admin},
		{path("sql", db1, "/jobs-pending"), host},
		{path("sql", db1, "/needs/optimize"), host},
		{path("sql", db1, "/needs/stop"), host},
		{path("sql", db1, "/dbu"), host},
		{path("nowhere", db1, "/needs/stop"), host},
		{"/nothing", ""},
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
			request := strings.Replace(shellRequest("GET", c[0], c[1], ""), "HTTP/1.1", version, 1)
			out, _ := raw(t, r.g.HTTPAddr(), false, true, request)
			head, body, ok := strings.Cut(out, "\r\n\r\n")
			if !ok || strings.Contains(head, "chunked") || !strings.Contains(head, fmt.Sprintf("Content-Length: %d", len(body))) {
				t.Errorf("%s %s: %q, body of %d bytes", version, c[0], head, len(body))
			}
		}
	}
}

func TestIPv6HostHeaderWithoutPortIsServed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, host := range []string{"[fd00::6]", "[::1]", "fd00::6", "db.example.com"} {
		request := strings.Replace(shellRequest("GET", "/healthz", "", ""), "Host: 127.0.0.1", "Host: "+host, 1)
		if out, _ := raw(t, r.g.HTTPAddr(), false, true, request); !strings.HasPrefix(out, "HTTP/1.1 200 ") {
			t.Errorf("Host %s: %q", host, out)
		}
	}
}

// shellClient is a client made from the facts of wire.md sections 1 and 2: openssl with the padding that the deployed one
// adds first, one raw request into socat, everything after the first empty line as the body. It prints `status body`.
const shellClient = `
set -u
target=$1 path=$2 text=$3 token=$4 pass=$5
key=$(printf '%s' "$pass" | openssl dgst -sha256 -r | cut -d' ' -f1)
iv=$(printf '%s' "$pass" | openssl dgst -md5 -r | cut -d' ' -f1)
size=$(printf '%s' "$text" | wc -c)
fill=$((32 - size % 32))
data=$( { printf '%s' "$text"; head -c "$fill" /dev/zero | tr '\0' '\1'; } | openssl enc -aes-256-cbc -K "$key" -iv "$iv" | base64 -w0)
body="{\"data\":\"$data\"}"
auth=''
[ -n "$token" ] && auth="Authorization: Bearer $token\r\n"
request="POST $path HTTP/1.1\r\nHost: 127.0.0.1\r\n${auth}Content-Type: application/json\r\nContent-Length: ${#body}\r\n\r\n$body"
out=$(printf '%b' "$request" | socat - "$target" | tr -d '\r')
printf '%s ' "$(printf '%s\n' "$out" | sed -n 's/^HTTP[^ ]* \([0-9]*\).*/\1/p' | head -n 1)"
printf '%s\n' "$out" | sed '1,/^$/d'
`

func shell(t *testing.T, target, path, text, token string) string {
	t.Helper()
	out, err := exec.CommandContext(bustest.Context(t), "bash", "-c", shellClient, "client", target, path, text, token, password).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestShellClientWithSocatAndOpensslIsServed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.offered("api", db1, "optimize")
	for _, target := range []string{
		"TCP:" + r.g.HTTPAddr().String() + ",connect-timeout=60",
		"OPENSSL:" + r.g.APIAddr().String() + ",verify=0",
	} {
		got := shell(t, target, path("api", db1, "/secret-login"), identity(db1, password), "")
		token, ok := strings.CutPrefix(strings.TrimSuffix(got, `"}`), `200 {"token":"`)
		if !ok {
			t.Fatalf("%s: secret-login answered %q", target, got)
		}
		for _, c := range [][3]string{
			{"/needs/optimize", identity(db1, password), map[bool]string{true: "200 true", false: "500 false"}[strings.HasPrefix(target, "TCP")]},
			{"/actions/receive-task/optimize", identity(db1, password), "200 NO_RECEIVER_NEEDED"},
			{"/actions/job-state/optimize/processing", identity(db1, password), "200 true"},
			{"/write-log/optimize", identity(db1, password, `"level":"INFO"`, `"log":"raw `+"\t"+` tab"`), "200 true"},
			{"/secret-login", identity(db1, "wrong"), "401 "},
			{"/secret-login", identity(db2, password), "401 "},
		} {
			if got := shell(t, target, path("api", db1, c[0]), c[1], token); !strings.HasPrefix(got, c[2]) {
				t.Errorf("%s %s: got %q, want %q", target, c[0], got, c[2])
			}
		}
	}
	var lines []string
	for _, b := range r.batches() {
		lines = append(lines, b.Lines...)
	}
	if !slices.Equal(lines, []string{"raw \t tab", "raw \t tab"}) {
		t.Errorf("lines on disk: %q", lines)
	}
}
