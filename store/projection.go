package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/job"
)

// TaskState is the value of `<cluster>.<server>.<task>` in drydock_serverstate: the last job of a slot and the ones
// before it (maintenance.txt section 6.1.8.6). It is derived from DRYDOCK_JOBS; Seq says up to where.
type TaskState struct {
	State  job.State `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Seq    uint64    `json:"seq"`
	Job    job.Job   `json:"job"`
	Recent []Run     `json:"recent,omitempty"` // newest first, without Job
}

// Run is one past job in short.
type Run struct {
	State   job.State   `json:"state"`
	ID      string      `json:"id"`
	Attempt int         `json:"attempt"`
	Trigger job.Trigger `json:"trigger"`
	Due     time.Time   `json:"due"`
	Ended   time.Time   `json:"ended"`
	Reason  string      `json:"reason,omitempty"`
	Bytes   int64       `json:"bytes,omitempty"`
}

// RecentRuns is how many past jobs a TaskState keeps.
const RecentRuns = 20

// next is the state after one transition more.
func (p projected) next(j job.Job, seq uint64) TaskState {
	recent := p.recent
	if p.last.ID != "" && p.last.ID != j.ID {
		recent = append([]Run{p.last}, recent...)
		recent = recent[:min(len(recent), RecentRuns)]
	}
	return TaskState{State: j.State, Reason: j.Reason, Seq: seq, Job: j, Recent: recent}
}

func runOf(j job.Job) Run {
	r := Run{State: j.State, ID: j.ID, Attempt: j.Attempt, Trigger: j.Trigger, Due: j.Due, Ended: j.Ended(), Reason: j.Reason}
	if j.Stream != nil {
		r.Bytes = j.Stream.Bytes
	}
	return r
}

// EachTaskState gives what the projection knows of every slot to f. It reads the tasks one after the other: the bucket holds larger
// documents than these.
func (d *Docs) EachTaskState(ctx context.Context, f func(TaskState)) error {
	for _, t := range job.Tasks() {
		states, err := every[TaskState](ctx, d, t.Name)
		if err != nil {
			return err
		}
		for _, s := range states {
			f(s)
		}
	}
	return nil
}

// Projected is the sequence of DRYDOCK_JOBS up to which the projection has come, 0 for none.
func (d *Docs) Projected(ctx context.Context) (upTo uint64, err error) {
	stream, err := d.c.JS.Stream(ctx, "KV_"+bus.BucketState)
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", bus.BucketState, err)
	}
	for _, t := range job.Tasks() {
		// Written in the order of the log, so the last one of all tasks has the newest sequence.
		m, err := stream.GetLastMsgForSubject(ctx, "$KV."+bus.BucketState+".*.*.*."+t.Name)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("look at %s: %w", bus.BucketState, err)
		}
		var s struct {
			Seq uint64 `json:"seq"`
		}
		if len(m.Data) > 0 && json.Unmarshal(m.Data, &s) == nil {
			upTo = max(upTo, s.Seq)
		}
	}
	return upTo, nil
}

// Projector fills drydock_serverstate from DRYDOCK_JOBS. Several may run at once. The bucket may be deleted at any time:
// an empty one is filled from the beginning of the log.
type Projector struct {
	c   *bus.Conn
	log *slog.Logger

	kv   jetstream.KeyValue
	have map[string]projected // by key; owned by Run
}

// projected is what is remembered of a value of the bucket. Without the job itself: there may be a hundred thousand.
type projected struct {
	seq, revision uint64
	last          Run
	recent        []Run
}

func projectedOf(t TaskState, revision uint64) projected {
	return projected{t.Seq, revision, runOf(t.Job), t.Recent}
}

// NewProjector makes a projector; [Projector.Run] does the work.
func NewProjector(c *bus.Conn, log *slog.Logger) *Projector { return &Projector{c: c, log: log} }

// Run projects until ctx ends.
func (p *Projector) Run(ctx context.Context) error {
	kv, err := p.c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return err
	}
	p.kv = kv
	upTo, err := p.load(ctx)
	for ; err != nil; upTo, err = p.load(ctx) {
		p.log.Warn("read "+bus.BucketState+", trying until it works", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(projectAgain):
		}
	}
	changes := make(chan changed, projectAhead) // closed when there are no more
	var writer sync.WaitGroup
	writer.Go(func() {
		for first := range changes {
			for _, c := range newest(gather(first, changes)) {
				p.projectUntil(ctx, c.job, c.seq)
			}
		}
	})
	defer writer.Wait()
	defer close(changes)
	return bus.Follow(ctx, p.c, bus.StreamJobs, bus.AllJobs, bus.From{Seq: upTo + 1}, func(m bus.Meta, ev bus.JobEvent) error {
		select {
		case changes <- changed{ev.Job, m.Seq}:
		case <-ctx.Done():
		}
		return nil
	}, nil)
}

const (
	projectAhead = 1024 // changes that may wait to be written
	projectAgain = time.Second
)

// changed is a job after a change, and where that stands in the log.
type changed struct {
	job job.Job
	seq uint64
}

// gather takes what waits behind first.
func gather(first changed, rest <-chan changed) []changed {
	out := []changed{first}
	for len(out) < projectAhead {
		select {
		case c, ok := <-rest:
			if !ok {
				return out
			}
			out = append(out, c)
		default:
			return out
		}
	}
	return out
}

// newest leaves out what a later change of the same job has overtaken; who writes lags behind then. The order stays: what is
// written last says that everything before it is there, and what was left out comes again with its successor. It is pure.
func newest(changes []changed) (out []changed) {
	last := map[job.Key]string{} // the id of the next job of the slot, going backwards
	for _, c := range slices.Backward(changes) {
		if last[c.job.Key()] != c.job.ID {
			last[c.job.Key()] = c.job.ID
			out = append(out, c)
		}
	}
	slices.Reverse(out)
	return out
}

// projectUntil tries until the state is written or ctx ends. Passing over one would leave a hole for good: the next
// write says that everything before it is there.
func (p *Projector) projectUntil(ctx context.Context, j job.Job, seq uint64) {
	for failures := 0; ; failures++ {
		err := p.project(ctx, j, seq)
		if err == nil || ctx.Err() != nil {
			return
		}
		if failures == 0 {
			p.log.Warn("project a job, trying until it works", "job", j, "seq", seq, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(projectAgain):
		}
	}
}

// load reads the bucket and returns the sequence up to which the log is in it. The projection is written in log order,
// so the newest sequence in it covers everything before; a bucket that is ahead of the log belongs to another one and
// is filled again from the beginning.
func (p *Projector) load(ctx context.Context) (upTo uint64, err error) {
	p.have = map[string]projected{}
	err = p.c.Entries(ctx, bus.BucketState, ">", func(e bus.Entry) error {
		var ts TaskState
		if err := bus.Decode(e.Value, &ts); err != nil || ts.Seq == 0 {
			return nil // facts and other documents of the bucket
		}
		p.have[e.Key] = projectedOf(ts, e.Revision)
		upTo = max(upTo, ts.Seq)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return p.checkAhead(ctx, upTo)
}

func (p *Projector) checkAhead(ctx context.Context, upTo uint64) (uint64, error) {
	last, err := p.c.LastSeq(ctx, bus.StreamJobs)
	if err != nil {
		return 0, err
	}
	if upTo > last {
		p.log.Warn("the state bucket is ahead of the log: filling it again", "bucket_seq", upTo, "log_seq", last)
		for k, h := range p.have {
			p.have[k] = projected{revision: h.revision}
		}
		return 0, nil
	}
	return upTo, nil
}

func (p *Projector) project(ctx context.Context, j job.Job, seq uint64) error {
	key := bus.StateKey(j.Cluster, j.Server.Host, j.Server.Port, j.Task)
	for range tries(ctx) {
		h := p.have[key]
		if h.seq >= seq {
			return nil
		}
		next := h.next(j, seq)
		data, err := bus.Encode(docType, next)
		if err != nil {
			return fmt.Errorf("encode state of %s: %w", key, err)
		}
		rev, err := p.write(ctx, key, data, h.revision)
		if err == nil {
			p.have[key] = projectedOf(next, rev)
			return nil
		}
		if err := p.reread(ctx, key); err != nil {
			return err
		}
	}
	return fmt.Errorf("project %s: %w", key, ErrBusy)
}

// write creates the key when there is no value (a deleted one leaves a marker that Update would trip over).
func (p *Projector) write(ctx context.Context, key string, data []byte, revision uint64) (uint64, error) {
	if revision == 0 {
		return p.kv.Create(ctx, key, data)
	}
	return p.kv.Update(ctx, key, data, revision)
}

// reread takes in what another projector wrote, or that the key is gone.
func (p *Projector) reread(ctx context.Context, key string) error {
	e, err := p.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		gone := p.have[key]
		gone.revision = 0
		p.have[key] = gone
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state %s: %w", key, err)
	}
	var ts TaskState
	if err := bus.Decode(e.Value(), &ts); err != nil {
		return fmt.Errorf("decode state %s: %w", key, err)
	}
	p.have[key] = projectedOf(ts, e.Revision())
	return nil
}

// Replay deletes the projected states and fills the bucket again from the whole log. Documents that are no projection
// (their names begin with `_`) stay. A running projector may go on meanwhile.
func Replay(ctx context.Context, c *bus.Conn, log *slog.Logger) (keys int, err error) {
	kv, err := c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return 0, err
	}
	var names []string
	err = c.Entries(ctx, bus.BucketState, ">", func(e bus.Entry) error {
		if !strings.HasPrefix(e.Key[strings.LastIndexByte(e.Key, '.')+1:], "_") {
			names = append(names, e.Key)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := kv.Purge(ctx, name); err != nil {
			return 0, fmt.Errorf("purge %s: %w", name, err)
		}
	}
	p := &Projector{c: c, kv: kv, log: log, have: map[string]projected{}}
	err = bus.Read(ctx, c, bus.StreamJobs, bus.AllJobs, bus.From{}, func(m bus.Meta, ev bus.JobEvent) error {
		return p.project(ctx, ev.Job, m.Seq)
	})
	return len(p.have), err
}
