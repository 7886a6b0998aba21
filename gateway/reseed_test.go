package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// replicating is what the servers of a cluster told a moment ago: db2 is the primary, db1 and db6 replicate from it.
func replicating() map[job.Server]store.Facts {
	return map[job.Server]store.Facts{
		db1: {Up: true, Role: store.RoleReplica, Sources: []store.Source{{From: db2.Addr()}}, Time: time.Now()},
		db2: {Up: true, Role: store.RolePrimary, Replicas: 2, Time: time.Now()},
		db6: {Up: true, Role: store.RoleReplica, Sources: []store.Source{{From: db2.Addr()}}, Time: time.Now()},
	}
}

func (r *rig) putFacts(cluster string, all map[job.Server]store.Facts) {
	r.t.Helper()
	for s, f := range all {
		if err := r.deps.Docs.Put(r.ctx(), cluster, s, store.DocFacts, f); err != nil {
			r.t.Fatal(err)
		}
	}
}

// putBackup catalogues a backup that the receiver rx holds.
func (r *rig) putBackup(cluster string, of job.Server, task, receiver string, age time.Duration) store.Manifest {
	r.t.Helper()
	ended := time.Now().Add(-age)
	m := store.Manifest{
		Type: store.ManifestType, ID: job.NewID(ended, "t", job.Key{Cluster: cluster, Server: of, Task: task}), Cluster: cluster, Server: of,
		Task: task, Receiver: receiver, Size: 1000, Ended: ended.UTC(),
	}
	if err := r.deps.Catalog.Put(r.ctx(), m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// holder answers for a receiver that it could send what it is asked for; "" or why not.
func (r *rig) holder(name string, why string) {
	r.t.Helper()
	sub, err := r.conn.NC.Subscribe(bus.ReceiverSubject(name, bus.VerbSend), func(m *nats.Msg) {
		out := nats.NewMsg(m.Reply)
		if why != "" {
			out.Header.Set("Nats-Service-Error-Code", bus.CodeGone)
			out.Header.Set("Nats-Service-Error", why)
		}
		out.Data, _ = json.Marshal(bus.SendReply{Size: 1000})
		_ = m.RespondMsg(out)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = sub.Unsubscribe() })
}

func TestReseedIsOrderedWithTheBackupItChose(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.holder("rx", "")
	r.putFacts("sql", replicating())
	r.putBackup("sql", db1, "mariabackup", "rx", 48*time.Hour)
	newest := r.putBackup("sql", db2, "mariabackup", "rx", time.Hour)
	r.putBackup("api", db2, "xtrabackup", "rx", time.Minute) // another cluster's
	got := r.call("POST", path("sql", db1, "/actions/reseed/physicalbackup"), r.user("admin"), []byte(`{"confirm":"127.0.0.1:3306"}`))
	r.want(got, http.StatusAccepted, "")
	out := decode[struct {
		Jobs   []struct{ ID, Task string }
		Backup store.Manifest
	}](t, got)
	if len(out.Jobs) != 1 || out.Jobs[0].Task != "reseedmariabackup" || out.Backup.ID != newest.ID {
		t.Fatalf("%+v", out)
	}
	ticks, err := r.deps.Ledger.List(r.ctx(), store.TickFilter{Cluster: "sql", Task: "reseedmariabackup"})
	if err != nil || len(ticks) != 1 {
		t.Fatalf("%v, %v", ticks, err)
	}
	k := ticks[0]
	if k.Args[job.ArgBackup] != newest.ID || k.Args[job.ArgFrom] != db2.Addr() || k.Args[job.ArgReceiver] != "rx" || k.Args[job.ArgPrimary] != db2.Addr() {
		t.Errorf("args %v", k.Args)
	}
	if len(k.Servers) != 1 || k.Servers[0] != db1 || !strings.Contains(k.Reason, newest.ID) || !strings.Contains(k.Reason, "admin") {
		t.Errorf("%+v", k)
	}
}

// The newest backup is no use when a verification has found it damaged: the data of a server are not replaced by it unless somebody
// names it.
func TestAReseedPassesOverABackupThatIsKnownToBeBad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.holder("rx", "")
	r.putFacts("sql", replicating())
	sound := r.putBackup("sql", db2, "mariabackup", "rx", 48*time.Hour)
	damaged := r.putBackup("sql", db2, "mariabackup", "rx", time.Hour)
	if err := r.deps.Catalog.AddVerification(r.ctx(), damaged, store.Verification{Time: time.Now(), Problem: "the file is missing"}); err != nil {
		t.Fatal(err)
	}
	got := r.call("POST", path("sql", db1, "/actions/reseed/physicalbackup"), r.user("admin"), []byte(`{"confirm":"127.0.0.1:3306"}`))
	r.want(got, http.StatusAccepted, "")
	if out := decode[struct{ Backup store.Manifest }](t, got); out.Backup.ID != sound.ID {
		t.Errorf("chose %s", out.Backup.ID)
	}
}

func TestAFlashbackTakesTheServersOwnBackup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.holder("rx", "")
	r.putFacts("sql", replicating())
	own := r.putBackup("sql", db1, "xtrabackup", "rx", 48*time.Hour)
	other := r.putBackup("sql", db2, "mariabackup", "rx", time.Hour)
	admin := r.user("admin")
	url := path("sql", db1, "/actions/flashback/physicalbackup")
	r.want(r.call("POST", url, admin, []byte(`{"confirm":"127.0.0.1:3306","backup":"`+other.ID+`"}`)), http.StatusConflict, "")
	got := r.call("POST", url, admin, []byte(`{"confirm":"127.0.0.1:3306"}`))
	r.want(got, http.StatusAccepted, "")
	if !strings.Contains(got.body, `"task":"flashbackxtrabackup"`) || !strings.Contains(got.body, own.ID) {
		t.Error(got.body)
	}
}

