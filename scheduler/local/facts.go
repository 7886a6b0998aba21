package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"drydock/job"
	"drydock/store"
)

// Login is one server and the account to ask it with.
type Login struct {
	Cluster        string
	Server         job.Server
	User, Password string
}

// FactsConfig is what [Facts] works from.
type FactsConfig struct {
	Servers []Login
	Ticker  time.Duration // monitoring-ticker
	Frugal  bool          // no connection is kept after its question
	Log     *slog.Logger
}

// Facts asks every server about itself from time to time, and whenever somebody needs to know, and keeps the answers in
// drydock_serverstate. It never writes to a server. Safe for concurrent use.
type Facts struct {
	docs     *store.Docs
	log      *slog.Logger
	every    time.Duration
	frugal   bool
	servers  map[serverName]*watched
	clusters map[string]*flock
}

type serverName struct {
	cluster string
	server  job.Server
}

const (
	factsEvery   = 10 * time.Second // while nobody needs them more often
	factsWidth   = 32               // servers at a time
	flockWidth   = 128              // of one cluster at a time, when a job waits for them all
	factsTimeout = 5 * time.Second
)

// flock is the servers of one cluster, and what they said when they were last asked together.
type flock struct {
	members []job.Server
	turn    chan struct{} // one token: one caller asks them, and guards what follows
	all     map[job.Server]store.Facts
	at      time.Time // before they were asked
}

// watched is one server.
type watched struct {
	Login
	db   *sql.DB
	turn chan struct{} // one token: one question at a time; it guards variables
	side chan struct{} // one token: one question besides ([Facts.pool])

	variables variables

	mu    sync.Mutex // guards what follows
	last  store.Facts
	asked time.Time // zero when it never was
}

// known is the last answer, when it was asked.
func (w *watched) known() (store.Facts, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.asked
}

// remember takes in what the bucket knows before the first question. It counts as no answer.
func (w *watched) remember(f store.Facts) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked.IsZero() {
		w.last = f
	}
}

// keep takes in an answer and gives the one before it.
func (w *watched) keep(f store.Facts, asked time.Time) (before store.Facts, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, first = w.last, w.asked.IsZero()
	if asked.After(w.asked) {
		w.last, w.asked = f, asked
	}
	return before, first
}

// ask is for whoever has the turn. Where no connection is kept it makes one for all of its statements, or each would make its own. One that is
// kept may have gone stale: the pool sees to that.
func (w *watched) ask(ctx context.Context, frugal bool) store.Facts {
	if !frugal {
		return ask(ctx, w.db, &w.variables)
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return store.Facts{Time: time.Now().UTC(), Err: sqlReason(err)}
	}
	defer func() { _ = conn.Close() }()
	return ask(ctx, conn, &w.variables)
}

// NewFacts connects to nothing yet. The connections end with [Facts.Run].
func NewFacts(cfg FactsConfig, docs *store.Docs) *Facts {
	f := &Facts{docs: docs, log: cfg.Log, every: max(cfg.Ticker, factsEvery), frugal: cfg.Frugal, servers: map[serverName]*watched{}, clusters: map[string]*flock{}}
	for _, l := range cfg.Servers {
		c := sqlConfig(l.Server, l.User, l.Password)
		c.ReadTimeout = factsTimeout
		db := sql.OpenDB(connector(c))
		db.SetMaxOpenConns(2) // one for the facts, one for what else is asked ([Facts.pool])
		db.SetMaxIdleConns(1)
		db.SetConnMaxIdleTime(time.Minute)
		if cfg.Frugal {
			db.SetMaxIdleConns(0)
		}
		f.servers[serverName{l.Cluster, l.Server}] = &watched{Login: l, db: db, turn: make(chan struct{}, 1), side: make(chan struct{}, 1)}
		if f.clusters[l.Cluster] == nil {
			f.clusters[l.Cluster] = &flock{turn: make(chan struct{}, 1)}
		}
		f.clusters[l.Cluster].members = append(f.clusters[l.Cluster].members, l.Server)
	}
	return f
}

// Run asks every server every ten seconds, or every monitoring-ticker if that is longer, until ctx ends.
func (f *Facts) Run(ctx context.Context) error {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for ctx.Err() == nil {
		f.round(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	var errs []error
	for _, w := range f.servers {
		errs = append(errs, w.db.Close())
	}
	return errors.Join(errs...)
}

func (f *Facts) round(ctx context.Context) {
	var wg sync.WaitGroup
	room := make(chan struct{}, factsWidth) // a token per server being asked
	for _, w := range f.servers {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			f.renew(ctx, w)
		})
	}
	wg.Wait()
}

