package binlog

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"filippo.io/age"

	"drydock/bus"
	"drydock/durable"
	"drydock/job"
	"drydock/store"
)

// Config is what the archiving of binary logs needs.
type Config struct {
	Name     string // of the receiver; stays the same over restarts
	Actor    string // as whom leases are taken
	Dir      string // of all backups
	Clusters []Cluster
	Sign     func(store.Segment) (store.Segment, error)
	Log      *slog.Logger
}

// Cluster is one cluster whose binary log is archived, or not.
type Cluster struct {
	Name           string
	On             bool // backup-binlogs
	Servers        []job.Server
	User, Password string
	ServerID       uint32        // backup-binlogs-server-id; 0 makes one of the names of cluster and receiver
	Flush          time.Duration // backup-binlogs-flush
	Compress       string        // compress-backups
	Recipients     []age.Recipient
}

// Folder is the folder of a server's binary logs beside its backups.
const Folder = "binlogs"

const (
	leaseTerm  = 15 * time.Second
	leaseName  = "_binlogslease"
	lookEvery  = 2 * time.Second // at which server is the primary
	retryAfter = 2 * time.Second
	sayEvery   = 5 * time.Second // how the archiving stands
)

// Service archives the binary logs of every cluster that asks for it: one receiver of a cluster at a time. Make one with [New].
type Service struct {
	cfg     Config
	binlogs *store.Binlogs
	catalog *store.Catalog
	docs    *store.Docs
	leases  *store.Leases
}

// New makes a service on a bus.
func New(cfg Config, conn *bus.Conn) *Service {
	return &Service{
		cfg: cfg, binlogs: store.NewBinlogs(conn), catalog: store.NewCatalog(conn), docs: store.NewDocs(conn),
		leases: store.NewLeases(conn, cfg.Actor, leaseTerm),
	}
}

