package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/gateway"
	"drydock/gateway/auth"
	"drydock/job"
	"drydock/store"
)

// need is what a route asks of its caller. What every kind of caller is answered follows from it ([need.answer]).
type need struct {
	kind  string
	grant string
}

// The kinds of needs.
const (
	open       = "nobody in particular"
	gone       = "answers 404 to everybody"
	secret     = "the database password in the body"
	credential = "a user's password in the body"
	ofHost     = "the token of that host, or the grant on the cluster"
	ofCluster  = "the token of a host of that cluster, or the grant on it"
	scraper    = "a user; shows what it may see"
	list       = "a session or token; shows what it may see"
	person     = "a user"
	read       = "any grant on the cluster"
	grant      = "the grant on the cluster"
	somewhere  = "the grant on some cluster; shows what it may see"
	everywhere = "the grant on every cluster"
	readAll    = "any grant on every cluster"
	own        = "that user, or the grant on every cluster"
	session    = "a login of that user"
	login      = "a login"
	page       = "a login at the page; shows what it may see"
	pageOf     = "a login at the page, any grant on the cluster"
	stream     = "a login at the page (stream)"
	streamOf   = "a login at the page, any grant on the cluster (stream)"
	form       = "a form made for the session; then the API decides"
)

func (n need) String() string {
	if n.grant == "" {
		return n.kind
	}
	return strings.Replace(n.kind, "the grant", "`"+n.grant+"`", 1)
}

