package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

const (
	// maxSends is how many backups go out at a time. One fills a network link as well as several.
	maxSends = 4
	// dialPause is between two tries to connect: the listener may come up a little after it is announced.
	dialPause = 250 * time.Millisecond
	dialTry   = 5 * time.Second
)

// sending is one backup on its way out of here. One goroutine owns it; others look and end it.
type sending struct {
	p        *Pool
	ref      store.Ref
	own      bool // drydock itself listens and ends its job; otherwise the job of a script, which is ended here
	address  string
	nonce    string
	manifest store.Manifest
	log      *slog.Logger

	ctx context.Context
	end context.CancelCauseFunc
}

// send begins to stream a backup, for a listener of drydock itself.
func (p *Pool) send(ctx context.Context, req bus.SendRequest) (bus.SendReply, error) {
	m, err := p.sendable(ctx, req.Key.Cluster, req.From, req.Backup)
	if err != nil {
		return bus.SendReply{}, err
	}
	rep := bus.SendReply{Size: m.Size, Algo: m.Algo, Hash: m.Hash}
	if req.Probe {
		return rep, nil
	}
	if !validNonce(req.Nonce) {
		return rep, refused("send backup %s: the nonce is not 16 to 64 letters and digits", m.ID)
	}
	if _, port, err := net.SplitHostPort(req.Address); err != nil || port == "0" {
		return rep, refused("send backup %s: %q is not an address", m.ID, req.Address)
	}
	j, _, err := p.jobs.Last(ctx, req.Key)
	switch {
	case err != nil && !errors.Is(err, store.ErrNone):
		return rep, err
	case err != nil || j.ID != req.JobID || j.Attempt != req.Attempt || !j.State.Live():
		return rep, refused("send backup %s: attempt %d of job %s is not live", m.ID, req.Attempt, req.JobID)
	}
	s := &sending{p: p, ref: store.RefOf(j), own: true, address: req.Address, nonce: req.Nonce, manifest: m}
	return rep, p.beginSend(s, j)
}

