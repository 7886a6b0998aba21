package bus

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// ErrConflict is returned by [Conn.Append] when somebody else wrote to the subject first. The caller reads the last
// message again and decides anew.
var ErrConflict = errors.New("somebody else wrote first")

// ErrNotFound is returned by [Last] for a subject without a message.
var ErrNotFound = errors.New("no such message")

// NewMessageID is a fresh id for a message; it becomes Nats-Msg-Id and says "was it me?" when a write is read back.
func NewMessageID() string { return nuid.Next() }

const appendTries = 4

// Append writes v as JSON on a literal subject, only if the last message there has sequence last (0: there is none).
// It returns when the message is on disk. A lost acknowledgement is settled by reading the subject back, so nil means
// written once. [ErrConflict] means not written, unless the acknowledgement was lost and somebody else wrote after it;
// any other error leaves it open, too. The caller reads back before it tries again, and either its event is idempotent
// or it keeps the id, by which the stream knows a message for two minutes. v is no pointer, and what it points to belongs to the bus from
// now on: this process's followers get it as it is.
func (c *Conn) Append(ctx context.Context, stream, subject, id string, last uint64, v any) (seq uint64, err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("encode message for %s: %w", subject, err)
	}
	for try := 0; ; try++ {
		seq, err := c.publish(ctx, stream, &appended{subject: subject, id: id, last: last, data: data, v: v}, try)
		if err == nil {
			return seq, nil
		}
		// 10071, 10164 and a timeout all look alike from here: the write may be ours, somebody else's, or in flight.
		got, lastNow, rerr := c.lastID(ctx, stream, subject)
		switch {
		case rerr != nil && !errors.Is(rerr, ErrNotFound):
			return 0, fmt.Errorf("append to %s: %w", subject, errors.Join(err, rerr))
		case got == id:
			return lastNow, nil
		case lastNow != last:
			return 0, ErrConflict
		case try+1 == appendTries:
			return 0, fmt.Errorf("append to %s: %w", subject, err)
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("append to %s: %w", subject, errors.Join(err, ctx.Err()))
		case <-time.After(time.Duration(try+1) * 20 * time.Millisecond):
		}
	}
}

// publish is one try of [Conn.Append]. The first may be written together with others'.
func (c *Conn) publish(ctx context.Context, stream string, a *appended, try int) (seq uint64, err error) {
	if w := c.crowds[stream]; w != nil && try == 0 {
		return w.publish(ctx, a)
	}
	return c.publishAlone(ctx, stream, a)
}

func (c *Conn) publishAlone(ctx context.Context, stream string, a *appended) (seq uint64, err error) {
	c.willWrite(stream, a)
	msg := nats.NewMsg(a.subject)
	msg.Data = a.data
	ack, err := c.JS.PublishMsg(ctx, msg, jetstream.WithMsgID(a.id), jetstream.WithExpectStream(stream),
		jetstream.WithExpectLastSequencePerSubject(a.last))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// willWrite spares this process decoding its own messages, which its followers may have before they are acknowledged.
func (c *Conn) willWrite(stream string, group ...*appended) {
	if stream != StreamJobs {
		return
	}
	for _, a := range group {
		c.decoded.keep(a.id, a.data, a.v)
	}
}

// Record writes v as JSON on a subject, whatever stands there. It returns when the message is on disk; a lost
// acknowledgement is settled by writing it again with the same id, which the stream knows for two minutes.
func (c *Conn) Record(ctx context.Context, stream, subject, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message for %s: %w", subject, err)
	}
	msg := nats.NewMsg(subject)
	msg.Data = data
	for try := 1; ; try++ {
		_, err := c.JS.PublishMsg(ctx, msg, jetstream.WithMsgID(id), jetstream.WithExpectStream(stream))
		if err == nil {
			return nil
		}
		if try == appendTries || ctx.Err() != nil {
			return fmt.Errorf("write to %s: %w", subject, err)
		}
		pause(ctx, time.Duration(try)*50*time.Millisecond)
	}
}

func (c *Conn) lastID(ctx context.Context, stream, subject string) (id string, seq uint64, err error) {
	raw, err := c.last(ctx, stream, subject)
	if err != nil {
		return "", 0, err
	}
	return raw.Header.Get(jetstream.MsgIDHeader), raw.Sequence, nil
}

