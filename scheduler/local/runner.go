package local

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
	"drydock/scheduler/orchestrator"
	"drydock/store"
	"drydock/store/attempt"
	"drydock/window"
)

// Config is what a [Runner] works from.
type Config struct {
	Actor    string        // as whom it writes, "scheduler@NAME"
	Ticker   time.Duration // monitoring-ticker: how often a paused job looks whether it may go on
	WorkDir  string        // where dumps are made and option files stand; made when [Runner.Run] begins
	Log      *slog.Logger
	Clusters []Cluster
	Bind     string // bind-address: where backups are listened for
	Address  string // what receivers connect to (monitoring-address)
}

// Cluster is one cluster of a [Config].
type Cluster struct {
	Name           string
	Servers        []job.Server
	User, Password string         // db-servers-credential
	Lease          time.Duration  // scheduler-jobs-lease: signs of life come several times as often
	MaxLag         time.Duration  // maintenance-max-lag, 0 = no limit
	MaxLoad        int            // maintenance-max-load, 0 = no limit
	LockTimeout    time.Duration  // maintenance-lock-timeout
	MaxPause       time.Duration  // maintenance-max-pause, 0 = no limit
	Windows        window.Weekly  // maintenance-windows, in Zone: no scheduled job pauses outside
	Zone           *time.Location // scheduler-timezone
	LogsTableKeep  int            // scheduler-db-servers-logs-table-keep

	// Orchestrator stops and starts servers; nil: a stop is done over SQL, and NoOrchestrator says why there is no more.
	Orchestrator   orchestrator.Orchestrator
	NoOrchestrator error
	ServiceWait    time.Duration // prov-orchestrator-wait

	Mysqldump     Tool          // backup-mysqldump-*
	Mydumper      Tool          // backup-mydumper-path and -options
	MydumperStall time.Duration // backup-mydumper-stall-timeout, 0 = never
	Myloader      Tool          // backup-myloader-*
	ClientTool    string        // backup-mysqlclient-path, empty: found by its name

	ReplicationUser, ReplicationPassword string // replication-credential, empty: none

	members map[job.Server]bool // Servers, to look one up among thousands; made by [New]
}

// Runner does the jobs of mode [job.Local]. Make one with [New].
type Runner struct {
	actor    string
	ticker   time.Duration
	workDir  string
	log      *slog.Logger
	clusters map[string]Cluster
	bind     string
	address  string
	conn     *bus.Conn
	jobs     *store.Jobs
	view     *store.View
	docs     *store.Docs
	facts    *Facts
	logs     *bus.Batcher
	kick     chan struct{} // from the view to Run; one is as good as many, never closed
	places   chan struct{} // a token per job that [Runner.enter] let in
	crowded  atomic.Bool   // there was one without

	mu    sync.Mutex
	busy  map[job.Key]bool                   // attended to now
	runs  map[string]context.CancelCauseFunc // by run: ends the work on a job that is ours
	down  map[serverName]outage
	space *workspace                          // nil while it could not be made
	left  map[string]*leftover                // by run
	held  map[serverName]map[string]time.Time // by task: not looked at before, unless something changes on the server
}

// outage is a server that could not be worked on.
type outage struct {
	failures int
	until    time.Time // not tried before
}

// The bounds of how long a look at waiting jobs may be late, and of how long a server in trouble is left alone.
const (
	lookAgain = 2 * time.Second
	heldFor   = 5 * time.Second
	lookIdle  = time.Minute
	lookGap   = 20 * time.Millisecond // so that a burst of changes costs one look
	lookShare = 4                     // of the time that a look takes: with thousands of jobs waiting they must not take all of it
	downAgain = time.Second           // doubled with each failure
	downMost  = 30 * time.Second
)

