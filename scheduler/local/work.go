package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
	"drydock/store/attempt"
)

// work is one attempt of a job that is ours.
type work struct {
	*Runner
	cluster Cluster
	job     job.Job
	server  job.Server // that it is about; for a job of the whole cluster its primary
	session *session   // with that server; nil for a task that is not done over SQL
	leave   func()     // its place to another ([Runner.enter])
	lines   *attempt.Lines
	paused  string       // the factor that holds the work up, empty while it goes on
	moved   atomic.Int64 // bytes streamed so far
	told    int64        // of them, in the last sign of life
	after   []func()     // what is to be put away when the end of the job has been recorded, the last first
}

// outcome is what came of a job, for people. It stands in the job whether the work succeeded or not.
type outcome struct {
	result string
	errors []string // the first few
	gtid   string   // the position of the data that a server was given
	state  string   // what a failure left behind, empty for nothing
	// Of a program that was run for it:
	tool string
	exit []int
	sent *int64 // bytes to the receiver, all of them
}

func (o outcome) left() string {
	if o.state == "" {
		return ""
	}
	return "; " + o.state
}

// deeds are the tasks that this package does. An error fails the job; the outcome counts all the same.
var deeds = map[string]func(*work, context.Context) (outcome, error){
	"analyze":         func(w *work, ctx context.Context) (outcome, error) { return w.eachTable(ctx, "ANALYZE") },
	"optimize":        func(w *work, ctx context.Context) (outcome, error) { return w.eachTable(ctx, "OPTIMIZE") },
	"logstablerotate": (*work).rotateLogTables,
	"schemamonitor":   (*work).readSchema,
	"stop":            (*work).stopService,
	"start":           (*work).startService,
	"restart":         (*work).restartService,
	"checksum":        (*work).compareServers,
	"mysqldump":       (*work).dumpSQL,
	"mydumper":        (*work).dumpFolder,

	"reseedlogicalmaster": (*work).reseedFromPrimary,
	"reseedlogical":       (*work).reseedFromBackup,
}

// overSQL reports whether the job needs a session. What is done to the service of a server must be possible while the
// database is down.
func overSQL(j job.Job) bool {
	t, err := job.TaskByName(j.Task)
	return err != nil || t.Kind != job.KindService
}

// errUndone is the end of a job whose task this version has no deed for.
var errUndone = errors.New("this version cannot do the task over SQL")

// work does a started job to its end.
func (r *Runner) work(ctx context.Context, c Cluster, j job.Job, server job.Server, s *session, leave func()) {
	w := &work{Runner: r, cluster: c, job: j, server: server, session: s, leave: leave, lines: attempt.NewLines(r.logs, r.log, j)}
	defer w.putAway()
	stop := r.pulse(ctx, w)
	out, err := outcome{}, errUndone
	if deed := deeds[j.Task]; deed != nil {
		out, err = deed(w, ctx)
	}
	stop()
	cut := ctx.Err() != nil && err != nil
	if cut && s != nil {
		if err := s.kill(ctx); err != nil {
			r.log.Warn("end the statement of a job", "job", j, "err", err)
		}
	}
	if cut {
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		w.lines.Add(attempt.Error, "ended: "+err.Error()+out.left())
	default:
		w.lines.Add(attempt.Info, out.result)
	}
	w.lines.Flush()
	if !errors.Is(err, errEnded) {
		w.report(ctx, out, err, cut)
	}
}

func (w *work) putAway() {
	for _, f := range slices.Backward(w.after) {
		f()
	}
}

// report records the end.
func (w *work) report(ctx context.Context, out outcome, err error, cut bool) {
	ch := store.Change{Event: job.Done, Edit: func(j *job.Job) {
		j.Evidence.Result, j.Evidence.Errors = out.result, out.errors
		j.Evidence.Completed = err == nil
		if out.gtid != "" {
			j.Evidence.GTID = out.gtid
		}
		if out.tool == "" {
			j.Evidence.Tool = w.tool()
			return
		}
		j.Evidence.Tool, j.Evidence.Exit, j.Evidence.Sent = out.tool, out.exit, out.sent
	}}
	patience := w.cluster.Lease
	switch {
	case cut:
		ch.Event, ch.Reason = job.Cut, "drydock was stopped while it worked"+out.left()
		patience = busTimeout
	case err != nil:
		ch.Event, ch.Reason = job.Error, err.Error()+out.left()
	}
	attempt.End(ctx, w.jobs, w.log, w.job, ch, patience)
}

// tool is what did the work, for people.
func (w *work) tool() string {
	if w.session == nil {
		return "drydock"
	}
	return "drydock over SQL"
}

