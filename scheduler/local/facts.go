package local

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"drydock/bus"
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
	counts   int           // every how many rounds a server is asked for its counters while nobody needs them
	heard    chan struct{} // closed when all was heard that the bucket had when [Facts.Run] began
	frugal   bool
	servers  map[serverName]*watched
	keys     map[string]*watched // by key of the bucket
	clusters map[string]*flock
}

type serverName struct {
	cluster string
	server  job.Server
}

const (
	factsWidth   = 32  // servers at a time, and as many that did not answer before
	flockWidth   = 128 // of one cluster at a time, when a job waits for them all
	factsTimeout = 5 * time.Second
	downAge      = 5 * time.Second // who asks for a younger answer of a server that is down gets the last one
	pacedFrom    = 1000            // servers, which are not asked all at once but one after the other until the next round
	// countsASecond is how many servers a second are asked for their counters as well, so that the maintenance of thousands has something left
	// of drydock's machine. Beyond six thousand servers it is more: each is asked about every countsAtMost, since what the page shows of a
	// server's load goes by the minute.
	countsASecond = 100
	countsAtMost  = time.Minute
)

// flock is the servers of one cluster, and what they said when they were last asked together.
type flock struct {
	members []job.Server
	turn    chan struct{} // one token: one caller asks them, and guards what follows
	all     map[job.Server]store.Facts
	at      time.Time     // before they were asked
	took    time.Duration // until they had answered
}

// watched is one server.
type watched struct {
	Login
	db    *sql.DB
	dials *dials
	turn  chan struct{} // one token: one question at a time; it guards variables and countedOn
	side  chan struct{} // one token: one question besides ([Facts.pool])

	variables variables
	countedOn int64 // how many connections had been made before the counters were asked for
	place     int   // among all servers: not all have their counters asked for in the same round

	mu      sync.Mutex // guards what follows
	last    store.Facts
	asked   time.Time // zero when it never was
	counted time.Time // the same, for its counters
	foreign bool      // last is what another process was told
	written uint64    // revision of the answer that was put in the bucket last
	heard   store.FactsEntry
}

// dials counts the connections to a server. As long as none is made, it is the server of before, without a restart.
type dials struct {
	driver.Connector
	n atomic.Int64
}

func (d *dials) Connect(ctx context.Context) (driver.Conn, error) {
	d.n.Add(1)
	return d.Connector.Connect(ctx)
}

// known is the last answer, when it was asked. Without whole its counters may be older.
func (w *watched) known(whole bool) (store.Facts, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if whole {
		return w.last, w.counted
	}
	return w.last, w.asked
}

// hear takes in that the bucket has an answer.
func (w *watched) hear(e store.FactsEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Revision > w.written {
		w.heard = e // they come in order
	}
}

// wrote takes in which answer of the bucket is ours.
func (w *watched) wrote(revision uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written = revision // also lower than before, in a bucket that was made anew
	if w.heard.Revision <= w.written {
		w.heard = store.FactsEntry{}
	}
}

// news is the last answer of another process, or of an earlier life, that is in the bucket; ok is false when ours is the last, or it was given
// before.
func (w *watched) news() (e store.FactsEntry, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, w.heard = w.heard, store.FactsEntry{}
	return e, e.Revision > 0
}

// remember takes in what the bucket knows before the first question. It counts as no answer.
func (w *watched) remember(f store.Facts) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked.IsZero() {
		w.last = f
	}
}

// recall remembers what was heard before the first question.
func (w *watched) recall() {
	w.mu.Lock()
	e := w.heard
	w.mu.Unlock()
	if e.Revision == 0 {
		return
	}
	if f, err := e.Facts(); err == nil {
		w.remember(f)
	}
}

// keep takes in an answer and gives the one before it. The time of the counters is told by the clock that never steps, as asked is: by the
// other one it could lie ahead, and old counters would pass for new ones.
func (w *watched) keep(f store.Facts, asked time.Time) (before store.Facts, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, first = w.last, w.asked.IsZero()
	switch {
	case f.Counted.IsZero():
		w.counted = asked
	case w.foreign: // it was taken in while we asked
		w.counted = time.Time{}
	}
	w.last, w.asked, w.foreign = f, asked, false
	return before, first
}

// adopt takes in the answer that another process got, unless ours is newer.
func (w *watched) adopt(f store.Facts) {
	asked := time.Now().Add(-time.Since(f.Time).Abs())
	w.mu.Lock()
	defer w.mu.Unlock()
	if !asked.After(w.asked) {
		return
	}
	w.last, w.asked, w.foreign = f, asked, true
	w.counted = asked.Add(min(0, f.CountedAt().Sub(f.Time)))
}

// counters is our last answer if its counters may be told again: the server answered, and there is no new connection since they were asked for.
func (w *watched) counters() *store.Facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last.Up || w.foreign || w.dials.n.Load() != w.countedOn {
		return nil
	}
	last := w.last
	return &last
}

