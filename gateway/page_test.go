package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/gateway"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// browser is a client with a cookie jar that does not follow redirects.
type browser struct {
	t    *testing.T
	http *http.Client
	base string
	csrf string
}

func (r *rig) browser() *browser {
	r.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	transport := &http.Transport{}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &browser{t: r.t, base: "http://" + r.g.HTTPAddr().String(), http: &http.Client{
		Jar: jar, Timeout: 30 * time.Second, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (b *browser) do(method, path string, form url.Values, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequest(method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 test")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(data)}
}

func (b *browser) get(path string) answer { b.t.Helper(); return b.do(http.MethodGet, path, nil) }

// post sends a form with the proof of the session.
func (b *browser) post(path string, form url.Values) answer {
	b.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	form.Set("csrf", b.csrf)
	return b.do(http.MethodPost, path, form, "Sec-Fetch-Site", "same-origin")
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func (b *browser) login(user, password string) *browser {
	b.t.Helper()
	got := b.do(http.MethodPost, "/login", url.Values{"username": {user}, "password": {password}}, "Sec-Fetch-Site", "same-origin")
	if got.status != http.StatusSeeOther || got.header.Get("Location") != "/" {
		b.t.Fatalf("login: %s", got)
	}
	m := csrfField.FindStringSubmatch(b.get("/").body)
	if m == nil {
		b.t.Fatal("the page has no proof for its forms")
	}
	b.csrf = m[1]
	return b
}

// pages are the pages that anybody who is signed in may open; JOB stands for a job of the cluster sql.
var pages = []string{
	"/timeline", "/maintenance", "/maintenance/sql", "/history", "/history.csv", "/history.json", "/backups", "/schedules",
	"/schedules?cluster=sql", "/explain/sql/optimize", "/conditions", "/health", "/live/timeline", "/live/maintenance/sql", "/live/history", "/live/backups",
	"/live/schedules", "/live/explain/sql/optimize", "/live/conditions", "/live/health", "/", "/jobs/JOB", "/jobs/JOB/log.txt", "/live/fleet", "/live/jobs/JOB",
}

// action is a form of a page, and the grant that its REST route asks for.
type action struct {
	path  string
	form  url.Values
	grant string
}

// actions are all forms of the pages but the logout and the check, which ask for no grant. JOB and EDGE stand for a job of the
// cluster sql and for an open condition of it.
var actions = []action{
	{"/jobs/JOB/cancel", nil, "db-backup"},
	{"/jobs/JOB/retry", nil, "db-backup"},
	{"/jobs/JOB/pause", nil, "db-backup"},
	{"/maintenance/sql/run", url.Values{"slot": {"127.0.0.1:3306/mariabackup"}}, "db-backup"},
	{"/maintenance/sql/run", url.Values{"task": {"optimize"}}, "db-maintenance"},
	{"/maintenance/sql/hold", url.Values{"reason": {"x"}}, "cluster-hold"},
	{"/maintenance/sql/hold", url.Values{"lift": {"1"}}, "cluster-hold"},
	{"/schedules/sql/optimize/switch", url.Values{"note": {"x"}}, "cluster-hold"},
	{"/schedules/sql/optimize/switch", url.Values{"on": {"1"}}, "cluster-hold"},
	{"/conditions/ack", url.Values{"ack": {"EDGE"}}, "cluster-hold"},
	{"/conditions/ack", url.Values{"lift": {"EDGE"}}, "cluster-hold"},
	{"/backups/sql/127.0.0.1:3306/BACKUP/drill", nil, "db-maintenance"},
	{"/backups/sql/127.0.0.1:3306/BACKUP/verify", nil, "db-maintenance"},
	{"/backups/sql/127.0.0.1:3306/BACKUP/pin", url.Values{"reason": {"x"}}, "db-backup"},
	{"/backups/sql/127.0.0.1:3306/BACKUP/pin", url.Values{"lift": {"1"}}, "db-backup"},
}

// of is the action about a job and a condition.
func (a action) of(id, edge string) action {
	a.path, a.form = strings.ReplaceAll(a.path, "JOB", id), maps.Clone(a.form)
	for _, word := range []string{"ack", "lift"} {
		if a.form.Get(word) == "EDGE" {
			a.form.Set(word, edge)
		}
	}
	return a
}

// said is the sentence of a page about the last action, or its problem.
func (a answer) said() string {
	m := regexp.MustCompile(`role="(?:alert|status)">([^<]*)<`).FindStringSubmatch(a.body)
	if m == nil {
		return fmt.Sprint(a.status)
	}
	return fmt.Sprint(a.status, " ", html.UnescapeString(m[1]))
}

func withJob(paths []string, id string) (out []string) {
	for _, p := range paths {
		out = append(out, strings.ReplaceAll(p, "JOB", id))
	}
	return out
}

// backup puts a backup into the catalogue.
func (r *rig) backup(cluster string, s job.Server, id string) {
	r.t.Helper()
	if err := r.deps.Catalog.Put(r.ctx(), store.Manifest{Type: store.ManifestType, ID: id, Cluster: cluster, Server: s, Task: "mariabackup"}); err != nil {
		r.t.Fatal(err)
	}
}

// TestNothingIsShownOrDoneWithoutASession: a page leads to the login, and back; streams and forms are refused.
func TestNothingIsShownOrDoneWithoutASession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "mariabackup")
	b := r.browser()
	for _, p := range withJob(pages, j.ID) {
		got := b.get(p)
		if strings.HasPrefix(p, "/live/") {
			if got.status != http.StatusUnauthorized {
				t.Errorf("%s: %s", p, got.said())
			}
			continue
		}
		want := "/login"
		if p != "/" {
			want += "?next=" + url.QueryEscape(p)
		}
		if got.status != http.StatusSeeOther || got.header.Get("Location") != want || strings.Contains(got.body, "mariabackup") {
			t.Errorf("%s: %d to %s", p, got.status, got.header.Get("Location"))
		}
	}
	for _, a := range append(actions, action{path: "/logout"}, action{path: "/health/check"}) {
		if a = a.of(j.ID, ""); b.post(a.path, a.form).status != http.StatusUnauthorized {
			t.Errorf("POST %s is not refused", a.path)
		}
	}
	if now, _ := r.last(j.Key()); now.State != job.Available {
		t.Errorf("the job is %s", now.State)
	}
}

// TestAFormOfAnotherSiteDoesNothing: the cookie alone must not be enough, nor a proof without the browser's word for it.
func TestAFormOfAnotherSiteDoesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "mariabackup")
	b := r.browser().login("admin", "repman")
	other := r.browser().login("admin", "repman")
	for _, a := range append(actions, action{path: "/logout"}, action{path: "/health/check"}) {
		p := a.of(j.ID, "").path
		for name, try := range map[string]func() answer{
			"no proof": func() answer { return b.do(http.MethodPost, p, nil, "Sec-Fetch-Site", "same-origin") },
			"wrong proof": func() answer {
				return b.do(http.MethodPost, p, url.Values{"csrf": {"x"}}, "Sec-Fetch-Site", "same-origin")
			},
			"another site": func() answer {
				return b.do(http.MethodPost, p, url.Values{"csrf": {b.csrf}}, "Sec-Fetch-Site", "cross-site")
			},
			"another origin": func() answer {
				return b.do(http.MethodPost, p, url.Values{"csrf": {b.csrf}}, "Origin", "https://evil.example")
			},
			"proof in the path": func() answer { return b.do(http.MethodPost, p+"?csrf="+b.csrf, nil, "Sec-Fetch-Site", "same-origin") },
		} {
			if got := try(); got.status != http.StatusForbidden {
				t.Errorf("%s: POST %s: %d", name, p, got.status)
			}
		}
		if got := b.get(p); got.status != http.StatusNotFound {
			t.Errorf("GET %s: %d", p, got.status)
		}
	}
	if now, _ := r.last(j.Key()); now.State != job.Available {
		t.Errorf("the job is %s", now.State)
	}
	if b.csrf == "" || other.csrf == "" {
		t.Error("no proof")
	}
	if got := b.do(http.MethodPost, "/login", url.Values{"username": {"admin"}, "password": {"repman"}}, "Sec-Fetch-Site", "cross-site"); got.status != http.StatusForbidden {
		t.Errorf("another site signs its visitor in: %d", got.status)
	}
	// The API takes the cookie for reading only.
	if got := b.do(http.MethodGet, "/api/jobs/"+j.ID, nil); got.status != http.StatusOK {
		t.Errorf("read by cookie: %s", got)
	}
	if got := b.do(http.MethodDelete, "/api/jobs/"+j.ID, nil); got.status != http.StatusUnauthorized {
		t.Errorf("cancel by cookie: %s", got)
	}
}

// TestThePageAsksTheSameGrantsAsTheAPI: what the routes refuse is refused, with their words, and what one may not see is
// not there.
func TestThePageAsksTheSameGrantsAsTheAPI(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) {
		for i := range c.Clusters {
			if c.Clusters[i].Name == "api" {
				c.Clusters[i].Grants = map[string][]string{"viewer": {}}
			}
		}
	})
	seen, hidden := r.offered("sql", db1, "mariabackup"), r.offered("api", db2, "mariabackup")
	b := r.browser().login("viewer", "y")
	r.backup("sql", db1, "BACKUP")
	open := func(cluster string) string {
		return (&fleet{rig: r}).alert(bus.Alert{Code: "DOCK0201", Severity: bus.SeverityError, Cluster: cluster}, bus.AlertOpened)
	}
	edge, hiddenEdge := open("sql"), open("api")
	for _, a := range actions {
		a = a.of(seen.ID, edge)
		if got := b.post(a.path, a.form); got.status != http.StatusSeeOther {
			t.Errorf("POST %s: %s", a.path, got.said())
		}
		if got := b.get("/jobs/" + seen.ID).said(); !strings.Contains(got, "the grant "+a.grant+" is missing") {
			t.Errorf("POST %s: %s", a.path, got)
		}
	}
	if page := b.get("/jobs/" + seen.ID).body; strings.Contains(page, "/cancel") {
		t.Error("a button that would be refused is offered")
	}
	for _, p := range withJob([]string{"/jobs/JOB", "/jobs/JOB/log.txt", "/live/jobs/JOB"}, hidden.ID) {
		if got := b.get(p); got.status != http.StatusNotFound || strings.Contains(got.body, "mariabackup") {
			t.Errorf("%s: %s", p, got.said())
		}
	}
	for _, p := range []string{"/maintenance/api", "/live/maintenance/api", "/backups/api/127.0.0.1:3306/BACKUP", "/history?cluster=api", "/history.csv?cluster=api", "/schedules?cluster=api", "/explain/api/mariabackup", "/backups?cluster=api", "/conditions?cluster=api"} {
		if got := b.get(p); got.status != http.StatusNotFound {
			t.Errorf("%s: %s", p, got.said())
		}
	}
	for p, status := range map[string]int{
		"/explain/sql/optimize?at=2026-11-22+02:30&within=6h": 200, "/explain/sql/optimize?at=soon": 400, "/explain/sql/optimize?within=9000h": 400, "/explain/sql/nothing": 404,
	} {
		if got := b.get(p); got.status != status {
			t.Errorf("%s: %s, want %d", p, got.said(), status)
		}
	}
	for _, p := range []string{"/history", "/history.csv", "/history.json", "/conditions", "/timeline"} {
		if got := b.get(p); got.status != http.StatusOK || strings.Contains(got.body, hidden.ID) || strings.Contains(got.body, ">api<") {
			t.Errorf("%s shows what the reader may not see: %s", p, got.said())
		}
	}
	for _, a := range actions {
		a = a.of(hidden.ID, hiddenEdge)
		p := strings.ReplaceAll(a.path, "/sql/", "/api/")
		if got := b.post(p, a.form); got.status == http.StatusSeeOther {
			if said := b.get("/").said(); !strings.Contains(said, "unknown") {
				t.Errorf("POST %s: %s", p, said)
			}
		} else if got.status != http.StatusNotFound {
			t.Errorf("POST %s: %s", p, got.said())
		}
	}
	if got := b.get("/").body; strings.Contains(got, ">api<") || !strings.Contains(got, ">sql<") {
		t.Error("the fleet shows other clusters than the reader's")
	}
	for _, j := range []job.Job{seen, hidden} {
		if now, _ := r.last(j.Key()); now.State != job.Available {
			t.Errorf("%s is %s", j.Key(), now.State)
		}
	}
	admin := r.browser().login("admin", "repman")
	if got := admin.post("/jobs/"+seen.ID+"/cancel", nil); got.status != http.StatusSeeOther {
		t.Errorf("cancel: %s", got)
	}
	if now, _ := r.last(seen.Key()); now.State != job.Canceled || now.Steps[len(now.Steps)-1].Actor != "admin" {
		t.Errorf("after the cancel it is %s by %+v", now.State, now.Steps)
	}
}

