package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Meta is where a message stands in its stream.
type Meta struct {
	Stream    string
	Subject   string
	Seq       uint64
	Time      time.Time
	Delivered uint64 // how often this consumer got it, from 1
}

// From says where [Follow] begins.
type From struct {
	LastPerSubject bool      // the last message of every subject, then what comes
	Seq            uint64    // from this sequence on (0: all), when LastPerSubject is false
	Since          time.Time // from this time on, when set
}

func (f From) policy(cfg *jetstream.OrderedConsumerConfig) {
	switch {
	case f.LastPerSubject:
		cfg.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	case !f.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &f.Since
	case f.Seq > 1:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, f.Seq
	default:
		cfg.DeliverPolicy = jetstream.DeliverAllPolicy
	}
}

// Follow gives every message of the stream whose subject matches filter to handle, in order, from where from says,
// until ctx ends (nil) or handle returns an error (that error). caughtUp, if not nil, is called once when everything
// that was acknowledged before the start has been handled. Messages that do not decode are logged and passed over: a
// reader must not stop for what a newer version wrote; empty ones are passed over silently. It survives lost connections and server restarts.
func Follow[T any](ctx context.Context, c *Conn, stream, filter string, from From, handle func(Meta, T) error, caughtUp func()) error {
	f := follower{c: c, stream: stream, filter: filter, from: from, caughtUp: caughtUp}
	f.handle = func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if len(m.Data()) == 0 {
			return nil // a key of a bucket was deleted
		}
		v, err := decodeOnce[T](c, stream, m)
		switch {
		case errors.Is(err, ErrNewer):
			c.log.Error("pass over a message", "subject", m.Subject(), "seq", meta.Sequence.Stream, "err", err)
			return nil
		case err != nil:
			c.log.Warn("pass over a message that does not decode", "subject", m.Subject(), "seq", meta.Sequence.Stream, "err", err)
			return nil
		}
		return handle(Meta{stream, m.Subject(), meta.Sequence.Stream, meta.Timestamp, meta.NumDelivered}, v)
	}
	return f.run(ctx)
}

// decoded are the last messages of DRYDOCK_JOBS as values: several services of a process follow them, one just behind the other, a whole
// job is in each, and most of them the process wrote itself.
type decoded struct {
	mu   sync.Mutex
	of   map[string]decodedMessage // by the message's id
	ids  [decodedKept]string       // its keys, the oldest at next
	next int
}

type decodedMessage struct {
	data []byte
	v    any // what it points to is only read
}

const (
	// decodedKept is for several groups: one is written while the one before it is read.
	decodedKept = 2048
	// decodedSize bounds what one of them may hold, bytes. The plan of a rolling operation over thousands of servers is a MiB, and is written
	// again for each of them.
	decodedSize = 8 << 10
)

// keep takes a message in that was decoded, or is about to be written.
func (d *decoded) keep(id string, data []byte, v any) {
	if id == "" || len(data) > decodedSize {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = make(map[string]decodedMessage, decodedKept)
	}
	if _, known := d.of[id]; !known {
		delete(d.of, d.ids[d.next])
		d.ids[d.next], d.next = id, (d.next+1)%decodedKept
	}
	d.of[id] = decodedMessage{data, v}
}

// get is the value of a message, nil when it is not known. Anybody may use an id again: the bytes must be the same.
func (d *decoded) get(id string, data []byte) any {
	d.mu.Lock()
	known := d.of[id]
	d.mu.Unlock()
	if !bytes.Equal(known.data, data) {
		return nil
	}
	return known.v
}

// decodeOnce decodes a message, or gives what its writer or another follower made of it.
func decodeOnce[T any](c *Conn, stream string, m jetstream.Msg) (v T, err error) {
	if stream != StreamJobs {
		return v, Decode(m.Data(), &v)
	}
	id := m.Headers().Get(jetstream.MsgIDHeader)
	if v, ok := c.decoded.get(id, m.Data()).(T); ok {
		return v, nil
	}
	if err := Decode(m.Data(), &v); err != nil {
		return v, err
	}
	c.decoded.keep(id, m.Data(), v)
	return v, nil
}

