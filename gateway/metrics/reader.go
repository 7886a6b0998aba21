package metrics

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Config is what a [Reader] is about.
type Config struct {
	Version  string
	Clusters map[string][]job.Server
	MaxAge   func(cluster string) time.Duration // backup-max-age as it is now; nil or 0: none

	members map[job.Key]bool // Clusters, to look one up among thousands; made by [NewReader]
}

// Snapshot is what all values of one answer are taken from. What could not be read is zero, and Failed names its part.
type Snapshot struct {
	Config
	GoVersion string
	Counts
	Jobs     map[JobKey]float64    // last jobs of the slots
	Running  map[job.Key]time.Time // since when
	Bus      Bus
	Backups  []store.Manifest
	Disks    []Disk
	Services map[string]int // instances that answer
	Binlogs  map[string]Binlog
	Failed   map[string]bool // by part, every part

	now time.Time
	may func(cluster string) bool // nil: everything
}

// configured reports whether a slot is one of a server that drydock has: the history of those that were removed stays in the log.
func (c Config) configured(k job.Key) bool {
	servers, ok := c.Clusters[k.Cluster]
	switch {
	case !ok, k.Server == job.Server{}:
		return ok
	case c.members == nil:
		return slices.Contains(servers, k.Server)
	}
	return c.members[job.Key{Cluster: k.Cluster, Server: k.Server}]
}

// JobKey is what the jobs of the view are counted by.
type JobKey struct {
	Cluster string
	State   job.State
}

// Disk is what a receiver said of its disk; Up is false when it did not answer. Ports is nil when it did not say.
type Disk struct {
	Up bool
	bus.DiskReply
	Ports *bus.PortsReply
}

// Bus is how the bus is.
type Bus struct {
	Connected  bool
	Reconnects uint64
	RoundTrip  time.Duration
	Streams    []jetstream.StreamInfo
	Consumers  []jetstream.ConsumerInfo
	Lag        float64 // messages that the projection is behind
	LagTime    time.Duration
}

// Binlog is how the archive of a cluster's binary log stands.
type Binlog struct {
	store.BinlogStatus
	Segments, Gaps int
	Stored         int64
}

// Reader keeps the last [Snapshot], and what was counted for it. Safe for concurrent use.
type Reader struct {
	cfg     Config
	conn    *bus.Conn
	view    *store.View
	catalog *store.Catalog
	docs    *store.Docs
	tally   *Tally

	mu       sync.Mutex // held while a new one is read: who comes meanwhile gets it, too
	last     Snapshot
	read     time.Time
	segments map[string]Binlog // read more seldom
	listed   time.Time
}

const (
	// fresh is how long a snapshot serves, listFresh the reading of every segment of the archived binary logs.
	fresh     = 10 * time.Second
	listFresh = 5 * time.Minute
	// readTime bounds the reading of one, askTime the answer of one receiver.
	readTime = 4 * time.Second
	askTime  = 2 * time.Second
)

// NewReader reads from c, the view, which the caller runs, and the catalogue. The caller runs it.
func NewReader(cfg Config, c *bus.Conn, view *store.View, catalog *store.Catalog) *Reader {
	cfg.members = map[job.Key]bool{}
	for name, servers := range cfg.Clusters {
		for _, s := range servers {
			cfg.members[job.Key{Cluster: name, Server: s}] = true
		}
	}
	return &Reader{cfg: cfg, conn: c, view: view, catalog: catalog, docs: store.NewDocs(c), tally: NewTally(c)}
}

// parts are what a snapshot is read from; one that fails takes no other one with it.
var parts = []struct {
	name string
	read func(*Reader, context.Context, *Snapshot) error
}{
	{"backups", (*Reader).readBackups}, // before receivers: it names those that are away
	{"receivers", (*Reader).readReceivers},
	{"services", (*Reader).readServices},
	{"streams", (*Reader).readStreams},
	{"projection", (*Reader).readProjection},
	{"binlogs", (*Reader).readBinlogs},
}

// Snapshot is the last one, or a new one when that is too old.
func (r *Reader) Snapshot(ctx context.Context) Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := time.Since(r.read); !r.read.IsZero() && age >= 0 && age < fresh {
		return r.last
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	s := Snapshot{Config: r.cfg, GoVersion: runtime.Version(), Counts: r.tally.Counted(), Failed: map[string]bool{}, now: time.Now()}
	r.countJobs(&s)
	s.Bus.Connected, s.Bus.Reconnects = r.conn.NC.IsConnected(), r.conn.NC.Stats().Reconnects
	for _, p := range parts {
		s.Failed[p.name] = !s.Bus.Connected || p.read(r, ctx, &s) != nil
	}
	r.last, r.read = s, time.Now()
	return s
}

func (r *Reader) countJobs(s *Snapshot) {
	s.Jobs, s.Running = map[JobKey]float64{}, map[job.Key]time.Time{}
	r.view.Select(func(j job.Job) bool {
		if !r.cfg.configured(j.Key()) {
			return false
		}
		s.Jobs[JobKey{j.Cluster, j.State}]++
		if j.State.Started() {
			s.Running[j.Key()] = j.Started()
		}
		return false
	})
}

