package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/gateway"
	"drydock/gateway/auth"
	"drydock/internal/bustest"
	"drydock/store"
)

// managers is a rig with a user who manages others, beside those of the configuration.
func managers(c *gateway.Config) {
	c.Users["boss"] = "b"
	c.Grants["boss"] = []string{"cluster", "db", "prov", "proxy"}
	c.Users["local"] = "l" // manages, but not everywhere
	c.Grants["local"] = []string{"cluster", "db"}
	c.Clusters[0].Grants = map[string][]string{"local": {"db"}}
}

// login logs somebody in who is not of the configuration.
func (r *rig) login(name, password string) answer {
	r.t.Helper()
	body, _ := json.Marshal(map[string]string{"username": name, "password": password})
	return r.call("POST", "/api/login", "", body)
}

func (r *rig) in(name, password string) string {
	r.t.Helper()
	got := r.login(name, password)
	r.want(got, 200, "")
	return decode[struct{ Token string }](r.t, got).Token
}

func addBody(name, password string, grants ...string) []byte {
	body, _ := json.Marshal(map[string]any{"name": name, "password": password, "grants": grants})
	return body
}

// acts are the audit's entries, the oldest first.
func (r *rig) acts() []bus.Audit {
	r.t.Helper()
	out, err := store.NewAudits(r.conn, "test").List(r.ctx(), store.AuditFilter{Limit: 10_000})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Reverse(out)
	return out
}

