package gateway_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"drydock/gateway"
	"drydock/job"
	"drydock/scripts"
)

// packed is one entry of an archive.
type packed struct {
	mode int64
	kind byte
	text string
}

func unpack(t *testing.T, body string) map[string]packed {
	t.Helper()
	zip, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]packed{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = packed{h.Mode, h.Typeflag, string(text)}
	}
}

func basic(user, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

func (r *rig) fetch(s job.Server, change ...func(*http.Request)) answer {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "https://"+r.g.APIAddr().String()+path("api", s, "/config"), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	return do(r.t, req)
}

func TestArchiveHoldsScriptLauncherAndEnvironment(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.Clusters[1].ReceiverPorts = []int{4444, 4445} })
	got := r.fetch(db2, basic("admin", "repman"))
	if got.status != 200 || got.header.Get("Content-Type") != "application/gzip" || got.header.Get("Content-Length") == "" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	files := unpack(t, got.body)
	for name, want := range map[string]packed{
		"init/":                  {0o755, tar.TypeDir, ""},
		"init/init/":             {0o755, tar.TypeDir, ""},
		"init/init/dbjobs_new":   {0o755, tar.TypeReg, string(scripts.Script())},
		"init/init/dbjobs_start": {0o755, tar.TypeReg, string(scripts.Launcher())},
		"init/init/dbjobs.env":   {0o600, tar.TypeReg, files["init/init/dbjobs.env"].text},
	} {
		if files[name] != want {
			t.Errorf("%s: mode %o, kind %c, %d bytes", name, files[name].mode, files[name].kind, len(files[name].text))
		}
	}
	if len(files) != 5 {
		t.Errorf("%d entries", len(files))
	}
	cmd := exec.Command("env", "-i", "bash", "-c", `. /dev/stdin; env | grep -v '^\(PWD\|SHLVL\|_\)=' | sort`)
	cmd.Stdin = strings.NewReader(files["init/init/dbjobs.env"].text)
	out, err := cmd.CombinedOutput()
	_, port, _ := strings.Cut(r.g.APIAddr().String(), ":")
	want := `DRYDOCK_API_SCHEME=https
DRYDOCK_DB_ADDRESS=127.0.0.1
DRYDOCK_RECEIVER_PORT=4445
MYSQL_ROOT_PASSWORD=` + password + `
REPLICATION_MANAGER_CLUSTER_NAME=api
REPLICATION_MANAGER_HOST_NAME=db2.example.com
REPLICATION_MANAGER_HOST_PASSWORD=` + password + `
REPLICATION_MANAGER_HOST_PORT=3307
REPLICATION_MANAGER_HOST_USER=drydock
REPLICATION_MANAGER_URL=https://10.0.1.5:` + port + `
REPLICATION_MANAGER_URL_HOST=10.0.1.5
REPLICATION_MANAGER_URL_PORT=` + port + "\n"
	if err != nil || string(out) != want {
		t.Errorf("the environment is\n%s%v", out, err)
	}
}

func TestArchiveIsForCallersWithTheGrant(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s) }
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"nothing":                {func(*http.Request) {}, 401},
		"wrong password":         {basic("admin", "x"), 401},
		"unknown user":           {basic("root", password), 401},
		"the database password":  {basic("system", password), 401},
		"not basic":              {func(r *http.Request) { r.Header.Set("Authorization", "Basic !") }, 401},
		"forged token":           {token("a.b.c"), 401},
		"user without the grant": {basic("dba", "x"), 403},
		"token without it":       {token(r.user("viewer")), 403},
		"another server's token": {token(r.token("api", db1)), 403},
		"user":                   {basic("admin", "repman"), 200},
		"user's token":           {token(r.user("admin")), 200},
		"the server's token":     {token(r.token("api", db2)), 200},
	} {
		got := r.fetch(db2, c.change)
		if got.status != c.status || (got.header.Get("WWW-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s: %d %v", name, got.status, got.header)
		}
		if c.status != 200 && strings.Contains(got.body, "init/") {
			t.Errorf("%s: refused with a body of %d bytes", name, len(got.body))
		}
	}
	if got := r.fetch(job.Server{Host: "elsewhere", Port: 3306}, basic("admin", "repman")); got.status != 404 {
		t.Errorf("unknown server: %s", got)
	}
}

func TestOpenArchiveHoldsNoSecret(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.OpenConfig = true })
	got := r.fetch(db1)
	if got.status != 200 {
		t.Fatal(got.status)
	}
	for name, f := range unpack(t, got.body) {
		if strings.HasSuffix(name, ".env") && (strings.Contains(f.text, "PASSWORD") || strings.Contains(f.text, `s\w`) || !strings.Contains(f.text, "HOST_NAME='127.0.0.1'")) {
			t.Errorf("%s holds\n%s", name, f.text)
		}
	}
}

func TestSameInputGivesTheSameArchiveAndCostsNoDownload(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := basic("admin", "repman")
	first, again, other := r.fetch(db1, admin), r.fetch(db1, admin), r.fetch(db2, admin)
	tag := first.header.Get("ETag")
	if first.body != again.body || tag == "" || tag != again.header.Get("ETag") {
		t.Error("the same server got two archives")
	}
	if other.body == first.body || other.header.Get("ETag") == tag {
		t.Error("two servers got one archive")
	}
	for header, status := range map[string]int{tag: 304, `"x", W/` + tag: 304, "*": 304, `"x"`: 200, other.header.Get("ETag"): 200} {
		got := r.fetch(db1, admin, func(r *http.Request) { r.Header.Set("If-None-Match", header) })
		if got.status != status || (got.body == "") != (status == 304) {
			t.Errorf("If-None-Match %s: %d, %d bytes", header, got.status, len(got.body))
		}
	}
	if got := r.fetch(db1, func(r *http.Request) { r.Header.Set("If-None-Match", tag) }); got.status != 401 {
		t.Errorf("without credentials the tag gets %d", got.status)
	}
}

// The deployed clients download with a raw HTTP/1.0 request and take what follows the first empty line (wire.md section 1).
func TestHTTP10ClientGetsTheArchiveUnchangedAndAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.fetch(db1, basic("admin", "repman")).body
	authorization := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("admin:repman"))
	for _, half := range []bool{true, false} {
		out, took := raw(t, r.g.APIAddr(), true, half, "GET "+path("api", db1, "/config")+" HTTP/1.0\r\nHost: x\r\n"+authorization+"\r\n\r\n")
		head, body, _ := strings.Cut(out, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.0 200 ") || strings.Contains(strings.ToLower(head), "chunked") || !strings.Contains(head, "Content-Length: ") {
			t.Errorf("answered\n%s", head)
		}
		if !bytes.Equal([]byte(body), []byte(want)) || took > 5*time.Second {
			t.Errorf("%d bytes after %s, want %d", len(body), took, len(want))
		}
	}
}

func TestQuestionsOfNewerClientsAreAnsweredNoAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, rest := range []string{"/need-config-refresh", "/config-receiver", "/config-dummy-sender", "/dbu"} {
		for _, method := range []string{"GET", "POST"} {
			out, took := raw(t, r.g.APIAddr(), true, true, shellRequest(method, path("sql", db1, rest), "", string(seal(db1))))
			if !strings.HasPrefix(out, "HTTP/1.1 404 ") || took > 2*time.Second {
				t.Errorf("%s %s: %q after %s", method, rest, out, took)
			}
		}
	}
}