// routeNeeds is the one place where the needs of all routes stand: both methods of the scripts' routes, the API, the page.
var routeNeeds = func() map[string]need {
	out := map[string]need{}
	put := func(n need, routes ...string) {
		for _, r := range routes {
			out[r] = n
		}
	}
	both := func(n need, paths ...string) {
		for _, p := range paths {
			put(n, "GET "+p, "POST "+p)
		}
	}
	const server, cluster, user = "/api/clusters/:cluster/servers/:host/:port", "/api/clusters/:cluster", "/api/users/:name"
	both(need{secret, ""}, server+"/secret-login")
	both(need{ofHost, auth.Jobs}, server+"/needs/:task", server+"/actions/receive-task/:task", server+"/actions/job-state/:task/:state",
		server+"/write-log/:task", server+"/actions/receive-jobs-check", server+"/actions/send-jobs-upgrade", server+"/jobs-pending",
		server+"/actions/heartbeat/:task", server+"/actions/job-result/:id", server+"/actions/restore-info/:task")
	both(need{ofCluster, auth.Jobs}, cluster+"/jobs-log-level/:task/:level")
	both(need{ofHost, auth.Tarball}, server+"/config")
	both(need{gone, ""}, server+"/need-config-refresh", server+"/config-receiver", server+"/config-dummy-sender", server+"/dbu")

	put(need{open, ""}, "GET /healthz", "GET /readyz", "GET /api/openapi.json")
	put(need{credential, ""}, "POST /api/login")
	put(need{scraper, ""}, "GET /metrics")
	put(need{list, ""}, "GET /api/clusters", "GET /api/jobs", "GET /api/schedules", "GET /api/ticks", "GET /api/backups",
		"GET /api/backups/prune", "GET /api/alerts", "GET /api/closures")
	put(need{person, ""}, "GET /api/me")
	put(need{read, ""}, "GET "+cluster+"/servers", "GET "+cluster+"/explain/:task", "GET "+cluster+"/restore/plan", "GET /api/jobs/:id", "GET /api/jobs/:id/log")
	put(need{readAll, ""}, "GET /api/notifications")
	put(need{grant, auth.Maintenance}, "POST "+server+"/jobs/:task", "POST "+cluster+"/jobs/:task", "DELETE /api/jobs/:id",
		"POST /api/jobs/:id/pause", "POST /api/jobs/:id/resume", "POST /api/jobs/:id/abort")
	put(need{grant, auth.Restore}, "POST "+server+"/actions/reseed/:kind", "POST "+server+"/actions/flashback/:kind")
	put(need{grant, auth.Backup}, "POST /api/backups/:id/pin", "DELETE /api/backups/:id/pin")
	put(need{grant, auth.Hold}, "POST "+cluster+"/hold", "DELETE "+cluster+"/hold", "POST "+cluster+"/blackouts",
		"POST "+cluster+"/schedules/:task/off", "DELETE "+cluster+"/schedules/:task/off",
		"DELETE /api/blackouts/:id", "POST /api/alerts/:id/ack", "DELETE /api/alerts/:id/ack")
	put(need{everywhere, auth.Hold}, "POST /api/hold", "DELETE /api/hold", "POST /api/blackouts")
	put(need{somewhere, auth.Audit}, "GET /api/audit")
	put(need{everywhere, auth.Users}, "GET /api/users", "POST /api/users", "DELETE "+user, "PUT "+user+"/grants", "POST "+user+"/disable", "POST "+user+"/enable")
	put(need{own, auth.Users}, "GET "+user, "GET "+user+"/tokens", "DELETE "+user+"/tokens/:token", "POST "+user+"/revoke-tokens")
	put(need{session, ""}, "POST "+user+"/password", "POST "+user+"/tokens")
	put(need{login, ""}, "POST /api/logout")

	put(need{open, ""}, "GET /assets/{sum}/{name}", "GET /favicon.ico", "GET /login")
	put(need{credential, ""}, "POST /login")
	for path, n := range map[string]need{
		"/": {page, ""}, "/timeline": {page, ""}, "/maintenance": {page, ""}, "/maintenance/{cluster}": {pageOf, ""}, "/history": {page, ""},
		"/backups": {page, ""}, "/backups/{cluster}/{server}/{id}": {pageOf, ""}, "/schedules": {page, ""}, "/explain/{cluster}/{task}": {pageOf, ""},
		"/conditions": {page, ""}, "/health": {page, ""}, "/restore": {page, ""}, "/jobs/{id}": {pageOf, ""},
	} {
		if path == "/" {
			put(n, "GET /{$}")
			continue
		}
		put(n, "GET "+path)
	}
	put(need{page, ""}, "GET /history.csv", "GET /history.json")
	put(need{pageOf, ""}, "GET /jobs/{id}/log.txt")
	put(need{stream, ""}, "GET /live/fleet", "GET /live/timeline", "GET /live/history", "GET /live/backups", "GET /live/schedules", "GET /live/conditions", "GET /live/health")
	put(need{streamOf, ""}, "GET /live/maintenance/{cluster}", "GET /live/backup/{cluster}/{server}/{id}", "GET /live/jobs/{id}", "GET /live/explain/{cluster}/{task}")
	put(need{form, ""}, "POST /logout", "POST /jobs/{id}/cancel", "POST /jobs/{id}/retry", "POST /jobs/{id}/{order}", "POST /maintenance/{cluster}/run",
		"POST /maintenance/{cluster}/hold", "POST /backups/{cluster}/{server}/{id}/drill", "POST /backups/{cluster}/{server}/{id}/verify", "POST /backups/{cluster}/{server}/{id}/pin",
		"POST /conditions/ack", "POST /health/check", "POST /schedules/{cluster}/{task}/switch")
	return out
}()

// caller is one kind of caller.
type caller struct {
	name, about string
	token       func() string // its token, "" for none
	bad         bool          // the token is none of ours any more
	host        string        // "own", "server", "cluster": it is a database host's: of this server, of another, of another cluster
	here, there []string      // grant words: on the cluster of the route, on the other one
	user        string        // whose login or token
	api         bool          // the token is an API token
	narrow      bool          // with grants of its own
	cookie      bool          // sent as the page's cookie also to the API
	forms       bool          // forms carry their proof
}

func (c caller) holds(words []string, grant string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(grant, w) })
}

// letIn is the answer of who is let in: what follows is the route's own business.
const letIn = 0