// Every route about users, for every kind of caller.
func TestRoutesOfUsersLetInOnlyWhoMay(t *testing.T) {
	t.Parallel()
	r := newRig(t, managers)
	boss := r.user("boss")
	r.want(r.call("POST", "/api/users", boss, addBody("dana", "dana's password", "db-logs")), 201, "")
	r.want(r.call("POST", "/api/users", boss, addBody("wide", "wide's password", "cluster", "db", "proxy")), 201, "")
	r.want(r.call("POST", "/api/users", boss, addBody("helper", "helper's word", "cluster-grant", "db-logs")), 201, "")
	dana, helper := r.in("dana", "dana's password"), r.in("helper", "helper's word")
	api := decode[struct{ Token, ID string }](t, r.call("POST", "/api/users/boss/tokens", boss, []byte(`{"name":"ci","grants":["cluster-grant","db-logs"]}`)))
	callers := map[string]string{"none": "", "boss": boss, "local": r.user("local"), "dana": dana, "helper": helper, "token": api.Token, "host": r.token("api", db1), "broken": dana + "x"}
	order := []string{"none", "broken", "host", "dana", "local", "helper", "token"} // boss comes last, by himself
	for _, c := range []struct {
		method, path, body string
		want               map[string]int // by caller; 403 when not named, 401 for none and broken
	}{
		{"GET", "/api/me", "", map[string]int{"dana": 200, "local": 200, "helper": 200, "token": 200, "boss": 200}},
		{"GET", "/api/users", "", map[string]int{"helper": 200, "token": 200, "boss": 200}},
		{"GET", "/api/users/dana", "", map[string]int{"dana": 200, "helper": 200, "token": 200, "boss": 200}},
		{"GET", "/api/users/wide", "", map[string]int{"helper": 200, "token": 200, "boss": 200}},
		{"GET", "/api/users/nowhere", "", map[string]int{"helper": 404, "token": 404, "boss": 404}},
		{"POST", "/api/users", `{"name":"new","password":"new one's word","grants":["db-backup"]}`, map[string]int{"boss": 201}}, // helper has it not
		{"POST", "/api/users", `{"name":"new","password":"new one's word","grants":["db-backup"]}`, map[string]int{"boss": 409}},
		{"POST", "/api/users", `{"name":"admin","password":"new one's word"}`, map[string]int{"helper": 409, "token": 409, "boss": 409}},
		{"POST", "/api/users", `{"name":"system","password":"new one's word"}`, map[string]int{"helper": 400, "token": 400, "boss": 400}},
		{"POST", "/api/users", `{"name":"x:y","password":"new one's word"}`, map[string]int{"helper": 400, "token": 400, "boss": 400}},
		{"POST", "/api/users", `{"name":"z","password":"short"}`, map[string]int{"helper": 400, "token": 400, "boss": 400}},
		{"POST", "/api/users", `{"name":"z","password":"new one's word","grants":[""]}`, map[string]int{"helper": 400, "token": 400, "boss": 400}},
		{"POST", "/api/users", `{"name":"z","password":"new one's word","clusters":{"nowhere":["db-logs"]}}`, map[string]int{"helper": 404, "token": 404, "boss": 404}},
		{"PUT", "/api/users/dana/grants", `{"grants":["db-logs","db-backup"]}`, map[string]int{"boss": 200}},
		{"PUT", "/api/users/dana/grants", `{"grants":["db-logs"]}`, map[string]int{"boss": 200}}, // for helper dana was wider
		{"PUT", "/api/users/wide/grants", `{"grants":[]}`, map[string]int{"boss": 200}},
		{"PUT", "/api/users/admin/grants", `{"grants":[]}`, map[string]int{"boss": 409}},
		{"POST", "/api/users/new/password", `{"password":"another word"}`, map[string]int{"boss": 200}},
		{"POST", "/api/users/boss/password", `{"old":"b","password":"another word"}`, map[string]int{"token": 409, "boss": 409}},
		{"POST", "/api/users/new/disable", "", map[string]int{"boss": 200}},
		{"POST", "/api/users/new/enable", "", map[string]int{"boss": 200}},
		{"POST", "/api/users/boss/disable", "", map[string]int{"token": 409, "boss": 409}},
		{"GET", "/api/users/boss/tokens", "", map[string]int{"token": 200, "boss": 200}},
		{"POST", "/api/users/boss/tokens", `{"name":"more","grants":["db"]}`, map[string]int{"boss": 201}}, // a token makes none
		{"POST", "/api/users/dana/tokens", `{"name":"wide","grants":["db"]}`, nil},                         // not even dana
		{"POST", "/api/users/dana/tokens", `{"name":"late","expires":"90000h"}`, map[string]int{"dana": 400}},
		{"POST", "/api/users/dana/tokens", `{"name":"mine","grants":["db-logs"]}`, map[string]int{"dana": 201}},
		{"DELETE", "/api/users/dana/tokens/nowhere", "", map[string]int{"dana": 404, "helper": 404, "token": 404, "boss": 404}},
		{"DELETE", "/api/users/dana/tokens/mine", "", map[string]int{"dana": 200, "helper": 404, "token": 404, "boss": 404}},
		{"DELETE", "/api/users/new", "", map[string]int{"boss": 200}},
		{"DELETE", "/api/users/admin", "", map[string]int{"boss": 409}},
		{"GET", "/api/audit", "", map[string]int{"local": 200, "boss": 200}},
		{"GET", "/api/audit?cluster=sql", "", map[string]int{"boss": 200}}, // local has db there, not cluster
		{"POST", "/api/users/wide/revoke-tokens", "", map[string]int{"helper": 200, "token": 200, "boss": 200}},
		{"POST", "/api/users/boss/revoke-tokens", "", map[string]int{"token": 200}}, // and boss is out
		{"POST", "/api/users/dana/revoke-tokens", "", map[string]int{"dana": 200}},  // and so is dana
		{"POST", "/api/logout", "", map[string]int{"local": 200, "helper": 200}},
	} {
		for _, who := range append(slices.Clone(order), "boss") {
			want, ok := c.want[who]
			if !ok {
				want = 403
			}
			if who == "none" || who == "broken" {
				want = 401
			}
			if who == "boss" && c.path == "/api/users/boss/revoke-tokens" || (who == "dana" || who == "boss") && c.path == "/api/logout" {
				want = 401 // ended before
			}
			if (who == "helper" || who == "token" || who == "boss") && c.path == "/api/users/dana/revoke-tokens" && want == 403 {
				want = map[string]int{"helper": 200, "token": 200, "boss": 401}[who]
			}
			if got := r.call(c.method, c.path, callers[who], []byte(c.body)); got.status != want {
				t.Errorf("%s: %s %s %s: got %s, want %d", who, c.method, c.path, c.body, got, want)
			}
		}
	}
}

