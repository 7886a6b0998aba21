package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"drydock/bus"
	"drydock/gateway"
	"drydock/job"
	"drydock/restore"
	"drydock/store"
)

var update = flag.Bool("update", false, "rewrite docs/openapi.json from the code")

func TestOpenAPIDocumentIsCurrent(t *testing.T) {
	const file = "../docs/openapi.json"
	doc, err := gateway.APIDocument()
	if err != nil {
		t.Fatal(err)
	}
	doc = append(slices.Clone(doc), '\n')
	if *update {
		if err := os.WriteFile(file, doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, doc) {
		t.Errorf("%s differs from the code; run go generate ./gateway", file)
	}
}

// A route that is not in the document is one that no client of it will ever find; one that is only there misleads.
func TestEveryRouteIsInTheDocumentAndTheReverse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	routes, ops := r.g.Routes(), gateway.Operations()
	for _, route := range routes {
		answers404 := slices.ContainsFunc([]string{"/need-config-refresh", "/config-receiver", "/config-dummy-sender", "/dbu"}, func(end string) bool { return strings.HasSuffix(route, end) })
		if !slices.Contains(ops, route) && !answers404 {
			t.Errorf("%s is not in the document", route)
		}
	}
	for _, op := range ops {
		if !slices.Contains(routes, op) {
			t.Errorf("%s is in the document, and no route", op)
		}
	}
}

// document is the API's document with every object closed: a member that it does not name is an error then. Programs may find
// more members than they know, so the document itself leaves them open.
var document = sync.OnceValues(func() (any, error) {
	data, err := gateway.APIDocument()
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err == nil {
		closeObjects(doc.(map[string]any)["components"])
		closeObjects(doc.(map[string]any)["paths"])
	}
	return doc, err
})

func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		properties, ok := v["properties"].(map[string]any)
		if ok && v["type"] == "object" && properties["openapi"] == nil {
			v["additionalProperties"] = false
		}
		for _, member := range v {
			closeObjects(member)
		}
	case []any:
		for _, member := range v {
			closeObjects(member)
		}
	}
}

// answered are the operations that a test saw succeed, as in "GET /api/jobs/{id}".
var (
	answeredMu sync.Mutex
	answered   = map[string]bool{}
	compiled   = map[string]*jsonschema.Schema{}
)

// conforms holds every JSON answer that a test of this package gets against the document.
func conforms(t *testing.T, method, path string, got answer) {
	t.Helper()
	if !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
		return
	}
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	template, responses := operationOf(doc, method, path)
	if responses == nil {
		return
	}
	status := fmt.Sprint(got.status)
	if responses[status] == nil {
		status = "default"
		if got.status < 300 {
			t.Errorf("%s %s answers %d, which the document does not name", method, path, got.status)
		}
	}
	answeredMu.Lock()
	defer answeredMu.Unlock()
	schema := compiledAt(t, doc, "/paths/"+pointer(template)+"/"+strings.ToLower(method)+"/responses/"+status+"/content/application~1json/schema")
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(got.body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s %s answers %s: %v", method, path, got, err)
	}
	if status != "default" {
		answered[method+" "+template] = true
	}
}