// answer is the status that a caller gets on a route with this need, or [letIn].
func (n need) answer(c caller, method string) int {
	if s, done := n.atTheDoor(c, method); done {
		return s
	}
	switch n.kind {
	case ofHost, ofCluster:
		switch {
		case c.host == "own", c.host == "server" && n.kind == ofCluster, c.host == "" && c.holds(c.here, n.grant):
			return letIn
		}
		return http.StatusForbidden
	}
	if c.host != "" {
		return http.StatusForbidden // a database host has no business with operators' routes
	}
	switch n.kind {
	case read:
		return hidden(len(c.here) > 0)
	case grant:
		if len(c.here) == 0 {
			return http.StatusNotFound
		}
		return refused(c.holds(c.here, n.grant))
	case somewhere:
		return refused(c.holds(c.here, n.grant) || c.holds(c.there, n.grant))
	case everywhere:
		return refused(c.holds(c.here, n.grant) && c.holds(c.there, n.grant))
	case readAll:
		return refused(len(c.here) > 0 && len(c.there) > 0)
	case own:
		return refused(c.user == "admin" && !c.narrow || c.holds(c.here, n.grant) && c.holds(c.there, n.grant))
	case session:
		return refused(c.user == "admin" && !c.api)
	case login:
		return refused(!c.api)
	}
	return letIn
}

// atTheDoor is the part of the answer that does not depend on grants.
func (n need) atTheDoor(c caller, method string) (status int, done bool) {
	signedIn := c.user != "" && !c.bad && !c.api
	switch n.kind {
	case open:
		return letIn, true
	case gone:
		return http.StatusNotFound, true
	case secret, credential:
		return http.StatusUnauthorized, true
	case page, pageOf:
		switch {
		case !signedIn:
			return http.StatusSeeOther, true
		case n.kind == pageOf:
			return hidden(len(c.here) > 0), true
		}
		return letIn, true
	case stream, streamOf, form:
		switch {
		case !signedIn:
			return http.StatusUnauthorized, true
		case n.kind == form && !c.forms:
			return http.StatusForbidden, true
		case n.kind == streamOf:
			return hidden(len(c.here) > 0), true
		}
		return letIn, true
	}
	cookieServes := method == "GET" && n.kind != ofHost && n.kind != ofCluster && n.kind != scraper
	if c.bad || c.cookie && !cookieServes {
		return http.StatusUnauthorized, true
	}
	return 0, false
}

func refused(may bool) int {
	if may {
		return letIn
	}
	return http.StatusForbidden
}

func hidden(may bool) int {
	if may {
		return letIn
	}
	return http.StatusNotFound
}

// kinds are the callers without their tokens, in the order of the table.
func kinds() []caller {
	all := []string{"cluster", "db", "prov"}
	return []caller{
		{name: "none", about: "no credentials", bad: true},
		{name: "garbage", about: "a token that is none", bad: true},
		{name: "wrong key", about: "a token signed with another key", bad: true},
		{name: "expired", about: "a login or a host's token past its end", bad: true},
		{name: "revoked", about: "a login after its logout", bad: true},
		{name: "host, other server", about: "the token that another server of the same cluster got by secret-login", host: "server"},
		{name: "host, other cluster", about: "the token that the same server got in another cluster", host: "cluster"},
		{name: "user, other cluster", about: "a user with every grant, on another cluster only", user: "other", there: all},
		{name: "read-only", about: "a user with the grant word `proxy` only", user: "viewer", here: []string{"proxy"}, there: []string{"proxy"}},
		{name: "narrow API token", about: "an API token of an administrator, cut down to `db-logs`", user: "admin", api: true, narrow: true, here: []string{"db-logs"}, there: []string{"db-logs"}},
		{name: "cookie", about: "an administrator's cookie without the proof of a form", user: "admin", cookie: true, here: all, there: all},
		{name: "that host", about: "the token that the server itself got", host: "own"},
		{name: "administrator", about: "a user with every grant, forms with their proof", user: "admin", forms: true, here: all, there: all},
	}
}