func (c *Conn) last(ctx context.Context, stream, subject string) (*jetstream.RawStreamMsg, error) {
	s, err := c.opened(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", stream, err)
	}
	raw, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w on %s", ErrNotFound, subject)
	}
	if err != nil {
		c.streams.Delete(stream) // it may not be as it was
		return nil, fmt.Errorf("read last message of %s: %w", subject, err)
	}
	return raw, nil
}

// opened is a stream to read single messages of. It is asked for once: the question costs several times what reading a
// message does, and the server answers such questions one after the other.
func (c *Conn) opened(ctx context.Context, name string) (jetstream.Stream, error) {
	if s, ok := c.streams.Load(name); ok {
		return s.(jetstream.Stream), nil
	}
	s, err := c.JS.Stream(ctx, name)
	if err == nil {
		c.streams.Store(name, s)
	}
	return s, err
}

// Last reads the last message of a literal subject and its sequence. Errors: [ErrNotFound] (sequence 0 then).
func Last[T any](ctx context.Context, c *Conn, stream, subject string) (v T, seq uint64, err error) {
	raw, err := c.last(ctx, stream, subject)
	if err != nil {
		return v, 0, err
	}
	if err := Decode(raw.Data, &v); err != nil {
		return v, raw.Sequence, fmt.Errorf("decode message %d of %s: %w", raw.Sequence, stream, err)
	}
	return v, raw.Sequence, nil
}

// LastOfEach reads the last messages of literal subjects, fewer than a thousand; those without any are left out. Of the embedded server
// it is one question.
func LastOfEach[T any](ctx context.Context, c *Conn, stream string, subjects []string) (out []T, err error) {
	if c.embedded == nil { // it may have several copies, or look for the subjects in all that it ever stored
		return lastOfEachAlone[T](ctx, c, stream, subjects)
	}
	msgs, err := c.lastOfEach(ctx, stream, subjects)
	if err != nil {
		return nil, fmt.Errorf("read last messages of %d subjects of %s: %w", len(subjects), stream, err)
	}
	for _, m := range msgs {
		var v T
		if err := Decode(m.Data, &v); err != nil {
			return nil, fmt.Errorf("decode message %s of %s: %w", m.Header.Get(jetstream.SequenceHeader), stream, err)
		}
		out = append(out, v)
	}
	return out, nil
}