func (r *Reader) readBackups(ctx context.Context, s *Snapshot) (err error) {
	s.Backups, err = r.catalog.List(ctx, "", job.Server{})
	return err
}

// readReceivers asks every receiver that answers, and names those that have backups and do not.
func (r *Reader) readReceivers(ctx context.Context, s *Snapshot) error {
	names, err := bus.Receivers(ctx, r.conn)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	for _, m := range s.Backups {
		if !known[m.Receiver] {
			known[m.Receiver] = true
			names = append(names, m.Receiver)
		}
	}
	s.Disks = make([]Disk, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { s.Disks[i] = r.askReceiver(ctx, name) })
	}
	wg.Wait()
	return nil
}

func (r *Reader) askReceiver(ctx context.Context, name string) Disk {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	d, err := bus.Request[bus.DiskReply](ctx, r.conn, bus.ReceiverSubject(name, bus.VerbDisk), struct{}{})
	d.Receiver = name
	out := Disk{Up: err == nil, DiskReply: d}
	if p, err := bus.Request[bus.PortsReply](ctx, r.conn, bus.ReceiverSubject(name, bus.VerbPorts), struct{}{}); err == nil {
		out.Ports = &p
	}
	return out
}

func (r *Reader) readServices(ctx context.Context, s *Snapshot) error {
	names := []string{bus.SchedulerService, bus.ReceiverService, bus.NotifierService}
	counts, errs := make([]int, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			pings, err := bus.Instances(ctx, r.conn, name)
			counts[i], errs[i] = len(pings), err
		})
	}
	wg.Wait()
	s.Services = map[string]int{}
	for i, name := range names {
		s.Services[name] = counts[i]
	}
	return errors.Join(errs...)
}

// consumers are the durable consumers, with the stream they read.
var consumers = []struct{ stream, name string }{
	{bus.StreamTasks, bus.DurableFanout},
	{bus.StreamJobs, bus.DurablePings},
}

func (r *Reader) readStreams(ctx context.Context, s *Snapshot) error {
	asked := time.Now()
	if err := r.conn.NC.FlushWithContext(ctx); err != nil {
		return err
	}
	s.Bus.RoundTrip = time.Since(asked)
	for _, name := range bus.StreamNames() {
		stream, err := r.conn.JS.Stream(ctx, name) // with its state
		if err != nil {
			return err
		}
		s.Bus.Streams = append(s.Bus.Streams, *stream.CachedInfo())
	}
	for _, c := range consumers {
		cons, err := r.conn.JS.Consumer(ctx, c.stream, c.name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue // nobody ever worked on it
		}
		if err != nil {
			return err
		}
		s.Bus.Consumers = append(s.Bus.Consumers, *cons.CachedInfo())
	}
	return nil
}

func (r *Reader) readProjection(ctx context.Context, s *Snapshot) error {
	upTo, err := r.docs.Projected(ctx)
	if err != nil {
		return err
	}
	last, err := r.conn.LastSeq(ctx, bus.StreamJobs)
	if err != nil || last <= upTo {
		return err
	}
	stream, err := r.conn.JS.Stream(ctx, bus.StreamJobs)
	if err != nil {
		return err
	}
	s.Bus.Lag = float64(last - max(upTo, stream.CachedInfo().State.FirstSeq-1))
	next, err := stream.GetMsg(ctx, max(upTo+1, stream.CachedInfo().State.FirstSeq))
	if err != nil {
		return err
	}
	s.Bus.LagTime = max(time.Since(next.Time), 0)
	return nil
}

func (r *Reader) readBinlogs(ctx context.Context, s *Snapshot) error {
	if age := time.Since(r.listed); r.listed.IsZero() || age < 0 || age >= listFresh {
		list, err := store.NewBinlogs(r.conn).List(ctx, "")
		if err != nil {
			return err
		}
		r.segments, r.listed = summed(list), time.Now()
	}
	states, err := r.docs.Binlogs(ctx)
	if err != nil {
		return err
	}
	s.Binlogs = map[string]Binlog{}
	for cluster := range r.cfg.Clusters {
		b, archived := r.segments[cluster]
		status, ok := states[bus.StateKey(cluster, "", 0, store.DocBinlogs)]
		if archived || ok {
			b.BinlogStatus = status
			s.Binlogs[cluster] = b
		}
	}
	return nil
}

// summed is what each cluster has, out of all segments, which stand by cluster.
func summed(list []store.Segment) map[string]Binlog {
	byCluster := map[string][]store.Segment{}
	for _, seg := range list {
		byCluster[seg.Cluster] = append(byCluster[seg.Cluster], seg)
	}
	out := map[string]Binlog{}
	for cluster, list := range byCluster {
		b := Binlog{Segments: len(list), Gaps: len(store.BinlogGaps(list))}
		for _, seg := range list {
			b.Stored += seg.Stored
		}
		out[cluster] = b
	}
	return out
}