// stopFollow carries the error with which handle ended a Follow.
type stopFollow struct{ error }

// follower is a [Follow] at work, which one consumer after the other serves.
type follower struct {
	c              *Conn
	stream, filter string
	from           From   // what is still to come
	last           uint64 // sequence of the last message that there is, when it was asked for; unknown before
	handle         func(jetstream.Msg, *jetstream.MsgMetadata) error
	caughtUp       func() // nil once it was called
}

// unknown is the last sequence of a follower that has not asked for it.
const unknown = math.MaxUint64

// run follows until ctx ends (nil) or handle returns an error (that error).
func (f *follower) run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := f.once(ctx)
		var stop stopFollow
		if errors.As(err, &stop) {
			return stop.error
		}
		if ctx.Err() == nil {
			f.c.log.Warn("follow again", "stream", f.stream, "err", err)
			pause(ctx, 200*time.Millisecond)
		}
	}
	return nil
}

const (
	// quiet is how long a follower goes without a message before it asks whether there is one: while it catches up, and later.
	quiet, quietLater = 2 * time.Second, 5 * time.Second
	// silent is how long it takes the answer that there is more, or none, before it begins anew.
	silent = 20 * time.Second
	// consumerIdle is how long a server keeps the consumer of a follower that does not ask for messages, as one that was killed. In
	// the library's five minutes a drydock that dies at each start would leave a thousand.
	consumerIdle = time.Minute
)

var errSilent = errors.New("the server has more and does not send it")

// once follows with one consumer until ctx ends or the consumer gives out: with an error, or because it stands still. For the latter the
// library's own sign of life does not do: after the death of a server of the bus a gateway heard nothing of new jobs for four minutes,
// on a connection that worked. Everything is done by one goroutine, and the library's iterator is never stopped from another: it loses
// that while it makes a new consumer for itself, and goes on for ever.
func (f *follower) once(ctx context.Context) error {
	// One try of the library's to make a new consumer; it cannot be interrupted, and Follow tries again.
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{f.filter}, InactiveThreshold: consumerIdle, MaxResetAttempts: 1}
	f.from.policy(&cfg)
	cons, err := f.c.JS.OrderedConsumer(ctx, f.stream, cfg)
	if err != nil {
		return err
	}
	defer f.c.forget(ctx, f.stream, cons)
	it, err := cons.Messages()
	if err != nil {
		return err
	}
	defer it.Stop()
	f.last = unknown
	for moved := time.Now(); ctx.Err() == nil; {
		if f.caughtUp != nil && f.last == unknown && f.lookForLast(ctx, cons.CachedInfo()) == nil && f.reached() {
			continue
		}
		err := f.some(ctx, it)
		if errors.Is(err, errQuiet) {
			err = f.whole(ctx, cons)
		} else if err != nil {
			return err
		}
		switch since := time.Since(moved); {
		case err == nil:
			moved = time.Now()
		case ctx.Err() != nil:
		case errors.Is(err, jetstream.ErrConsumerNotFound), since > silent:
			return fmt.Errorf("nothing came for %s: %w", since.Round(time.Second), err)
		}
	}
	return ctx.Err()
}

// errQuiet is that nothing came.
var errQuiet = errors.New("quiet")