// here is the name of the cluster that the routes are about: a word that stands in no answer by chance.
const here = "zanzibar"

// accessRig is a gateway with something of the cluster `zanzibar` behind every route, and callers with their tokens.
type accessRig struct {
	*rig
	callers []caller
	logins  map[string]string // by user, while they last
	ids     map[string]string // by first element of the path: what :id means
	client  *http.Client
}

func newAccessRig(t *testing.T) *accessRig {
	r := newRig(t, func(c *gateway.Config) {
		c.Clusters[0].Name, c.Clusters[0].Mode, c.Clusters[1].Name, c.Clusters = here, job.API, "beta", c.Clusters[:2]
		c.Users["other"], c.Clusters[1].Grants = "o", map[string][]string{"other": {"cluster", "db", "prov"}}
	})
	sub, err := r.conn.NC.Subscribe(bus.SubjectNext, func(m *nats.Msg) {
		data, _ := json.Marshal(bus.NextReply{Schedules: []bus.ScheduleInfo{{Cluster: here, Task: "optimize", Servers: []job.Server{db1}, Next: []time.Time{time.Now()}}}})
		_ = m.Respond(data)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	t.Cleanup(func() { close(r.rx.checks) }) // receive-jobs-check has somebody wait for a script
	a := &accessRig{rig: r, ids: map[string]string{}, logins: map[string]string{}, client: &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(a.client.CloseIdleConnections)
	a.seed()
	a.callers = a.withTokens()
	return a
}

// seed puts something of the cluster behind each list and each id.
func (a *accessRig) seed() {
	a.ids["jobs"] = a.offered(here, db1, "optimize").ID
	a.catalogued(here, "01A")
	a.ids["backups"] = "01A"
	edge := bus.Alert{State: bus.AlertOpened, Code: "DOCK0501", Severity: bus.SeverityError, Cluster: here, Server: db1, Since: time.Now().UTC()}
	subject := bus.AlertSubject(here, db1.Host, db1.Port, edge.Code)
	if _, _, err := store.NewAlerts(a.conn, "test").Append(a.ctx(), subject, 0, edge); err != nil {
		a.t.Fatal(err)
	}
	a.ids["alerts"] = bus.Condition(subject)
	admin := a.user("admin")
	from := time.Now().Add(time.Hour).UTC()
	b := decode[store.Blackout](a.t, a.call("POST", "/api/clusters/"+here+"/blackouts", admin,
		fmt.Appendf(nil, `{"from":%q,"to":%q}`, from.Format(time.RFC3339), from.Add(time.Hour).Format(time.RFC3339))))
	a.ids["blackouts"] = b.ID
	a.want(a.call("POST", path(here, db2, "/jobs/optimize"), admin, nil), 202, "")
}

func (a *accessRig) withTokens() []caller {
	key, err := store.SigningKey(a.ctx(), a.conn)
	if err != nil {
		a.t.Fatal(err)
	}
	signed := func(key []byte, now time.Time) string {
		old, err := auth.New(key, auth.Config{Users: a.cfg.Users, Grants: a.cfg.Grants, Now: func() time.Time { return now }})
		if err != nil {
			a.t.Fatal(err)
		}
		token, err := old.Login("admin", a.cfg.Users["admin"])
		if err != nil {
			a.t.Fatal(err)
		}
		return token
	}
	always := func(token string) func() string { return func() string { return token } }
	anew := func(user string) func() string {
		return func() string {
			if a.logins[user] == "" {
				a.logins[user] = a.user(user)
			}
			return a.logins[user]
		}
	}
	revoked := a.user("admin")
	a.want(a.call("POST", "/api/logout", revoked, nil), 200, "")
	narrow := decode[struct{ Token string }](a.t, a.call("POST", "/api/users/admin/tokens", a.user("admin"), []byte(`{"name":"narrow","grants":["db-logs"]}`))).Token
	cookie := a.user("admin")
	tokens := map[string]func() string{
		"none": always(""), "garbage": always("x.y.z"), "wrong key": always(signed(bytes.Repeat([]byte("k"), 32), time.Now())),
		"expired": always(signed(key, time.Now().Add(-48*time.Hour))), "revoked": always(revoked),
		"host, other server": always(a.token(here, db2)), "host, other cluster": always(a.token("beta", db1)), "that host": always(a.token(here, db1)),
		"user, other cluster": anew("other"), "read-only": anew("viewer"), "narrow API token": always(narrow),
		"cookie": always(cookie), "administrator": anew("admin"),
	}
	callers := kinds()
	for i, c := range callers {
		if callers[i].token = tokens[c.name]; callers[i].token == nil || callers[i].token() == "" && c.name != "none" {
			a.t.Fatalf("no token for %s", c.name)
		}
	}
	// What makes the bad ones bad must be only that: the same key and user are good today.
	a.want(a.call("GET", "/api/me", signed(key, time.Now()), nil), 200, "")
	return callers
}

var pathParam = regexp.MustCompile(`:[a-z]+|\{[a-z$]+\}`)

// address is a real path for a route.
func (a *accessRig) address(path string) string {
	first := strings.Split(strings.TrimPrefix(strings.TrimPrefix(path, "/api"), "/live"), "/")[1]
	if first == "backup" {
		first = "backups"
	}
	return pathParam.ReplaceAllStringFunc(path, func(p string) string {
		switch name := strings.Trim(p, ":{}"); name {
		case "cluster":
			return here
		case "host":
			return db1.Host
		case "port":
			return fmt.Sprint(db1.Port)
		case "server":
			return db1.Addr()
		case "task":
			return "optimize"
		case "level":
			return "ERROR"
		case "state":
			return "processing"
		case "kind":
			return "physicalbackup"
		case "name":
			if first == "assets" {
				return "icon.svg"
			}
			return "admin"
		case "order":
			return "pause"
		case "id":
			if first == "clusters" { // job-result
				first = "jobs"
			}
			return a.ids[first]
		case "$":
			return ""
		default:
			return "x"
		}
	})
}

// ask makes the call of a caller on a route and returns the status and the beginning of the answer.
func (a *accessRig) ask(c caller, method, path string, isPage bool) (int, string) {
	a.t.Helper()
	token := c.token()
	var body io.Reader
	kind := "application/x-www-form-urlencoded"
	switch {
	case method == "GET":
	case path == "/api/login": // of another user each, else they are one user's failures, and soon too many
		body, kind = strings.NewReader(fmt.Sprintf(`{"username":%q,"password":"wrong"}`, c.name)), "application/json"
	case path == "/login":
		body = strings.NewReader(url.Values{"username": {c.name}}.Encode())
	case isPage && c.forms:
		m := hmac.New(sha256.New, []byte(token))
		m.Write([]byte("drydock form"))
		body = strings.NewReader(url.Values{"csrf": {base64.RawURLEncoding.EncodeToString(m.Sum(nil))}}.Encode())
	}
	req, err := http.NewRequest(method, "http://"+a.g.HTTPAddr().String()+a.address(path), body)
	if err != nil {
		a.t.Fatal(err)
	}
	if strings.HasSuffix(path, "/logout") || strings.HasSuffix(path, "/revoke-tokens") {
		defer clear(a.logins)
	}
	req.Header.Set("User-Agent", "access-test")
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	switch {
	case token == "":
	case isPage || c.cookie:
		req.AddCookie(&http.Cookie{Name: "drydock", Value: token})
	default:
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := a.client.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return res.StatusCode, a.firstEvent(res.Body)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// firstEvent reads a stream of the page, which shows everything first, to the end of its first event.
func (a *accessRig) firstEvent(stream io.ReadCloser) string {
	a.t.Helper()
	late := time.AfterFunc(30*time.Second, func() { stream.Close() })
	defer late.Stop()
	var text strings.Builder
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "" && text.Len() > 0 {
			return text.String()
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			text.WriteString(data + "\n")
		}
	}
	a.t.Errorf("a stream ends without an event: %v", lines.Err())
	return ""
}

// A route that nobody thought of, or a door that looks at the token and not at whose it is: every route is tried with every
// kind of caller, a new one that has no entry in routeNeeds fails, and docs/security.md shows what each is answered.
func TestEveryRouteAnswersEveryKindOfCallerAsItsNeedSays(t *testing.T) {
	t.Parallel()
	a := newAccessRig(t)
	pages := a.g.PageRoutes()
	all := append(a.g.Routes(), pages...)
	for _, route := range all {
		if _, ok := routeNeeds[route]; !ok {
			t.Errorf("%s has no entry in routeNeeds: say who may use it", route)
		}
	}
	for route := range routeNeeds {
		if !slices.Contains(all, route) {
			t.Errorf("%s is in routeNeeds, and no route", route)
		}
	}
	slices.Sort(all) // DELETE and GET before POST; those who are refused come first anyhow
	for _, admitted := range []bool{false, true} {
		for _, route := range all {
			method, path, _ := strings.Cut(route, " ")
			isPage := slices.Contains(pages, route)
			for _, c := range a.callers {
				want := routeNeeds[route].answer(c, method)
				if (want == letIn) != admitted {
					continue
				}
				got, body := a.ask(c, method, path, isPage)
				switch {
				case want != letIn && got != want:
					t.Errorf("%s by %q: got %d %.200s, want %d", route, c.name, got, body, want)
				case want == letIn && (got == 401 || got == 403 || got == 405):
					t.Errorf("%s by %q: got %d %.200s, want to be let in", route, c.name, got, body)
				case want == letIn && method == "GET" && slices.Contains([]string{list, read, page, pageOf, stream, streamOf, own, person}, routeNeeds[route].kind) && got != 200 &&
					!strings.HasSuffix(path, "/restore/plan"): // it is let in, and names no backup
					t.Errorf("%s by %q: got %d %.200s, want 200", route, c.name, got, body)
				case len(c.here) == 0 && c.host == "" && !strings.Contains(a.address(path), here) && strings.Contains(body, here):
					t.Errorf("%s by %q shows something of the cluster: %.300s", route, c.name, body)
				}
			}
		}
	}
}

// accessTable writes the table of docs/security.md.
func accessTable(routes []string) string {
	var b strings.Builder
	callers := kinds()
	b.WriteString("| route | asks for |")
	for _, c := range callers {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(callers)) + "\n")
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		fmt.Fprintf(&b, "| %s `%s` | %s |", method, path, routeNeeds[route])
		for _, c := range callers {
			if s := routeNeeds[route].answer(c, method); s == letIn {
				b.WriteString(" yes |")
			} else {
				fmt.Fprintf(&b, " %d |", s)
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for _, c := range callers {
		fmt.Fprintf(&b, "- *%s*: %s\n", c.name, c.about)
	}
	return b.String()
}

const tableBegin, tableEnd = "<!-- generated by go generate ./gateway -->\n", "<!-- end of the generated part -->\n"

func TestTableOfCallersIsCurrent(t *testing.T) {
	const file = "../docs/security.md"
	var routes []string
	for r := range routeNeeds {
		routes = append(routes, r)
	}
	slices.SortFunc(routes, func(a, b string) int {
		_, pa, _ := strings.Cut(a, " ")
		_, pb, _ := strings.Cut(b, " ")
		if api := strings.HasPrefix(pa, "/api"); api != strings.HasPrefix(pb, "/api") {
			return map[bool]int{true: -1, false: 1}[api]
		}
		return strings.Compare(pa+a, pb+b)
	})
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(got), tableBegin)
	_, after, end := strings.Cut(rest, tableEnd)
	if !ok || !end {
		t.Fatalf("%s has no place for the table", file)
	}
	want := before + tableBegin + "\n" + accessTable(routes) + "\n" + tableEnd + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(got) != want {
		t.Errorf("%s differs from the code; run go generate ./gateway", file)
	}
}