func validNonce(s string) bool {
	return s == "" || len(s) >= 16 && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// sendable finds a backup and its file. What the catalogue says becomes a path only inside the server's own folder.
func (p *Pool) sendable(ctx context.Context, cluster string, from job.Server, id string) (store.Manifest, error) {
	gone := func(format string, args ...any) error {
		return &bus.ServiceError{Code: bus.CodeGone, Message: fmt.Sprintf(format, args...)}
	}
	m, err := p.catalog.Get(ctx, cluster, from, id)
	if errors.Is(err, store.ErrNoBackup) {
		return m, gone("%v", err)
	}
	if err != nil {
		return m, err
	}
	if m.Receiver != p.cfg.Name {
		return m, refused("backup %s belongs to receiver %s", id, m.Receiver)
	}
	if !safeElement(cluster) || !safeElement(from.Host) || filepath.Dir(m.Path) != filepath.Clean(p.cfg.folder(job.KindBackup, cluster, from)) {
		return m, refused("backup %s: %s is not in the folder of its server", id, m.Path)
	}
	info, err := os.Lstat(m.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, gone("the file of backup %s is gone: %s", id, m.Path)
	case err != nil:
		return m, err
	case !info.Mode().IsRegular() || info.Size() != m.Stored:
		return m, gone("the file of backup %s is damaged: %s has %d bytes, %d were stored", id, m.Path, info.Size(), m.Stored)
	}
	return m, nil
}

// beginSend enters s and starts it, once for an attempt.
func (p *Pool) beginSend(s *sending, j job.Job) error {
	s.ctx, s.end = context.WithCancelCause(p.base)
	s.log = p.cfg.Log.With("job", j)
	p.mu.Lock()
	defer p.mu.Unlock()
	run := j.Run()
	old := p.sendings[run]
	switch {
	case p.closing:
		s.end(nil)
		return p.stopping()
	case old != nil && old.address == s.address && old.nonce == s.nonce && old.manifest.ID == s.manifest.ID:
		s.end(nil)
		return nil
	case old != nil || s.own && j.Stream != nil && !j.Stream.Opened.IsZero():
		s.end(nil)
		return refused("a backup was sent to %s already", run)
	case s.own && len(p.sendings) >= maxSends:
		s.end(nil)
		return &bus.ServiceError{Code: bus.CodeExhausted, Message: fmt.Sprintf("receiver %s sends %d backups already", p.cfg.Name, len(p.sendings))}
	}
	p.sendings[run] = s
	p.work.Go(func() { s.run(j) })
	return nil
}

// offerSend takes note of a job of a script that waits for a backup of ours. It is called for every change of a job, and
// returns at once.
func (p *Pool) offerSend(j job.Job) {
	if j.State != job.Waiting || j.Mode == job.Local || j.Args[job.ArgReceiver] != p.cfg.Name {
		return
	}
	if task, err := job.TaskByName(j.Task); err != nil || task.Flow != job.FlowOut {
		return
	}
	p.mu.Lock()
	p.waiting[j.Run()] = j
	p.mu.Unlock()
}

// sendWaiting begins what was offered and has a place, and ends what its job no longer wants. Jobs that wait for a place
// are given a sign of life.
func (p *Pool) sendWaiting() {
	p.mu.Lock()
	offers := make([]job.Job, 0, len(p.waiting))
	for _, j := range p.waiting {
		offers = append(offers, j)
	}
	running := make([]*sending, 0, len(p.sendings))
	for _, s := range p.sendings {
		running = append(running, s)
	}
	p.mu.Unlock()
	for _, s := range running {
		s.look()
	}
	for _, j := range offers {
		now, ok := p.view.Get(j.Key())
		if !ok || now.Run() != j.Run() || now.State != job.Waiting {
			p.dropOffer(j)
			continue
		}
		p.sendToScript(now)
	}
}

func (p *Pool) dropOffer(j job.Job) {
	p.mu.Lock()
	delete(p.waiting, j.Run())
	p.mu.Unlock()
}

// sendToScript begins the stream to a script that waits, unless it has it already.
func (p *Pool) sendToScript(j job.Job) {
	p.mu.Lock()
	_, under := p.sendings[j.Run()]
	full := len(p.sendings) >= maxSends
	p.mu.Unlock()
	switch {
	case under:
	case j.Stream != nil && j.Stream.Complete:
		p.dropOffer(j)
	case j.Stream != nil && !j.Stream.Opened.IsZero():
		p.dropOffer(j)
		p.spawn(func() { p.cutByRestart(p.recording, j) })
	case full:
		p.progress(store.RefOf(j), bus.SignHeartbeat, 0, 0)
	default:
		if err := p.beginSend(&sending{p: p, ref: store.RefOf(j)}, j); err != nil {
			p.cfg.Log.Warn("send a backup", "job", j, "err", err)
		}
	}
}

// prepare finds out what a script waits for, and where.
func (s *sending) prepare(j job.Job) error {
	from, err := job.ParseServer(j.Args[job.ArgFrom])
	if err != nil {
		return refused("the job does not say whose backup it wants")
	}
	cl := s.p.cfg.Clusters[j.Cluster]
	index := slices.Index(cl.Servers, j.Server)
	if index < 0 {
		return refused("no server %s in cluster %q", j.Server, j.Cluster)
	}
	ctx, cancel := context.WithTimeout(s.ctx, requestTime)
	defer cancel()
	s.address = net.JoinHostPort(j.Server.Host, strconv.Itoa(job.ReceiverPort(cl.ReceiverPorts, index)))
	s.manifest, err = s.p.sendable(ctx, j.Cluster, from, j.Args[job.ArgBackup])
	return err
}

// prepared is prepare with the record of what can never be sent; what may work later is tried again at the next look.
func (s *sending) prepared(j job.Job) bool {
	err := s.prepare(j)
	if err == nil {
		return true
	}
	s.log.Warn("backup not sent", "err", err)
	var se *bus.ServiceError
	if errors.As(err, &se) {
		s.p.record(s.p.recording, s.ref, store.Change{Event: job.Cut, Reason: "the backup cannot be sent: " + se.Message})
	}
	return false
}

// look ends a stream that its job no longer wants.
func (s *sending) look() {
	j, ok := s.p.view.Get(s.ref.Key)
	if ok && j.ID == s.ref.ID && j.Attempt == s.ref.Attempt {
		if !j.State.Live() {
			s.end(revoked{"the job is " + string(j.State)})
		}
	} else if ok && j.Run() > job.RunName(s.ref.ID, s.ref.Attempt) {
		s.end(revoked{"the slot has moved on"})
	}
}

// run is the life of a sending: one record before the first byte, one at the end.
func (s *sending) run(j job.Job) {
	defer func() {
		s.end(nil)
		s.p.mu.Lock()
		delete(s.p.sendings, job.RunName(s.ref.ID, s.ref.Attempt))
		s.p.mu.Unlock()
	}()
	if !s.own && !s.prepared(j) {
		return
	}
	facts := job.Stream{Opened: time.Now().UTC(), Peer: s.address}
	opened := store.Change{Event: job.Note, Edit: func(j *job.Job) { st := facts; j.Stream = &st }}
	if _, ok := s.p.record(s.ctx, s.ref, opened); !ok {
		return
	}
	s.log.Info("backup is being sent", "backup", s.manifest.ID, "addr", s.address, "bytes", s.manifest.Size)
	var moved atomic.Int64
	stop := s.p.meter(s.ref, &moved)
	sum, err := s.stream(&moved)
	stop()
	facts.Closed, facts.Bytes = time.Now().UTC(), moved.Load()
	ch := store.Change{Event: job.Note, Edit: func(j *job.Job) { st := facts; j.Stream = &st }}
	if err == nil {
		facts.Complete, facts.Algo, facts.Hash = true, sink.SHA256, sum
		s.log.Info("backup sent", "bytes", facts.Bytes, "elapsed", facts.Closed.Sub(facts.Opened).String())
	} else {
		reason, tell := s.reason(err)
		s.log.Warn("backup not sent", "reason", reason, "bytes", facts.Bytes, "err", err)
		if !tell {
			return
		}
		facts.Err = reason
		if !s.own {
			ch.Event, ch.Reason = job.Cut, reason
		}
	}
	s.p.record(s.p.recording, s.ref, ch)
}

// stream connects and sends. After an error the listener has seen a reset, never an orderly end.
func (s *sending) stream(moved *atomic.Int64) (sum string, err error) {
	conn, err := s.dial()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { reset(conn) })()
	to := &idleWriter{conn, s.p.cfg.IdleTimeout}
	if s.nonce != "" {
		_, err = io.WriteString(to, bus.SendPreamble(s.nonce))
	}
	if err == nil {
		m := s.manifest
		sum, err = sink.Copy(s.ctx, to, m.Path, sink.Content{
			Compress: m.Compress, Encrypted: m.Encrypted, Identities: s.p.cfg.Clusters[m.Cluster].Identities,
			Size: m.Size, Algo: m.Algo, Hash: m.Hash,
		}, moved.Store)
	}
	if err == nil {
		err = finish(conn, s.p.cfg.IdleTimeout)
	}
	if err != nil {
		reset(conn)
		if s.ctx.Err() != nil {
			err = context.Cause(s.ctx) // closing the connection was our own doing
		}
	}
	return sum, err
}

