package rolling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/store"
)

// begin starts a queued operation when nothing else runs in its cluster. Offered and claimed are only steps on the way,
// from which one that was killed there is taken up.
func (w *work) begin(ctx context.Context) bool {
	if order := orderOf(w.job); order.Word == job.OrderAbort {
		w.apply(ctx, store.Change{Event: job.Cancel, Reason: "aborted by " + order.By})
		return false
	} else if order.Word == job.OrderPause && w.job.State == job.Queued {
		w.explain(ctx, fmt.Sprintf("paused by %s before it began", order.By))
		return false
	}
	if w.job.State == job.Queued {
		busy, err := w.rivals(ctx)
		if err != nil {
			w.warn("look for other jobs of the cluster", err)
			return false
		}
		if busy != "" {
			w.waitOrSkip(ctx, busy)
			return false
		}
	}
	claim := []job.Event{job.Offer, job.Claim}
	switch w.job.State {
	case job.Available:
		claim = claim[1:]
	case job.Claimed:
		claim = nil
	}
	for _, e := range claim {
		if !w.apply(ctx, store.Change{Event: e, Reason: "done by drydock itself"}) {
			return false
		}
	}
	// A job may have been let go in the same moment. From here on none is.
	if busy, err := w.rivals(ctx); err != nil || busy != "" {
		w.apply(ctx, store.Change{Event: job.Withdraw, Reason: "waits for " + busy})
		return false
	}
	return w.start(ctx)
}

// start makes the plan and begins it. What is wrong with the topology ends the operation before any server was touched.
func (w *work) start(ctx context.Context) bool {
	plan, err := w.plan(ctx)
	if ctx.Err() != nil {
		return false
	}
	ok := w.apply(ctx, store.Change{Event: job.Start, Reason: "done by drydock itself", Edit: func(j *job.Job) {
		if j.Plan == nil {
			j.Plan = &job.Plan{}
		}
		j.Plan.Stages, j.Plan.Worker, j.Reason = plan, w.actor, ""
		j.Plan.Term++
	}})
	if !ok {
		return false
	}
	w.term, w.taken = w.job.Plan.Term, time.Now()
	if err != nil {
		w.end(ctx, job.Error, "not begun: "+err.Error())
		return false
	}
	w.log.Info("rolling operation begun", "job", w.job, "servers", len(plan))
	return true
}

// plan decides the order by what the servers say now. A server that does not answer is asked a few times.
func (w *work) plan(ctx context.Context) (plan []job.Stage, err error) {
	skip, err := w.skipped()
	if err != nil {
		return nil, err
	}
	err = w.few(ctx, func(all answers) (err error) {
		plan, err = stages(w.cluster.Servers, all, skip)
		return err
	})
	if err != nil || w.job.Task != taskReprov {
		return plan, err
	}
	if w.cluster.Orchestrator == nil {
		return nil, fmt.Errorf("reprovision a server: %w", w.cluster.NoOrchestrator)
	}
	if t, err := job.TaskByName(w.cluster.SeedTask); err != nil || !t.Built {
		return nil, fmt.Errorf("fill a server with rolling-reprov-seed = %s: this version cannot run that task", w.cluster.SeedTask)
	}
	return plan, leaveOutPrimary(plan)
}

// leaveOutPrimary gives the primary no turn in a reprovisioning. It is pure.
func leaveOutPrimary(plan []job.Stage) error {
	pending := 0
	for i := range plan {
		switch s := &plan[i]; {
		case s.State == job.StageSkipped:
		case s.Role == string(store.RolePrimary):
			s.State, s.Reason = job.StageSkipped, "a primary is not reprovisioned: its data would be lost"
		default:
			pending++
		}
	}
	if pending == 0 {
		return errors.New("there is no replica to reprovision, and a primary is not")
	}
	return nil
}

// skipped are the servers that have no turn.
func (w *work) skipped() (out []job.Server, err error) {
	out, err = job.ServersOf(w.job.Args[job.ArgSkip])
	for _, s := range out {
		if !slices.Contains(w.cluster.Servers, s) {
			return nil, fmt.Errorf("%s is to be left out and is no server of cluster %s", s, w.cluster.Name)
		}
	}
	return out, err
}

// few asks the servers until accept has nothing against the answers, a few times: one lost packet aborts nothing.
func (w *work) few(ctx context.Context, accept func(answers) error) (err error) {
	for range 3 {
		var all answers
		if all, err = w.ask(ctx, w.cluster); err != nil {
			return err
		}
		if err = accept(all); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(w.ticker):
		}
	}
	return err
}

// waitOrSkip lets a queued operation wait for other jobs, for a while.
func (w *work) waitOrSkip(ctx context.Context, busy string) {
	since := w.job.Created
	if w.job.Ready.After(since) {
		since = w.job.Ready
	}
	if time.Since(since) > w.cluster.WaitTimeout {
		w.apply(ctx, store.Change{Event: job.Skip, Reason: fmt.Sprintf("%s did not end within rolling-wait-timeout = %s", busy, w.cluster.WaitTimeout)})
		return
	}
	w.explain(ctx, "waits for "+busy)
}

// rivals names a job of the cluster that runs or may begin any moment, empty when there is none. The log says so, not the
// view.
func (w *work) rivals(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	live, err := w.jobs.LiveOf(ctx, w.cluster.Name)
	if err != nil {
		return "the bus", err
	}
	slices.SortFunc(live, func(a, b job.Job) int { return strings.Compare(a.ID, b.ID) })
	for _, j := range live {
		t, err := job.TaskByName(j.Task)
		elsewhere := err == nil && !t.OnServers()
		if j.ID == w.job.ID || j.Gated() || elsewhere || j.Trigger.Kind == job.Rolling && j.Trigger.By == w.job.ID {
			continue
		}
		return fmt.Sprintf("%s of %s (job %s)", j.Task, j.Server, j.ID), nil
	}
	return "", nil
}

// explain records why a queued operation is not begun yet, when that is news.
func (w *work) explain(ctx context.Context, reason string) {
	if w.job.Reason == reason {
		return
	}
	w.log.Info("rolling operation waits", "job", w.job, "reason", reason)
	w.apply(ctx, store.Change{Event: job.Note, Reason: reason, Edit: func(j *job.Job) {
		if j.State == job.Queued {
			j.Reason = reason
		}
	}})
}

func orderOf(j job.Job) job.Order {
	if j.Plan == nil {
		return job.Order{}
	}
	return j.Plan.Order
}
