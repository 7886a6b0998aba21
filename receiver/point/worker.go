package point

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"filippo.io/age"

	"drydock/job"
	"drydock/receiver/binlog"
	"drydock/receiver/drill"
	"drydock/receiver/duty"
	"drydock/receiver/proving"
	"drydock/receiver/recovery"
	"drydock/restore"
	"drydock/store"
)

// Depot stores what is made here.
type Depot interface {
	// Fits is nil when there is room for another backup of about this size.
	Fits(m store.Manifest) error
	Deposit(ctx context.Context, j job.Job, m store.Manifest, give func(context.Context, io.Writer) error) (store.Manifest, error)
}

// Desk takes the request for the flashback.
type Desk interface {
	Order(ctx context.Context, r restore.Request) (restore.Ordered, error)
}

// Catalog has the backups.
type Catalog interface {
	Get(ctx context.Context, cluster string, s job.Server, id string) (store.Manifest, error)
}

// Archive has the binary logs.
type Archive interface {
	List(ctx context.Context, cluster string) ([]store.Segment, error)
}

// Config is what a [Worker] works from.
type Config struct {
	Name     string // of this receiver, as manifests have it
	Log      *slog.Logger
	Clusters []Cluster
	Trusted  []store.PublicKey // that manifests and segments are signed with
}

// Cluster is one cluster of a [Config].
type Cluster struct {
	Name       string
	Servers    []job.Server
	Scratch    string         // backup-drill-scratch
	Memory     int64          // backup-drill-memory, bytes
	Identities []age.Identity // backup-encrypt-identity
}

// Worker does the jobs of [restore.PointTask], one at a time. Make one with [New].
type Worker struct {
	cfg      Config
	clusters map[string]Cluster
	depot    Depot
	desk     Desk
	catalog  Catalog
	archive  Archive
	turn     chan struct{} // holds one element while a job is done: two would want the memory and the disk of two
}

// New makes the worker of the receiver cfg.Name.
func New(cfg Config, depot Depot, desk Desk, catalog Catalog, archive Archive) *Worker {
	w := &Worker{cfg: cfg, clusters: map[string]Cluster{}, depot: depot, desk: desk, catalog: catalog, archive: archive, turn: make(chan struct{}, 1)}
	for _, c := range cfg.Clusters {
		w.clusters[c.Name] = c
	}
	return w
}

// Tasks implements [duty.Worker].
func (w *Worker) Tasks() []string { return []string{restore.PointTask} }

// Plan implements [duty.Worker]: the receiver that has the backup does it.
func (w *Worker) Plan(_ context.Context, j job.Job) (duty.Deed, error) {
	if j.Args[job.ArgReceiver] != w.cfg.Name {
		return nil, nil
	}
	return w.do, nil
}

// do makes the backup of the point and asks for the flashback.
func (w *Worker) do(ctx context.Context, d *duty.Work) (duty.Result, error) {
	j := d.Job()
	if j.Args[job.ArgConfirm] != j.Server.String() {
		return duty.Result{}, fmt.Errorf("this replaces all data of %s, and nobody confirmed that: ask for it with drydock restore apply --to-server", j.Server)
	}
	select {
	case w.turn <- struct{}{}:
	default:
		d.Note("waits for another one on this machine")
		select {
		case w.turn <- struct{}{}:
		case <-ctx.Done():
			return duty.Result{}, ctx.Err()
		}
	}
	defer func() { <-w.turn }()
	made, err := w.make(ctx, d)
	if err != nil {
		return duty.Result{}, fmt.Errorf("%w; nothing on %s was touched", err, j.Server)
	}
	d.Say(fmt.Sprintf("backup %s holds the cluster as it was at %s (GTID %s)", made.ID, j.Args[job.ArgTo], made.GTID))
	ordered, err := w.order(ctx, j, made)
	if err != nil {
		return duty.Result{}, fmt.Errorf("ask for the flashback of %s to backup %s: %w; nothing on it was touched. `%s` asks again",
			j.Server, made.ID, err, again(made.ID, j.Server))
	}
	return duty.Result{Tool: "drydock", Text: fmt.Sprintf("made backup %s of GTID %s; job %s (%s) restores it on %s", made.ID, made.GTID, ordered.JobID, ordered.Task, j.Server)}, nil
}

// again is the command that asks once more for the flashback of a server to a backup of a point. It is copied at 3 a.m., so it is whole.
func again(backup string, s job.Server) string {
	return fmt.Sprintf("drydock restore apply %s --to-server %s --no-replication --confirm %s", backup, s, s)
}

// order asks for what replaces the server's data, by the confirmation that the job was asked for with. The desk judges the server
// anew: making the backup may have taken hours.
func (w *Worker) order(ctx context.Context, j job.Job, made store.Manifest) (restore.Ordered, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	return w.desk.Order(ctx, restore.Request{
		Cluster: j.Cluster, Servers: w.clusters[j.Cluster].Servers, Server: j.Server, Kind: restore.Physical, Flashback: true,
		Backup: made.ID, Confirm: j.Args[job.ArgConfirm], By: j.Trigger.By, Force: j.Trigger.Force, For: j.ID,
	})
}

