package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

// Why a reservation ends before its stream did. The kind decides what is recorded.
type (
	// cut is drydock's own decision against the stream: the job is told.
	cut struct{ reason string }
	// revoked means that the job no longer wants the port: there is nothing to tell it.
	revoked struct{ reason string }
	// suspect is revoked for a backup that somebody should look at: its file is kept aside.
	suspect struct{ reason string }
)

func (c cut) Error() string     { return c.reason }
func (r revoked) Error() string { return r.reason }
func (s suspect) Error() string { return s.reason }

// errStopping ends what still runs at shutdown. A stream it cuts is recorded; a port nobody came to is left as it is,
// because the next process binds it again.
var errStopping = errors.New("stream cut: drydock stopped")

// phase is how far a reservation got.
type phase int

const (
	listening phase = iota // nobody came yet
	streaming              // the one connection is open
	holding                // complete on disk, waits for commit or for the job's end
)

// reservation is one port promised to one attempt of a job, then the stream on it, then its file until it is published.
// One goroutine owns it from begin to release; others only look and end it.
type reservation struct {
	p    *Pool
	ref  store.Ref
	run  string
	task job.Task
	spec sink.Spec
	port int
	ln   *net.TCPListener // nil when it begins in holding: it has no port then
	log  *slog.Logger

	ctx  context.Context // ends with the reason why everything must end
	end  context.CancelCauseFunc
	done chan struct{} // closed by release, when port and file are settled

	need int64        // bytes that a backup is expected to take on disk
	from []netip.Addr // who may send beside the server: drydock itself, for a job that it does

	check *check // not nil: hashes a script, no job stands behind it

	freeOnce sync.Once // gives the port back

	mu      sync.Mutex
	phase   phase
	asked   time.Time   // when it was last asked for
	seen    bool        // the view has shown this attempt
	accept  *time.Timer // runs from when the worker began; ends the reservation
	stopped bool        // no stream may begin any more
}

// start makes the goroutine that owns r and enters r into the pool. The caller holds p.mu.
func (p *Pool) start(r *reservation) {
	r.p = p
	r.ctx, r.end = context.WithCancelCause(p.base)
	r.done = make(chan struct{})
	r.asked = time.Now()
	r.log = p.cfg.Log.With("cluster", r.ref.Key.Cluster, "server", r.ref.Key.Server.String(), "task", r.ref.Key.Task,
		"job_id", r.ref.ID, "attempt", r.ref.Attempt, "port", r.port)
	p.reservations[r.run] = r
	p.work.Go(r.own)
}

// own is the life of a reservation.
func (r *reservation) own() {
	defer r.release()
	if r.ln != nil {
		conn, err := r.await()
		r.stopTimer()
		if err != nil {
			r.missed(err)
			return
		}
		if r.check != nil {
			r.check.take(r, conn)
			return
		}
		if !r.receive(conn) {
			return
		}
	}
	r.hold()
}

// release settles what is left; nothing of r is used afterwards.
func (r *reservation) release() {
	r.stopTimer()
	r.end(nil)
	if r.check != nil {
		r.check.finish(bus.CheckReply{}, errors.New("no stream came"))
	}
	r.freePort()
	r.p.mu.Lock()
	if r.p.reservations[r.run] == r {
		delete(r.p.reservations, r.run)
	}
	r.p.mu.Unlock()
	close(r.done)
}

func (r *reservation) freePort() {
	r.freeOnce.Do(func() {
		if r.ln != nil {
			r.p.ports.release(r.port)
		}
	})
}

// missed tells the job that nobody came, if that is the job's business.
func (r *reservation) missed(err error) {
	var c cut
	switch {
	case errors.As(err, &c):
		r.log.Warn("no stream came", "err", err)
		r.p.record(r.p.recording, r.ref, store.Change{Event: job.Cut, Reason: c.reason})
	case errors.Is(err, errStopping):
	default:
		r.log.Info("port given up", "reason", err.Error())
	}
}

// hold waits for the end of the job: the file is published by then, or of no use.
func (r *reservation) hold() {
	if !r.enter(holding) {
		return
	}
	select {
	case <-r.p.closed: // the next process takes it up
	case <-r.ctx.Done():
		if errors.Is(context.Cause(r.ctx), errStopping) {
			return
		}
		var doubtful suspect
		if errors.As(context.Cause(r.ctx), &doubtful) {
			r.setAside()
			return
		}
		if err := sink.Discard(r.spec); err != nil {
			r.log.Error("discard stream", "err", err)
		}
	}
}

