// Package keeper keeps the backup folder of a receiver in order: it deletes what package retention lets go of and what was left
// behind there, writes the notes beside the backups, and tells how full the disk is.
//
// Every receiver keeps its own files only, and is asked for it over the bus ([bus.VerbPlan], [bus.VerbPrune], [bus.VerbDisk]); package pruning
// asks all of them. It owns no job. The receiver itself, which writes the files, is package receiver.
package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/job"
	"drydock/retention"
	"drydock/store"
)

// Config is what a [Keeper] works from.
type Config struct {
	Name    string // of this receiver, as manifests have it
	DataDir string // monitoring-datadir
	Reserve int64  // disk-reserve, bytes
	// Sign signs notes with the installation's key ([store.Signer.SignNotes]).
	Sign func(store.Notes) (store.Notes, error)
	// Keys are those that manifests may be signed with: one of a key that is not among them is never deleted.
	Keys     []store.PublicKey
	Clusters map[string]Cluster
	Log      *slog.Logger
}

// Cluster is one cluster of a [Config].
type Cluster struct {
	Servers []job.Server
	Rules   retention.Rules // the backup-keep keys
	Pruned  bool            // scheduler-backup-prune: the forecast counts on it
	Archive bool            // backup-restic: what is not archived yet stays
}

// Keeper is the keeper of one receiver. Safe for concurrent use.
type Keeper struct {
	cfg     Config
	conn    *bus.Conn
	view    *store.View
	catalog *store.Catalog

	pruning sync.Mutex // one prune at a time
	files   sync.Mutex // held while notes are written or files deleted: neither gets in the other's way

	mu    sync.Mutex
	plans map[string]plan // the last of each cluster, for its further pages
	disk  bus.DiskReply   // the last answer

	// step is called before each step of a deletion with its name; tests stop there.
	step func(name string) error
}

type plan struct {
	items []bus.PlanItem
	made  time.Time
}

const (
	// planKept is how long the pages of a plan are read from the one that was made for its first.
	planKept = time.Minute
	pageSize = 500
	// askTime bounds a plan or a look at the disk, pruneTime the deletions of one request.
	askTime   = 30 * time.Second
	pruneTime = 5 * time.Minute
	// awayAfter is how long another receiver has to answer.
	awayAfter = 5 * time.Second
	// diskKept is how long an answer about the disk serves: a forecast reads the whole catalogue.
	diskKept = 20 * time.Second
)

// New makes a keeper that does nothing yet.
func New(cfg Config, conn *bus.Conn, view *store.View, catalog *store.Catalog) *Keeper {
	return &Keeper{
		cfg: cfg, conn: conn, view: view, catalog: catalog, plans: map[string]plan{}, step: func(string) error { return nil },
	}
}

// Run answers and writes notes until ctx ends, and returns when what is in hand is done.
func (k *Keeper) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-k.view.Ready(): // before it nobody knows what a job needs
	}
	var hands sync.WaitGroup
	defer hands.Wait()
	svc, err := k.serve(ctx, &hands)
	if err != nil {
		return err
	}
	err = k.mirror(ctx)
	return errors.Join(err, svc.Stop())
}

func (k *Keeper) serve(ctx context.Context, hands *sync.WaitGroup) (micro.Service, error) {
	svc, err := micro.AddService(k.conn.NC, micro.Config{
		Name: bus.KeeperService, Version: "0.0.0", Description: "backup folder of drydock receiver " + k.cfg.Name,
		Metadata: map[string]string{"receiver": k.cfg.Name},
	})
	if err != nil {
		return nil, fmt.Errorf("announce the keeper: %w", err)
	}
	for _, e := range []struct {
		verb    string
		handler micro.Handler
	}{
		{bus.VerbPlan, endpoint(ctx, hands, k.cfg.Log, askTime, k.page)},
		{bus.VerbPrune, endpoint(ctx, hands, k.cfg.Log, pruneTime, k.prune)},
		{bus.VerbDisk, endpoint(ctx, hands, k.cfg.Log, askTime, k.diskNow)},
	} {
		err = errors.Join(err, svc.AddEndpoint(e.verb, e.handler,
			micro.WithEndpointSubject(bus.ReceiverSubject(k.cfg.Name, e.verb)), micro.WithEndpointQueueGroupDisabled()))
	}
	if err == nil {
		err = k.conn.NC.FlushTimeout(askTime)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("announce the keeper: %w", err), svc.Stop())
	}
	return svc, nil
}

// endpoint answers each request in a goroutine of its own that Run waits for. A prune in hand is ended between two files.
func endpoint[Req, Rep any](ctx context.Context, hands *sync.WaitGroup, log *slog.Logger, limit time.Duration, handle func(context.Context, Req) (Rep, error)) micro.Handler {
	return micro.HandlerFunc(func(m micro.Request) {
		if ctx.Err() != nil {
			return // nobody waits for new hands any more; who asks hears that nobody answers
		}
		hands.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			var req Req
			err := json.Unmarshal(m.Data(), &req)
			if err == nil {
				var rep Rep
				if rep, err = handle(ctx, req); err == nil {
					err = m.RespondJSON(rep)
				}
			}
			if err == nil {
				return
			}
			log.Warn("request failed", "subject", m.Subject(), "err", err)
			if err := bus.RespondError(m, "500", err.Error()); err != nil {
				log.Warn("answer a request", "subject", m.Subject(), "err", err)
			}
		})
	})
}

// page answers with a page of a plan.
func (k *Keeper) page(ctx context.Context, req bus.PlanRequest) (bus.PlanReply, error) {
	k.mu.Lock()
	p, known := k.plans[req.Cluster]
	k.mu.Unlock()
	if req.From <= 0 || !known || time.Since(p.made) > planKept {
		items, err := k.Plan(ctx, req.Cluster)
		if err != nil {
			return bus.PlanReply{}, err
		}
		p = plan{items, time.Now()}
		k.mu.Lock()
		k.plans[req.Cluster] = p
		k.mu.Unlock()
	}
	from := min(max(req.From, 0), len(p.items))
	to := min(from+pageSize, len(p.items))
	rep := bus.PlanReply{Items: p.items[from:to]}
	if to < len(p.items) {
		rep.Next = to
	}
	return rep, nil
}