// orderTime bounds the request.
const orderTime = 30 * time.Second

// make makes the backup of the point. All that could be missing or damaged is read before anything is unpacked.
func (w *Worker) make(ctx context.Context, d *duty.Work) (made store.Manifest, err error) {
	j, c := d.Job(), w.clusters[d.Job().Cluster]
	base, path, err := w.base(ctx, j)
	if err != nil {
		return made, err
	}
	if err := w.depot.Fits(base); err != nil {
		return made, fmt.Errorf("store a backup of the point: %w", err)
	}
	d.Note("read the binary logs")
	way, err := w.way(ctx, j, c, base)
	if err != nil {
		return made, err
	}
	defer way.Close()
	d.Say(fmt.Sprintf("%d transactions are replayed on backup %s, up to GTID %s", way.Transactions, base.ID, way.GTID))
	scratch, err := drill.OpenScratch(c.Scratch)
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	b, err := recovery.BackupOf(base, path)
	if err != nil {
		return made, err
	}
	copied := recovery.New(recovery.Config{
		Folder: scratch.Folder(), Memory: c.Memory, Identities: c.Identities,
		Step:  func(what string) { d.Say(what); d.Note(what) },
		Line:  func(text string) { d.Say(text[:min(len(text), maxLine)]) },
		Moved: func(n int64) { d.Moved(n, 0) },
	}, b)
	defer func() { err = errors.Join(err, copied.Close()) }()
	if err := copied.Open(recovery.Needs(b.Format, b.Size) + way.Bytes); err != nil {
		return made, err
	}
	if err := copied.Run(ctx, phases(copied, way)...); err != nil {
		return made, err
	}
	return w.depot.Deposit(ctx, j, w.manifest(ctx, j, base, way), func(ctx context.Context, to io.Writer) error {
		return copied.Run(ctx, copied.BackingUp(way.GTID, to)...)
	})
}

// maxLine is how many bytes of a tool's line go into the log: it may hold a row of a table.
const maxLine = 300

// phases are what is done between an empty folder and the data of the point.
func phases(c *recovery.Copy, way *binlog.Plan) []recovery.Phase {
	preparing := c.Preparing()
	list := []recovery.Phase{preparing[0], c.Comparing(), c.Repeatable(), preparing[1]}
	return append(list, c.Replaying(func(ctx context.Context, l recovery.Login, dir string) error {
		return way.Run(ctx, binlog.Target{Socket: l.Socket, User: l.User, Password: l.Password}, dir)
	})...)
}

// base is the backup that the job names, as its signed manifest has it.
func (w *Worker) base(ctx context.Context, j job.Job) (m store.Manifest, path string, err error) {
	from, err := job.ParseServer(j.Args[job.ArgFrom])
	if err != nil {
		return m, "", err
	}
	if m, err = w.catalog.Get(ctx, j.Cluster, from, j.Args[job.ArgBackup]); err != nil {
		return m, "", err
	}
	return proving.Signed(m, w.cfg.Trusted)
}

// way is the way from the base to the point; every byte of it was read.
func (w *Worker) way(ctx context.Context, j job.Job, c Cluster, base store.Manifest) (*binlog.Plan, error) {
	until, err := binlog.ParseUntil(j.Args[job.ArgTo])
	if err != nil {
		return nil, err
	}
	begin, err := binlog.BaseOf(base)
	if err != nil {
		return nil, err
	}
	segments, err := w.archive.List(ctx, j.Cluster)
	if err != nil {
		return nil, err
	}
	way, err := binlog.Prepare(ctx, binlog.Request{
		Segments: segments, Base: begin, Until: until, Keys: w.cfg.Trusted, Identities: c.Identities,
	})
	if err == nil && way.GTID == "" {
		way.Close()
		return nil, errors.New("the archive tells no GTID of that point: a server restored to it could not say where it is")
	}
	return way, err
}

// manifest is what the backup of the point is of. It stands in the catalogue at its point's time, not at that of its making: it
// holds nothing newer.
func (w *Worker) manifest(ctx context.Context, j job.Job, base store.Manifest, way *binlog.Plan) store.Manifest {
	ended := base.Ended
	if way.Last.After(ended) {
		ended = way.Last
	}
	m := store.Manifest{
		Cluster: base.Cluster, Server: base.Server, Task: base.Task, Trigger: j.Trigger, Tool: base.Tool,
		Started: base.Started, Ended: ended.UTC(), GTID: way.GTID,
		Point: &store.Point{Base: base.ID, To: j.Args[job.ArgTo], Made: time.Now().UTC(), Job: j.ID},
	}
	if v, err := recovery.Installed(ctx, "mariadb-backup"); err == nil {
		m.Tool = "mariadb-backup " + v.String() + "-MariaDB"
	}
	m.ID = job.NewID(m.Ended, j.Run(), job.Key{Cluster: m.Cluster, Server: m.Server, Task: m.Task})
	return m
}