func (r *reservation) setAside() {
	spec := r.spec
	if j, _, err := r.p.jobs.Last(r.p.recording, r.ref.Key); err == nil && j.ID == r.ref.ID && j.Stream != nil {
		spec = storedAs(spec, *j.Stream)
	}
	r.p.setAside(spec, r.task)
}

// setAside keeps the file of a backup that is not believed, for a person to look at: one for each server and task, the
// last. It is no backup: it has no manifest and is in no catalogue.
func (p *Pool) setAside(spec sink.Spec, task job.Task) {
	path, err := sink.SetAside(spec, task.Name+"-")
	if err != nil {
		p.cfg.Log.Error("keep a doubtful backup aside", "path", spec.Temp(), "err", err)
		return
	}
	p.cfg.Log.Warn("doubtful backup kept aside", "path", path)
}

// enter moves on to a phase, false when the pool is closing and no stream may begin.
func (r *reservation) enter(to phase) bool {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if r.p.closing && to == streaming {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = to
	return true
}

func (r *reservation) phaseNow() phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.phase
}

func (r *reservation) streaming() bool { return r.phaseNow() == streaming }

func (r *reservation) stopTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	if r.accept != nil {
		r.accept.Stop()
	}
}

// repeat answers whether r, still listening, can be promised once more; it is then kept for another grace.
func (r *reservation) repeat() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase != listening || r.ctx.Err() != nil {
		return false
	}
	r.asked = time.Now()
	return true
}

// look compares r with what the log says about its job.
func (r *reservation) look(now time.Time) {
	if r.check != nil {
		return
	}
	j, ok := r.p.view.Get(r.ref.Key)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !ok || j.ID != r.ref.ID || j.Attempt != r.ref.Attempt:
		// Before the attempt has been seen here, the view is late. Afterwards, another one has the slot.
		if r.seen || now.Sub(r.asked) > r.p.offerGrace {
			r.end(revoked{"the slot has moved on"})
		}
		return
	case j.TooSmall():
		r.end(suspect{"the job is " + string(j.State)})
	case !j.State.Live():
		r.end(revoked{"the job is " + string(j.State)})
	case !r.p.holds(j, r.port) && now.Sub(r.asked) > r.p.offerGrace:
		r.end(revoked{"the offer was taken back"})
	case r.phase == listening && j.State.Started() && r.accept == nil && !r.stopped && r.task.Format != job.Tar:
		// A row may wait for hours before a script takes it: only then the time counts. It is this machine's clock. A folder
		// is filled before it is sent, however long that takes: there the lease alone counts.
		wait := r.p.cfg.AcceptTimeout
		r.accept = time.AfterFunc(wait, func() { r.end(cut{"no stream came within " + wait.String()}) })
	}
	r.seen = true
}

// holds says whether the job's stream is promised to this port of ours.
func (p *Pool) holds(j job.Job, port int) bool {
	return j.Dispatch.Receiver == p.cfg.Name && j.Dispatch.Port == port
}

// await takes the one connection of the server itself; whoever else comes is sent away and the wait goes on.
func (r *reservation) await() (*net.TCPConn, error) {
	defer r.ln.Close()
	defer context.AfterFunc(r.ctx, func() { r.ln.Close() })()
	strangers := 0
	for {
		conn, err := r.ln.AcceptTCP()
		if r.ctx.Err() != nil {
			if err == nil {
				reset(conn)
			}
			return nil, context.Cause(r.ctx)
		}
		if err != nil { // out of descriptors, or the peer was gone before we looked
			r.log.Warn("accept", "err", err)
			select {
			case <-r.ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if r.welcome(conn, strangers) {
			if !r.enter(streaming) {
				reset(conn)
				return nil, errStopping
			}
			return conn, nil
		}
		strangers++
		reset(conn)
	}
}

// strangersLogged bounds what somebody who scans the ports can write to the log.
const strangersLogged = 5

func (r *reservation) welcome(conn *net.TCPConn, strangers int) bool {
	remote, local := addrOf(conn.RemoteAddr()), addrOf(conn.LocalAddr())
	if slices.Contains(r.from, plain(remote)) {
		return true
	}
	ok, err := r.p.peers.allowed(r.ctx, r.ref.Key.Server.Host, remote, local)
	if !ok && strangers < strangersLogged {
		log := r.log.With("peer", remote.String())
		if err != nil {
			log = log.With("err", err)
		}
		log.Warn("connection refused: not an address of the server")
	}
	return ok
}

func addrOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr() }

// reset closes a connection so that the other side sees a failure, never an orderly end.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// String names r for messages about who holds a port.
func (r *reservation) String() string { return holder(r.ref) }

func holder(ref store.Ref) string {
	return fmt.Sprintf("%s (job %s)", ref.Key, job.RunName(ref.ID, ref.Attempt))
}