// Run takes up what an earlier process left, then archives until ctx ends. All that was received is durable when it returns.
func (s *Service) Run(ctx context.Context) error {
	unlock, err := lockFolder(s.cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	for err := s.recover(ctx); err != nil; err = s.recover(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		s.cfg.Log.Warn("take up the archive of binary logs; it is tried again", "err", err)
		pause(ctx, retryAfter)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.tend(ctx) })
	for _, cl := range s.cfg.Clusters {
		if !cl.On {
			continue
		}
		if cl.ServerID == 0 {
			cl.ServerID = serverID(cl.Name, s.cfg.Name)
		}
		a := &archiver{
			cl: cl, name: s.cfg.Name, dir: s.cfg.Dir, sign: s.cfg.Sign, binlogs: s.binlogs, docs: s.docs, leases: s.leases,
			log: s.cfg.Log.With("cluster", cl.Name), unsaid: map[string]store.Segment{},
		}
		wg.Go(func() { a.run(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

// lockFolder keeps a second process out: each would cut off what the other is writing.
func lockFolder(dir string) (unlock func(), err error) {
	if err := durable.MakeFolder(dir); err != nil {
		return nil, fmt.Errorf("make the folder of binary logs: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".binlogs.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the archive of binary logs: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the archive of binary logs: folder %s is in use by another receiver", dir)
	}
	return func() { f.Close() }, nil
}

// serverID is the same for a receiver of a cluster every time, and above what people number their servers with.
func serverID(cluster, receiver string) uint32 {
	return crc32.ChecksumIEEE([]byte("drydock "+cluster+" "+receiver)) | 1<<31
}

// recover closes the segments that a crash left open, and tells the catalogue what it does not know of this folder.
func (s *Service) recover(ctx context.Context) error {
	known := map[string]store.Segment{}
	list, err := s.binlogs.List(ctx, "")
	if err != nil {
		return err
	}
	for _, seg := range list {
		known[seg.Cluster+" "+seg.ID()] = seg
	}
	return walkSegments(s.cfg.Dir, func(path string) error {
		seg, err := readManifest(path)
		if err != nil || seg.Open {
			var ok bool
			if seg, ok, err = recoverSegment(path, s.cfg.Sign); err != nil {
				s.cfg.Log.Error("take up a segment of the binary log", "path", path, "err", err)
				return nil
			}
			if !ok {
				return nil
			}
		}
		if seg.Receiver != s.cfg.Name {
			return nil // a copy of somebody else's
		}
		if k, ok := known[seg.Cluster+" "+seg.ID()]; ok && k.End == seg.End && k.Open == seg.Open {
			return nil
		}
		return s.binlogs.Put(ctx, seg)
	})
}

// archiver is the work on one cluster.
type archiver struct {
	cl      Cluster
	name    string
	dir     string
	sign    func(store.Segment) (store.Segment, error)
	binlogs *store.Binlogs
	docs    *store.Docs
	leases  *store.Leases
	log     *slog.Logger
	unsaid  map[string]store.Segment // segments that the catalogue does not have yet; the recorder's

	doubted, reason string // a log that cannot be gone on with, and why

	mu     sync.Mutex
	status store.BinlogStatus
	said   time.Time
}

// folder is where the segments of a server go.
func (a *archiver) folder(s job.Server) string {
	return folderOf(a.dir, a.cl.Name, s)
}

// run waits for its turn, archives while it has it, and begins again.
func (a *archiver) run(ctx context.Context) {
	for ctx.Err() == nil {
		lease, err := a.leases.Take(ctx, a.cl.Name, 0, leaseName)
		if err == nil {
			a.hold(ctx, lease)
		} else if !errors.Is(err, store.ErrHeld) && ctx.Err() == nil {
			a.log.Warn("take the lease of the binary log", "err", err)
		}
		pause(ctx, retryAfter)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// hold archives for as long as the lease can be renewed.
func (a *archiver) hold(ctx context.Context, lease *store.Lease) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		a.keep(ctx, lease)
	})
	a.work(ctx)
	cancel()
	wg.Wait()
	release, done := context.WithTimeout(context.WithoutCancel(ctx), putTime)
	defer done()
	if err := lease.Release(release); err != nil {
		a.log.Debug("give the lease of the binary log back", "err", err)
	}
}

// keep renews the lease until ctx ends or it is lost. It gives up before somebody else may take it.
func (a *archiver) keep(ctx context.Context, lease *store.Lease) {
	renewed := time.Now()
	for {
		pause(ctx, leaseTerm/5)
		if ctx.Err() != nil {
			return
		}
		try, cancel := context.WithTimeout(ctx, leaseTerm/5)
		err := lease.Renew(try)
		cancel()
		switch {
		case err == nil:
			renewed = time.Now()
		case errors.Is(err, store.ErrLost), time.Since(renewed) > leaseTerm*3/5:
			if ctx.Err() == nil {
				a.log.Warn("another receiver may archive the binary log now", "err", err)
			}
			return
		}
	}
}

// work follows the primary, whichever it is.
func (a *archiver) work(ctx context.Context) {
	var now job.Server
	for ctx.Err() == nil {
		primary, err := a.primary(ctx, now)
		if err != nil {
			a.fail(ctx, job.Server{}, err)
			pause(ctx, retryAfter)
			continue
		}
		now = primary
		err = a.while(ctx, primary)
		if err != nil && ctx.Err() == nil {
			a.fail(ctx, primary, err)
			pause(ctx, retryAfter)
		}
	}
}

// while archives a server until it fails or another one is the primary.
func (a *archiver) while(ctx context.Context, server job.Server) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer cancel()
		for ctx.Err() == nil {
			pause(ctx, lookEvery)
			if p, err := a.primary(ctx, server); err == nil && p != server && ctx.Err() == nil {
				a.log.Info("the primary is another server", "server", p.String(), "was", server.String())
				return
			}
		}
	})
	err := a.follow(ctx, server)
	cancel()
	return err
}

// primary is the server whose log is to be archived: the only one that replicates from nobody. While that cannot be told it stays
// the one it was.
func (a *archiver) primary(ctx context.Context, now job.Server) (job.Server, error) {
	facts := map[job.Server]store.Facts{}
	for _, s := range a.cl.Servers {
		var f store.Facts
		ok, err := a.docs.Get(ctx, a.cl.Name, s, store.DocFacts, &f)
		if err != nil {
			return now, err
		}
		if ok {
			facts[s] = f
		}
	}
	if p, ok := store.Primary(a.cl.Servers, facts, time.Now()); ok {
		return p, nil
	}
	if now.Host != "" {
		return now, nil
	}
	return now, errors.New("which server is the primary cannot be told: not exactly one is up and replicates from nobody")
}

// fail says why nothing is archived. The same reason is logged once.
func (a *archiver) fail(ctx context.Context, server job.Server, err error) {
	a.mu.Lock()
	reason := strings.TrimSpace(err.Error())
	if a.status.Err != reason {
		a.log.Warn("the binary log is not archived", "server", server.String(), "err", err)
	}
	if a.status.Err == "" {
		a.status.Since = time.Now().UTC()
	}
	a.status.Err, a.status.Server = reason, server
	a.mu.Unlock()
	a.say(ctx)
}

// progress notes that a server's log is archived up to an event of that time.
func (a *archiver) progress(ctx context.Context, server job.Server, at time.Time) {
	a.mu.Lock()
	until := a.status.Until
	a.mu.Unlock()
	if at.Before(until) {
		at = until
	}
	a.upToDate(ctx, server, at)
}

// upToDate notes that all that the server had logged at a time is archived.
func (a *archiver) upToDate(ctx context.Context, server job.Server, at time.Time) {
	a.mu.Lock()
	a.status.Err, a.status.Since, a.status.Server, a.status.Until = "", time.Time{}, server, at.UTC()
	due := time.Since(a.said) >= sayEvery
	a.mu.Unlock()
	if due {
		a.say(ctx)
	}
}

// say publishes how the archiving stands.
func (a *archiver) say(ctx context.Context) {
	a.mu.Lock()
	a.status.Time, a.status.Receiver, a.said = time.Now().UTC(), a.name, time.Now()
	status := a.status
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	if err := a.docs.Put(ctx, a.cl.Name, job.Server{}, store.DocBinlogs, status); err != nil && ctx.Err() == nil {
		a.log.Warn("say how the binary log is archived", "err", err)
	}
}