// TestTheSessionCookieIsOutOfReach: no script reads it, no other site sends it, TLS alone carries it where there is TLS, and
// signing out takes it away.
func TestTheSessionCookieIsOutOfReach(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	form := url.Values{"username": {"admin"}, "password": {"repman"}, "next": {"//evil.example/"}}
	for addr, want := range map[string]string{
		"http://" + r.g.HTTPAddr().String(): "drydock=", "https://" + r.g.APIAddr().String(): "__Host-drydock=",
	} {
		req, _ := http.NewRequest(http.MethodPost, addr+"/login", strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("User-Agent", "test")
		client := r.browser().http
		client.Transport = insecure(t)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		cookie := res.Header.Get("Set-Cookie")
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/" {
			t.Errorf("%s: %d to %q", addr, res.StatusCode, res.Header.Get("Location"))
		}
		for _, part := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
			if !strings.HasPrefix(cookie, want) || !strings.Contains(cookie, part) {
				t.Errorf("%s: cookie %q lacks %s", addr, cookie, part)
			}
		}
		if strings.HasPrefix(addr, "https") != strings.Contains(cookie, "Secure") {
			t.Errorf("%s: cookie %q", addr, cookie)
		}
	}
	b := r.browser().login("admin", "repman")
	if got := b.post("/logout", nil); got.status != http.StatusSeeOther {
		t.Errorf("logout: %s", got)
	}
	if got := b.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("after the logout: %d", got.status)
	}
	got := b.get("/login")
	for name, want := range map[string]string{
		"Content-Security-Policy": "script-src 'self'", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
	} {
		if !strings.Contains(got.header.Get(name), want) || strings.Contains(got.header.Get(name), "unsafe") {
			t.Errorf("%s: %q", name, got.header.Get(name))
		}
	}
}

