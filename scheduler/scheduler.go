package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
	"drydock/window"
)

// Config is what a scheduler works from.
type Config struct {
	Actor    string       // as whom it writes, "scheduler@NAME"
	Log      *slog.Logger // nil: nothing is logged
	Clusters []Cluster
	// Clear reports whether nothing of an attempt of a job that drydock does itself goes on on its server any more; such a
	// job is not halted before. It must not block: it is asked again. Optional; what it was at [New] stays.
	Clear func(job.Job) bool
	// List asks a server for the tables that backups are to be compared with, look also whether large ones have a row; nil:
	// nothing is compared.
	List func(ctx context.Context, cluster string, server job.Server, look bool) ([]job.Listed, error)
}

// Cluster is one cluster of servers with its schedules and time limits.
type Cluster struct {
	Name          string
	Servers       []job.Server      // all servers, at least one
	BackupServers []job.Server      // those that physical backups are taken of; empty for all
	Preferred     []job.Server      // those that a logical backup is taken from; empty for any (db-servers-backup-hosts)
	MaxLag        time.Duration     // of a replica that a logical backup is taken from, 0 = any (maintenance-max-lag)
	Mode          job.Mode          // how new jobs reach the script (scheduler-jobs-mode)
	ExecRemote    []string          // scheduler-jobs-exec-remote, nil when it is unset; see [job.Task.Local]
	Refuse        map[string]string // by task, why the configuration makes it impossible
	Zone          *time.Location    // of the cron specs (scheduler-timezone)
	CatchUp       string            // [CatchUpNone], [CatchUpLast] or [CatchUpAll] (scheduler-catch-up)
	MaxLateness   time.Duration     // a tick later than this is missed (scheduler-max-lateness)
	// Schedules has one entry per task that can be scheduled, also for those that are off: switching off is recorded.
	Schedules []Schedule

	Lease         time.Duration // without a sign of life for so long, a running job is halted (scheduler-jobs-lease)
	PickupTimeout time.Duration // not taken for so long, a job expires (scheduler-jobs-pickup-timeout)
	ClaimTimeout  time.Duration // a claim without a sign of life is released (scheduler-jobs-claim-timeout)
	CheckTimeout  time.Duration // how long what is missing after done may still come (scheduler-jobs-check-timeout)
	Retry         int           // further attempts after the first (scheduler-jobs-retry)

	Windows        window.Weekly // when scheduled jobs may begin, in Zone (maintenance-windows)
	WindowPolicy   string        // what becomes of the others: [WindowSkip], also when empty, or [WindowWait]
	MaxBackups     int           // backups that may run at a time, 0 = any (scheduler-max-concurrent-backups)
	BackupMinSize  int64         // bytes that a backup has at least (backup-min-size)
	BackupMinRatio float64       // of the median of the last good ones, 0 = any (backup-min-size-ratio)

	// WholeBackups are the tasks whose backups hold every table: a drill compares them with what the server held.
	WholeBackups []string

	Splay time.Duration // scheduled jobs begin spread over so long (scheduler-splay)

	members map[job.Server]bool // Servers, to look one up among thousands; nil before [New] and [Scheduler.Reload] have made it
}

// Schedule is the schedule of one task.
type Schedule struct {
	Task    string
	Spec    string // cron, five or six fields; see package calendar
	Enabled bool
	Why     string // when it is off: which key switches it on
}

// The values of [Cluster.CatchUp]: which of the ticks that fell due while no scheduler ran are run afterwards.
const (
	CatchUpNone = "none"
	CatchUpLast = "last"
	CatchUpAll  = "all"
)

// The values of [Cluster.WindowPolicy]: what becomes of a tick for which its cluster is closed.
const (
	WindowSkip = "skip" // it is recorded as skipped
	WindowWait = "wait" // its jobs wait in the queue until the cluster opens
)

// Scheduler runs the schedules of some clusters. Make one with [New]; safe for concurrent use.
type Scheduler struct {
	actor   string
	log     *slog.Logger
	conn    *bus.Conn
	jobs    *store.Jobs
	ledger  *store.Ledger
	view    *store.View
	control *store.Control
	docs    *store.Docs
	catalog *store.Catalog
	clear   func(job.Job) bool
	lister  func(ctx context.Context, cluster string, server job.Server, look bool) ([]job.Listed, error) // nil: there is none
	listing chan struct{}                                                                                 // a token per server that is asked for its tables before a backup
	now     func() time.Time

	setup    atomic.Pointer[setup]
	reloaded chan struct{} // Reload sends, the clock receives; one waiting signal is enough
	due      *inbox[slot]  // schedules with a tick to decide: the cron waker puts, the clock takes
	signs    *signs        // of life, per attempt of a job
	finished *inbox[job.Key]
	queued   chan struct{} // observe sends, the gate receives: somebody waits or has made room; one in store is enough
	closing  *closing
	up       time.Time // when Run took up work; set before its goroutines start
}