// pulse gives signs of life while the server answers (or always, when the work does not depend on that), and writes the log lines that have gathered. stop ends it.
func (r *Runner) pulse(ctx context.Context, w *work) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	every := min(max(w.cluster.Lease/4, 250*time.Millisecond), 5*time.Second)
	done := make(chan struct{}) // closed when the pulse has ended
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			w.lines.Flush()
			if w.session == nil {
				w.sign(every)
				continue
			}
			// Without an answer there is no sign: nobody can tell then whether the statement still runs.
			if r.facts.Answers(ctx, w.job.Cluster, w.server, every/2) {
				w.sign(every)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// sign tells that the job lives, with the bytes that it moved since the last time.
func (w *work) sign(every time.Duration) {
	j := w.job
	p := bus.Progress{
		Sign: bus.SignHeartbeat, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt,
		Type: bus.TypeProgress, Time: time.Now().UTC(),
	}
	if moved := w.moved.Load(); moved > w.told {
		p.Sign, p.Bytes, p.Rate = bus.SignBytes, moved, float64(moved-w.told)/every.Seconds()
		w.told = moved
	}
	if err := w.conn.Publish(bus.ProgressSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task), p); err != nil {
		w.log.Warn("tell of a sign of life", "job", j, "err", err)
	}
}

// yield waits while the cluster's limits say that work on tables must pause. The reason stands in the job meanwhile.
// A pause has an end: a replica that lags by design, or for good, would keep every other heavy job from the server. And
// a scheduled job does not wait outside the windows, to go on at an hour that nobody gave it: it may run on there, but
// what it could not do while it was let is left to its next tick.
func (w *work) yield(ctx context.Context) error {
	var since time.Time
	for {
		factor, reason := w.held(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		if factor != w.paused { // a number that moves is no news
			w.paused = factor
			w.note(ctx, reason)
		}
		if factor == "" {
			return nil
		}
		w.leave()
		if since.IsZero() {
			since = time.Now()
		}
		if w.job.Trigger.Scheduled() && !w.cluster.Windows.Open(time.Now(), w.cluster.Zone) {
			return fmt.Errorf("%s, and outside maintenance-windows = %q no scheduled job waits", reason, w.cluster.Windows)
		}
		if limit := w.cluster.MaxPause; limit > 0 && time.Since(since) > limit {
			return fmt.Errorf("%s for longer than maintenance-max-pause = %s", reason, limit)
		}
		pause(ctx, max(w.ticker, minPause))
	}
}

const minPause = 200 * time.Millisecond

// note sets the reason of the job while it works.
func (w *work) note(ctx context.Context, reason string) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	text := reason
	if text == "" {
		text = "goes on"
	}
	w.lines.Add(attempt.Info, text)
	w.apply(ctx, w.job, store.Change{Event: job.Note, Reason: text, Edit: func(j *job.Job) {
		if j.State == job.Processing {
			j.Reason = reason
		}
	}})
}

// held asks the servers for what counts, and says what holds the work up.
func (w *work) held(ctx context.Context) (factor, reason string) {
	running := 0
	if w.cluster.MaxLoad > 0 {
		f, err := w.facts.Of(ctx, w.job.Cluster, w.server, w.ticker)
		if err != nil {
			return "", ""
		}
		running = f.Running
	}
	var all map[job.Server]store.Facts
	if w.cluster.MaxLag > 0 {
		all = w.facts.All(ctx, w.job.Cluster, w.ticker)
	}
	return holdup(w.cluster, running, all)
}

// holdup says why work on the tables of a server must pause: any one factor is enough. It is pure. factor names what
// holds, without its present value. A replica that is down, or whose threads do not run, holds nothing up: it would hold
// up the maintenance of the whole cluster until somebody mends it, and the statements are not in its binary log anyway.
func holdup(c Cluster, running int, all map[job.Server]store.Facts) (factor, reason string) {
	if c.MaxLoad > 0 && running > c.MaxLoad {
		return "load", fmt.Sprintf("paused: Threads_running is %d (maintenance-max-load = %d)", running, c.MaxLoad)
	}
	if c.MaxLag == 0 {
		return "", ""
	}
	for _, replica := range c.Servers {
		for _, source := range all[replica].Sources {
			if source.IO != "Yes" || source.SQL != "Yes" || source.Lag == nil {
				continue
			}
			if lag := time.Duration(*source.Lag) * time.Second; lag > c.MaxLag {
				return "lag of " + replica.String(), fmt.Sprintf("paused: replica %s lags %s (maintenance-max-lag = %s)", replica, lag, c.MaxLag)
			}
		}
	}
	return "", ""
}