// finish ends the stream in order and waits until the listener has read all of it, which it shows by closing its side.
func finish(conn *net.TCPConn, idle time.Duration) error {
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
	return err
}

// idleWriter gives every write its own deadline.
type idleWriter struct {
	conn *net.TCPConn
	idle time.Duration
}

func (w *idleWriter) Write(b []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.idle)); err != nil {
		return 0, err
	}
	return w.conn.Write(b)
}

// dial tries until the listener is up or AcceptTimeout is over.
func (s *sending) dial() (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialTry, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	end := time.Now().Add(s.p.cfg.AcceptTimeout)
	for {
		conn, err := d.DialContext(s.ctx, "tcp", s.address)
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if s.ctx.Err() != nil {
			return nil, context.Cause(s.ctx)
		}
		if time.Now().Add(dialPause).After(end) {
			return nil, notListening{s.address, s.p.cfg.AcceptTimeout, err}
		}
		select {
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		case <-time.After(dialPause):
		}
	}
}

// notListening says that nobody took a connection.
type notListening struct {
	address string
	within  time.Duration
	err     error
}

func (n notListening) Error() string {
	return fmt.Sprintf("nobody listened at %s within %s: %v", n.address, n.within, errno(n.err))
}

func (n notListening) Unwrap() error { return n.err }

// reason says to a person what err means; tell is false when the job need not be told.
func (s *sending) reason(err error) (text string, tell bool) {
	var gone revoked
	var silent notListening
	switch {
	case errors.As(err, &gone):
		return gone.reason, false
	case errors.As(err, &silent):
		return silent.Error(), true
	case errors.Is(err, errStopping):
		return errStopping.Error(), true
	case errors.Is(err, sink.ErrDamaged):
		return "backup " + s.manifest.ID + " cannot be used: " + err.Error(), true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "stream stood still: no byte was taken for " + s.p.cfg.IdleTimeout.String(), true
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "stream broke: connection reset by " + s.address, true
	}
	return "stream broke: " + errno(err).Error(), true
}
