package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Batcher makes concurrent writes to one stream share a sync: what arrives while one group is being written forms the
// next group, which goes out as one atomic batch. A sync-always stream pays per message otherwise, and concurrency does
// not help it.
type Batcher struct {
	c      *Conn
	stream string
	in     chan *pending // senders: Put; unbuffered, so that a Put whose context ended leaves nothing behind
	inside atomic.Int64  // calls of Put that have not returned
}

type pending struct {
	msg  *nats.Msg
	id   string
	done chan error // one send by the writer; buffered, nobody need read
}

const (
	batchMax  = 500     // messages; JetStream allows 1000
	batchFrom = 8       // below this, single writes are faster than a batch
	batchSize = 4 << 20 // bytes

	// patience is the part of the time that the last group took for which the next one may wait for its crowd: callers that
	// write again at once would otherwise come in two halves, one waiting while the other is written.
	patience = 4
	// patienceMost bounds that: the process may have been stopped for a minute in the middle of the last group.
	patienceMost = 250 * time.Millisecond
)

// ErrStopped is returned by [Batcher.Put] when the batcher does not run.
var ErrStopped = errors.New("log writer is stopped")

// NewBatcher makes a batcher for a stream that allows atomic publishes. It works while [Batcher.Run] runs.
func NewBatcher(c *Conn, stream string) *Batcher {
	return &Batcher{c: c, stream: stream, in: make(chan *pending)}
}

// Put returns nil when v is on disk. An error leaves it open whether it is; writing it again with the same id within the
// stream's deduplication window does not double it.
func (b *Batcher) Put(ctx context.Context, subject, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message for %s: %w", subject, err)
	}
	p := &pending{msg: nats.NewMsg(subject), id: id, done: make(chan error, 1)}
	p.msg.Data = data
	b.inside.Add(1)
	defer b.inside.Add(-1)
	select {
	case b.in <- p:
	case <-ctx.Done():
		return fmt.Errorf("write to %s: %w", subject, errors.Join(ErrStopped, ctx.Err()))
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("write to %s: %w", subject, ctx.Err())
	}
}

// Run writes groups until ctx ends; the group in hand is written to its end.
func (b *Batcher) Run(ctx context.Context) error {
	var last pace
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-b.in:
			last = b.write(context.WithoutCancel(ctx), b.gather(ctx, first, last))
		}
	}
}

// pace is what was seen when a group had been written, before its callers were told.
type pace struct {
	crowd int           // callers, those of the group included
	took  time.Duration // to write it
}

// gather takes what stands in line behind first. Only while fewer than the crowd have come, and these are too many to be
// written one by one, it waits for more.
func (b *Batcher) gather(ctx context.Context, first *pending, last pace) []*pending {
	group, size := []*pending{first}, len(first.msg.Data)
	var late <-chan time.Time
	for len(group) < batchMax && size < batchSize {
		select {
		case p := <-b.in:
			group, size = append(group, p), size+len(p.msg.Data)
			continue
		default:
		}
		if last.crowd < batchFrom || len(group) >= last.crowd {
			return group
		}
		if late == nil {
			late = time.After(min(last.took/patience, patienceMost))
		}
		select {
		case p := <-b.in:
			group, size = append(group, p), size+len(p.msg.Data)
		case <-late:
			return group
		case <-ctx.Done():
			return group
		}
	}
	return group
}

// write tells each of the group what became of it.
func (b *Batcher) write(ctx context.Context, group []*pending) pace {
	if len(group) < max(batchFrom, b.c.groupFrom()) {
		return b.writeEach(ctx, group)
	}
	begun := time.Now()
	msgs := make([]*nats.Msg, len(group))
	for i, p := range group {
		p.msg.Header.Set(jetstream.MsgIDHeader, p.id)
		msgs[i] = p.msg
	}
	if err := b.writeGroup(ctx, msgs); err != nil {
		// One id that the stream knows already refuses the whole batch, and a lost acknowledgement leaves all of it open.
		// Written one by one the ids sort it out: what is there already is acknowledged as such.
		b.c.log.Debug("write a group one by one", "messages", len(group), "err", err)
		return b.writeEach(ctx, group)
	}
	seen := pace{int(b.inside.Load()), time.Since(begun)}
	for _, p := range group {
		p.done <- nil
	}
	return seen
}

func (b *Batcher) writeGroup(ctx context.Context, msgs []*nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := jetstreamext.PublishMsgBatch(ctx, b.c.JS, msgs)
	return err
}

// writeEach tells each of the group as soon as it is written. Who comes next is not waited for. When one is not answered, the others are
// not tried: each would wait as long, and those behind them.
func (b *Batcher) writeEach(ctx context.Context, group []*pending) pace {
	var silence error
	for _, p := range group {
		err := silence
		if err == nil {
			msg := nats.NewMsg(p.msg.Subject) // without the batch's headers
			msg.Data = p.msg.Data
			_, err = b.c.JS.PublishMsg(ctx, msg, jetstream.WithMsgID(p.id), jetstream.WithExpectStream(b.stream))
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoStreamResponse) {
			silence = err // what is wrong with one message alone, its size for one, is not the others' fault
		}
		p.done <- wrapWrite(p, err)
	}
	return pace{}
}

func wrapWrite(p *pending, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write to %s: %w", p.msg.Subject, err)
}
