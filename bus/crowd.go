package bus

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// crowd makes concurrent appends to one stream share a sync. One of the callers leads: it writes what stands in line as one
// atomic batch, in which every message keeps its own expectation, and the next in line leads when that is done. A batch is
// written whole or not at all: one that is refused, since an expectation fails, is halved until who caused that is alone; when
// the acknowledgement is lost, each caller goes on alone. It has no goroutine of its own.
type crowd struct {
	c      *Conn
	stream string

	mu   sync.Mutex
	led  bool // somebody writes
	line []*appended
}

// appended is one message of a crowd.
type appended struct {
	subject, id string
	last        uint64 // what the subject's last message must be
	data        []byte
	v           any          // what data was made of
	told        chan telling // one send by who leads, or hands over; buffered, nobody need read
}

// telling is what a caller in line is told.
type telling struct {
	seq   uint64 // of its message, when it is written
	lead  bool   // it is first in line now
	alone bool   // it is to write by itself
}

// crowdTimeout is for one batch; a caller's own deadline must not spoil the others' writes.
const crowdTimeout = 5 * time.Second

// cheapFrom is [batchFrom] where a group costs one sync.
const cheapFrom = 3

// groupFrom is how many messages are worth a group. Without room in the memory that it would be staged in none are.
func (c *Conn) groupFrom() int {
	switch {
	case !c.cheap.Load():
		return batchFrom
	case !roomToStage(stagingIn):
		return batchMax + 1
	}
	return cheapFrom
}

// publish is one try to append a message, as [Conn.Append] does it.
func (w *crowd) publish(ctx context.Context, a *appended) (seq uint64, err error) {
	a.told = make(chan telling, 1)
	if !w.enter(a) {
		select {
		case t := <-a.told:
			if t.alone || !t.lead {
				return w.settle(ctx, a, t)
			}
		case <-ctx.Done():
			if w.leave(a) {
				return 0, ctx.Err()
			}
			return w.settle(ctx, a, <-a.told) // it is in somebody's hands, and a lost acknowledgement ends that
		}
	}
	defer w.handOver()
	w.write(ctx, w.take())
	return w.settle(ctx, a, <-a.told)
}

func (w *crowd) settle(ctx context.Context, a *appended, t telling) (uint64, error) {
	if !t.alone {
		return t.seq, nil
	}
	return w.c.publishAlone(ctx, w.stream, a)
}

// enter puts a caller in line and reports whether it leads.
func (w *crowd) enter(a *appended) (leads bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	leads, w.led = !w.led, true
	w.line = append(w.line, a)
	return leads
}

// leave takes a caller out of the line and reports whether it was still there. Who was to lead hands over.
func (w *crowd) leave(a *appended) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.line, a)
	if i < 0 {
		return false
	}
	w.line = slices.Delete(w.line, i, i+1)
	if len(a.told) > 0 {
		w.next()
	}
	return true
}

// handOver has the next in line lead.
func (w *crowd) handOver() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next()
}

// next needs the mutex.
func (w *crowd) next() {
	w.led = len(w.line) > 0
	if w.led {
		w.line[0].told <- telling{lead: true}
	}
}

// take takes the next group out of the line, the one who leads first. Of several messages on one subject it takes the first:
// of the others' expectations one at most can hold, and the batch would fail by them. It looks no further than the group goes: thousands
// may stand behind.
func (w *crowd) take() (group []*appended) {
	w.mu.Lock()
	defer w.mu.Unlock()
	subjects, size := map[string]bool{}, 0
	var passed []*appended
	looked := 0
	for ; looked < len(w.line) && len(group) < batchMax && size < batchSize; looked++ {
		a := w.line[looked]
		if subjects[a.subject] {
			passed = append(passed, a)
			continue
		}
		subjects[a.subject] = true
		group, size = append(group, a), size+len(a.data)
	}
	left := looked - len(passed)
	copy(w.line[left:], passed)
	clear(w.line[:left]) // or they would be kept for as long as who stands behind
	w.line = w.line[left:]
	return group
}

// write writes a group in as few batches as can be, and tells each what became of it, or that it is to write alone. ok is false when
// the server takes no batches now, or does not answer: no other is tried then, and who waits has waited once.
func (w *crowd) write(ctx context.Context, group []*appended) (ok bool) {
	ok = true
	if len(group) >= w.c.groupFrom() {
		last, err := w.batch(ctx, group)
		switch {
		case err == nil:
			for i, a := range group {
				a.told <- telling{seq: last - uint64(len(group)-1-i)}
			}
			return true
		case byAMessage(err):
			half := len(group) / 2
			if ok = w.write(ctx, group[:half]); ok {
				return w.write(ctx, group[half:])
			}
			group = group[half:]
		default:
			w.c.log.Debug("append a group one by one", "stream", w.stream, "messages", len(group), "err", err)
			ok = false
		}
	}
	for _, a := range group {
		a.told <- telling{alone: true}
	}
	return ok
}

// byAMessage reports whether a batch was refused, with nothing of it written, for one of its messages. It is pure.
func byAMessage(err error) bool {
	const disabled, incomplete = 10174, 10176 // JetStream's codes: it takes no batches there, or cannot stage them
	var refused *jetstream.APIError
	return errors.As(err, &refused) && refused.Code == http.StatusBadRequest && refused.ErrorCode != disabled && refused.ErrorCode != incomplete
}

// batch writes a group as one batch and returns the sequence of its last message. Only an error of the server itself says that nothing
// is written.
func (w *crowd) batch(ctx context.Context, group []*appended) (last uint64, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), crowdTimeout)
	defer cancel()
	w.c.willWrite(w.stream, group...)
	msgs := make([]*nats.Msg, len(group))
	for i, a := range group {
		msgs[i] = nats.NewMsg(a.subject)
		msgs[i].Data = a.data
		msgs[i].Header.Set(jetstream.MsgIDHeader, a.id)
		msgs[i].Header.Set(jetstream.ExpectedStreamHeader, w.stream)
		msgs[i].Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(a.last, 10))
	}
	ack, err := jetstreamext.PublishMsgBatch(ctx, w.c.JS, msgs)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}
