package receiver

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"drydock/dump"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
	"drydock/xbstream"
)

// receive takes the stream to its end and records what became of it; true when it is complete and worth keeping.
func (r *reservation) receive(conn *net.TCPConn) bool {
	facts := job.Stream{Opened: time.Now().UTC(), Peer: addrOf(conn.RemoteAddr()).Unmap().String()}
	r.log.Info("stream opened", "peer", facts.Peer)
	noted := r.noteOpened(facts)
	var meter atomic.Int64
	stopMeter := r.p.meter(r.ref, &meter)
	check := r.formatCheck()
	res, err := r.store(conn, check, &meter)
	facts.Format, facts.Broken = verdictOf(check) // also after an error: a check may hold a goroutine
	stopMeter()
	r.freePort() // the records below may wait for the bus
	noted()      // what follows says all of it again
	facts.Closed, facts.Bytes = time.Now().UTC(), meter.Load()
	if err != nil {
		facts.Format, facts.Broken = "", false // of a part nothing can be said
		r.broken(facts, err)
		return false
	}
	facts.Complete, facts.Stored, facts.Algo, facts.Hash, facts.StoredHash = true, res.Stored, res.Algo, res.Hash, res.StoredHash
	facts.Compress, facts.Encrypted = r.spec.Compress, r.spec.Encrypted
	r.log.Info("stream complete", "bytes", facts.Bytes, "elapsed", facts.Closed.Sub(facts.Opened).String())
	facts.Said = said(check)
	return r.complete(facts)
}

// store moves the bytes. After an error the sender has seen a reset and no file is left.
func (r *reservation) store(conn *net.TCPConn, check checker, meter *atomic.Int64) (sink.Result, error) {
	defer conn.Close()
	defer context.AfterFunc(r.ctx, func() { reset(conn) })()
	f, err := r.create()
	if err != nil {
		reset(conn)
		return sink.Result{}, err
	}
	var from io.Reader = &idleReader{conn, r.p.cfg.IdleTimeout}
	if check != nil {
		from = io.TeeReader(from, check)
	}
	err = f.Receive(r.ctx, from, meter.Store)
	var res sink.Result
	if err == nil {
		res, err = f.Finish()
	}
	if err == nil {
		return res, nil
	}
	reset(conn) // before the file goes: the sender must not wait for that
	if r.ctx.Err() != nil && !errors.Is(err, sink.ErrWrite) {
		err = context.Cause(r.ctx) // closing the connection was our own doing
	}
	return res, errors.Join(err, f.Abort())
}

// checker reads along with a stream. Write never fails. After Close, which must be called, Opaque says why the rest
// could not be looked at, though nothing is wrong.
type checker interface {
	io.WriteCloser
	Opaque() string
}

// formatCheck reads along with a stream that has a format; nil for every other stream.
func (r *reservation) formatCheck() checker {
	switch r.task.Format {
	case job.XBStream:
		return xbstream.New()
	case job.SQLText:
		return new(dump.SQL)
	case job.Tar:
		return dump.NewTar()
	}
	return nil
}

// verdictOf ends the check and is what the job records of it. A defect does not end the stream: the job fails by its
// proof, and says why, when the worker has told its side.
func verdictOf(check checker) (format string, broken bool) {
	if check == nil {
		return "", false
	}
	if err := check.Close(); err != nil {
		return err.Error(), true
	}
	if why := check.Opaque(); why != "" {
		return why, false
	}
	return job.FormatGood, false
}

// said is what the stream said of itself; nil where its format does not. Call it after [verdictOf].
func said(check checker) *job.Said {
	d, ok := check.(interface {
		Tool() string
		Position() dump.Position
	})
	if !ok {
		return nil
	}
	p := d.Position()
	out := &job.Said{Tool: d.Tool(), BinlogFile: p.File, BinlogPos: p.Pos, GTID: p.GTID}
	switch {
	case p.IsZero():
	case p.Source:
		out.BinlogOf = job.BinlogSource
	default:
		out.BinlogOf = job.BinlogOwn
	}
	return out
}

// create makes the file only now that the sender is there. One of the same attempt can only be left from an offer that
// was taken back.
func (r *reservation) create() (*sink.File, error) {
	f, err := sink.Create(r.spec)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := sink.Discard(r.spec); err != nil {
		return nil, err
	}
	return sink.Create(r.spec)
}

// idleReader gives every read its own deadline.
type idleReader struct {
	conn *net.TCPConn
	idle time.Duration
}

func (i *idleReader) Read(b []byte) (int, error) {
	if err := i.conn.SetReadDeadline(time.Now().Add(i.idle)); err != nil {
		return 0, err
	}
	return i.conn.Read(b)
}

// noteOpened records the opening beside the stream, which does not wait for the bus. The function it returns gives the
// record up, if it is not written yet, and waits for that.
func (r *reservation) noteOpened(facts job.Stream) (stop func()) {
	ctx, cancel := context.WithCancel(r.p.recording)
	var wg sync.WaitGroup
	wg.Go(func() {
		r.p.record(ctx, r.ref, store.Change{Event: job.Note, Edit: func(j *job.Job) { j.Stream = &facts }})
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// complete records a stream that is whole on disk; false when the job does not want it any more.
func (r *reservation) complete(facts job.Stream) bool {
	// Not r.ctx: a stream that is on disk is recorded whatever ends now.
	_, ok := r.p.record(r.p.recording, r.ref, store.Change{Event: job.Note, Edit: func(j *job.Job) { j.Stream = &facts }})
	if !ok && r.p.recording.Err() != nil {
		r.log.Error("complete stream could not be recorded before the stop", "path", r.spec.Temp())
		return false
	}
	if ok {
		return true // a job that ended meanwhile ends the holding too
	}
	if err := sink.Discard(r.spec); err != nil {
		r.log.Error("discard stream", "err", err)
	}
	return false
}

// broken records why there is no whole stream, unless the job itself gave it up.
func (r *reservation) broken(facts job.Stream, err error) {
	reason, tell := r.reason(err)
	if !tell {
		r.log.Info("stream cut", "reason", reason, "bytes", facts.Bytes)
		return
	}
	r.log.Warn("stream broken", "reason", reason, "bytes", facts.Bytes, "err", err)
	facts.Err = reason
	r.p.record(r.p.recording, r.ref, store.Change{Event: job.Cut, Reason: reason, Edit: func(j *job.Job) { j.Stream = &facts }})
}

// reason says to a person what err means; tell is false when the job need not be told.
func (r *reservation) reason(err error) (text string, tell bool) {
	var gone revoked
	var ended cut
	switch {
	case errors.Is(err, sink.ErrWrite):
		return "write " + string(r.task.Kind) + ": " + errno(err).Error(), true
	case errors.As(err, &gone):
		return gone.reason, false
	case errors.As(err, &ended):
		return ended.reason, true
	case errors.Is(err, errStopping):
		return errStopping.Error(), true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "stream stood still: no byte came for " + r.p.cfg.IdleTimeout.String(), true
	case errors.Is(err, syscall.ECONNRESET):
		return "stream broke: connection reset by the sender", true
	}
	return "stream broke: " + errno(err).Error(), true
}