// New registers with the view, so it must be called before the view runs. jobs writes as cfg.Actor.
func New(cfg Config, conn *bus.Conn, jobs *store.Jobs, view *store.View, docs *store.Docs, facts *Facts) *Runner {
	r := &Runner{
		actor: cfg.Actor, ticker: cfg.Ticker, workDir: cfg.WorkDir, log: cfg.Log, bind: cfg.Bind, address: cfg.Address, clusters: map[string]Cluster{},
		conn: conn, jobs: jobs, view: view, docs: docs, facts: facts, logs: bus.NewBatcher(conn, bus.StreamLogs),
		kick: make(chan struct{}, 1), places: make(chan struct{}, manyAtOnce),
		busy: map[job.Key]bool{}, runs: map[string]context.CancelCauseFunc{}, down: map[serverName]outage{},
		held: map[serverName]map[string]time.Time{}, left: map[string]*leftover{},
	}
	for _, c := range cfg.Clusters {
		c.members = map[job.Server]bool{}
		for _, srv := range c.Servers {
			c.members[srv] = true
		}
		r.clusters[c.Name] = c
	}
	view.OnChange(r.observe)
	return r
}

// observe is told of every change of a job: one of ours may have been ended by somebody else, and the end of another may
// be what one of ours waits for.
func (r *Runner) observe(ev bus.JobEvent) {
	r.mu.Lock()
	delete(r.held, serverName{ev.Job.Cluster, ev.Job.Server})
	delete(r.held, serverName{cluster: ev.Job.Cluster}) // what concerns all of its servers
	if end := r.runs[ev.Job.Run()]; end != nil && (ev.Job.State == job.Finished || !ev.Job.State.Live()) {
		end(errEnded)
	}
	r.abandoned(ev)
	r.mu.Unlock()
	if ev.Job.Mode == job.Local || !ev.Job.State.Live() {
		r.wakeUp()
	}
}

func (r *Runner) wakeUp() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// errEnded is why work stops whose job is no longer live: it was canceled, or its lease ran out.
var errEnded = errors.New("the job has ended")

// Run does jobs until ctx ends, and returns when those in hand are ended too: halted, their statements killed.
func (r *Runner) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.view.Ready():
	}
	if _, err := r.workspace(); err != nil { // a full disk, perhaps; only dumps need it
		r.log.Warn("open the work folder", "err", err)
	}
	defer r.closeWorkspace()
	logging, stopLogging := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLogging()
	var writer, hands sync.WaitGroup
	writer.Go(func() { _ = r.logs.Run(logging) }) // never fails
	for ctx.Err() == nil {
		begun := time.Now()
		next := r.look(ctx, &hands)
		gap := gapAfter(time.Since(begun))
		select {
		case <-ctx.Done():
		case <-r.kick:
			pause(ctx, gap)
		case <-time.After(next):
		}
	}
	hands.Wait()
	stopLogging()
	writer.Wait()
	return nil
}

// workspace is where tools work; it is made when it could not be before.
func (r *Runner) workspace() (*workspace, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.space != nil {
		return r.space, nil
	}
	space, err := openWorkspace(r.workDir)
	r.space = space
	return space, err
}