// setup is one configuration, ready for use. It is never changed.
type setup struct {
	clusters map[string]Cluster
	plans    map[slot]*plan
}

// slot names one schedule.
type slot struct{ cluster, task string }

// New checks cfg and prepares a scheduler; view must not run yet. jobs and ledger write as cfg.Actor.
func New(cfg Config, conn *bus.Conn, jobs *store.Jobs, ledger *store.Ledger, view *store.View) (*Scheduler, error) {
	if cfg.Actor == "" {
		return nil, errors.New("configure the scheduler: no actor")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	set, err := newSetup(cfg, nil)
	if err != nil {
		return nil, err
	}
	s := &Scheduler{
		actor: cfg.Actor, log: cfg.Log, conn: conn, jobs: jobs, ledger: ledger, view: view, now: time.Now,
		control: store.NewControl(conn), docs: store.NewDocs(conn), catalog: store.NewCatalog(conn), clear: cfg.Clear, lister: cfg.List, listing: make(chan struct{}, listWidth), queued: make(chan struct{}, 1),
		reloaded: make(chan struct{}, 1), due: newInbox[slot](), finished: newInbox[job.Key](),
		signs: newSigns(), closing: newClosing(),
	}
	s.setup.Store(set)
	view.OnChange(s.observe)
	return s, nil
}

// Reload puts another configuration in force (SIGHUP). Schedules whose spec, zone and switch stayed go on as if nothing
// had happened; those that are gone are recorded as disarmed. An error leaves the old configuration in force. Actor and
// Log stay as they were.
func (s *Scheduler) Reload(cfg Config) error {
	set, err := newSetup(cfg, s.setup.Load())
	if err != nil {
		return err
	}
	s.setup.Store(set)
	select {
	case s.reloaded <- struct{}{}:
	default: // the clock has not looked since the last one; it will find this
	}
	return nil
}

// Run works until ctx ends, and returns when all it started has ended: nil then. It waits for the view first.
func (s *Scheduler) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.view.Ready():
	}
	s.up = s.now()
	s.signs.renew(s.up)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loops := map[string]func(context.Context) error{
		"clock": s.runClock, "fan-out": s.runFanout, "sweeper": s.runSweeper, "closer": s.runCloser, "service": s.runService,
		"gate": s.runGate,
	}
	failed := make(chan error, len(loops)) // one slot per loop: none waits to report
	var wg sync.WaitGroup
	for name, loop := range loops {
		wg.Go(func() {
			if err := loop(ctx); err != nil {
				failed <- fmt.Errorf("run the %s: %w", name, err)
				cancel() // the others cannot do without it
			}
		})
	}
	wg.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// observe is told of every change of a job. It returns at once.
func (s *Scheduler) observe(ev bus.JobEvent) {
	s.signs.change(ev, s.now())
	if ev.Job.State == job.Finished {
		s.finished.put(ev.Job.Key())
	}
	if ev.Job.Gated() || !ev.State.Live() || isRolling(ev.Job) {
		select {
		case s.queued <- struct{}{}:
		default:
		}
	}
}

// cluster is the configuration of a cluster as it is now.
func (s *Scheduler) cluster(name string) (Cluster, bool) {
	c, ok := s.setup.Load().clusters[name]
	return c, ok
}

// change gives an event to this very attempt of j and logs what came of it. That the job has moved on meanwhile is no
// error: another scheduler or a late report was faster.
func (s *Scheduler) change(ctx context.Context, j job.Job, ch store.Change) error {
	next, err := s.jobs.Apply(ctx, store.RefOf(j), ch)
	switch {
	case errors.Is(err, store.ErrStale), errors.Is(err, job.ErrTransition):
		s.log.Info("job has moved on", "job", next, "event", ch.Event, "err", err)
		return nil
	case err != nil:
		return fmt.Errorf("apply %s to %s: %w", ch.Event, j.Key(), err)
	}
	s.log.Info("job changed", "job", next, "event", ch.Event, "reason", ch.Reason)
	return nil
}

