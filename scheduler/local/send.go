package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const (
	portPatience = 10 * time.Minute // how long a dump waits for a port
	sendTimeout  = 10 * time.Minute // of one write, and for the receiver to have all of it on its disk
	endedSoon    = 10 * time.Second // how long the receiver may take to say why it broke a stream off
)

// outlet is the stream of a job to a receiver.
type outlet struct {
	conn *net.TCPConn
	sent int64
	cut  atomic.Bool // no deadline may be moved any more
}

// connect reserves a port for the job, records it there, and connects to it. While there is no port it waits.
func (w *work) connect(ctx context.Context) (*outlet, error) {
	port, err := w.reserve(ctx)
	if err != nil {
		return nil, err
	}
	to := job.Dispatch{Receiver: port.Receiver, Address: port.Address, Port: port.Port}
	if _, ok := w.apply(ctx, w.job, store.Change{Event: job.Note, Reason: "streams to receiver " + to.Receiver, Edit: func(j *job.Job) {
		if j.State.Live() {
			j.Dispatch = to
		}
	}}); !ok {
		return nil, errors.New("the receiver's port could not be recorded in the job")
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(to.Address, strconv.Itoa(to.Port)))
	if err != nil {
		return nil, fmt.Errorf("connect to receiver %s: %w", to.Receiver, err)
	}
	return &outlet{conn: conn.(*net.TCPConn)}, nil
}

// reserve asks a receiver for a port until there is one.
func (w *work) reserve(ctx context.Context) (bus.OpenReply, error) {
	req := bus.OpenRequest{Key: w.job.Key(), JobID: w.job.ID, Attempt: w.job.Attempt, From: ownAddresses()}
	waiting, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	for {
		asking, stop := context.WithTimeout(waiting, busTimeout)
		port, err := bus.Request[bus.OpenReply](asking, w.conn, bus.SubjectReceiverOpen, req)
		stop()
		var refusal *bus.ServiceError
		switch {
		case err == nil:
			if w.paused != "" {
				w.paused = ""
				w.note(ctx, "")
			}
			return port, nil
		case errors.As(err, &refusal) && refusal.Code == bus.CodeRefused:
			return port, fmt.Errorf("reserve a port: %w", err)
		case waiting.Err() != nil:
			return port, fmt.Errorf("reserve a port within %s: %w", portPatience, err)
		}
		if reason := noPort(err); reason != w.paused {
			w.paused = reason
			w.note(ctx, reason)
		}
		pause(waiting, time.Second)
	}
}

func noPort(err error) string {
	if errors.Is(err, bus.ErrNobody) {
		return job.ReasonNoReceiver
	}
	return job.ReasonNoPort
}

// ownAddresses are where a connection from this machine may come from.
func ownAddresses() (out []string) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the receiver then only knows the server's
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// Write sends, each time with a deadline of its own.
func (o *outlet) Write(b []byte) (int, error) {
	if err := o.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return 0, err
	}
	if o.cut.Load() {
		return 0, &sendError{context.Canceled}
	}
	n, err := o.conn.Write(b)
	o.sent += int64(n)
	if err != nil {
		return n, &sendError{err}
	}
	return n, nil
}

// sendError is a stream that the receiver did not take.
type sendError struct{ err error }

func (e *sendError) Error() string { return "send to the receiver: " + e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// finish tells the receiver that this was all, and waits until it has it on its disk: it closes the connection then.
func (o *outlet) finish() error {
	if err := errors.Join(o.conn.CloseWrite(), o.conn.SetReadDeadline(time.Now().Add(sendTimeout))); err != nil {
		return &sendError{err}
	}
	if o.cut.Load() {
		return &sendError{context.Canceled}
	}
	if _, err := io.Copy(io.Discard, o.conn); err != nil {
		return &sendError{err}
	}
	return nil
}

// interrupt has whoever writes or waits give up.
func (o *outlet) interrupt() {
	o.cut.Store(true)
	_ = o.conn.SetDeadline(time.Now())
}

// close ends the connection. A stream that was not finished is reset, so that nobody takes it for a whole one. What the
// job is to say about it must be recorded before: the receiver would say that the stream broke.
func (o *outlet) close() {
	_ = o.conn.SetLinger(0)
	_ = o.conn.Close()
}