// TestOnlyALoginOpensThePage: neither a program's token nor a database host's does as a cookie, and a browser that has one
// comes to the login and is not sent in circles. Whoever may see nothing does not set the check going.
func TestOnlyALoginOpensThePage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := decode[struct{ Token string }](t, r.call("POST", "/api/users/admin/tokens", r.user("admin"), []byte(`{"name":"ci"}`)))
	for name, token := range map[string]string{"API token": api.Token, "database host": r.token("api", db1)} {
		b := r.browser()
		for path, want := range map[string]int{"/": http.StatusSeeOther, "/health": http.StatusSeeOther, "/live/fleet": http.StatusUnauthorized, "/login": http.StatusOK} {
			if got := b.do(http.MethodGet, path, nil, "Cookie", "drydock="+token); got.status != want {
				t.Errorf("%s: %s: %d, want %d", name, path, got.status, want)
			}
		}
	}
	if got := r.browser().login("nobody", "z").post("/health/check", nil); got.status != http.StatusForbidden {
		t.Errorf("nobody sets the check going: %d", got.status)
	}
	b := r.browser().login("admin", "repman")
	if got := b.get("/health"); !strings.Contains(got.body, bus.StreamAudit) || !strings.Contains(got.body, bus.StreamNotifications) {
		t.Errorf("the health page leaves out streams: %s", got)
	}
	if got := b.get("/api/clusters"); got.status != http.StatusOK || got.header.Get("Cache-Control") != "no-store" || got.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("what the cookie reads may be kept: %s %v", got, got.header)
	}
}