// A manager who is not in the configuration must not be able to lock everybody out by a slip.
func TestTheLastWhoMayManageUsersStays(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.Grants["admin"] = []string{"db"} })
	hash, err := auth.HashPassword("only one's word")
	if err != nil {
		t.Fatal(err)
	}
	// As the command does it: no user of the API could.
	if _, err := store.NewUsers(r.conn, nil).Add(r.ctx(), "only", hash, []string{"cluster", "db"}, nil, "root"); err != nil {
		t.Fatal(err)
	}
	var only string
	bustest.Until(t, 10*time.Second, "the gateway knows the user", func() bool {
		got := r.login("only", "only one's word")
		only = decode[struct{ Token string }](t, got).Token
		return got.status == 200
	})
	for _, c := range [][3]string{{"DELETE", "", ""}, {"POST", "/disable", ""}, {"PUT", "/grants", `{"grants":["db"]}`}, {"PUT", "/grants", `{"grants":["cluster","db"],"clusters":{"sql":["db"]}}`}} {
		if got := r.call(c[0], "/api/users/only"+c[1], only, []byte(c[2])); got.status != 409 || !strings.Contains(got.body, "drydock users") {
			t.Errorf("%v: %s", c, got)
		}
	}
	r.want(r.call("POST", "/api/users", only, addBody("second", "second's word", "cluster")), 201, "")
	r.want(r.call("DELETE", "/api/users/only", only, nil), 200, "")
}

// A gateway learns over the bus what another one revoked: nothing may go on there because nobody asked it.
func TestWhatOneGatewayRevokesEndsAtTheOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, managers)
	other := r.cfg
	other.TLSDir = t.TempDir()
	second, _ := start(t, other, r.deps)
	boss := r.user("boss")
	status := func(token, path string) int { return callAt(t, second.HTTPAddr(), "GET", path, token, nil).status }
	ends := func(what, token string) {
		t.Helper()
		bustest.Until(t, 10*time.Second, what+" at the other gateway", func() bool { return status(token, "/api/me") == 401 })
		r.want(r.call("GET", "/api/me", token, nil), 401, "") // and at this one at once
	}
	for what, end := range map[string]func(token, name string) answer{
		"a logout":     func(token, name string) answer { return r.call("POST", "/api/logout", token, nil) },
		"a revocation": func(_, name string) answer { return r.call("POST", "/api/users/"+name+"/revoke-tokens", boss, nil) },
		"another password": func(_, name string) answer {
			return r.call("POST", "/api/users/"+name+"/password", boss, []byte(`{"password":"another password"}`))
		},
		"a removal":      func(_, name string) answer { return r.call("DELETE", "/api/users/"+name, boss, nil) },
		"a shutting out": func(_, name string) answer { return r.call("POST", "/api/users/"+name+"/disable", boss, nil) },
	} {
		name := strings.ReplaceAll(what, " ", "-")
		r.want(r.call("POST", "/api/users", boss, addBody(name, "some password", "db")), 201, "")
		token := r.in(name, "some password")
		bustest.Until(t, 10*time.Second, "the other gateway knows the user", func() bool { return status(token, "/api/me") == 200 })
		r.want(end(token, name), 200, "")
		ends(what, token)
	}
	// A stream that is open already ends, too.
	dana := addBody("dana", "dana's password", "db")
	r.want(r.call("POST", "/api/users", boss, dana), 201, "")
	session := r.in("dana", "dana's password")
	api := decode[struct{ Token, ID string }](t, r.call("POST", "/api/users/dana/tokens", session, []byte(`{"name":"ci"}`)))
	bustest.Until(t, 10*time.Second, "the other gateway knows the token", func() bool { return status(api.Token, "/api/me") == 200 })
	j := r.offered("sql", db1, "optimize")
	ctx, cancel := context.WithTimeout(r.ctx(), 30*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+second.HTTPAddr().String()+"/api/jobs/"+j.ID+"/log?follow=1", nil)
	req.Header.Set("Authorization", "Bearer "+api.Token)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), "available") {
	}
	r.want(r.call("DELETE", "/api/users/dana/tokens/"+api.ID, session, nil), 200, "")
	for lines.Scan() {
	}
	if ctx.Err() != nil {
		t.Error("the stream goes on with a revoked token")
	}
	ends("a token's revocation", api.Token)
	if got := r.call("GET", "/api/me", session, nil).status; got != 200 {
		t.Errorf("the session ended with the token: %d", got)
	}
	// Nobody comes back by the same name.
	r.want(r.call("DELETE", "/api/users/dana", boss, nil), 200, "")
	r.want(r.call("POST", "/api/users", boss, dana), 201, "")
	r.want(r.call("GET", "/api/me", session, nil), 401, "")
}

func TestOnesOwnPasswordTakesTheOldOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, managers)
	r.want(r.call("POST", "/api/users", r.user("boss"), addBody("dana", "dana's password", "cluster-grant")), 201, "")
	session := r.in("dana", "dana's password")
	r.want(r.call("POST", "/api/users/dana/password", session, []byte(`{"password":"another password"}`)), 403, "")
	r.want(r.call("POST", "/api/users/dana/password", session, []byte(`{"old":"wrong","password":"another password"}`)), 403, "")
	api := decode[struct{ Token string }](t, r.call("POST", "/api/users/dana/tokens", session, []byte(`{"name":"ci"}`)))
	r.want(r.call("POST", "/api/users/dana/password", api.Token, []byte(`{"old":"dana's password","password":"another password"}`)), 403, "")
	r.want(r.call("POST", "/api/users/dana/password", session, []byte(`{"old":"dana's password","password":"another password"}`)), 200, "")
	r.want(r.call("GET", "/api/me", session, nil), 401, "")
	r.want(r.login("dana", "dana's password"), 401, "")
	r.in("dana", "another password")
}

// Whoever finds an API token that was made for little must not be able to lock its user out with it; only to end the token itself.
func TestANarrowTokenEndsNothingButItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, managers)
	r.want(r.call("POST", "/api/users", r.user("boss"), addBody("dana", "dana's password", "db", "cluster-grant")), 201, "")
	session := r.in("dana", "dana's password")
	made := func(body string) (t struct{ Token, ID string }) {
		return decode[struct{ Token, ID string }](r.t, r.call("POST", "/api/users/dana/tokens", session, []byte(body)))
	}
	narrow, other := made(`{"name":"ci","grants":["db-backup"]}`), made(`{"name":"nightly"}`)
	r.want(r.call("POST", "/api/users/dana/revoke-tokens", narrow.Token, nil), 403, "")
	r.want(r.call("POST", "/api/users/dana/revoke-tokens", narrow.Token, []byte(`{"api_tokens":true}`)), 403, "")
	r.want(r.call("DELETE", "/api/users/dana/tokens/"+other.ID, narrow.Token, nil), 403, "")
	r.want(r.call("GET", "/api/me", session, nil), 200, "")
	r.want(r.call("GET", "/api/me", other.Token, nil), 200, "")
	r.want(r.call("DELETE", "/api/users/dana/tokens/"+narrow.ID, narrow.Token, nil), 200, "")
	r.want(r.call("GET", "/api/me", narrow.Token, nil), 401, "")
	r.want(r.call("POST", "/api/users/dana/revoke-tokens", other.Token, nil), 200, "") // it may manage users, as dana does
	r.want(r.call("GET", "/api/me", session, nil), 401, "")
}

