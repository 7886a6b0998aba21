package rolling

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/scheduler/orchestrator"
	"drydock/store"
)

// orderPatience is how long an order may stay without a job or a reason why there is none: a tick waits for a minute for
// a scheduler that knows it.
const orderPatience = 3 * time.Minute

// errCut is the end of a job that drydock lost sight of.
var errCut = errors.New("nobody knows what became of it")

// order gives the order that the stage has recorded to the ledger, and waits for the end of its job. Both may have been
// done before: an order is given once, by its name, and its job has the id that follows from it.
func (w *work) order(ctx context.Context, at int, args map[string]string) error {
	s := w.at(at)
	task := w.ordered(s.Phase)
	for {
		w.clearSlot(ctx, at, task)
		limit, cancel := context.WithTimeout(ctx, busTime)
		_, err := w.ledger.Run(limit, store.Order{
			Cluster: w.cluster.Name, Task: task, ID: s.Tick, Due: s.Due, Servers: []job.Server{s.Server}, Args: args,
			Trigger: job.Trigger{Kind: job.Rolling, By: w.job.ID}, Reason: fmt.Sprintf("step %d of %s %s", at+1, w.job.Task, w.job.ID),
		})
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.warn("order a step", err)
		w.pause(ctx)
	}
	return w.awaitJob(ctx, s, task)
}

// clearSlot takes a job out of the way that waits behind this operation in the slot of its step: the slot has room for
// one, and both would wait for one another. What that job was to do the step does.
func (w *work) clearSlot(ctx context.Context, at int, task string) {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	s := w.at(at)
	j, _, err := w.jobs.Last(ctx, job.Key{Cluster: w.cluster.Name, Server: s.Server, Task: task})
	if err != nil || j.ID == s.Job || !j.Gated() {
		return // what the bus did not tell shows when the step gets no job
	}
	if _, err := w.jobs.Apply(ctx, store.RefOf(j), store.Change{
		Event: job.Skip, From: job.Queued, Reason: fmt.Sprintf("step %d of %s %s does that", at+1, w.job.Task, w.job.ID),
	}); err != nil && !store.Late(err) {
		w.warn("take a job out of the way of a step", err)
	}
}

// awaitJob waits for the end of the stage's job. An abort cancels it unless it has begun: what has begun is waited for.
func (w *work) awaitJob(ctx context.Context, s job.Stage, task string) error {
	given := later(s.Since, w.taken)
	key := job.Key{Cluster: w.cluster.Name, Server: s.Server, Task: task}
	for {
		j, err := w.jobOf(ctx, key, s.Job)
		switch {
		case err == nil && j.State == job.Success:
			return nil
		case err == nil && j.State == job.Halted && j.Steps[len(j.Steps)-1].Event == job.Cut:
			return fmt.Errorf("%w: job %s: %s", errCut, j.ID, j.Reason)
		case err == nil && !j.State.Live():
			return fmt.Errorf("job %s is %s: %s", j.ID, j.State, j.Reason)
		case err == nil:
			if err := w.callOff(ctx, j); err != nil {
				return err
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, store.ErrNone):
			w.warn("look at the job of a step", err)
		default:
			if err := w.noJob(ctx, s, task, given); err != nil {
				return err
			}
		}
		w.pause(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// jobOf is the job with an id in a slot. Errors: [store.ErrNone].
func (w *work) jobOf(ctx context.Context, key job.Key, id string) (job.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	j, _, err := w.jobs.Last(ctx, key)
	switch {
	case err != nil || j.ID == id:
		return j, err
	case j.ID > id: // another one followed
		return w.jobs.Find(ctx, id)
	}
	return job.Job{}, fmt.Errorf("%w: %s", store.ErrNone, id)
}

// callOff ends the wait for a job that nobody has begun when the operation is aborted.
func (w *work) callOff(ctx context.Context, j job.Job) error {
	abort := w.aborted()
	if abort == nil || j.State != job.Queued && j.State != job.Available {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	if _, err := w.jobs.Apply(ctx, store.RefOf(j), store.Change{Event: job.Cancel, From: j.State, Reason: "its operation was " + abort.Error()}); err != nil {
		return nil //nolint:nilerr // it has moved on, or the bus does not answer: looked at again
	}
	return abort
}

// noJob says why an order has no job, nil while one may still come.
func (w *work) noJob(ctx context.Context, s job.Stage, task string, given time.Time) error {
	limit, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	ticks, err := w.ledger.List(limit, store.TickFilter{Cluster: w.cluster.Name, Task: task, Since: s.Due.Add(-time.Minute)})
	for _, t := range ticks {
		if t.Outcome == bus.Skipped && strings.HasPrefix(t.ID, "skip-"+s.Tick+"-") {
			return fmt.Errorf("%s was not started: %s", task, t.Reason)
		}
	}
	if err == nil && time.Since(given) > orderPatience {
		return fmt.Errorf("%s was not started within %s: no scheduler took the order up", task, orderPatience)
	}
	return nil
}

// mayLose makes sure, right before the data of a server is given up, that it is no primary and nobody's source.
func (w *work) mayLose(ctx context.Context, at int, again bool) error {
	all, err := w.ask(ctx, w.cluster)
	if err != nil {
		return err
	}
	s := w.at(at).Server
	if again && !all[s].Up {
		return nil // cut in the middle of it
	}
	// One that is up and was not made anew has its data yet, and may have been made the primary meanwhile.
	if f := all[s]; f.Role != store.RoleReplica {
		return fmt.Errorf("it is %s now; only a replica is reprovisioned", roleName(string(f.Role)))
	}
	for r, f := range all {
		if r != s && follows(f, s) {
			return fmt.Errorf("%s replicates from it", r)
		}
	}
	return nil
}

func target(cluster string, s job.Server) orchestrator.Target {
	return orchestrator.Target{Cluster: cluster, Server: s}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
