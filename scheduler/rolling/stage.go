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

// phase is a part of a server's turn. It is recorded before it is begun, so do may find it half done.
type phase struct {
	name string
	do   func(w *work, ctx context.Context, at int) error
}

// The phases of a server's turn, in order.
var phases = map[string][]phase{
	taskRestart: {
		{"pre-script", (*work).preScript}, {"look", (*work).lookBefore}, {"drain", (*work).drain}, {"restart", (*work).restart},
		{"gate", (*work).gate}, {"release", (*work).release}, {"post-script", (*work).postScript},
	},
	taskReprov: {
		{"pre-script", (*work).preScript}, {"look", (*work).lookBefore}, {"reprovision", (*work).reprovision}, {"seed", (*work).seed},
		{"gate", (*work).gate}, {"post-script", (*work).postScript},
	},
}

// stage does the turn of a server, from the phase on that was begun last.
func (w *work) stage(ctx context.Context, at int) error {
	list := phases[w.job.Task]
	from := max(0, slices.IndexFunc(list, func(p phase) bool { return p.name == w.at(at).Phase }))
	for _, p := range list[from:] {
		if err := w.enter(ctx, at, p.name); err != nil {
			return err
		}
		if err := p.do(w, ctx, at); err != nil {
			return fmt.Errorf("%s, %s: %w", w.at(at).Server, p.name, err)
		}
	}
	return w.record(ctx, w.at(at).Server.String()+" is done", func(j *job.Job) {
		s := &j.Plan.Stages[at]
		s.State, s.Ended, j.Reason = job.StageDone, time.Now().UTC(), ""
	})
}

func (w *work) at(at int) job.Stage { return w.job.Plan.Stages[at] }

// enter records that a phase begins, unless it was begun before. An operator may have aborted the operation meanwhile.
func (w *work) enter(ctx context.Context, at int, name string) error {
	if w.at(at).Phase == name {
		w.log.Info("rolling step goes on", "job", w.job, "step", w.at(at).Server.String(), "phase", name)
		return nil
	}
	if err := w.aborted(); err != nil {
		return err
	}
	reason := fmt.Sprintf("%s: %s", w.at(at).Server, name)
	return w.record(ctx, reason, func(j *job.Job) {
		s := &j.Plan.Stages[at]
		s.Phase, s.Since, j.Reason = name, time.Now().UTC(), reason
		if name == "restart" || name == "seed" {
			w.name(j, at, name)
		}
	})
}

// name gives the order of a phase that starts a job its names. They are recorded before it is given: a second worker finds it.
func (w *work) name(j *job.Job, at int, phase string) {
	s := &j.Plan.Stages[at]
	s.Due = s.Since.Truncate(time.Millisecond)
	s.Tick = fmt.Sprintf("%s-%d-%s-%d", j.ID, at+1, phase, s.Due.UnixMilli())
	s.Job = job.NewID(s.Due, s.Tick, job.Key{Cluster: j.Cluster, Server: s.Server, Task: w.ordered(phase)})
}

// ordered is the task of the job that a phase starts.
func (w *work) ordered(phase string) string {
	if phase == "seed" {
		return w.cluster.SeedTask
	}
	return "restart"
}

