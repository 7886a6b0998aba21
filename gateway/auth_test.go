package gateway_test

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"drydock/gateway"
	"drydock/gateway/auth"
	"drydock/gateway/envelope"
	"drydock/job"
	"drydock/store"
)

func TestSecretLoginAnswersTheSameForEveryFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good := path("api", db1, "/secret-login")
	first := r.call("POST", good, "", nil)
	r.want(first, 401, "")
	for name, body := range map[string][]byte{
		"no payload":     []byte(`{"data":""}`),
		"wrong key":      envelope.New("other").Seal([]byte(identity(db1, "other"))),
		"wrong secret":   cipher.Seal([]byte(identity(db1, "other"))),
		"no secret":      cipher.Seal([]byte(`{"server":"127.0.0.1:3306"}`)),
		"other server":   seal(db2),
		"other port":     seal(job.Server{Host: db1.Host, Port: 1}),
		"not json":       cipher.Seal([]byte(`server`)),
		"not an object":  []byte(`[]`),
		"not base64":     []byte(`{"data":"%%%%"}`),
		"half a block":   []byte(`{"data":"AAAA"}`),
		"trailing text":  cipher.Seal([]byte(identity(db1, password) + "x")),
		"in clear":       []byte(identity(db1, password)),
		"second opinion": cipher.Seal([]byte(`{"server":"127.0.0.1:3306","server":"127.0.0.1:3306","secret":""}`)),
	} {
		if got := r.call("POST", good, "", body); got.status != 401 || got.body != first.body {
			t.Errorf("%s: got %s, want %s", name, got, first)
		}
	}
	if strings.Contains(first.body, "secret") || strings.Contains(first.body, "server") {
		t.Errorf("the answer hints: %s", first)
	}
}

