package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const (
	closeEvery    = time.Second
	closeWidth    = 32               // jobs at a time
	commitTimeout = time.Minute      // one request to publish: a large log is copied in it
	recordTimeout = 10 * time.Second // of what was published, also on shutdown
	// commitPatience times scheduler-jobs-check-timeout is how long a receiver may fail to publish.
	commitPatience = 10
)

// closing says which jobs are being closed, so that each is in one hand at a time.
type closing struct {
	mu     sync.Mutex
	busy   map[job.Key]bool // true: something happened meanwhile, look again
	warned map[string]bool  // attempts whose receiver was reported as not answering
}

func newClosing() *closing { return &closing{busy: map[job.Key]bool{}, warned: map[string]bool{}} }

// begin is false when the job is in another hand, which will look again then.
func (c *closing) begin(k job.Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, busy := c.busy[k]; busy {
		c.busy[k] = true
		return false
	}
	c.busy[k] = false
	return true
}

func (c *closing) end(k job.Key) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	again = c.busy[k]
	delete(c.busy, k)
	return again
}

// first is true the first time it is asked for a run.
func (c *closing) first(run string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned[run] {
		return false
	}
	c.warned[run] = true
	return true
}

// forget drops the attempts that are not finished any more.
func (c *closing) forget(finished map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for run := range c.warned {
		if !finished[run] {
			delete(c.warned, run)
		}
	}
}

// runCloser looks at a finished job whenever something about it changes, and at all of them once a second.
func (s *Scheduler) runCloser(ctx context.Context) error {
	tick := time.NewTicker(closeEvery)
	defer tick.Stop()
	room := make(chan struct{}, closeWidth) // a token per job being closed
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		var keys []job.Key
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			runs := map[string]bool{}
			for _, j := range s.view.Among([]job.State{job.Finished}, nil) {
				keys, runs[j.Run()] = append(keys, j.Key()), true
			}
			s.closing.forget(runs)
		case <-s.finished.wake:
			keys = s.finished.take()
		}
		for _, k := range keys {
			if !s.closing.begin(k) {
				continue
			}
			wg.Go(func() {
				s.closeInTurn(ctx, k, room)
				if s.closing.end(k) {
					s.finished.put(k)
				}
			})
		}
	}
}

func (s *Scheduler) closeInTurn(ctx context.Context, k job.Key, room chan struct{}) {
	select {
	case room <- struct{}{}:
		defer func() { <-room }()
	case <-ctx.Done():
		return
	}
	if err := s.close(ctx, k, s.now()); err != nil && ctx.Err() == nil {
		s.log.Warn("close a job", "cluster", k.Cluster, "server", k.Server, "task", k.Task, "err", err)
	}
}

// close decides whether the job in the slot is proven, as far as the facts go.
func (s *Scheduler) close(ctx context.Context, k job.Key, now time.Time) error {
	c, ok := s.cluster(k.Cluster)
	if !ok {
		return nil
	}
	t, err := job.TaskByName(k.Task)
	if err != nil {
		return nil // a newer version's
	}
	j, _, err := s.jobs.Last(ctx, k) // the log itself: a verdict needs every fact that is known
	if err != nil || j.State != job.Finished {
		return err
	}
	waited := now.Sub(s.signs.of(j, now).state)
	verdict := job.Judge(t, j, waited > c.CheckTimeout)
	if verdict.Event == job.Pass && t.Kind == job.KindBackup {
		bounds, err := s.bounds(ctx, c, j)
		if err != nil {
			return err
		}
		// One that is proven may have its name already, whatever else was published meanwhile.
		if sized := verdict.Within(bounds, j.Stream.Bytes); sized.Event == job.Pass || j.Proven.IsZero() {
			verdict = sized
		}
	}
	switch verdict.Event {
	case job.Refute:
		return s.change(ctx, j, store.Change{Event: job.Refute, Reason: verdict.Reason})
	case job.Pass:
		return s.pass(ctx, c, t, j, verdict, waited)
	}
	return nil
}