// lookBefore keeps how the server is before it is touched, after the hook may have moved the primary.
func (w *work) lookBefore(ctx context.Context, at int) error {
	var found *job.Health
	err := w.few(ctx, func(all answers) error {
		if what := changed(w.cluster.Servers, w.job.Plan.Stages, all); what != "" {
			return fmt.Errorf("the topology has changed: %s", what)
		}
		if w.job.Task == taskReprov && w.at(at).Role == string(store.RolePrimary) {
			return fmt.Errorf("it is the primary now, and a primary is not reprovisioned")
		}
		if n := len(all[w.at(at).Server].Sources); w.job.Task == taskReprov && n > 1 {
			return fmt.Errorf("it replicates from %d others, and would be filled from one only", n)
		}
		found = health(w.cluster.Servers, w.at(at).Server, all)
		if w.job.Task == taskReprov { // it is to replicate afterwards, whether it did before or not
			found.Channels = nil
			for _, c := range all[w.at(at).Server].Sources {
				found.Channels = append(found.Channels, c.Name)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.record(ctx, "", func(j *job.Job) { j.Plan.Stages[at].Before = found })
}

// restart has the task restart done on the server, once. Of a job that was cut, as when drydock did it and was killed,
// nobody knows what it came to: then the server says whether it was started anew, and the gate whether it is well.
func (w *work) restart(ctx context.Context, at int) error {
	err := w.order(ctx, at, nil)
	if !errors.Is(err, errCut) {
		return err
	}
	return w.few(ctx, func(all answers) error {
		if restarted(w.at(at).Before, all[w.at(at).Server]) {
			return nil
		}
		return err
	})
}

// reprovision makes the server's service anew. Unlike a restart it is no job, so nothing tells what became of one that was
// cut: it is done again unless the server is up, was started since, and replicates from nobody. That loses nothing: the
// server is seeded afterwards in any case.
func (w *work) reprovision(ctx context.Context, at int) error {
	if w.cluster.Orchestrator == nil { // there was one when the operation began
		return w.cluster.NoOrchestrator
	}
	s := w.at(at)
	again := s.Since.Before(w.taken)
	if again {
		if f, err := w.facts.Fresh(ctx, w.cluster.Name, s.Server, 0); err != nil {
			return err
		} else if restarted(s.Before, f) && len(f.Sources) == 0 {
			return nil
		}
	}
	if err := w.mayLose(ctx, at, again); err != nil {
		return err
	}
	return w.cluster.Orchestrator.Reprovision(ctx, target(w.cluster.Name, s.Server))
}

// seed has the server filled from the cluster, once. That the data of the server may go is what its operation was begun for.
func (w *work) seed(ctx context.Context, at int) error {
	args := map[string]string{job.ArgConfirm: w.at(at).Server.String()}
	for _, s := range w.job.Plan.Stages {
		if s.Role == string(store.RolePrimary) {
			args[job.ArgPrimary] = s.Server.Addr()
		}
	}
	for try := 1; ; try++ {
		err := w.order(ctx, at, args)
		if !errors.Is(err, errCut) || try == seedTries {
			return err
		}
		if abort := w.aborted(); abort != nil {
			return abort
		}
		// drydock was stopped or killed meanwhile. Filling a server begins from nothing each time.
		reason := fmt.Sprintf("%s: seed, once more: %s", w.at(at).Server, err)
		err = w.record(ctx, reason, func(j *job.Job) {
			j.Plan.Stages[at].Since, j.Reason = time.Now().UTC(), reason
			w.name(j, at, "seed")
		})
		if err != nil {
			return err
		}
	}
}

// seedTries is how often a server is filled whose filling was cut.
const seedTries = 3

// gate waits until the server is as well as before, for as long as rolling-gate-timeout permits.
func (w *work) gate(ctx context.Context, at int) error {
	began := w.at(at).Since
	if w.taken.After(began) {
		began = w.taken // nobody looked before
	}
	told := ""
	for {
		all, err := w.ask(ctx, w.cluster)
		if err != nil {
			return err
		}
		lacks := missing(w.at(at), all, w.cluster.MaxLag)
		if lacks == "" {
			after := health(w.cluster.Servers, w.at(at).Server, all)
			return w.record(ctx, "", func(j *job.Job) { j.Plan.Stages[at].After = after })
		}
		if err := w.aborted(); err != nil {
			return err
		}
		if time.Since(began) > w.cluster.GateTimeout {
			return fmt.Errorf("%s after rolling-gate-timeout = %s", lacks, w.cluster.GateTimeout)
		}
		if kind := withoutNumbers(lacks); kind != told {
			told = kind
			reason := fmt.Sprintf("%s: gate: %s", w.at(at).Server, lacks)
			if err := w.record(ctx, reason, func(j *job.Job) { j.Reason = reason }); err != nil {
				return err
			}
		}
		w.pause(ctx)
	}
}

// withoutNumbers is a text in which a number that moves is no news.
func withoutNumbers(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}