// lastOfEach asks for several messages at once. The library has that as well, with half a MiB of buffer for each question.
func (c *Conn) lastOfEach(ctx context.Context, stream string, subjects []string) (out []*nats.Msg, err error) {
	const statusHeader, statusEnd, statusNone, none = "Status", "204", "404", "No Results"
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	request, err := json.Marshal(map[string][]string{"multi_last": subjects})
	if err != nil {
		return nil, err
	}
	answers := make(chan *nats.Msg, len(subjects)+1) // the connection sends: one for each subject, and the end
	inbox := c.NC.NewInbox()
	sub, err := c.NC.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	if err := c.NC.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, request); err != nil {
		return nil, err
	}
	for {
		select {
		case m := <-answers:
			status, why, left := m.Header.Get(statusHeader), m.Header.Get("Description"), m.Header.Get("Nats-Num-Pending")
			switch {
			case status == "":
				out = append(out, m)
			case status == statusEnd && left == "0", status == statusNone && why == none:
				return out, nil
			default: // part of the answer is no answer; a message that cannot be read is a 404, too
				return nil, fmt.Errorf("status %s %s after %d messages, %s left", status, why, len(out), left)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func lastOfEachAlone[T any](ctx context.Context, c *Conn, stream string, subjects []string) (out []T, err error) {
	var wg sync.WaitGroup
	last, errs := make([]T, len(subjects)), make([]error, len(subjects))
	for i, subject := range subjects { // at once: somebody waits for the answer
		wg.Go(func() { last[i], _, errs[i] = Last[T](ctx, c, stream, subject) })
	}
	wg.Wait()
	for i, err := range errs {
		switch {
		case err == nil:
			out = append(out, last[i])
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return out, nil
}

// LastBefore is the last message of a literal subject that was written not after at. Of the embedded server it is one question. Errors:
// [ErrNotFound].
func LastBefore[T any](ctx context.Context, c *Conn, stream, subject string, at time.Time) (v T, m Meta, err error) {
	if c.embedded == nil { // it answers such a question for streams without copies only
		return lastBeforeAlone[T](ctx, c, stream, subject, at)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	found, err := jetstreamext.GetLastMsgsFor(ctx, c.JS, stream, []string{subject}, jetstreamext.GetLastMsgsUpToTime(at))
	if err != nil {
		return v, m, fmt.Errorf("read last message of %s before %s: %w", subject, at.UTC().Format(time.RFC3339), err)
	}
	for raw, err := range found {
		switch {
		case errors.Is(err, jetstreamext.ErrNoMessages):
			return v, m, ErrNotFound
		case err != nil:
			return v, m, fmt.Errorf("read last message of %s before %s: %w", subject, at.UTC().Format(time.RFC3339), err)
		}
		if err := Decode(raw.Data, &v); err != nil {
			return v, m, fmt.Errorf("decode message %d of %s: %w", raw.Sequence, stream, err)
		}
		return v, Meta{Stream: stream, Subject: raw.Subject, Seq: raw.Sequence, Time: raw.Time}, nil
	}
	if ctx.Err() != nil { // which ends the answers without an error
		return v, m, fmt.Errorf("read last message of %s before %s: %w", subject, at.UTC().Format(time.RFC3339), ctx.Err())
	}
	return v, m, ErrNotFound
}

// lastBeforeAlone reads what was written in longer and longer times before at.
func lastBeforeAlone[T any](ctx context.Context, c *Conn, stream, subject string, at time.Time) (v T, m Meta, err error) {
	oldest, err := c.Oldest(ctx, stream)
	if err != nil || oldest.IsZero() {
		return v, m, cmp.Or(err, ErrNotFound)
	}
	const first, longer = 24 * time.Hour, 4
	for back := first; ; back *= longer {
		found := false
		err := Read(ctx, c, stream, subject, From{Since: at.Add(-back)}, func(now Meta, x T) error {
			if now.Time.After(at) {
				return ErrStop
			}
			v, m, found = x, now, true
			return nil
		})
		switch {
		case err != nil:
			return v, m, fmt.Errorf("read last message of %s before %s: %w", subject, at.UTC().Format(time.RFC3339), err)
		case found:
			return v, m, nil
		case !at.Add(-back).After(oldest):
			return v, m, ErrNotFound
		}
	}
}

// LastSeq is the sequence of the last message of a stream, 0 for an empty one.
func (c *Conn) LastSeq(ctx context.Context, stream string) (uint64, error) {
	s, err := c.JS.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("open stream %s: %w", stream, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Oldest is the time of the oldest message that a stream still has, zero for an empty one.
func (c *Conn) Oldest(ctx context.Context, stream string) (time.Time, error) {
	s, err := c.JS.Stream(ctx, stream)
	if err != nil {
		return time.Time{}, fmt.Errorf("open stream %s: %w", stream, err)
	}
	if s.CachedInfo().State.Msgs == 0 {
		return time.Time{}, nil
	}
	return s.CachedInfo().State.FirstTime, nil
}

// Publish sends v on a core subject: not stored, nobody need listen.
func (c *Conn) Publish(subject string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message for %s: %w", subject, err)
	}
	if err := c.NC.Publish(subject, data); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	return nil
}

// ServiceError is an error that a micro service answered.
type ServiceError struct {
	Code    string // one of the Code constants, or NATS's own
	Message string
}

func (e *ServiceError) Error() string { return e.Message }

// RespondError answers a micro service request with an error, which [Request] returns as a *[ServiceError]. Unlike
// micro.Request.Error it may be called after the handler has returned: that one also leaves a note for the service's
// statistics, which the library reads at that moment from a goroutine of its own.
func RespondError(m micro.Request, code, message string) error {
	return m.Respond(nil, micro.WithHeaders(micro.Headers{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {message}}))
}

// packFrom is the size of an answer, bytes, from which it is packed: the bus takes 1 MiB, and a list of thousands of servers is longer.
const packFrom = 900 << 10

const (
	packHeader = "Content-Encoding"
	packed     = "gzip"
	// unpackedMost bounds what an answer is unpacked to, bytes.
	unpackedMost = 256 << 20
)

// Respond answers a micro service request with v as JSON, for [Request]. Errors: what is too large even when it is packed, of which the
// caller hears too.
func Respond(m micro.Request, v any) error {
	data, err := json.Marshal(v)
	if err == nil && len(data) < packFrom {
		return m.Respond(data)
	}
	var small bytes.Buffer
	if err == nil {
		w := gzip.NewWriter(&small)
		_, err = w.Write(data)
		err = errors.Join(err, w.Close())
	}
	if err == nil {
		err = m.Respond(small.Bytes(), micro.WithHeaders(micro.Headers{packHeader: {packed}}))
	}
	if err != nil {
		err = fmt.Errorf("answer with %d bytes, %d packed: %w", len(data), small.Len(), err)
		return errors.Join(err, RespondError(m, "500", err.Error()))
	}
	return nil
}

// answer is the JSON of an answer.
func answer(m *nats.Msg) ([]byte, error) {
	if m.Header.Get(packHeader) != packed {
		return m.Data, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(m.Data))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, unpackedMost+1))
	if err == nil && len(data) > unpackedMost {
		err = fmt.Errorf("more than %d bytes", unpackedMost)
	}
	return data, err
}

// ErrNobody is returned by [Request] when no service listens, which is the case while a receiver is down.
var ErrNobody = errors.New("no service answers")

// Request asks a micro service and decodes its answer, for which a context without a deadline has as long as for one of JetStream.
// Errors: *[ServiceError], [ErrNobody], or the context's.
func Request[Rep any](ctx context.Context, c *Conn, subject string, req any) (rep Rep, err error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerTime)
		defer cancel()
	}
	data, err := json.Marshal(req)
	if err != nil {
		return rep, fmt.Errorf("encode request for %s: %w", subject, err)
	}
	msg, err := c.NC.RequestWithContext(ctx, subject, data)
	if errors.Is(err, nats.ErrNoResponders) {
		return rep, fmt.Errorf("%w on %s", ErrNobody, subject)
	}
	if err != nil {
		return rep, fmt.Errorf("request %s: %w", subject, err)
	}
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		return rep, &ServiceError{Code: code, Message: msg.Header.Get(micro.ErrorHeader)}
	}
	data, err = answer(msg)
	if err == nil {
		err = json.Unmarshal(data, &rep)
	}
	if err != nil {
		return rep, fmt.Errorf("decode answer of %s: %w", subject, err)
	}
	return rep, nil
}

// Listen gives the messages of a core subject to handle until the subscription ends; what does not decode is passed
// over.
func Listen[T any](c *Conn, subject string, handle func(T)) (*nats.Subscription, error) {
	sub, err := c.NC.Subscribe(subject, func(m *nats.Msg) {
		var v T
		if err := json.Unmarshal(m.Data, &v); err == nil {
			handle(v)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return sub, nil
}

// Receivers lists the receivers that answer now, by name.
func Receivers(ctx context.Context, c *Conn) ([]string, error) {
	pings, err := Instances(ctx, c, KeeperService)
	if err != nil {
		return nil, fmt.Errorf("ask for receivers: %w", err)
	}
	var names []string
	for _, p := range pings {
		if name := p.Metadata["receiver"]; name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Instances lists the processes that serve a micro service now. It takes a moment: nobody knows how many there are.
func Instances(ctx context.Context, c *Conn, service string) ([]micro.Ping, error) {
	const patience = 300 * time.Millisecond // they answer at once
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	inbox := c.NC.NewRespInbox()
	sub, err := c.NC.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", service, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.NC.PublishRequest("$SRV.PING."+service, inbox, nil); err != nil {
		return nil, fmt.Errorf("ask for %s: %w", service, err)
	}
	var out []micro.Ping
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return out, nil // the time is over, or nobody listens
		}
		var p micro.Ping
		if json.Unmarshal(msg.Data, &p) == nil && p.ID != "" {
			out = append(out, p)
		}
	}
}
