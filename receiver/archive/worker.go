package archive

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/receiver/duty"
	"drydock/store"
)

// Worker does the jobs of the archive, and orders those that are missing. Make one with [New].
type Worker struct {
	name     string
	log      *slog.Logger
	clusters map[string]Cluster
	turns    map[string]*turns // by repository
	ledger   *store.Ledger
	view     *store.View
	catalog  *store.Catalog

	// Of ordering, which one goroutine does:
	up   time.Time // when it began
	read time.Time // when the whole catalogue was read

	mu     sync.Mutex
	fresh  map[place]bool   // servers with something new in the catalogue, or whose archive job ended
	orders map[string]order // by backup id
}

// place is one server of one cluster.
type place struct {
	cluster string
	server  job.Server
}

const (
	busTimeout = 10 * time.Second
	// orderAll is how often the whole catalogue is read for what is not archived.
	orderAll = 5 * time.Minute
)

// New makes the worker of the receiver cfg.Name.
func New(cfg Config, ledger *store.Ledger, view *store.View, catalog *store.Catalog) *Worker {
	r := &Worker{
		name: cfg.Name, log: cfg.Log, clusters: map[string]Cluster{}, turns: map[string]*turns{},
		ledger: ledger, view: view, catalog: catalog, fresh: map[place]bool{}, orders: map[string]order{},
	}
	for _, c := range cfg.Clusters {
		c.Repository = c.ready(cfg.DataDir)
		r.clusters[c.Name] = c
		if r.turns[c.Location] == nil {
			r.turns[c.Location] = newTurns()
		}
	}
	return r
}

// Tasks implements [duty.Worker].
func (r *Worker) Tasks() []string { return []string{taskArchive, taskPrune, taskCheck} }

// Plan implements [duty.Worker]: backups are archived where they are, and the repository is looked after by anybody.
func (r *Worker) Plan(ctx context.Context, j job.Job) (duty.Deed, error) {
	backups, mine, err := r.meant(ctx, j)
	if err != nil || !mine {
		return nil, err
	}
	c := r.clusters[j.Cluster]
	return func(ctx context.Context, w *duty.Work) (duty.Result, error) { return r.work(ctx, w, c, backups) }, nil
}

// Observe implements [duty.Orderer]: it hears of backups that came, and of the end of a job that may have left one without
// an archive.
func (r *Worker) Observe(ev bus.JobEvent) bool {
	j := ev.Job
	if !(j.State == job.Success && j.Backup != "" || j.Mode == job.ByReceiver && !j.State.Live()) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh[place{j.Cluster, j.Server}] = true
	return true
}

// Order implements [duty.Orderer].
func (r *Worker) Order(ctx context.Context) {
	if r.up.IsZero() {
		r.up = time.Now() // what an earlier process left is cut by now, and ordered again at once
	}
	if time.Since(r.read) > orderAll && r.orderMissing(ctx, place{}) {
		r.read = time.Now()
	}
	r.orderFresh(ctx)
}

// meant lists the backups that a job is to archive here, oldest first. mine is false when another receiver has them. A job
// without anything to archive is anybody's.
func (r *Worker) meant(ctx context.Context, j job.Job) (list []store.Manifest, mine bool, err error) {
	if j.Task != taskArchive {
		return nil, true, nil
	}
	all, err := r.catalog.List(ctx, j.Cluster, j.Server)
	if err != nil {
		return nil, false, err
	}
	wanted := j.Args[argBackup]
	all = slices.DeleteFunc(all, func(m store.Manifest) bool {
		return wanted != "" && m.ID != wanted || wanted == "" && len(m.Archives) > 0
	})
	slices.Reverse(all)
	for _, m := range all {
		if m.Receiver != r.name {
			continue
		}
		if m.Path, err = filepath.Abs(m.Path); err != nil { // a snapshot has no other paths
			return nil, false, err
		}
		list = append(list, m)
	}
	return list, len(list) > 0 || len(all) == 0, nil
}
