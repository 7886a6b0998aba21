package gateway_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func (r *rig) catalogued(cluster, id string) {
	r.t.Helper()
	m := store.Manifest{
		Type: store.ManifestType, ID: id, Cluster: cluster, Server: db1, Task: "mariabackup", Receiver: "rcv", Ended: time.Now().UTC(), Size: 10, Stored: 5,
	}
	if err := r.deps.Catalog.Put(context.Background(), m); err != nil {
		r.t.Fatal(err)
	}
}

func TestPinsByREST(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.catalogued("sql", "01A")
	admin := r.user("admin")
	got := r.call("POST", "/api/backups/01A/pin", admin, []byte(`{"reason":"audit"}`))
	r.want(got, 200, "")
	m, err := r.deps.Catalog.ByID(r.ctx(), "01A")
	if err != nil || !m.Pinned() || m.Pin.By != "admin" || m.Pin.Reason != "audit" {
		t.Errorf("%+v, %v", m.Pin, err)
	}
	r.want(r.call("DELETE", "/api/backups/01A/pin", admin, nil), 200, "")
	if m, err = r.deps.Catalog.ByID(r.ctx(), "01A"); err != nil || m.Pinned() {
		t.Errorf("%+v, %v", m.Pin, err)
	}
	if got := r.call("POST", "/api/backups/01B/pin", admin, nil); got.status != http.StatusNotFound {
		t.Errorf("one that does not exist: %v", got)
	}
	if got := r.call("POST", "/api/backups/01A/pin", r.user("dba"), nil); got.status != http.StatusForbidden {
		t.Errorf("without the grant: %v", got)
	}
	if got := r.call("POST", "/api/backups/01A/pin", "", nil); got.status != http.StatusUnauthorized {
		t.Errorf("without a token: %v", got)
	}
	if _, err := r.deps.Catalog.Remove(r.ctx(), m, store.Removal{}, func(store.Manifest) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := r.call("POST", "/api/backups/01A/pin", admin, nil); got.status != http.StatusConflict {
		t.Errorf("one that is being deleted: %v", got)
	}
}

// A prune by hand throws backups away: a slip must not.
func TestAPruneByRESTIsConfirmed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := r.user("admin")
	if got := r.call("POST", "/api/clusters/sql/jobs/backupprune", admin, nil); got.status != http.StatusConflict {
		t.Errorf("%v", got)
	}
	r.want(r.call("POST", "/api/clusters/sql/jobs/backupprune?confirm=1", admin, nil), 202, "")
}