// Guessing gets slow, for one user and for one address; who knows the password gets in all the same from where he always
// comes.
func TestGuessingAPasswordIsSlowedDown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.user("admin") // this address is known to be admin's
	guess := func(user string) answer { return r.login(user, "guess") }
	limited := 0
	for range 15 {
		if got := guess("viewer"); got.status == 429 {
			limited++
			if got.header.Get("Retry-After") == "" {
				t.Fatal("nobody says when to come again")
			}
		} else {
			r.want(got, 401, "")
		}
	}
	if limited == 0 {
		t.Error("15 guesses in a row")
	}
	if got := r.login("viewer", "y"); got.status != 429 {
		t.Errorf("the right one among the guesses gets in: %s", got)
	}
	r.user("admin")
	for i := range 60 {
		if guess(fmt.Sprint("user", i)).status == 429 {
			limited = 60
			break
		}
	}
	if limited != 60 {
		t.Error("one address may guess at many users")
	}
	known, unknown := 0, 0
	for _, a := range r.acts() {
		if a.Verb != "login" || a.Outcome != bus.AuditRefused {
			continue
		}
		if strings.HasPrefix(a.User, "user") {
			t.Errorf("a name that is nobody's stands in the audit: it may be a password: %+v", a)
		}
		if a.User == "viewer" {
			known++
		} else {
			unknown++
		}
	}
	if known == 0 || known > 15 || unknown == 0 {
		t.Errorf("%d failures of viewer, %d of nobody", known, unknown)
	}
}

func TestAServersWrongPasswordIsLimitedAndHurtsNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	wrong := cipher.Seal([]byte(identity(db1, "other")))
	last := answer{}
	for range 40 {
		last = r.call("POST", path("sql", db1, "/secret-login"), "", wrong)
	}
	if last.status != 429 || last.header.Get("Retry-After") == "" {
		t.Errorf("%s", last)
	}
	// The routes that take a sealed identity are no way around.
	r.want(r.call("POST", path("sql", db1, "/needs/optimize"), "", wrong), 429, "")
	for range 50 { // its neighbours behind the same address do not notice
		r.want(r.call("POST", path("sql", db2, "/secret-login"), "", seal(db2)), 200, "")
	}
	r.want(r.call("POST", path("sql", db2, "/needs/optimize"), "", seal(db2)), 500, "false")
}