// some handles what comes for a while. Errors: [errQuiet], a [stopFollow], those of the iterator.
func (f *follower) some(ctx context.Context, it jetstream.MessagesContext) error {
	wait := quietLater
	if f.caughtUp != nil {
		wait = quiet
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for n := 0; ; n++ {
		m, err := it.Next(jetstream.NextContext(waiting))
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		case n == 0:
			return errQuiet
		default:
			return nil
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := f.handle(m, meta); err != nil {
			return stopFollow{err}
		}
		f.from = From{Seq: meta.Sequence.Stream + 1} // after a break go on, not back
		if f.reached(); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// reached tells who waits for it that everything up to the last message is handled, if it is.
func (f *follower) reached() bool {
	whole := f.last < max(f.from.Seq, 1)
	if whole && f.caughtUp != nil {
		tell := f.caughtUp
		f.caughtUp = nil
		tell()
	}
	return whole
}

// whole asks a follower's server and the stream's leader whether all that there is was handled; the last messages may have been deleted
// since the question before. While there is no connection, there is nobody to ask and nobody to begin anew with. Errors: no answer, that
// the consumer is gone, [errSilent].
func (f *follower) whole(ctx context.Context, cons jetstream.Consumer) error {
	if !f.c.NC.IsConnected() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	info, err := cons.Info(ctx)
	if err != nil {
		return err
	}
	if err := f.lookForLast(ctx, info); err != nil {
		return err
	}
	if !f.reached() {
		return errSilent
	}
	return nil
}

// lookForLast asks for the last message that the follower is to get. The leader of the stream answers: the copy that a consumer reads
// from may not have what was acknowledged last. It says that there is none also when it cannot read its file: that is believed only when the
// consumer has nothing to send.
func (f *follower) lookForLast(ctx context.Context, consumer *jetstream.ConsumerInfo) error {
	request, err := json.Marshal(map[string]string{"last_by_subj": f.filter})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	reply, err := f.c.NC.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+f.stream, request)
	if err != nil {
		return fmt.Errorf("ask %s for its last message: %w", f.stream, err)
	}
	var answer struct {
		Error   *jetstream.APIError
		Message struct {
			Seq  uint64
			Time time.Time
		}
	}
	if err = json.Unmarshal(reply.Data, &answer); err == nil && answer.Error != nil {
		err = answer.Error
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeMessageNotFound && consumer.NumPending == 0 {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("ask %s for its last message: %w", f.stream, err)
	}
	f.last = answer.Message.Seq // 0 without one
	if answer.Message.Time.Before(f.from.Since) {
		f.last = 0
	}
	return nil
}

// forgetWait is how long [Conn.forget] waits for the server.
const forgetWait = 2 * time.Second

// forget has the server drop a consumer that is done with. By itself it would keep it for minutes, and of those of a stream it holds a
// thousand at most: after so many reads nobody could follow anything. When the request is lost, the server's own clock does it.
func (c *Conn) forget(ctx context.Context, stream string, cons jetstream.Consumer) {
	info := cons.CachedInfo()
	if info == nil || !c.NC.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetWait)
	defer cancel()
	if err := c.JS.DeleteConsumer(ctx, stream, info.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		c.log.Debug("drop a consumer", "stream", stream, "err", err)
	}
}

// each gives message after message to handle until ctx ends, the subscription breaks or handle returns an error; end ends the subscription.
func each(ctx context.Context, end func(), next func() (jetstream.Msg, error), handle func(jetstream.Msg) error) error {
	stop := context.AfterFunc(ctx, end)
	defer func() {
		stop()
		end()
	}()
	for {
		m, err := next()
		if err != nil {
			return err
		}
		if err := handle(m); err != nil {
			return err
		}
	}
}

// Read gives the messages that are in the stream now to handle, then returns. handle may return [ErrStop]. When ctx ends
// before that, its error is returned: what was read is not all.
func Read[T any](ctx context.Context, c *Conn, stream, filter string, from From, handle func(Meta, T) error) error {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	err := Follow(reading, c, stream, filter, from, handle, cancel)
	if errors.Is(err, ErrStop) {
		return nil
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// ErrStop ends a [Read] without error.
var ErrStop = errors.New("stop")

const (
	workAckWait = 30 * time.Second
	workForever = -1
)

// workNewer is when a message of a newer version comes again: a process that knows it may have taken over by then.
const workNewer = 10 * time.Second

// Work gives every message of the stream whose subject matches filter to handle, shared among all processes that use
// the same durable name, until ctx ends. handle returns nil when the message is dealt with; an error brings it back
// later, as long as it takes: whoever gives up on a message says why and returns nil. What does not decode is a dead
// letter at once, but for what a newer drydock wrote: that waits for one. Acknowledgements can be lost: handle must be idempotent.
func Work[T any](ctx context.Context, c *Conn, stream, durable, filter string, handle func(context.Context, Meta, T) error) error {
	return repeatWork(ctx, c, stream, durable, func() error {
		return eachWork(ctx, c, stream, durable, filter, func(m jetstream.Msg) {
			if meta, v, ok := decodeWork[T](c, m); ok {
				settle(ctx, c, m, meta, handle(ctx, meta, v))
			}
		})
	})
}

// repeatWork has work begin again when it breaks, until ctx ends (nil).
func repeatWork(ctx context.Context, c *Conn, stream, durable string, work func() error) error {
	for ctx.Err() == nil {
		if err := work(); ctx.Err() == nil {
			c.log.Warn("take up work again", "stream", stream, "consumer", durable, "err", err)
			pause(ctx, 500*time.Millisecond)
		}
	}
	return nil
}

// eachWork gives message after message of the durable consumer to handle until ctx ends or the subscription breaks.
func eachWork(ctx context.Context, c *Conn, stream, durable, filter string, handle func(jetstream.Msg)) error {
	// Declared again on every start: a crash can damage a consumer's file, and NATS then only warns and drops it.
	cons, err := c.JS.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: durable, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait: workAckWait, MaxDeliver: workForever, MaxAckPending: 1000,
	})
	if err != nil {
		return fmt.Errorf("declare consumer %s: %w", durable, err)
	}
	it, err := cons.Messages(jetstream.PullMaxMessages(100))
	if err != nil {
		return err
	}
	next := func() (jetstream.Msg, error) { return it.Next() }
	return each(ctx, it.Stop, next, func(m jetstream.Msg) error {
		handle(m)
		return nil
	})
}

// decodeWork reads a message; one that does not decode is set aside, and ok is false.
func decodeWork[T any](c *Conn, m jetstream.Msg) (meta Meta, v T, ok bool) {
	md, err := m.Metadata()
	if err != nil {
		c.log.Error("read message metadata", "subject", m.Subject(), "err", err)
		return meta, v, false
	}
	if err := Decode(m.Data(), &v); errors.Is(err, ErrNewer) {
		c.log.Error("a message waits for a drydock that knows it", "subject", m.Subject(), "seq", md.Sequence.Stream, "err", err)
		logAck(c, m.NakWithDelay(workNewer))
		return meta, v, false
	} else if err != nil {
		c.log.Error("set a message aside that does not decode", "subject", m.Subject(), "seq", md.Sequence.Stream, "err", err)
		logAck(c, m.TermWithReason("does not decode: "+err.Error()))
		return meta, v, false
	}
	return Meta{md.Stream, m.Subject(), md.Sequence.Stream, md.Timestamp, md.NumDelivered}, v, true
}

// settle acknowledges a message that is dealt with, and has one come again that is not.
func settle(ctx context.Context, c *Conn, m jetstream.Msg, meta Meta, err error) {
	if err == nil {
		logAck(c, m.Ack())
		return
	}
	if ctx.Err() != nil {
		return // comes back after AckWait, here or elsewhere
	}
	c.log.Warn("work failed, the message comes again", "subject", meta.Subject, "seq", meta.Seq, "delivered", meta.Delivered, "err", err)
	logAck(c, m.NakWithDelay(min(time.Duration(meta.Delivered)*time.Second, 30*time.Second)))
}

func logAck(c *Conn, err error) {
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		c.log.Warn("acknowledge", "err", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
