package archive

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/jobtest"
	"drydock/job"
	"drydock/receiver/duty"
	"drydock/store"
)

func TestMain(m *testing.M) { bustest.Main(m) }

const password = `p'a"s s$w\o%r&d é#`

var db1 = job.Server{Host: "10.0.1.5", Port: 3306}

const soon = 2 * time.Minute // restic derives a key at each start, on a busy machine

// rig is a bus, a repository, and backups as a receiver publishes them. The test plays the scheduler.
type rig struct {
	*jobtest.Scheduler
	t       *testing.T
	conn    *bus.Conn
	dir     string
	cluster Cluster
	ledger  *store.Ledger
	catalog *store.Catalog
	backups int // published so far
}

func newRig(t *testing.T) *rig {
	t.Helper()
	conn := bustest.Start(t)
	g := &rig{
		Scheduler: jobtest.New(t, conn, "lab", db1), t: t, conn: conn, dir: t.TempDir(), ledger: store.NewLedger(conn, "test"),
		catalog: store.NewCatalog(conn),
	}
	g.cluster = Cluster{
		Name: "lab", Servers: []job.Server{db1}, On: true,
		Repository: Repository{Location: filepath.Join(g.dir, "repo"), Password: password},
	}
	return g
}

// start runs the archiver of a receiver until stop is called or the test ends.
func (g *rig) start(name string) (stop func()) {
	g.t.Helper()
	view := store.NewView(g.conn)
	actor := "receiver@" + name
	r, err := duty.New(duty.Config{Name: name, Log: bustest.Log(g.t), Leases: map[string]time.Duration{"lab": time.Minute}},
		g.conn, store.NewJobs(g.conn, actor, view), view,
		New(Config{Name: name, DataDir: g.dir, Log: bustest.Log(g.t), Clusters: []Cluster{g.cluster}}, store.NewLedger(g.conn, actor), view, g.catalog))
	if err != nil {
		g.t.Fatal(err)
	}
	return bustest.Run(g.t, view.Run, r.Run)
}

// publish lays a backup of random bytes and its manifest, as a receiver does, and puts it into the catalogue.
func (g *rig) publish(receiver, task string, size int, ended time.Time) store.Manifest {
	g.t.Helper()
	g.backups++
	k := job.Key{Cluster: "lab", Server: db1, Task: task}
	m := store.Manifest{
		Type: store.ManifestType, ID: job.NewID(ended, fmt.Sprint("b", g.backups), k), Cluster: "lab", Server: db1, Task: task,
		Receiver: receiver, Ended: ended.UTC().Truncate(time.Millisecond), Size: int64(size), Stored: int64(size),
	}
	folder := filepath.Join(g.dir, receiver, "10.0.1.5_3306")
	m.Path = filepath.Join(folder, task+"-"+m.ID+".xbstream")
	data := make([]byte, size)
	rand.Read(data)
	text, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = os.MkdirAll(folder, 0o700)
	}
	if err == nil {
		err = os.WriteFile(m.Path, data, 0o600)
	}
	if err == nil {
		err = os.WriteFile(m.Path+manifestSuffix, text, 0o600)
	}
	if err == nil {
		err = g.catalog.Put(bustest.Context(g.t), m)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return m
}

// archive queues the archive of a backup and waits for its end.
func (g *rig) archive(m store.Manifest) job.Job {
	g.t.Helper()
	return g.Ended(g.Queue(taskArchive, map[string]string{argBackup: m.ID}))
}

// succeeded returns a job that must be a success.
func (g *rig) succeeded(j job.Job) job.Job {
	g.t.Helper()
	if j.State != job.Success {
		g.t.Fatalf("%s is %s: %s", j.Task, j.State, j.Reason)
	}
	return j
}

// record is what the catalogue says of a backup.
func (g *rig) record(m store.Manifest) store.Manifest {
	g.t.Helper()
	list, err := g.catalog.List(bustest.Context(g.t), m.Cluster, m.Server)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, x := range list {
		if x.ID == m.ID {
			return x
		}
	}
	g.t.Fatalf("the catalogue has no %s", m.ID)
	return m
}

// restic runs the tool as a person would, and returns what it printed.
func (g *rig) restic(args ...string) string {
	g.t.Helper()
	cmd := g.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("restic %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

func (g *rig) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(g.t.Context(), "restic", args...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+g.cluster.Password, "RESTIC_REPOSITORY="+g.cluster.Location,
		"RESTIC_CACHE_DIR="+filepath.Join(g.dir, "test-cache"))
	return cmd
}

// snapshots are those of the repository.
func (g *rig) snapshots() (list []snapshot) {
	g.t.Helper()
	if err := json.Unmarshal([]byte(g.restic("snapshots", "--json", "--no-lock")), &list); err != nil {
		g.t.Fatal(err)
	}
	return list
}

// sameFile fails unless both files hold the same.
func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}