func TestTheDryRunByREST(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.catalogued("sql", "01A")
	svc, err := micro.AddService(r.deps.Conn.NC, micro.Config{Name: bus.KeeperService, Version: "0.0.0", Metadata: map[string]string{"receiver": "rcv"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Stop() })
	sub, err := r.deps.Conn.NC.Subscribe(bus.ReceiverSubject("rcv", bus.VerbPlan), func(m *nats.Msg) {
		var req bus.PlanRequest
		_ = json.Unmarshal(m.Data, &req)
		rep := bus.PlanReply{Items: []bus.PlanItem{{Receiver: "rcv", Cluster: req.Cluster, Server: db1, Backup: "01A", Keep: true, Why: []string{"newest"}}}}
		if req.From == 0 { // the second page has another
			rep.Next = 1
		} else {
			rep.Items[0].Backup, rep.Items[0].Keep, rep.Items[0].Server = "01B", false, job.Server{Host: "x", Port: 1}
		}
		data, _ := json.Marshal(rep)
		_ = m.Respond(data)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	type answer struct{ Plan []bus.PlanItem }
	got := decode[answer](t, r.call("GET", "/api/backups/prune?cluster=sql", r.user("admin"), nil))
	if len(got.Plan) != 2 || got.Plan[0].Backup != "01A" || got.Plan[1].Backup != "01B" || got.Plan[1].Keep {
		t.Errorf("%+v", got)
	}
	if got := r.call("GET", "/api/backups/prune", "", nil); got.status != http.StatusUnauthorized {
		t.Errorf("without a token: %v", got)
	}

	// A backup does not go when a tick is due that a switch or a blackout skips.
	r.catalogued("sql", "01B")
	skipped := time.Now().UTC().Truncate(time.Second).Add(time.Hour)
	sub, err = r.deps.Conn.NC.Subscribe(bus.SubjectNext, func(m *nats.Msg) {
		data, _ := json.Marshal(bus.NextReply{Schedules: []bus.ScheduleInfo{{
			Cluster: "sql", Task: "backupprune", Enabled: true, Next: []time.Time{skipped, skipped.Add(time.Hour)},
			Barred: []bus.Barred{{Due: skipped, Gate: job.GateBlackout}},
		}}})
		_ = m.Respond(data)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := r.deps.Conn.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	said := r.judged("sql")
	if want := skipped.Add(time.Hour).Format(time.RFC3339); said.status != http.StatusOK || !strings.Contains(said.body, want) || strings.Contains(said.body, skipped.Format(time.RFC3339)) {
		t.Errorf("the backup goes at %s: %v", want, said)
	}
}

// judged lists the backups of a cluster with the verdicts on them, when all receivers have answered.
func (r *rig) judged(cluster string) (said answer) {
	r.t.Helper()
	bustest.Until(r.t, 20*time.Second, "the receivers have judged the backups", func() bool {
		said = r.call("GET", "/api/backups?retention=1&cluster="+cluster, r.user("admin"), nil)
		return said.status != http.StatusOK || !strings.Contains(said.body, `"retention_pending":true`)
	})
	return said
}

// A receiver that stands still must not keep people from the list of backups, nor what the others have said; and what is not known
// yet must not look like what nobody will ever know.
func TestAReceiverThatStandsStillKeepsNobodyFromTheBackups(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.catalogued("sql", "01A")
	r.catalogued("sql", "01B")
	answer := make(chan struct{})
	for name, m := range map[string]string{"a-quick": "01A", "b-still": "01B"} {
		svc, err := micro.AddService(r.deps.Conn.NC, micro.Config{Name: bus.KeeperService, Version: "0.0.0", Metadata: map[string]string{"receiver": name}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = svc.Stop() })
		sub, err := r.deps.Conn.NC.Subscribe(bus.ReceiverSubject(name, bus.VerbPlan), func(ask *nats.Msg) {
			if name == "b-still" {
				<-answer
			}
			data, _ := json.Marshal(bus.PlanReply{Items: []bus.PlanItem{{Receiver: name, Cluster: "sql", Server: db1, Backup: m, Keep: true, Why: []string{"rule of " + name}}}})
			_ = ask.Respond(data)
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Unsubscribe() })
	}
	if err := r.deps.Conn.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	var said string
	bustest.Until(t, 20*time.Second, "the quick receiver has answered", func() bool { // and the other one has not, whatever the time
		said = r.call("GET", "/api/backups?retention=1&cluster=sql", r.user("admin"), nil).body
		return strings.Contains(said, "rule of a-quick")
	})
	if !strings.Contains(said, `"retention_pending":true`) || strings.Contains(said, "rule of b-still") || !strings.Contains(said, "01B") {
		t.Errorf("while a receiver stands still: %s", said)
	}
	close(answer)
	if said := r.judged("sql"); !strings.Contains(said.body, "rule of a-quick") || !strings.Contains(said.body, "rule of b-still") {
		t.Errorf("after all answered: %v", said)
	}
}

// The values name hosts: nobody reads them without being a user, and nobody those of a cluster that he may not read.
func TestMetricsAskForAUser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.catalogued("sql", "01A")
	if got := r.call("GET", "/metrics", "", nil); got.status != http.StatusUnauthorized || strings.Contains(got.body, "sql") {
		t.Errorf("without a token: %v", got)
	}
	got := r.call("GET", "/metrics", r.user("admin"), nil)
	if got.status != http.StatusOK || !strings.Contains(got.body, `drydock_backup_stored_bytes{cluster="sql",server="`+db1.String()+`",task="mariabackup"} 5`) {
		t.Errorf("%v", got)
	}
	basic := func(user, password string) answer {
		req, err := http.NewRequest("GET", "http://"+r.g.HTTPAddr().String()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(user, password)
		return do(t, req)
	}
	if got := basic("admin", "repman"); got.status != http.StatusOK || !strings.Contains(got.body, `cluster="sql"`) {
		t.Errorf("by name and password: %v", got)
	}
	if got := basic("admin", "wrong"); got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") == "" {
		t.Errorf("with a wrong password: %v", got)
	}
	if got := basic("nobody", "z"); got.status != http.StatusOK || strings.Contains(got.body, `cluster="sql"`) {
		t.Errorf("who may read no cluster: %v", got)
	}
}