// newSetup checks cfg. Schedules of old that are not in cfg stay on as switched off, so that the ledger learns of it.
func newSetup(cfg Config, old *setup) (*setup, error) {
	set := &setup{clusters: map[string]Cluster{}, plans: map[slot]*plan{}}
	for _, c := range cfg.Clusters {
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("configure cluster %q: %w", c.Name, err)
		}
		if _, twice := set.clusters[c.Name]; twice {
			return nil, fmt.Errorf("configure cluster %q: named twice", c.Name)
		}
		c.members = map[job.Server]bool{}
		for _, srv := range c.Servers {
			c.members[srv] = true
		}
		set.clusters[c.Name] = c
		for _, sc := range c.Schedules {
			p, err := newPlan(c, sc)
			if err != nil {
				return nil, fmt.Errorf("configure cluster %q: schedule %q: %w", c.Name, sc.Task, err)
			}
			if _, twice := set.plans[p.slot]; twice {
				return nil, fmt.Errorf("configure cluster %q: schedule %q: named twice", c.Name, sc.Task)
			}
			set.plans[p.slot] = p
		}
	}
	if old != nil {
		for k, p := range old.plans {
			if _, stays := set.plans[k]; !stays {
				set.plans[k] = p.gone()
			}
		}
	}
	return set, nil
}

func (c Cluster) check() error {
	switch {
	case c.Name == "":
		return errors.New("no name")
	case len(c.Servers) == 0:
		return errors.New("no servers")
	case c.Zone == nil:
		return errors.New("no time zone")
	case c.Mode != job.SQL && c.Mode != job.API:
		return fmt.Errorf("mode %q: want %q or %q", c.Mode, job.SQL, job.API)
	case c.CatchUp != CatchUpNone && c.CatchUp != CatchUpLast && c.CatchUp != CatchUpAll:
		return fmt.Errorf("catch-up %q: want %q, %q or %q", c.CatchUp, CatchUpNone, CatchUpLast, CatchUpAll)
	case min(c.MaxLateness, c.Lease, c.PickupTimeout, c.ClaimTimeout, c.CheckTimeout) <= 0:
		return errors.New("max-lateness, lease and the timeouts must be positive")
	case c.Retry < 0:
		return fmt.Errorf("retry %d: must not be negative", c.Retry)
	case c.WindowPolicy != "" && c.WindowPolicy != WindowSkip && c.WindowPolicy != WindowWait:
		return fmt.Errorf("window policy %q: want %q or %q", c.WindowPolicy, WindowSkip, WindowWait)
	case c.MaxBackups < 0 || c.Splay < 0:
		return errors.New("the number of backups at a time and the splay must not be negative")
	}
	for _, srv := range slices.Concat(c.BackupServers, c.Preferred) {
		if !slices.Contains(c.Servers, srv) {
			return fmt.Errorf("backup server %s is not one of its servers", srv)
		}
	}
	return nil
}

// mode is how a new job of the task gets done.
func (c Cluster) mode(task string) job.Mode {
	t, err := job.TaskByName(task)
	switch {
	case err == nil && t.Place == job.AtReceiver:
		return job.ByReceiver
	case err == nil && t.Local(c.ExecRemote):
		return job.Local
	}
	return c.Mode
}

// sources is where a logical backup may be taken from.
func (c Cluster) sources() store.Sources {
	return store.Sources{Servers: c.Servers, Preferred: c.Preferred, MaxLag: c.MaxLag}
}

// targets lists the servers that a task's schedule means. A logical backup is taken of one of them.
func (c Cluster) targets(t job.Task) []job.Server {
	if t.Whole {
		return []job.Server{{}}
	}
	if t.Kind == job.KindBackup && t.Flow == job.FlowIn && len(c.BackupServers) > 0 {
		return c.BackupServers
	}
	return c.Servers
}

// has reports whether the slot's server is one of the cluster's, or stands for the whole of it.
func (c Cluster) has(task string, s job.Server) bool {
	if t, err := job.TaskByName(task); err == nil && t.Whole {
		return s == job.Server{}
	}
	return c.member(s)
}

// member reports whether a server is one of the cluster's.
func (c Cluster) member(s job.Server) bool {
	if c.members == nil {
		return slices.Contains(c.Servers, s)
	}
	return c.members[s]
}

// stamp writes a time for people of the cluster.
func stamp(t time.Time, zone *time.Location) string {
	return t.In(zone).Format("2006-01-02 15:04:05 MST")
}

// span writes a duration for people: no more digits than matter.
func span(d time.Duration) string {
	text := d.Round(time.Second).String()
	if d < time.Second {
		text = d.Round(time.Millisecond).String()
	}
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
