package keeper

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/pruning"
	"drydock/receiver"
	"drydock/retention"
	"drydock/store"
)

func TestMain(m *testing.M) { bustest.Main(m) }

const soon = 20 * time.Second

var db1 = job.Server{Host: "10.0.1.5", Port: 3306}

// rig is a bus, and backups as a receiver publishes them.
type rig struct {
	t       *testing.T
	conn    *bus.Conn
	dir     string
	signer  store.Signer
	catalog *store.Catalog
	cluster Cluster
	keys    []store.PublicKey
	n       int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	conn := bustest.Start(t)
	signer, err := store.NewSigner(bustest.Context(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{
		t: t, conn: conn, dir: t.TempDir(), signer: signer, catalog: store.NewCatalog(conn), keys: []store.PublicKey{signer.Public()},
		cluster: Cluster{Servers: []job.Server{db1}, Rules: retention.Rules{Last: 1}},
	}
}

// start runs a keeper until the test ends; each has a data folder of its own.
func (g *rig) start(name string) *Keeper {
	k, _ := g.startStop(name)
	return k
}

func (g *rig) startStop(name string) (k *Keeper, stop func()) {
	g.t.Helper()
	view := store.NewView(g.conn)
	k = New(Config{
		Name: name, DataDir: g.data(name), Sign: g.signer.SignNotes, Keys: g.keys, Log: bustest.Log(g.t),
		Clusters: map[string]Cluster{"prod": g.cluster},
	}, g.conn, view, g.catalog)
	stop = bustest.Run(g.t, view.Run, k.Run)
	bustest.Until(g.t, soon, "the keeper answers", func() bool {
		_, err := bus.Request[bus.DiskReply](bustest.Context(g.t), g.conn, bus.ReceiverSubject(name, bus.VerbDisk), struct{}{})
		return err == nil
	})
	return k, stop
}

func (g *rig) data(name string) string { return filepath.Join(g.dir, name) }

func (g *rig) folder(name string) string {
	folder, _ := receiver.BackupsOf(g.data(name), "prod", db1)
	return folder
}

// publish lays a backup and its signed manifest, as the receiver does, and puts it into the catalogue. age is how old it is.
func (g *rig) publish(name, task string, age time.Duration) store.Manifest {
	g.t.Helper()
	g.n++
	ended := time.Now().Add(-age).UTC().Truncate(time.Millisecond)
	id := job.NewID(ended, fmt.Sprint("b", g.n), job.Key{Cluster: "prod", Server: db1, Task: task})
	m := store.Manifest{
		Type: store.ManifestType, ID: id, Cluster: "prod", Server: db1, Task: task, Receiver: name, Ended: ended, Size: 1000, Stored: 1000,
		Path: filepath.Join(g.folder(name), task+"-"+id+".xbstream"),
	}
	m, err := g.signer.Sign(m)
	g.must(err)
	text, err := json.Marshal(m)
	g.must(err)
	g.must(os.MkdirAll(filepath.Dir(m.Path), 0o700))
	g.must(os.WriteFile(m.Path, make([]byte, m.Stored), 0o600))
	g.must(os.WriteFile(m.Path+receiver.ManifestSuffix, text, 0o600))
	g.must(g.catalog.Put(bustest.Context(g.t), m))
	return m
}

func (g *rig) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) drilled(m store.Manifest, problem string) {
	g.t.Helper()
	g.must(g.catalog.AddDrill(bustest.Context(g.t), m, store.Drill{Time: time.Now().UTC(), By: "test", Problem: problem}))
}

func (g *rig) pin(m store.Manifest) {
	g.t.Helper()
	_, err := g.catalog.SetPin(bustest.Context(g.t), m, store.Pin{On: true, Time: time.Now().UTC(), By: "jane", Reason: "year end"})
	g.must(err)
}

// prune runs a whole prune, as the job does.
func (g *rig) prune() (pruning.Result, []string, error) {
	var lines []string
	r, err := pruning.NewDesk(g.conn).Run(bustest.Context(g.t), "prod", "job1", func(s string) { lines = append(lines, s) })
	return r, lines, err
}

// pruned is prune that has to work.
func (g *rig) pruned() (pruning.Result, []string) {
	g.t.Helper()
	r, lines, err := g.prune()
	if err != nil {
		g.t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	return r, lines
}

// there lists the backups, by their ids, of which everything is there: entry, file and manifest. What has only a part of that fails
// the test.
func (g *rig) there(all ...store.Manifest) (ids []string) {
	g.t.Helper()
	list, err := g.catalog.All(bustest.Context(g.t), "", job.Server{})
	g.must(err)
	for _, m := range all {
		n := 0
		for _, path := range []string{m.Path, m.Path + receiver.ManifestSuffix} {
			if _, err := os.Lstat(path); err == nil {
				n++
			}
		}
		if i := slices.IndexFunc(list, func(x store.Manifest) bool { return x.ID == m.ID }); i >= 0 && list[i].Listed() {
			n++
		}
		if n == 3 {
			ids = append(ids, m.ID)
		} else if n > 0 {
			g.t.Errorf("of backup %s there are %d of 3 parts", m.ID, n)
		}
	}
	return ids
}

func ids(list ...store.Manifest) (out []string) {
	for _, m := range list {
		out = append(out, m.ID)
	}
	return out
}

func (g *rig) live(task string, args map[string]string) {
	g.t.Helper()
	g.n++
	due := time.Now().UTC()
	k := job.Key{Cluster: "prod", Server: db1, Task: task}
	_, err := store.NewJobs(g.conn, "test", nil).Create(bustest.Context(g.t), job.Job{
		State: job.Queued, ID: job.NewID(due, fmt.Sprint(g.n), k), Cluster: "prod", Server: db1, Task: task, Due: due, Args: args, Mode: job.SQL,
	}, "due")
	g.must(err)
}