// ask is for whoever has the turn. Without whole the counters are those of the answer before if the server has not been restarted since. Where
// no connection is kept it makes one for all of its statements, or each would make its own. One that is kept may have gone stale: the pool sees
// to that.
func (w *watched) ask(ctx context.Context, frugal, whole bool) store.Facts {
	if last := w.counters(); !whole && last != nil {
		if now := ask(ctx, w.db, &w.variables, last); w.dials.n.Load() == w.countedOn {
			return now
		}
	}
	w.countedOn = w.dials.n.Load()
	if !frugal {
		return ask(ctx, w.db, &w.variables, nil)
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return store.Facts{Time: time.Now().UTC(), Err: sqlReason(err)}
	}
	defer func() { _ = conn.Close() }()
	return ask(ctx, conn, &w.variables, nil)
}

// NewFacts connects to nothing yet. The connections end with [Facts.Run].
func NewFacts(cfg FactsConfig, docs *store.Docs) *Facts {
	f := &Facts{
		docs: docs, log: cfg.Log, every: store.AskedEvery(cfg.Ticker, len(cfg.Servers)), frugal: cfg.Frugal, heard: make(chan struct{}),
		servers: map[serverName]*watched{}, keys: map[string]*watched{}, clusters: map[string]*flock{},
	}
	f.counts = max(1, int(min(time.Duration(len(cfg.Servers))*time.Second/countsASecond, countsAtMost)/f.every))
	for i, l := range cfg.Servers {
		c := sqlConfig(l.Server, l.User, l.Password)
		c.ReadTimeout = factsTimeout
		made := &dials{Connector: connector(c)}
		db := sql.OpenDB(made)
		db.SetMaxOpenConns(2) // one for the facts, one for what else is asked ([Facts.pool])
		db.SetMaxIdleConns(1)
		db.SetConnMaxIdleTime(time.Minute)
		if cfg.Frugal {
			db.SetMaxIdleConns(0)
		}
		w := &watched{Login: l, db: db, dials: made, place: i, turn: make(chan struct{}, 1), side: make(chan struct{}, 1)}
		f.servers[serverName{l.Cluster, l.Server}] = w
		f.keys[bus.StateKey(l.Cluster, l.Server.Host, l.Server.Port, store.DocFacts)] = w
		if f.clusters[l.Cluster] == nil {
			f.clusters[l.Cluster] = &flock{turn: make(chan struct{}, 1)}
		}
		f.clusters[l.Cluster].members = append(f.clusters[l.Cluster].members, l.Server)
	}
	return f
}

// Run asks every server as often as [store.AskedEvery] says, until ctx ends.
func (f *Facts) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if ctx.Err() == nil {
		wg.Go(func() { f.listen(ctx) })
		select {
		case <-f.heard:
		case <-ctx.Done():
		case <-time.After(factsTimeout): // without a bus they are asked all the same
		}
	}
	for _, w := range f.servers {
		w.recall() // who was down is none of those that answer
	}
	wg.Go(func() { f.rounds(ctx, false) })
	f.rounds(ctx, true)
	wg.Wait()
	var errs []error
	for _, w := range f.servers {
		errs = append(errs, w.db.Close())
	}
	return errors.Join(errs...)
}

// listen takes in what the bucket says, which may be the answers of another process.
func (f *Facts) listen(ctx context.Context) {
	err := f.docs.HearFacts(ctx, func(e store.FactsEntry) {
		if w := f.keys[e.Key]; w != nil {
			w.hear(e)
		}
	}, func() { close(f.heard) })
	if err != nil && ctx.Err() == nil {
		f.log.Warn("follow what other schedulers learn of the servers", "err", err)
	}
}