// renew asks w unless another process did so just now.
func (f *Facts) renew(ctx context.Context, w *watched) {
	var known store.Facts
	ok, err := f.docs.Get(ctx, w.Cluster, w.Server, store.DocFacts, &known)
	if _, asked := w.known(); ok && asked.IsZero() {
		w.remember(known) // of an earlier life: since when it is as it is
	}
	if err == nil && ok && time.Since(known.Time).Abs() < f.every/2 {
		w.keep(known, time.Now().Add(-time.Since(known.Time).Abs()))
		return
	}
	_, _ = f.Of(ctx, w.Cluster, w.Server, f.every/2) // only fails when ctx ends
}

// ErrUnknownServer is returned by [Facts.Of] for a server that is not configured.
var ErrUnknownServer = errors.New("unknown server")

// Of are the facts of a server, no older than age: it is asked again if need be. A server that does not answer has
// Up false; it is asked again in the regular rounds only, so that it costs its neighbours no time.
// Errors: [ErrUnknownServer], or the context's.
func (f *Facts) Of(ctx context.Context, cluster string, s job.Server, age time.Duration) (store.Facts, error) {
	return f.of(ctx, cluster, s, func(last store.Facts, asked time.Time) bool {
		return !asked.IsZero() && (time.Since(asked) < age || !last.Up && age < f.every/2)
	})
}

// pool is for a short question to a server, one at a time, or the facts would have to wait: mostly it finds the connection that they were
// asked on. Each read has [factsTimeout]. leave ends the use of it. Errors: [ErrUnknownServer], or the context's.
func (f *Facts) pool(ctx context.Context, cluster string, s job.Server) (db *sql.DB, leave func(), err error) {
	w := f.servers[serverName{cluster, s}]
	if w == nil {
		return nil, nil, fmt.Errorf("%w %s in cluster %s", ErrUnknownServer, s, cluster)
	}
	select {
	case w.side <- struct{}{}:
		return w.db, func() { <-w.side }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// All are the facts of the servers of a cluster, no older than age, without those that could not be asked before ctx ended. The map is shared:
// it is only read. A thousand jobs of one cluster ask for all of its servers at once; one of them does so, and the others get what it learned.
func (f *Facts) All(ctx context.Context, cluster string, age time.Duration) map[job.Server]store.Facts {
	c := f.clusters[cluster]
	if c == nil {
		return nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil
	}
	begun := time.Now()
	if begun.Sub(c.at) < age/2 {
		return c.all
	}
	all := f.askAll(ctx, cluster, c.members, age/2)
	if ctx.Err() == nil {
		c.all, c.at = all, begun
	}
	return all
}

func (f *Facts) askAll(ctx context.Context, cluster string, servers []job.Server, age time.Duration) map[job.Server]store.Facts {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		all  = make(map[job.Server]store.Facts, len(servers))
		room = make(chan struct{}, flockWidth) // a token per server being asked
	)
	for _, s := range servers {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			facts, err := f.Of(ctx, cluster, s, age)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[s] = facts
		})
	}
	wg.Wait()
	return all
}

// Fresh is [Facts.Of] for somebody who waits for this server to come back: also one that does not answer is asked again.
func (f *Facts) Fresh(ctx context.Context, cluster string, s job.Server, age time.Duration) (store.Facts, error) {
	return f.of(ctx, cluster, s, func(_ store.Facts, asked time.Time) bool {
		return !asked.IsZero() && time.Since(asked) < age
	})
}

// of asks unless the last answer is good.
func (f *Facts) of(ctx context.Context, cluster string, s job.Server, good func(store.Facts, time.Time) bool) (store.Facts, error) {
	w := f.servers[serverName{cluster, s}]
	if w == nil {
		return store.Facts{}, fmt.Errorf("%w %s in cluster %s", ErrUnknownServer, s, cluster)
	}
	if last, asked := w.known(); good(last, asked) {
		return last, nil
	}
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return store.Facts{}, ctx.Err()
	}
	if last, asked := w.known(); good(last, asked) { // by whoever had the turn before
		return last, nil
	}
	asking, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	now := w.ask(asking, f.frugal)
	if ctx.Err() != nil {
		return store.Facts{}, ctx.Err()
	}
	last, _ := w.known()
	now.Follow(last)
	if before, first := w.keep(now, time.Now()); first || now.Up != before.Up || now.Role != before.Role {
		f.log.Info("server facts", "cluster", cluster, "server", s.String(), "up", now.Up, "role", now.Role, "version", now.Version, "reason", now.Err)
	}
	if err := f.docs.Put(asking, cluster, s, store.DocFacts, now); err != nil {
		f.log.Warn("keep facts", "cluster", cluster, "server", s.String(), "err", err)
	}
	return now, nil
}