func (r *Runner) closeWorkspace() {
	if r.space == nil {
		return
	}
	if err := r.space.close(); err != nil {
		r.log.Warn("remove the work folder", "err", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// gapAfter is the pause after a look that took so long. A process that was stopped in the middle of one must not stand still for minutes more.
func gapAfter(look time.Duration) time.Duration { return min(max(lookGap, lookShare*look), lookAgain) }

// takable are the states of jobs that wait for somebody.
var takable = []job.State{job.Queued, job.Available}

// look gives every job that waits for us into a hand of its own, and says when to look again at the latest.
func (r *Runner) look(ctx context.Context, hands *sync.WaitGroup) time.Duration {
	waiting := r.view.Among(takable, func(j *job.Job) bool {
		return j.Mode == job.Local && (j.State == job.Available || !j.Gated())
	})
	next := lookIdle
	left, more := r.leftovers()
	if more {
		next = lookAgain
	}
	for _, l := range left {
		hands.Go(func() {
			r.clear(ctx, l)
			r.wakeUp()
		})
	}
	for _, last := range waiting {
		j := *last
		c, ok := r.clusters[j.Cluster]
		if !ok || !c.has(j) {
			continue // another scheduler's, or nobody's until it is configured again
		}
		next = lookAgain
		if !r.begin(j) {
			continue
		}
		leave, ok := r.enter(j)
		if !ok {
			r.end(j.Key())
			continue
		}
		hands.Go(func() {
			defer leave()
			defer r.end(j.Key())
			r.attend(ctx, c, j, leave)
		})
	}
	return next
}

// has reports whether the job's server is looked after here. What is done to a whole cluster may be done elsewhere.
func (c Cluster) has(j job.Job) bool {
	if j.Server == (job.Server{}) {
		return deeds[j.Task] != nil
	}
	return c.members[j.Server]
}

// begin is false while the job is in another hand, or its server in trouble.
func (r *Runner) begin(j job.Job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, now := serverName{j.Cluster, j.Server}, time.Now()
	down := overSQL(j) && now.Before(r.down[name].until)
	if r.busy[j.Key()] || down || now.Before(r.held[name][j.Task]) {
		return false
	}
	r.busy[j.Key()] = true
	return true
}

func (r *Runner) end(k job.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, k)
}

// attend does a job, if it is its turn. leave gives its place to another.
func (r *Runner) attend(ctx context.Context, c Cluster, j job.Job, leave func()) {
	if j.Held() && !r.free(ctx, j) { // needs no connection to find out
		return
	}
	// The connection comes before its turn: a job whose server cannot be reached waits without keeping others from theirs.
	var s *session
	server := j.Server
	if overSQL(j) {
		var err error
		if server, err = r.place(ctx, c, j); err == nil {
			s, err = openSession(ctx, c, server)
		}
		r.reached(ctx, j, err)
		if err != nil {
			return
		}
		defer s.close()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mine(j.Run(), cancel) // before it is taken: from then on anybody may end it
	defer r.mine(j.Run(), nil)
	if j, ok := r.take(ctx, j, s); ok {
		r.log.Info("job started", "job", j)
		if many[j.Task].long {
			leave()
		}
		r.work(ctx, c, j, server, s, leave)
	}
}

func (r *Runner) mine(run string, cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel == nil {
		delete(r.runs, run)
		return
	}
	r.runs[run] = cancel
}

// reached keeps how it went to connect to the server of j, and says so in the job.
func (r *Runner) reached(ctx context.Context, j job.Job, err error) {
	if ctx.Err() != nil {
		return
	}
	name := serverName{j.Cluster, j.Server}
	r.mu.Lock()
	was := r.down[name]
	if err == nil {
		delete(r.down, name)
	} else {
		wait := min(downAgain<<min(was.failures, 10), downMost)
		r.down[name] = outage{was.failures + 1, time.Now().Add(wait)}
	}
	r.mu.Unlock()
	if err != nil {
		r.explain(ctx, j, job.ReasonNoSQL+sqlReason(err))
	}
}

// take makes the job ours: offered, claimed and started. ok is false when it is not its turn, or somebody else was first.
func (r *Runner) take(ctx context.Context, j job.Job, s *session) (job.Job, bool) {
	// A stop must not leave it halfway.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), busTimeout)
	defer cancel()
	last, _, err := r.jobs.Last(ctx, j.Key())
	if err != nil || last.Run() != j.Run() || last.Gated() || last.State != job.Queued && last.State != job.Available {
		return j, false
	}
	j = last
	if !r.free(ctx, j) {
		return j, false
	}
	var ok bool
	if j.State == job.Queued {
		if j, ok = r.offer(ctx, j); !ok {
			return j, false
		}
	}
	if j, ok = r.apply(ctx, j, store.Change{Event: job.Claim, Reason: "done by drydock itself"}); !ok {
		return j, false
	}
	// Once more, now that the claim stands in the log: of two jobs that are claimed at once, the one that looks last sees
	// the other. The script's are looked at in the same way (gateway/needs.go).
	if !r.free(ctx, j) || !r.tidy(ctx, j, s) {
		return j, false
	}
	return r.apply(ctx, j, store.Change{Event: job.Start, Reason: "done by drydock itself", Edit: func(j *job.Job) { j.Reason = "" }})
}

const busTimeout = 5 * time.Second

// holdOff leaves a job alone for a while, unless something changes on its server.
func (r *Runner) holdOff(j job.Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := serverName{j.Cluster, j.Server}
	if r.held[name] == nil {
		r.held[name] = map[string]time.Time{}
	}
	r.held[name][j.Task] = time.Now().Add(heldFor)
}

// offer takes a queued job out of the queue. Another dispatcher may have let another heavy job go in the same moment, so
// the server's slots are read again: one of the two, or both, step back.
func (r *Runner) offer(ctx context.Context, j job.Job) (job.Job, bool) {
	j, ok := r.apply(ctx, j, store.Change{Event: job.Offer, Edit: func(j *job.Job) {
		j.Dispatch, j.Ready = job.Dispatch{}, time.Now().UTC()
	}})
	if !ok {
		return j, false
	}
	return j, r.free(ctx, j)
}

// free reports whether no other heavy job keeps j from its turn. Otherwise j waits, with that reason.
func (r *Runner) free(ctx context.Context, j job.Job) bool {
	other, err := r.rival(ctx, j)
	if err == nil && other.ID == "" {
		return true
	}
	r.stepBack(ctx, j, other)
	r.holdOff(j)
	return false
}

// rival is the heavy job that has the server before j may; the zero Job when there is none.
func (r *Runner) rival(ctx context.Context, j job.Job) (job.Job, error) {
	task, err := job.TaskByName(j.Task)
	if err != nil || !task.Heavy() {
		return job.Job{}, err
	}
	servers := []job.Server{j.Server}
	if task.Whole {
		servers = r.clusters[j.Cluster].Servers
	}
	var live []job.Job
	for _, s := range servers {
		there, err := r.jobs.LiveHeavy(ctx, j.Cluster, s)
		if err != nil {
			r.log.Warn("look for other jobs of the server", "job", j, "err", err)
			return job.Job{}, err
		}
		live = append(live, there...)
	}
	for i := range live {
		if live[i].ID == j.ID {
			live[i].Reason = "" // whatever it waited for before, it is ready now
		}
	}
	if j.State != job.Queued {
		// Offered already, by us or by one that crashed, or claimed: only what was offered, too, is in its way.
		live = slices.DeleteFunc(live, func(x job.Job) bool { return x.State == job.Queued || x.ID == j.ID })
	}
	first, _ := job.NextHeavy(job.InTheWay(j, live))
	if first.ID == j.ID {
		return job.Job{}, nil
	}
	return first, nil
}

// stepBack makes j wait for other. Without one, which is when the bus did not answer, it only waits.
func (r *Runner) stepBack(ctx context.Context, j, other job.Job) {
	reason := fmt.Sprintf("%s%s %s has the server for itself", job.HeldReason, other.Task, other.ID)
	if j.State == job.Claimed { // not started: nobody else may do it, and the sweeper would take its time
		why := reason
		if other.ID == "" {
			why = "it cannot be told whether another heavy job runs"
		}
		var ok bool
		if j, ok = r.apply(ctx, j, store.Change{Event: job.Release, From: job.Claimed, Reason: why}); !ok {
			return
		}
	}
	switch {
	case other.ID == "":
	case j.State == job.Available:
		r.apply(ctx, j, store.Change{Event: job.Withdraw, From: job.Available, Reason: reason})
	default:
		r.explain(ctx, j, reason)
	}
}

// explain records why a queued job is not begun yet, when that is news.
func (r *Runner) explain(ctx context.Context, j job.Job, reason string) {
	if j.Reason == reason {
		return
	}
	r.log.Info("job waits", "job", j, "reason", reason)
	r.apply(ctx, j, store.Change{Event: job.Note, Reason: reason, Edit: func(j *job.Job) {
		if j.State != job.Queued {
			return
		}
		if j.Held() && !strings.HasPrefix(reason, job.HeldReason) {
			j.Ready = time.Now().UTC() // its turn came: the time to be picked up counts from here
		}
		j.Reason = reason
	}})
}

// apply gives an event to exactly this attempt of a job; ok says that it was taken in.
func (r *Runner) apply(ctx context.Context, j job.Job, ch store.Change) (now job.Job, ok bool) {
	return attempt.Apply(ctx, r.jobs, r.log, j, ch)
}