func TestSecretLoginAcceptsBothPaddingsAndEverySpellingOfAServer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	filled := []byte(identity(db1, password))
	for len(filled)%32 != 0 || len(filled) == len(identity(db1, password)) {
		filled = append(filled, 1)
	}
	for name, c := range map[string]struct {
		path string
		body []byte
	}{
		"one padding":         {path("api", db1, "/secret-login"), seal(db1)},
		"double padding":      {path("api", db1, "/secret-login"), cipher.Seal(filled)},
		"host in other case":  {strings.Replace(path("api", db2, "/secret-login"), "db2", "DB2", 1), cipher.Seal([]byte(strings.Replace(identity(db2, password), "db2", "DB2", 1)))},
		"ipv6 bare":           {path("api", db6, "/secret-login"), seal(db6)},
		"ipv6 in brackets":    {"/api/clusters/api/servers/[fd00::6]/3306/secret-login", cipher.Seal([]byte(strings.Replace(identity(db6, password), "fd00::6", "[fd00::6]", 1)))},
		"ipv6 escaped":        {"/api/clusters/api/servers/%5Bfd00%3A%3A6%5D/3306/secret-login", seal(db6)},
		"ipv6 written out":    {"/api/clusters/api/servers/FD00:0:0:0:0:0:0:6/3306/secret-login", seal(db6)},
		"more than is needed": {path("api", db1, "/secret-login"), seal(db1, `"time":1`, `"nonce":"ab"`, `"future":{"x":[1]}`)},
	} {
		got := r.call("POST", c.path, "", c.body)
		if got.status != 200 || !strings.HasPrefix(got.body, `{"token":"`) {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// who calls a job route, and what becomes of it, by mode.
func TestJobRoutesLetInOnlyWhoProvedIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	expired := func(cluster string, s job.Server) string {
		key, err := store.SigningKey(r.ctx(), r.conn)
		if err != nil {
			t.Fatal(err)
		}
		a, err := auth.New(key, auth.Config{Secrets: map[string]string{cluster: password}, Now: func() time.Time { return time.Now().Add(-8 * 24 * time.Hour) }})
		if err != nil {
			t.Fatal(err)
		}
		token, err := a.System(cluster, s.String())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	wrongKey := envelope.New("other").Seal([]byte(identity(db1, "other")))
	for _, c := range []struct {
		name             string
		token            string
		body             []byte
		sql, api, secret int // status in each cluster
	}{
		{"nothing", "", nil, 401, 401, 401},
		{"empty payload", "", []byte(`{"data":""}`), 401, 401, 401},
		{"identity", "", seal(db1), 200, 401, 200},
		{"identity without secret", "", cipher.Seal([]byte(`{"server":"127.0.0.1:3306"}`)), 200, 401, 200},
		{"identity with wrong secret", "", cipher.Seal([]byte(identity(db1, "x"))), 401, 401, 401},
		{"identity of another server", "", seal(db2), 401, 401, 401},
		{"identity under another key", "", wrongKey, 401, 401, 401},
		{"token", "own", nil, 200, 200, 200},
		{"token and empty payload", "own", []byte(`{"data":""}`), 200, 200, 200},
		{"token and identity", "own", seal(db1), 200, 200, 200},
		{"token and other client's object", "own", []byte(`{}`), 200, 200, 200},
		{"token and wrong identity", "own", wrongKey, 401, 401, 401},
		{"token of another server", "other server", nil, 403, 403, 403},
		{"token of another cluster", "other cluster", nil, 403, 403, 403},
		{"expired token", "expired", nil, 401, 401, 401},
		{"broken token", "broken", nil, 401, 401, 401},
		{"broken token and identity", "broken", seal(db1), 200, 401, 200},
		{"user with db-jobs", "dba", nil, 200, 200, 200},
		{"user with other grants", "viewer", nil, 403, 403, 403},
		{"user without grants", "nobody", nil, 403, 403, 403},
	} {
		for cluster, status := range map[string]int{"sql": c.sql, "api": c.api, "apisecret": c.secret} {
			token := ""
			switch c.token {
			case "own":
				token = r.token(cluster, db1)
			case "other server":
				token = r.token(cluster, db2)
			case "other cluster":
				token = r.token(map[string]string{"sql": "api", "api": "sql", "apisecret": "sql"}[cluster], db1)
			case "expired":
				token = expired(cluster, db1)
			case "broken":
				token = r.token(cluster, db1) + "x"
			case "dba", "viewer", "nobody":
				token = r.user(c.token)
			}
			// stop is never wanted here, so that only the door is tested: a yes is 500 `false`.
			got := r.call("POST", path(cluster, db1, "/needs/stop"), token, c.body)
			let := got.status == 500 && got.body == "false"
			if want := status == 200; let != want || !want && got.status != status {
				t.Errorf("%s on %s: got %s, want %d", c.name, cluster, got, status)
			}
		}
	}
}

func TestLogLevelIsAnsweredWithoutTokenOnlyWhereOldClientsAreServed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token, other := r.token("api", db1), r.token("sql", db1)
	for _, c := range []struct {
		cluster, token string
		body           string
		want           int
	}{
		{"sql", "", `{"data":""}`, 200}, {"sql", "", "", 200}, {"api", "", `{"data":""}`, 401}, {"apisecret", "", `{"data":""}`, 200},
		{"api", token, "", 200}, {"api", other, "", 403}, {"api", "bad", "", 401},
		{"sql", "bad", "", 200}, // a token that expires in the middle of a job must not cost six seconds a line
	} {
		if got := r.call("POST", "/api/clusters/"+c.cluster+"/jobs-log-level/optimize/ERROR", c.token, []byte(c.body)); got.status != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestTokensOfOneGatewayServeAtEveryOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.cfg
	cfg.TLSDir = t.TempDir()
	second, _ := start(t, cfg, r.deps)
	token := r.token("api", db1)
	if got := callAt(t, second.HTTPAddr(), "GET", path("api", db1, "/needs/stop"), token, nil); got.status != 500 || got.body != "false" {
		t.Errorf("system token: %s", got)
	}
	if got := callAt(t, second.HTTPAddr(), "GET", "/api/clusters", r.user("admin"), nil); got.status != 200 {
		t.Errorf("user token: %s", got)
	}
	// And after a restart.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	again, _ := start(t, r.cfg, r.deps)
	if got := callAt(t, again.HTTPAddr(), "GET", path("api", db1, "/needs/stop"), token, nil); got.status != 500 || got.body != "false" {
		t.Errorf("after a restart: %s", got)
	}
}

func TestLoginAnswersTheSameForEveryFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.call("POST", "/api/login", "", []byte(`{"username":"admin","password":"wrong"}`))
	r.want(first, 401, "")
	for _, body := range []string{`{"username":"unknown","password":"repman"}`, `{"username":"","password":""}`, `{}`, `{"username":"system","password":""}`} {
		if got := r.call("POST", "/api/login", "", []byte(body)); got.status != 401 || got.body != first.body {
			t.Errorf("%s: %s", body, got)
		}
	}
	r.want(r.call("POST", "/api/login", "", []byte(`nonsense`)), 400, "")
	r.want(r.call("GET", "/api/clusters", "", nil), 401, "")
}

func TestClusterOverrideOfGrantsHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.Clusters[0].Grants = map[string][]string{"dba": {"proxy"}} })
	dba := r.user("dba")
	r.want(r.call("GET", path("sql", db1, "/needs/stop"), dba, nil), 403, "")
	r.want(r.call("GET", path("api", db1, "/needs/stop"), dba, nil), 500, "false")
}

func TestBadInputGetsItsStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token("api", db1)
	large := append(seal(db1), bytes.Repeat([]byte(" "), 1<<20)...)
	for _, c := range []struct {
		name, path string
		body       []byte
		want       int
	}{
		{"unknown cluster", path("nowhere", db1, "/needs/optimize"), nil, 404},
		{"unknown server", path("api", job.Server{Host: "db9", Port: 3306}, "/needs/optimize"), nil, 404},
		{"unknown port", path("api", job.Server{Host: db1.Host, Port: 1}, "/needs/optimize"), nil, 404},
		{"port is no number", "/api/clusters/api/servers/127.0.0.1/x/needs/optimize", nil, 404},
		{"unknown task", path("api", db1, "/needs/nonsense"), nil, 404},
		{"path in a task", path("api", db1, "/needs/..%2f..%2fetc"), nil, 404},
		{"alias is for logs only", path("api", db1, "/needs/flashbackmariadbackup"), nil, 404},
		{"unknown task of receive-task", path("api", db1, "/actions/receive-task/nonsense"), nil, 404},
		{"unknown task of job-state", path("api", db1, "/actions/job-state/nonsense/done"), nil, 404},
		{"unknown state", path("api", db1, "/actions/job-state/optimize/finished"), nil, 404},
		{"unknown task of write-log", path("api", db1, "/write-log/nonsense"), seal(db1), 404},
		{"unknown task of log level", "/api/clusters/api/jobs-log-level/nonsense/INFO", nil, 404},
		{"unknown cluster of log level", "/api/clusters/nowhere/jobs-log-level/optimize/INFO", nil, 404},
		{"too large", path("api", db1, "/write-log/optimize"), large, 413},
		{"too large login", path("api", db1, "/secret-login"), large, 413},
		{"out of scope", path("api", db1, "/need-config-refresh"), nil, 404},
		{"out of scope", path("api", db1, "/config-receiver"), nil, 404},
		{"out of scope", path("api", db1, "/config-dummy-sender"), nil, 404},
		{"out of scope", path("api", db1, "/dbu"), nil, 404},
		{"no such route", "/api/nothing", nil, 404},
	} {
		got := r.call("POST", c.path, token, c.body)
		if got.status != c.want || !strings.HasPrefix(got.body, `{"error":{"code":"`) {
			t.Errorf("%s: got %s, want %d", c.name, got, c.want)
		}
	}
	r.want(r.call("DELETE", path("api", db1, "/needs/optimize"), token, nil), 405, "")
	// A client that has not sent everything yet must not lose the answer to a reset connection.
	for _, secure := range []net.Addr{r.g.HTTPAddr(), r.g.APIAddr()} {
		request := shellRequest("POST", path("api", db1, "/write-log/main"), token, strings.Repeat("x", 7<<20))
		if out, _ := raw(t, secure, secure == r.g.APIAddr(), true, request); !strings.HasPrefix(out, "HTTP/1.1 413 ") {
			t.Errorf("%.60q", out)
		}
	}
}

func TestBodyOfExactlyOneMebibyteIsTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := seal(db1, `"log":"x"`)
	body = append(body, bytes.Repeat([]byte(" "), 1<<20-len(body))...)
	r.want(r.call("POST", path("sql", db1, "/write-log/main"), "", body), 200, "true")
}