// An entry of the audit for every act, with who, what and how it ended.
func TestEveryActIsInTheAudit(t *testing.T) {
	t.Parallel()
	r := newRig(t, managers)
	boss, dba := r.user("boss"), r.user("dba")
	run := decode[runReply](t, r.call("POST", path("sql", db1, "/jobs/optimize"), boss, nil))
	live := r.offered("api", db1, "optimize")
	blackout := fmt.Sprintf(`{"from":%q,"to":%q,"reason":"freeze"}`, time.Now().Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
	for _, c := range []struct {
		method, path, token, body string
		status                    int
		want                      bus.Audit // what is set there; Target "*" means whatever
	}{
		{"POST", path("sql", db1, "/jobs/mariabackup"), dba, "", 403, bus.Audit{Verb: "run", Outcome: bus.AuditRefused, User: "dba", Cluster: "sql", Server: db1.String(), Target: "mariabackup", Error: "the grant db-backup is missing"}},
		{"DELETE", "/api/jobs/" + live.ID, boss, "", 200, bus.Audit{Verb: "cancel", User: "boss", Cluster: "api", Server: db1.String(), Target: live.ID, Detail: "optimize"}},
		{"POST", "/api/jobs/" + live.ID + "/pause", boss, "", 409, bus.Audit{Verb: "pause", Outcome: bus.AuditRefused, User: "boss", Cluster: "api", Target: live.ID}},
		{"POST", "/api/clusters/sql/hold", boss, `{"reason":"storage move"}`, 200, bus.Audit{Verb: "hold", User: "boss", Cluster: "sql", Reason: "storage move"}},
		{"POST", path("sql", db2, "/jobs/optimize?force=1"), boss, "", 202, bus.Audit{Verb: "run", User: "boss", Cluster: "sql", Server: db2.String(), Target: "optimize", Detail: "forced"}},
		{"DELETE", "/api/clusters/sql/hold", boss, "", 200, bus.Audit{Verb: "unhold", User: "boss", Cluster: "sql"}},
		{"POST", "/api/clusters/nowhere/hold", boss, "", 404, bus.Audit{Verb: "hold", Outcome: bus.AuditRefused, User: "boss", Error: "unknown cluster"}},
		{"POST", "/api/blackouts", boss, blackout, 201, bus.Audit{Verb: "blackout-add", User: "boss", Target: "*", Reason: "freeze"}},
		{"POST", path("sql", db1, "/actions/reseed/physicalbackup"), boss, `{}`, 409, bus.Audit{Verb: "reseed", Outcome: bus.AuditRefused, User: "boss", Cluster: "sql", Server: db1.String(), Target: "physicalbackup"}},
		{"POST", "/api/users", boss, string(addBody("dana", "dana's password", "db-logs")), 201, bus.Audit{Verb: "user-add", User: "boss", Target: "dana", Detail: "db-logs"}},
		{"PUT", "/api/users/dana/grants", boss, `{"grants":["db"],"clusters":{"sql":["db-logs"]}}`, 200, bus.Audit{Verb: "user-grant", User: "boss", Target: "dana", Detail: "db; on sql: db-logs"}},
		{"POST", "/api/users/dana/disable", boss, "", 200, bus.Audit{Verb: "user-disable", User: "boss", Target: "dana"}},
		{"DELETE", "/api/users/dana", boss, "", 200, bus.Audit{Verb: "user-remove", User: "boss", Target: "dana"}},
		{"POST", "/api/logout", dba, "", 200, bus.Audit{Verb: "logout", User: "dba", Target: "dba"}},
	} {
		before := len(r.acts())
		r.want(r.call(c.method, c.path, c.token, []byte(c.body)), c.status, "")
		all := r.acts()
		if len(all) != before+1 {
			t.Errorf("%s %s: %d entries", c.method, c.path, len(all)-before)
			continue
		}
		got, want := all[before], c.want
		if want.Outcome == "" {
			want.Outcome = bus.AuditDone
		}
		if got.Verb != want.Verb || got.Outcome != want.Outcome || got.User != want.User || got.Cluster != want.Cluster || want.Server != "" && got.Server != want.Server ||
			want.Target != "*" && got.Target != want.Target || want.Detail != "" && got.Detail != want.Detail || want.Reason != "" && got.Reason != want.Reason || want.Error != "" && got.Error != want.Error {
			t.Errorf("%s %s:\n got %+v\nwant %+v", c.method, c.path, got, want)
		}
		if got.Address != "127.0.0.1" || got.Via != bus.ViaSession || got.Token == "" || got.Actor != "gateway@test" || got.Time.IsZero() || (got.Error != "") != (got.Outcome != bus.AuditDone) {
			t.Errorf("%s %s: %+v", c.method, c.path, got)
		}
	}
	found := false
	for _, a := range r.acts() {
		found = found || a.Verb == "run" && a.Outcome == bus.AuditDone && len(a.Jobs) == 1 && a.Jobs[0] == run.Jobs[0].ID && a.Reason != ""
	}
	if !found {
		t.Error("the run does not say which job it started, and why")
	}
	got := decode[struct{ Audit []bus.Audit }](t, r.call("GET", "/api/audit?cluster=sql&user=boss&verb=hold", boss, nil))
	if len(got.Audit) != 1 || got.Audit[0].Reason != "storage move" {
		t.Errorf("%+v", got)
	}
	// Who may read about some clusters reads about them only: neither the fleet's acts nor those of others.
	for _, a := range decode[struct{ Audit []bus.Audit }](t, r.call("GET", "/api/audit", r.user("local"), nil)).Audit {
		if a.Cluster == "" || a.Cluster == "sql" {
			t.Errorf("local reads %+v", a)
		}
	}
}

// An act whose entry cannot be written must not pass for one that is on record.
func TestAnActThatTheAuditCannotTakeIsNotAnsweredAsDone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	if err := r.conn.JS.DeleteStream(r.ctx(), bus.StreamAudit); err != nil {
		t.Fatal(err)
	}
	got := r.call("POST", "/api/clusters/sql/hold", admin, nil)
	if got.status != 503 || !strings.Contains(got.body, "it was done") {
		t.Errorf("%s", got)
	}
}