// TestGuessingAtTheLoginEnds: by the page and by the API together.
func TestGuessingAtTheLoginEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	guess := func(password string) answer {
		return b.do(http.MethodPost, "/login", url.Values{"username": {"dba"}, "password": {password}}, "Sec-Fetch-Site", "same-origin")
	}
	for i := range 10 {
		if got := guess("wrong"); i < 5 && (got.status != http.StatusUnauthorized || !strings.Contains(got.body, "wrong user or password")) {
			t.Fatalf("guess %d: %s", i, got)
		}
	}
	if got := guess("x"); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
		t.Errorf("the right password after ten wrong ones: %d", got.status)
	}
	if got := r.call("POST", "/api/login", "", []byte(`{"username":"dba","password":"x"}`)); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
		t.Errorf("by the API: %s", got)
	}
	if got := r.call("POST", "/api/login", "", []byte(`{"username":"admin","password":"repman"}`)); got.status != http.StatusOK {
		t.Errorf("somebody else: %s", got)
	}
}

// until reads a stream until it ends or something is in it. joined, if not nil, is called when it has begun.
func (b *browser) until(ctx context.Context, path, text string, joined func()) (all string, found bool) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "test")
	client := *b.http
	client.Timeout = 0
	res, err := client.Do(req)
	if err != nil {
		return err.Error(), false
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b.t.Errorf("%s: %d", path, res.StatusCode)
		return "", false
	}
	sc := bufio.NewScanner(res.Body)
	sc.Buffer(nil, 1<<20)
	if joined != nil {
		joined()
	}
	for sc.Scan() {
		if all += sc.Text() + "\n"; text != "" && strings.Contains(sc.Text(), text) {
			return all, true
		}
	}
	return all, false
}