func pointer(s string) string {
	return url.PathEscape(strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1"))
}

func compiledAt(t *testing.T, doc any, at string) *jsonschema.Schema {
	t.Helper()
	if s := compiled[at]; s != nil {
		return s
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("https://drydock.test/openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("https://drydock.test/openapi.json#" + at)
	if err != nil {
		t.Fatal(err)
	}
	compiled[at] = s
	return s
}

// operationOf finds the operation of a call; names win over parameters.
func operationOf(doc any, method, path string) (template string, responses map[string]any) {
	path, _, _ = strings.Cut(path, "?")
	parts, best := strings.Split(path, "/"), -1
	for t, item := range doc.(map[string]any)["paths"].(map[string]any) {
		op, ok := item.(map[string]any)[strings.ToLower(method)].(map[string]any)
		want := strings.Split(t, "/")
		if !ok || len(want) != len(parts) {
			continue
		}
		literal := 0
		for i, w := range want {
			if w == parts[i] {
				literal++
			} else if !strings.HasPrefix(w, "{") {
				literal = -1
				break
			}
		}
		if literal > best {
			best, template, responses = literal, t, op["responses"].(map[string]any)
		}
	}
	return template, responses
}

// Each operation is asked and its real answer held against the schema: a document that nobody checks is wrong within a month.
func TestEveryOperationAnswersAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) {
		c.Plan = func(_ context.Context, q restore.Question) (restore.Plan, error) {
			took := 12.5
			return restore.Plan{
				Backup: q.Backup, Cluster: q.Cluster, Server: db1, Task: "mariabackup", Ended: time.Now(), Proof: "never restored", Target: q.Directory, Steps: []string{"unpack"}, Estimate: &took,
				Findings: []restore.Finding{{What: "signature", Verdict: restore.Fine, Why: "is right"}}, Point: &restore.PointPlan{To: "x", Reaches: time.Now()}, Command: "drydock", Machine: "here",
			}, nil
		}
	})
	admin := r.user("admin")
	ok := func(method, path, body string) answer {
		t.Helper()
		got := r.call(method, path, admin, []byte(body))
		if got.status >= 300 {
			t.Errorf("%s %s: %s", method, path, got)
		}
		return got
	}
	for _, path := range []string{"/healthz", "/readyz", "/api/openapi.json", "/api/clusters", "/api/clusters/sql/servers", "/api/me", "/api/users", "/api/closures"} {
		ok("GET", path, "")
	}
	ok("POST", path("sql", db1, "/jobs/optimize"), "")
	ok("POST", "/api/clusters/sql/jobs/optimize", "")
	j := r.offered("api", db1, "errorlog")
	ok("GET", "/api/jobs", "")
	ok("GET", "/api/jobs/"+j.ID, "")
	ok("GET", "/api/jobs/"+j.ID+"/log", "")
	ok("DELETE", "/api/jobs/"+j.ID, "")
	roll := r.offered("api", job.Server{}, "rollingrestart")
	for _, word := range []string{"pause", "resume", "abort"} {
		ok("POST", "/api/jobs/"+roll.ID+"/"+word, "")
	}
	sub, err := r.conn.NC.Subscribe(bus.SubjectNext, func(m *nats.Msg) {
		data, _ := json.Marshal(bus.NextReply{Schedules: []bus.ScheduleInfo{{Cluster: "sql", Task: "optimize", Enabled: true, Servers: []job.Server{db1}, Next: []time.Time{time.Now()}}}})
		_ = m.Respond(data)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	for _, path := range []string{"/api/schedules", "/api/ticks", "/api/notifications", "/api/clusters/sql/explain/optimize"} {
		ok("GET", path, "")
	}

	ok("POST", "/api/clusters/sql/schedules/optimize/off", `{"note":"r"}`)
	ok("DELETE", "/api/clusters/sql/schedules/optimize/off", "")

	r.catalogued("sql", "01A")
	ok("POST", "/api/backups/01A/pin", `{"reason":"r"}`)
	ok("GET", "/api/backups", "")
	ok("GET", "/api/backups/prune", "")
	ok("GET", "/api/clusters/sql/restore/plan?backup=01A&to-directory=/srv/x", "")
	ok("DELETE", "/api/backups/01A/pin", "")

	edge := bus.Alert{State: bus.AlertOpened, Code: "DOCK0501", Severity: bus.SeverityError, Cluster: "sql", Server: db1, Since: time.Now().UTC()}
	subject := bus.AlertSubject("sql", db1.Host, db1.Port, edge.Code)
	if _, _, err := store.NewAlerts(r.conn, "test").Append(r.ctx(), subject, 0, edge); err != nil {
		t.Fatal(err)
	}
	ok("POST", "/api/alerts/"+bus.Condition(subject)+"/ack", `{"reason":"r"}`)
	ok("GET", "/api/alerts", "")
	ok("GET", "/api/alerts?all=1", "")
	ok("DELETE", "/api/alerts/"+bus.Condition(subject)+"/ack", "")

	for _, scope := range []string{"/api", "/api/clusters/sql"} {
		ok("POST", scope+"/hold", `{"reason":"r"}`)
		ok("DELETE", scope+"/hold", "")
		from := time.Now().Add(time.Hour).UTC()
		b := decode[store.Blackout](t, ok("POST", scope+"/blackouts", fmt.Sprintf(`{"from":%q,"to":%q}`, from.Format(time.RFC3339), from.Add(time.Hour).Format(time.RFC3339))))
		ok("GET", "/api/closures", "")
		ok("DELETE", "/api/blackouts/"+b.ID, "")
	}

	ok("POST", "/api/users", `{"name":"dana","password":"a long password","grants":["db-backup"],"clusters":{"sql":["db"]}}`)
	ok("PUT", "/api/users/dana/grants", `{"grants":["db-logs"]}`)
	ok("POST", "/api/users/dana/password", `{"password":"another long password"}`)
	ok("POST", "/api/users/dana/disable", "")
	ok("POST", "/api/users/dana/enable", "")
	ok("POST", "/api/users/dana/revoke-tokens", `{"api_tokens":true}`)
	ok("GET", "/api/users/dana", "")
	ok("DELETE", "/api/users/dana", "")
	ok("POST", "/api/users/admin/tokens", `{"name":"ci","expires":"1h"}`)
	ok("GET", "/api/users/admin/tokens", "")
	ok("DELETE", "/api/users/admin/tokens/ci", "")
	ok("GET", "/api/audit", "")
	for _, method := range []string{"GET", "POST"} {
		r.call(method, path("sql", db1, "/secret-login"), "", seal(db1))
	}
	ok("POST", "/api/logout", "")

	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	answeredMu.Lock()
	defer answeredMu.Unlock()
	for template, item := range doc.(map[string]any)["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			name := strings.ToUpper(method) + " " + template
			text, _ := json.Marshal(op.(map[string]any)["responses"])
			isText := strings.Contains(string(text), `"text/plain"`) || strings.Contains(string(text), `"application/gzip"`)
			// Their answers need a real database: those of the tests of reseeds are held against the document, too.
			elsewhere := strings.Contains(name, "/actions/reseed/") || strings.Contains(name, "/actions/flashback/")
			if !answered[name] && !isText && !elsewhere {
				t.Errorf("no answer of %s was looked at", name)
			}
		}
	}
}
