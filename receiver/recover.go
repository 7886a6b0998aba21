package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

// recover takes up what an earlier process of this name left: ports nobody came to are bound again, complete streams
// kept for their commit, and only a job whose stream was cut ends (architecture.md section 3). Everything else in the
// folders that was never published is removed.
func (p *Pool) recover(ctx context.Context) error {
	keep := map[string]bool{}
	p.recoverDoubtful()
	for _, j := range p.view.Select(func(j job.Job) bool { return j.State.Live() }) {
		p.offerSend(j)
		// Also the streams of jobs that name another receiver: this one may have had that name before.
		if p.ours(j) && p.takeUp(ctx, j) || !p.ours(j) && j.Stream != nil && j.Stream.Complete {
			keep[j.Run()] = true
		}
	}
	return p.sweep(keep)
}

// recoverDoubtful keeps the backups aside that were not believed while this receiver was not there to do it.
func (p *Pool) recoverDoubtful() {
	for _, j := range p.view.Select(func(j job.Job) bool { return j.TooSmall() && j.Dispatch.Receiver == p.cfg.Name && j.Stream != nil }) {
		spec, task, err := p.cfg.place(j.Key(), j.ID, j.Attempt)
		if err != nil {
			continue // its server is no longer looked after
		}
		if spec = storedAs(spec, *j.Stream); spec.Waits() {
			p.setAside(spec, task)
		}
	}
}

// ours says whether a live job counts on a port or a file of this receiver.
func (p *Pool) ours(j job.Job) bool {
	return j.State.Live() && j.Dispatch.Receiver == p.cfg.Name && j.Dispatch.Port != 0
}

// takeUp goes on with a job; true when its temporary file is still wanted.
func (p *Pool) takeUp(ctx context.Context, j job.Job) bool {
	r := &reservation{ref: store.RefOf(j), run: j.Run(), port: j.Dispatch.Port}
	var err error
	if r.spec, r.task, err = p.cfg.place(j.Key(), j.ID, j.Attempt); err != nil {
		p.giveUp(ctx, j, err)
		return false
	}
	whole := j.Stream != nil && j.Stream.Complete
	switch {
	case whole:
		r.phase = holding
	case j.Stream != nil && !j.Stream.Opened.IsZero():
		p.cutByRestart(ctx, j)
		return false
	default:
		if r.ln, err = p.ports.listenOn(r.port, holder(r.ref)); err != nil {
			p.giveUp(ctx, j, err)
			return false
		}
		r.need = p.expected(ctx, j.Key(), r.spec, r.task) // or others are promised the same space
	}
	r.seen = true
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start(r)
	r.log.Info("taken up after a restart", "state", string(j.State), "complete", whole)
	return whole
}

// giveUp ends what cannot be gone on with: an offer that nobody took is withdrawn and made again with another port, work
// that has begun is lost.
func (p *Pool) giveUp(ctx context.Context, j job.Job, err error) {
	reason := fmt.Sprintf("receiver %s cannot go on after its restart: %v", p.cfg.Name, err)
	event := job.Cut
	if j.State == job.Available || j.State == job.Claimed {
		event = job.Withdraw
	}
	p.cfg.Log.Warn("cannot go on with a job after a restart", "job", j, "event", string(event), "err", err)
	p.record(ctx, store.RefOf(j), store.Change{Event: event, Reason: reason})
}

const restartReason = "stream cut by a restart of the receiver"

func (p *Pool) cutByRestart(ctx context.Context, j job.Job) {
	p.cfg.Log.Warn(restartReason, "job", j)
	p.record(ctx, store.RefOf(j), store.Change{Event: job.Cut, Reason: restartReason, Edit: func(j *job.Job) {
		if j.Stream != nil {
			j.Stream.Closed, j.Stream.Err = time.Now().UTC(), restartReason
		}
	}})
}

// sweep removes the temporary files of the known servers that no job wants.
func (p *Pool) sweep(keep map[string]bool) error {
	var errs []error
	for cluster, cl := range p.cfg.Clusters {
		for _, s := range cl.Servers {
			for _, kind := range []job.Kind{job.KindLog, job.KindBackup} {
				removed, err := sink.Sweep(p.cfg.folder(kind, cluster, s), func(tag string) bool { return keep[tag] })
				for _, path := range removed {
					p.cfg.Log.Info("unfinished stream removed", "path", path)
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("sweep folder of %s: %w", s, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}