// TestStreamsEndWithTheGateway: an open page must not hold up a stop.
func TestStreamsEndWithTheGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "mariabackup")
	b := r.browser().login("admin", "repman")
	ended := make(chan string, 2)
	opened := make(chan struct{}, 2)
	for _, p := range []string{"/live/fleet", "/live/jobs/" + j.ID} {
		go func() {
			if _, ok := b.until(r.ctx(), p, "hx-partial", nil); ok {
				opened <- struct{}{}
			}
			all, _ := b.until(r.ctx(), p, "", nil)
			ended <- all
		}()
	}
	for range 2 {
		select {
		case <-opened:
		case <-r.ctx().Done():
			t.Fatal("no event came")
		}
	}
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the stop took %s", took)
	}
	for range 2 {
		<-ended
	}
}

// liveOf is the address of a page's stream.
func liveOf(t *testing.T, page string) string {
	t.Helper()
	m := regexp.MustCompile(`hx-sse:connect="([^"]+)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("the page has no stream: %s", page)
	}
	return html.UnescapeString(m[1])
}

// TestAStreamTellsOfChangesOnly: the parts that are as they were shown are not sent again, a change comes by itself, and a
// log line cannot write a field of the event.
func TestAStreamTellsOfChangesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("api", db1, "mariabackup")
	b := r.browser().login("admin", "repman")
	live := liveOf(t, b.get("/jobs/"+j.ID).body)
	all, ok := b.until(r.ctx(), live, "last &lt;b&gt;line", func() {
		r.apply(j.Key(), job.Start, nil)
		(&fleet{rig: r}).log(j, "ERROR", "a\revent: gone\rdata: x", "last <b>line</b>")
	})
	if !ok || strings.Contains(all, "\nevent: gone") {
		t.Errorf("the stream:\n%s", all)
	}
	if strings.Contains(all, "part-facts") {
		t.Error("a part that did not change was sent")
	}
	if !strings.Contains(all, "processing") {
		t.Errorf("the change did not come:\n%s", all)
	}
}

func insecure(t *testing.T) *http.Transport {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// TestMarkupFromOutsideIsText: host names, reasons, the tool's errors, conditions and log lines are shown and not obeyed.
func TestMarkupFromOutsideIsText(t *testing.T) {
	t.Parallel()
	f := newFleet(t, hostileTexts)
	b := f.browser().login("admin", "repman")
	bustest.Until(t, 20*time.Second, "the last 30 days are read", func() bool { return !strings.Contains(b.get("/").body, "being read") })
	bustest.Until(t, 20*time.Second, "the check has looked", func() bool { return strings.Contains(b.get("/health").body, "mail-db1") })
	for _, p := range []string{"/", "/jobs/" + f.failed.ID, "/jobs/" + f.running.ID, "/maintenance/prod", "/timeline?cluster=prod", "/history?cluster=prod", "/conditions", "/health", "/restore?cluster=prod&directory=/srv/x&backup=" + f.backup.ID} {
		got := b.get(p)
		if got.status != http.StatusOK || !strings.Contains(got.body, "&lt;script&gt;") && !strings.Contains(got.body, "&lt;b id=owned&gt;") {
			t.Errorf("%s does not show the text: %d", p, got.status)
		}
		for _, bad := range []string{"<img", "<script>document", "<b id=owned"} {
			if strings.Contains(got.body, bad) {
				t.Errorf("%s holds %s", p, bad)
			}
		}
	}
}

// TestFormsDoWhatTheySay: hold and let go, acknowledge and take back, pin and take away, run a task; and the exports hold
// what the page shows.
func TestFormsDoWhatTheySay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, hostileTexts)
	b := f.browser().login("admin", "repman")
	did := func(path string, form url.Values, page, want string) {
		t.Helper()
		if got := b.post(path, form); got.status != http.StatusSeeOther {
			t.Fatalf("POST %s: %s", path, got.said())
		}
		bustest.Until(t, 20*time.Second, path+": "+want, func() bool { return strings.Contains(b.get(page).body, want) })
	}
	did("/maintenance/prod/hold", url.Values{"reason": {"storage <move>"}}, "/maintenance/prod", "cluster prod is on hold")
	if got := b.get("/maintenance/prod").body; !strings.Contains(got, "storage &lt;move&gt;") {
		t.Error("the reason is not shown as text")
	}
	if b.post("/maintenance/prod/run", url.Values{"slot": {f.cfg.Clusters[6].Servers[2].Addr() + "/optimize"}}); !strings.Contains(b.get("/maintenance/prod").said(), "is on hold") {
		t.Error("a run on hold is not refused")
	}
	did("/maintenance/prod/hold", url.Values{"lift": {"1"}}, "/maintenance/prod", "the hold is lifted")
	if got := b.get("/maintenance/prod").body; strings.Contains(got, "prod is on hold") {
		t.Error("the hold is still shown")
	}
	b.post("/maintenance/prod/run", url.Values{"slot": {f.cfg.Clusters[6].Servers[2].Addr() + "/optimize"}})
	ticks, err := f.deps.Ledger.List(f.ctx(), store.TickFilter{Cluster: "prod", Task: "optimize"})
	if err != nil || len(ticks) != 1 || ticks[0].Trigger.By != "admin" || len(ticks[0].Servers) != 1 || ticks[0].Servers[0] != f.cfg.Clusters[6].Servers[2] {
		t.Errorf("the ledger has %+v, %v", ticks, err)
	}

	did("/schedules/prod/optimize/switch", url.Values{"note": {"bug <17>"}}, "/schedules?cluster=prod&task=optimize", "is switched off until somebody")
	if got := b.get("/schedules?cluster=prod").body; !strings.Contains(got, "bug &lt;17&gt;") || !strings.Contains(got, "is skipped: switched off") {
		t.Error("the page does not say who switched the schedule off, and what becomes of its ticks")
	}
	for page, want := range map[string]string{"/": "1 schedule switched off", "/maintenance/prod": "switched off by admin"} {
		if got := b.get(page).body; !strings.Contains(got, want) {
			t.Errorf("%s does not say %q", page, want)
		}
	}
	if b.post("/schedules/prod/reseedlogical/switch", nil); !strings.Contains(b.get("/schedules").said(), "has none for reseedlogical") {
		t.Error("a switch of what has no schedule is not refused")
	}
	did("/schedules/prod/optimize/switch", url.Values{"on": {"1"}}, "/schedules?cluster=prod&task=optimize", "is switched on again")
	if got := b.get("/schedules?cluster=prod").body; strings.Contains(got, "bug &lt;17&gt;") {
		t.Error("the schedule is still shown as switched off")
	}

	bustest.Until(t, 20*time.Second, "the conditions are read", func() bool { return strings.Contains(b.get("/conditions").body, "DOCK0201") })
	open, err := store.NewAlerts(f.conn, "").List(f.ctx(), store.AlertFilter{Cluster: "mail"})
	if err != nil || len(open) != 1 {
		t.Fatalf("%+v, %v", open, err)
	}
	errors := func() string {
		m := regexp.MustCompile(`(\d) open error`).FindStringSubmatch(b.get("/").body)
		if m == nil {
			return "none"
		}
		return m[1]
	}
	if got := errors(); got != "2" {
		t.Errorf("%s open errors", got)
	}
	did("/conditions/ack", url.Values{"ack": {open[0].ID}}, "/conditions", "by admin")
	if got := errors(); got != "1" {
		t.Errorf("after one is acknowledged: %s open errors", got)
	}
	did("/conditions/ack", url.Values{"lift": {open[0].ID}}, "/conditions", "no longer acknowledged")

	backup := "/backups/" + f.backup.Cluster + "/" + f.backup.Server.Addr() + "/" + f.backup.ID
	did(backup+"/pin", url.Values{"reason": {"audit"}}, backup, "Pinned")
	did(backup+"/pin", url.Values{"lift": {"1"}}, backup, "kept no longer")

	csv := b.get("/history.csv?since=400d&cluster=prod&state=halted").body
	if !strings.HasPrefix(csv, "id,cluster,server,task,state,") || !strings.Contains(csv, f.failed.ID) || strings.Contains(csv, ",success,") {
		t.Errorf("the CSV is %.300s", csv)
	}
	for _, j := range decode[struct{ Jobs []job.Job }](t, b.get("/history.json?state=live")).Jobs {
		if j.ID == f.running.ID {
			return
		}
	}
	t.Error("the running job is not in the JSON")
}

// TestPagesShowFreePortsAndTheLastHour: a full receiver turns backups away, and the page must say so before they are; a receiver
// that does not answer must not look as if it had ports. What a server said a moment ago is in the curve of the page that is open.
func TestPagesShowFreePortsAndTheLastHour(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, ports := range map[string]*bus.PortsReply{"full": {Total: 2, InUse: 2}, "some": {Total: 4, InUse: 1}, "any": {InUse: 3}, "silent": nil} {
		s, err := micro.AddService(r.conn.NC, micro.Config{Name: bus.ReceiverService, Version: "1.0.0", Metadata: map[string]string{"receiver": "rx-" + name}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Stop() })
		if ports == nil {
			continue
		}
		data, _ := json.Marshal(ports)
		if err := s.AddEndpoint("ports", micro.HandlerFunc(func(m micro.Request) { _ = m.Respond(data) }),
			micro.WithEndpointSubject(bus.ReceiverSubject("rx-"+name, bus.VerbPorts))); err != nil {
			t.Fatal(err)
		}
	}
	b := r.browser().login("admin", "repman")
	page := b.get("/health").body
	for name, want := range map[string]string{
		"full": `<td class="nowrap warn">0 of 2</td>`, "some": `<td class="nowrap">3 of 4</td>`, "any": `<td class="nowrap">any free one, 3 in use</td>`,
		"silent": `<td class="nowrap">does not say</td>`,
	} {
		if _, after, _ := strings.Cut(page, "<td>rx-"+name+"</td>"); !strings.Contains(strings.SplitN(after, "</tr>", 2)[0], want) {
			t.Errorf("receiver %s: want %s in %.300s", name, want, after)
		}
	}

	if page := b.get("/maintenance/sql").body; strings.Contains(page, "of the last hour") {
		t.Errorf("a curve of nothing: %s", page)
	}
	lag := int64(42)
	all, shown := b.until(r.ctx(), "/live/maintenance/sql", "load of the last hour: now 7, at most 7", func() {
		r.putFacts("sql", map[job.Server]store.Facts{db2: {Up: true, Role: store.RoleReplica, Running: 7, Time: time.Now().UTC(), Sources: []store.Source{{Lag: &lag}}}})
	})
	if !shown || !strings.Contains(all, "lag of the last hour: now 42 s, at most 42 s") {
		t.Errorf("the open page does not show what the server said: %s", all)
	}
}