// Whoever refuses nobody anything by mistake must not be able to push the audit out with refusals.
func TestAFloodOfRefusalsIsCountedNotKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	viewer := r.user("viewer")
	for range 260 {
		r.want(r.call("DELETE", "/api/clusters/sql/hold", viewer, nil), 403, "")
	}
	if n := len(r.acts()); n < 200 || n > 250 {
		t.Errorf("%d entries", n)
	}
}

// No secret may be read from the bus: neither a password nor a token nor a database password.
func TestNoSecretIsOnTheBus(t *testing.T) {
	t.Parallel()
	const canary = "k4n4r1env0gel"
	r := newRig(t, managers)
	boss := r.user("boss")
	r.want(r.call("POST", "/api/users", boss, addBody("dana", canary+" first", "db", "cluster-grant")), 201, "")
	session := r.in("dana", canary+" first")
	api := decode[struct{ Token string }](t, r.call("POST", "/api/users/dana/tokens", session, []byte(`{"name":"ci"}`)))
	r.want(r.call("POST", "/api/users/dana/tokens", session, []byte(`{"name":"`+canary+`:"}`)), 400, "")
	r.want(r.call("POST", "/api/users/dana/password", session, []byte(`{"old":"`+canary+` wrong","password":"`+canary+` second"}`)), 403, "")
	r.want(r.call("POST", "/api/users/dana/password", session, []byte(`{"old":"`+canary+` first","password":"`+canary+` second"}`)), 200, "")
	r.want(r.call("POST", "/api/users", boss, addBody(canary+" typed into the name", "dana", "db")), 400, "")
	r.want(r.login(canary, "dana"), 401, "")
	r.want(r.login("dana", canary), 401, "")
	host := r.token("sql", db1)
	r.want(r.call("POST", path("sql", db1, "/secret-login"), "", cipher.Seal([]byte(identity(db1, canary)))), 401, "")
	r.want(r.call("POST", "/api/users/dana/revoke-tokens", boss, []byte(`{"api_tokens":true}`)), 200, "")
	secrets := []string{canary, session, api.Token, strings.SplitN(api.Token, "_", 3)[2], boss, host, password}
	messages := 0
	for info := range r.conn.JS.ListStreams(r.ctx()).Info() {
		stream, err := r.conn.JS.Stream(r.ctx(), info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		for seq := max(1, info.State.FirstSeq); seq <= info.State.LastSeq; seq++ {
			m, err := stream.GetMsg(r.ctx(), seq)
			if err != nil {
				if errors.Is(err, jetstream.ErrMsgNotFound) {
					continue // of a bucket, overwritten
				}
				t.Fatal(err)
			}
			messages++
			for _, s := range secrets {
				if text := string(m.Data) + fmt.Sprint(m.Header) + m.Subject; strings.Contains(text, s) {
					t.Errorf("%s of %s holds %q: %s", m.Subject, info.Config.Name, s, m.Data)
				}
			}
		}
	}
	if messages < 10 {
		t.Errorf("only %d messages were looked at", messages)
	}
}

// Whoever adds a route that changes something and forgets the audit is reminded here.
func TestEveryChangingRouteIsAudited(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, route := range r.g.Unaudited() {
		switch route {
		case "POST /api/login": // writes its own entries
		default:
			t.Errorf("%s changes something and is not in the audit", route)
		}
	}
}
