package duty

import (
	"context"
	"errors"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
	"drydock/store/attempt"
)

// Work is one attempt of a job that is ours, for the [Deed] that does it. Safe for concurrent use. Nothing that it is told
// may hold a secret.
type Work struct {
	runner *Runner
	job    job.Job
	lines  *attempt.Lines

	mu       sync.Mutex
	progress bus.Progress // to be told of with the next sign of life
}

// Job is the job as it was when it started.
func (w *Work) Job() job.Job { return w.job }

// Say puts a line into the job's log.
func (w *Work) Say(text string) { w.lines.Add(attempt.Info, text) }

// Note sets the reason of the job while it works: what it does, or waits for. Empty takes the last one away.
func (w *Work) Note(reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), busTimeout)
	defer cancel()
	w.runner.apply(ctx, w.job, store.Change{Event: job.Note, Reason: reason, Edit: func(j *job.Job) {
		if j.State == job.Processing {
			j.Reason = reason
		}
	}})
}

// Moved tells how far the work is: bytes so far, and percent where that is known.
func (w *Work) Moved(bytes int64, percent float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress.Bytes, w.progress.Percent = bytes, percent
}

// work does a started job to its end.
func (r *Runner) work(ctx context.Context, deed Deed, j job.Job) {
	w := &Work{runner: r, job: j, lines: attempt.NewLines(r.logs, r.log, j)}
	stop := w.pulse(ctx)
	result, err := deed(ctx, w)
	stop()
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), errEnded):
		err = errEnded
	case err != nil && ctx.Err() != nil:
		err = errStopped
	}
	switch {
	case err != nil:
		w.lines.Add(attempt.Error, "ended: "+err.Error())
	case result.Finding != "":
		w.lines.Add(attempt.Error, result.Finding)
	default:
		w.Say(result.Text)
	}
	w.lines.Flush()
	if !errors.Is(err, errEnded) {
		w.report(ctx, result, err)
	}
}

// report records the end.
func (w *Work) report(ctx context.Context, result Result, err error) {
	ch := store.Change{Event: job.Done, Edit: func(j *job.Job) {
		j.Evidence.Tool, j.Evidence.Result, j.Evidence.Completed = result.Tool, result.Text, err == nil
		j.Evidence.Finding = result.Finding
	}}
	patience := w.runner.leases[w.job.Cluster]
	switch {
	case errors.Is(err, errStopped):
		ch.Event, ch.Reason = job.Cut, err.Error()
		patience = busTimeout
	case err != nil:
		ch.Event, ch.Reason = job.Error, err.Error()
	}
	attempt.End(ctx, w.runner.jobs, w.runner.log, w.job, ch, patience)
}

// pulse gives signs of life with the progress, and writes the log lines that have gathered. stop ends it.
func (w *Work) pulse(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	every := min(max(w.runner.leases[w.job.Cluster]/4, 250*time.Millisecond), time.Second)
	done := make(chan struct{}) // closed when the pulse has ended
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		var last int64
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			w.lines.Flush()
			last = w.sign(last, every)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// sign publishes a sign of life; last is how many bytes the one before told of.
func (w *Work) sign(last int64, every time.Duration) int64 {
	w.mu.Lock()
	p := w.progress
	w.mu.Unlock()
	j := w.job
	p.Sign, p.Type, p.Time = bus.SignHeartbeat, bus.TypeProgress, time.Now().UTC()
	p.Cluster, p.Server, p.Task, p.JobID, p.Attempt = j.Cluster, j.Server, j.Task, j.ID, j.Attempt
	if p.Bytes > last {
		p.Sign, p.Rate = bus.SignBytes, float64(p.Bytes-last)/every.Seconds()
	}
	if err := w.runner.conn.Publish(bus.ProgressSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task), p); err != nil {
		w.runner.log.Warn("tell of a sign of life", "job", j, "err", err)
	}
	return p.Bytes
}