func TestDataAreNotReplacedWhile(t *testing.T) {
	t.Parallel()
	const confirm = `{"confirm":"127.0.0.1:3306"}`
	for name, c := range map[string]struct {
		server job.Server
		body   string
		change func(r *rig, facts map[job.Server]store.Facts)
		status int
		says   string
	}{
		"nobody confirms":         {db1, `{}`, nil, 409, "confirm must be"},
		"another server is named": {db1, `{"confirm":"127.0.0.1:3307"}`, nil, 409, "confirm must be"},
		"replicas are connected": {db2, `{"confirm":"db2.example.com:3307"}`, func(_ *rig, f map[job.Server]store.Facts) {
			f[db1], f[db6] = store.Facts{Time: time.Now()}, store.Facts{Time: time.Now()} // strangers
		}, 409, "2 replicas are connected"},
		"others replicate from it": {db2, `{"confirm":"DB2.example.com:3307"}`, func(_ *rig, f map[job.Server]store.Facts) { f[db2] = store.Facts{Time: time.Now()} }, 409, "replicates from"},
		"its role is old news": {db1, confirm, func(_ *rig, f map[job.Server]store.Facts) {
			f[db1] = store.Facts{Up: true, Role: store.RoleReplica, Time: time.Now().Add(-time.Hour)}
		}, 409, "role"},
		"its role is unknown":    {db1, confirm, func(_ *rig, f map[job.Server]store.Facts) { f[db1] = store.Facts{Up: true, Time: time.Now()} }, 409, "role"},
		"nothing is known":       {db1, confirm, func(_ *rig, f map[job.Server]store.Facts) { delete(f, db6) }, 409, "no facts"},
		"another restore runs":   {db1, confirm, func(r *rig, _ map[job.Server]store.Facts) { r.offered("sql", db1, "flashbackmariabackup") }, 409, "flashbackmariabackup job"},
		"the backup is unknown":  {db1, `{"confirm":"127.0.0.1:3306","backup":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}`, nil, 404, "no such backup"},
		"the receiver is gone":   {db1, confirm, func(r *rig, _ map[job.Server]store.Facts) { r.putBackup("sql", db2, "mariabackup", "away", 0) }, 409, "away, which holds backup"},
		"the backup's file gone": {db1, confirm, func(r *rig, _ map[job.Server]store.Facts) { r.putBackup("sql", db2, "mariabackup", "empty", 0) }, 409, "file is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.holder("rx", "")
			r.holder("empty", "the file is gone")
			r.putBackup("sql", db2, "mariabackup", "rx", time.Hour)
			facts := replicating()
			if c.change != nil {
				c.change(r, facts)
			}
			r.putFacts("sql", facts)
			got := r.call("POST", path("sql", c.server, "/actions/reseed/physicalbackup"), r.user("admin"), []byte(c.body))
			if got.status != c.status || !strings.Contains(got.body, c.says) {
				t.Errorf("%s, want %d with %q", got, c.status, c.says)
			}
			if ticks, _ := r.deps.Ledger.List(r.ctx(), store.TickFilter{Cluster: "sql", Task: "reseedmariabackup"}); len(ticks) != 0 {
				t.Error("it was ordered all the same")
			}
		})
	}
}

func TestABackupOfAnotherClusterOrAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.holder("rx", "")
	r.putFacts("sql", replicating())
	other := r.putBackup("api", db2, "mariabackup", "rx", time.Hour)
	dump := r.putBackup("sql", db2, "mysqldump", "rx", time.Hour)
	for _, m := range []store.Manifest{other, dump} {
		got := r.call("POST", path("sql", db1, "/actions/reseed/physicalbackup"), r.user("admin"), []byte(`{"confirm":"127.0.0.1:3306","backup":"`+m.ID+`"}`))
		r.want(got, http.StatusConflict, "")
	}
	url := path("sql", db1, "/actions/reseed/physicalbackup")
	r.want(r.call("POST", url, r.user("dba"), []byte(`{"confirm":"127.0.0.1:3306"}`)), http.StatusForbidden, "")
	r.want(r.call("POST", url, r.user("nobody"), nil), http.StatusNotFound, "")
	r.want(r.call("POST", path("sql", db1, "/actions/reseed/tape"), r.user("admin"), nil), http.StatusNotFound, "")
}

// TestRestoreInfoTellsTheHashOnlyOfWhatWasSentWhole: a script that believed an earlier one would believe half a backup.
func TestRestoreInfoTellsTheHashOnlyOfWhatWasSentWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := r.putBackup("sql", db2, "mariabackup", "rx", time.Hour)
	k := job.Key{Cluster: "sql", Server: db1, Task: "reseedmariabackup"}
	j, err := r.jobs.Create(r.ctx(), job.Job{
		State: job.Queued, ID: job.NewID(time.Now(), "t", k), Cluster: "sql", Server: db1, Task: k.Task, Mode: job.SQL,
		Args: map[string]string{job.ArgBackup: m.ID, job.ArgFrom: m.Server.Addr(), job.ArgReceiver: "rx", job.ArgPrimary: db2.Addr()},
	}, "asked for")
	if err != nil {
		t.Fatal(err)
	}
	url, body := path("sql", db1, "/actions/restore-info/reseedmariabackup"), seal(db1, `"job":"`+j.ID+`","attempt":1`)
	got := r.call("POST", url, "", body)
	r.want(got, http.StatusOK, "")
	if !strings.HasPrefix(got.body, "drydock 1\n") || !strings.Contains(got.body, "\nsize 1000\n") || !strings.Contains(got.body, "\nprimary "+db2.Addr()+"\n") ||
		strings.Contains(got.body, "sha256") {
		t.Error(got.body)
	}
	set := func(s job.Stream) {
		if _, err := r.jobs.Apply(r.ctx(), store.RefOf(j), store.Change{Event: job.Note, Edit: func(j *job.Job) { j.Stream = &s }}); err != nil {
			t.Fatal(err)
		}
	}
	set(job.Stream{Opened: time.Now(), Hash: "aa"})
	if got := r.call("POST", url, "", body); strings.Contains(got.body, "sha256") {
		t.Error(got.body)
	}
	set(job.Stream{Opened: time.Now(), Complete: true, Hash: "aa"})
	if got := r.call("POST", url, "", body); !strings.Contains(got.body, "\nsha256 aa\n") {
		t.Error(got.body)
	}
	r.want(r.call("POST", url, "", seal(db1, `"job":"another","attempt":1`)), http.StatusConflict, "")
}