// goodOnes is how many of the last good backups the size of a new one is compared with.
const goodOnes = 7

// bounds are the sizes that are believed of a backup.
func (s *Scheduler) bounds(ctx context.Context, c Cluster, j job.Job) (job.Bounds, error) {
	b := job.Bounds{Min: c.BackupMinSize, Ratio: c.BackupMinRatio}
	if b.Ratio == 0 {
		return b, nil
	}
	list, err := s.catalog.List(ctx, j.Cluster, j.Server)
	if err != nil {
		return b, fmt.Errorf("look up the sizes of earlier backups: %w", err)
	}
	var sizes []int64
	for _, m := range list { // newest first
		if m.Task == j.Task && m.ID != j.ID && len(sizes) < goodOnes {
			sizes = append(sizes, m.Size)
		}
	}
	b.Median = job.Median(sizes)
	return b, nil
}

// pass has the stream of a proven job published and records its success.
func (s *Scheduler) pass(ctx context.Context, c Cluster, t job.Task, j job.Job, v job.Verdict, waited time.Duration) error {
	ch := store.Change{Event: job.Pass}
	if t.Flow == job.FlowIn {
		if t.Kind == job.KindBackup {
			j = s.takeStock(ctx, j)
		}
		j, err := s.prove(ctx, j)
		if err != nil || j.State != job.Finished {
			return err
		}
		rep, err := s.publish(ctx, j, v.Checks)
		if err != nil {
			reason := refusal(err, j, waited > commitPatience*c.CheckTimeout)
			if reason == "" {
				if s.closing.first(j.Run()) {
					s.log.Warn("stream is not published yet, asking again", "job", j, "receiver", j.Dispatch.Receiver, "err", err)
				}
				return nil
			}
			ch = store.Change{Event: job.Refute, Reason: reason}
		}
		ch.Edit = func(j *job.Job) {
			if j.Stream != nil && rep.Path != "" {
				j.Stream.Path, j.Backup = rep.Path, rep.Backup
			}
		}
	}
	// The file stands under its name now; the record of that is made even when we are being stopped.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	return s.change(ctx, j, ch)
}

// prove records that the job is proven before its stream is published, so that no cancel and no late report can end it
// between the two.
func (s *Scheduler) prove(ctx context.Context, j job.Job) (job.Job, error) {
	if !j.Proven.IsZero() {
		return j, nil
	}
	return s.jobs.Apply(ctx, store.RefOf(j), store.Change{Event: job.Note, Edit: func(j *job.Job) {
		if j.State == job.Finished && j.Proven.IsZero() {
			j.Proven = s.now().UTC()
		}
	}})
}

// publish asks the receiver that holds the stream.
func (s *Scheduler) publish(ctx context.Context, j job.Job, checks []job.Check) (bus.CommitReply, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	return bus.Request[bus.CommitReply](ctx, s.conn, bus.ReceiverSubject(j.Dispatch.Receiver, bus.VerbCommit),
		bus.CommitRequest{Job: j, Checks: checks})
}

// refusal says why the job fails because its stream could not be published; empty while it may still be.
func refusal(err error, j job.Job, late bool) string {
	var answer *bus.ServiceError
	switch {
	case errors.As(err, &answer) && answer.Code == bus.CodeGone:
		return fmt.Sprintf("receiver %s no longer has the stream: %s", j.Dispatch.Receiver, answer.Message)
	case errors.As(err, &answer) && answer.Code == bus.CodeRefused:
		return fmt.Sprintf("receiver %s refused to publish the stream: %s", j.Dispatch.Receiver, answer.Message)
	case late && errors.Is(err, bus.ErrNobody):
		return fmt.Sprintf("receiver %s, which holds the stream, does not run", j.Dispatch.Receiver)
	case late:
		return fmt.Sprintf("receiver %s could not publish the stream: %s", j.Dispatch.Receiver, err)
	}
	return ""
}