// rounds asks the servers that answered when they were asked last, or those that did not: a hundred whose hosts are gone would keep the others
// waiting for their time to answer.
func (f *Facts) rounds(ctx context.Context, up bool) {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		f.round(ctx, up, n)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (f *Facts) round(ctx context.Context, up bool, n int) {
	var wg sync.WaitGroup
	due := make(chan *watched) // closed when there are no more
	for range min(factsWidth, len(f.servers)) {
		wg.Go(func() {
			for w := range due {
				f.renew(ctx, w, f.countsNow(w, n))
			}
		})
	}
	begun, asked := time.Now(), 0
	for _, w := range f.servers {
		if last, _ := w.known(false); (last.Time.IsZero() || last.Up) != up {
			continue
		}
		if asked++; n > 0 && asked%factsWidth == 0 && len(f.servers) > pacedFrom {
			pause(ctx, time.Until(begun.Add(f.every*9/10*time.Duration(asked)/time.Duration(len(f.servers)))))
		}
		due <- w
	}
	close(due)
	wg.Wait()
}

// countsNow reports whether a server is asked for its counters in round n. The rounds have about as many of those each.
func (f *Facts) countsNow(w *watched, n int) bool { return (n+w.place)%f.counts == 0 }

// renew asks w unless another process did so just now. Without whole not for its counters, unless they are too old.
func (f *Facts) renew(ctx context.Context, w *watched, whole bool) {
	if e, ok := w.news(); ok {
		known, err := e.Facts()
		if err == nil && time.Since(known.Time).Abs() < f.every/2 {
			w.adopt(known)
			return
		}
		if err == nil {
			w.remember(known)
		}
	}
	_, counted := w.known(true)
	whole = whole || time.Since(counted) > time.Duration(f.counts+1)*f.every
	_, _ = f.of(ctx, w.Cluster, w.Server, whole, func(_ store.Facts, asked time.Time) bool { // only fails when ctx ends
		return !asked.IsZero() && time.Since(asked) < f.every/2
	})
}

// ErrUnknownServer is returned by [Facts.Of] for a server that is not configured.
var ErrUnknownServer = errors.New("unknown server")

// Of are the facts of a server, no older than age: it is asked again if need be. A server that does not answer has
// Up false; it is asked again in the regular rounds only, so that it costs its neighbours no time.
// Errors: [ErrUnknownServer], or the context's.
func (f *Facts) Of(ctx context.Context, cluster string, s job.Server, age time.Duration) (store.Facts, error) {
	return f.of(ctx, cluster, s, true, f.recent(age))
}

// Answers reports whether a server is up, as known no longer than age ago.
func (f *Facts) Answers(ctx context.Context, cluster string, s job.Server, age time.Duration) bool {
	facts, err := f.of(ctx, cluster, s, false, f.recent(age))
	return err == nil && facts.Up
}

func (f *Facts) recent(age time.Duration) func(store.Facts, time.Time) bool {
	return func(last store.Facts, asked time.Time) bool {
		return !asked.IsZero() && (time.Since(asked) < age || !last.Up && age < min(f.every/2, downAge))
	}
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

// All are the facts of the servers of a cluster, no older than age or than twice the time that it takes to ask them all, without those that
// could not be asked before ctx ended. Their counters may be older. The map is shared: it is only read. A thousand jobs of one cluster ask for all of its
// servers at once; one of them does so, and the others get what it learned.
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
	if begun.Sub(c.at) < max(age/2, 2*c.took) { // or thousands of servers would be asked without a pause
		return c.all
	}
	all := f.askAll(ctx, cluster, c.members, age/2)
	if ctx.Err() == nil {
		c.all, c.at, c.took = all, begun, time.Since(begun)
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
			facts, err := f.of(ctx, cluster, s, false, f.recent(age))
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
	return f.of(ctx, cluster, s, true, func(_ store.Facts, asked time.Time) bool {
		return !asked.IsZero() && time.Since(asked) < age
	})
}

// of asks unless the last answer is good. Without whole its counters may be older.
func (f *Facts) of(ctx context.Context, cluster string, s job.Server, whole bool, good func(store.Facts, time.Time) bool) (store.Facts, error) {
	w := f.servers[serverName{cluster, s}]
	if w == nil {
		return store.Facts{}, fmt.Errorf("%w %s in cluster %s", ErrUnknownServer, s, cluster)
	}
	if last, asked := w.known(whole); good(last, asked) {
		return last, nil
	}
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return store.Facts{}, ctx.Err()
	}
	if last, asked := w.known(whole); good(last, asked) { // by whoever had the turn before
		return last, nil
	}
	asking, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	f.recall(asking, w)
	now := w.ask(asking, f.frugal, whole)
	if ctx.Err() != nil {
		return store.Facts{}, ctx.Err()
	}
	last, _ := w.known(false)
	now.Follow(last)
	if before, first := w.keep(now, time.Now()); first || now.Up != before.Up || now.Role != before.Role {
		f.log.Info("server facts", "cluster", cluster, "server", s.String(), "up", now.Up, "role", now.Role, "version", now.Version, "reason", now.Err)
	}
	revision, err := f.docs.PutFacts(asking, cluster, s, now)
	if err != nil {
		f.log.Warn("keep facts", "cluster", cluster, "server", s.String(), "err", err)
		return now, nil
	}
	w.wrote(revision)
	return now, nil
}

// recall learns since when a server that was never asked is as it is: an earlier life knew.
func (f *Facts) recall(ctx context.Context, w *watched) {
	if last, _ := w.known(false); !last.Time.IsZero() {
		return
	}
	w.recall()
	select {
	case <-f.heard:
		return
	default:
	}
	var known store.Facts
	if ok, err := f.docs.Get(ctx, w.Cluster, w.Server, store.DocFacts, &known); ok && err == nil {
		w.remember(known)
	}
}
