package receiver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// queueGroup shares the requests for a port among all receivers.
const queueGroup = "drydock-receiver"

const (
	requestTime = 30 * time.Second
	// commitTime is longer: a large log is copied. Whoever asked may have given up by then and asks again.
	commitTime = 10 * time.Minute
)

var semver = regexp.MustCompile(`^\d+\.\d+\.\d+$`)

// serve answers on the bus. Every request runs in its own goroutine: one that waits holds up no other.
func (p *Pool) serve() (micro.Service, error) {
	version := p.cfg.Version
	if !semver.MatchString(version) {
		version = "0.0.0"
	}
	svc, err := micro.AddService(p.conn.NC, micro.Config{
		Name: bus.ReceiverService, Version: version, Description: "drydock receiver " + p.cfg.Name,
		Metadata: map[string]string{
			"receiver": p.cfg.Name, "address": p.cfg.Address, "ports": p.ports.String(), "version": p.cfg.Version,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("announce the receiver service: %w", err)
	}
	own := func(verb string) string { return bus.ReceiverSubject(p.cfg.Name, verb) }
	err = errors.Join(
		svc.AddEndpoint("open", endpoint(p, requestTime, p.open),
			micro.WithEndpointSubject(bus.SubjectReceiverOpen), micro.WithEndpointQueueGroup(queueGroup)),
		svc.AddEndpoint("open-here", endpoint(p, requestTime, p.open),
			micro.WithEndpointSubject(own(bus.VerbOpen)), micro.WithEndpointQueueGroupDisabled()),
		svc.AddEndpoint("close", endpoint(p, requestTime, p.close),
			micro.WithEndpointSubject(own(bus.VerbClose)), micro.WithEndpointQueueGroupDisabled()),
		svc.AddEndpoint("commit", endpoint(p, commitTime, p.commit),
			micro.WithEndpointSubject(own(bus.VerbCommit)), micro.WithEndpointQueueGroupDisabled()),
		svc.AddEndpoint("check", endpoint(p, p.checkTime, p.awaitCheck),
			micro.WithEndpointSubject(own(bus.VerbCheck)), micro.WithEndpointQueueGroupDisabled()),
		svc.AddEndpoint("send", endpoint(p, requestTime, p.send),
			micro.WithEndpointSubject(own(bus.VerbSend)), micro.WithEndpointQueueGroupDisabled()),
		svc.AddEndpoint("ports", endpoint(p, requestTime, p.portsNow),
			micro.WithEndpointSubject(own(bus.VerbPorts)), micro.WithEndpointQueueGroupDisabled()),
	)
	if err != nil {
		return svc, fmt.Errorf("announce the receiver service: %w", err)
	}
	// Subscriptions are known to the server only after this: who reads "ready" may ask.
	if err := p.conn.NC.FlushTimeout(requestTime); err != nil {
		return svc, fmt.Errorf("announce the receiver service: %w", err)
	}
	return svc, nil
}

// endpoint decodes, calls and answers. A *[bus.ServiceError] keeps its code; any other error is NATS's 500, which may
// be tried again.
func endpoint[Req, Rep any](p *Pool, limit time.Duration, handle func(context.Context, Req) (Rep, error)) micro.Handler {
	return micro.HandlerFunc(func(m micro.Request) {
		answer := func() {
			ctx, cancel := context.WithTimeout(p.base, limit)
			defer cancel()
			var req Req
			if err := json.Unmarshal(m.Data(), &req); err != nil {
				p.respond(m, nil, refused("decode request: %v", err))
				return
			}
			rep, err := handle(ctx, req)
			p.respond(m, rep, err)
		}
		if !p.spawn(answer) {
			p.respond(m, nil, p.stopping())
		}
	})
}

func (p *Pool) respond(m micro.Request, rep any, err error) {
	var se *bus.ServiceError
	switch {
	case err == nil:
		err = m.RespondJSON(rep)
	case errors.As(err, &se):
		err = bus.RespondError(m, se.Code, se.Message)
	default:
		p.cfg.Log.Warn("request failed", "subject", m.Subject(), "err", err)
		err = bus.RespondError(m, "500", err.Error())
	}
	if err != nil {
		p.cfg.Log.Warn("answer a request", "subject", m.Subject(), "err", err)
	}
}

func refused(format string, args ...any) error {
	return &bus.ServiceError{Code: bus.CodeRefused, Message: fmt.Sprintf(format, args...)}
}

// stopping is not a refusal: the request may be made again, to the next process.
func (p *Pool) stopping() error {
	return &bus.ServiceError{Code: "503", Message: "receiver " + p.cfg.Name + " is stopping"}
}

func (p *Pool) portsNow(context.Context, struct{}) (bus.PortsReply, error) {
	inUse, total := p.ports.count()
	return bus.PortsReply{Receiver: p.cfg.Name, Total: total, InUse: inUse}, nil
}

// open reserves a port for an attempt, or finds the one it has.
func (p *Pool) open(ctx context.Context, req bus.OpenRequest) (bus.OpenReply, error) {
	r, err := p.newReservation(ctx, req)
	if err != nil {
		return bus.OpenReply{}, err
	}
	for {
		p.mu.Lock()
		old := p.reservations[r.run]
		if old == nil {
			defer p.mu.Unlock()
			return p.begin(r)
		}
		p.mu.Unlock()
		if old.repeat() || p.stands(ctx, old) {
			return p.reply(old.port), nil
		}
		old.end(revoked{"the job is offered again"})
		select {
		case <-old.done:
		case <-ctx.Done():
			return bus.OpenReply{}, fmt.Errorf("wait for the earlier stream of %s: %w", r.run, ctx.Err())
		}
	}
}

func (p *Pool) reply(port int) bus.OpenReply {
	return bus.OpenReply{Receiver: p.cfg.Name, Address: p.cfg.Address, Port: port}
}

// newReservation checks what is asked for. Names never become paths or ports unchecked.
func (p *Pool) newReservation(ctx context.Context, req bus.OpenRequest) (*reservation, error) {
	r := &reservation{ref: refOf(req.Key, req.JobID, req.Attempt), run: job.RunName(req.JobID, req.Attempt)}
	for _, text := range req.From {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, refused("reserve a port for %s: %v", req.Key, err)
		}
		r.from = append(r.from, plain(a))
	}
	if req.Check {
		if !p.cfg.knows(req.Key.Cluster, req.Key.Server) || req.JobID == "" {
			return nil, refused("no server %s in cluster %q", req.Key.Server, req.Key.Cluster)
		}
		r.run, r.check = "check-"+r.run, newCheck()
		return r, nil
	}
	var err error
	if r.spec, r.task, err = p.cfg.place(req.Key, req.JobID, req.Attempt); err != nil {
		return nil, refused("reserve a port for %s: %v", req.Key, err)
	}
	j, ok := p.view.Get(req.Key)
	if ok && j.ID == req.JobID && (j.Attempt > req.Attempt || j.Attempt == req.Attempt && !j.State.Live()) {
		return nil, refused("attempt %d of job %s is over: the job is %s in attempt %d", req.Attempt, j.ID, j.State, j.Attempt)
	}
	r.need = p.expected(ctx, req.Key, r.spec, r.task)
	return r, nil
}

// begin binds a port for r and starts it. The caller holds p.mu.
func (p *Pool) begin(r *reservation) (bus.OpenReply, error) {
	if p.closing {
		return bus.OpenReply{}, p.stopping()
	}
	if err := p.room(r); err != nil {
		return bus.OpenReply{}, err
	}
	var err error
	if r.ln, r.port, err = p.ports.listen(holder(r.ref)); err != nil {
		return bus.OpenReply{}, &bus.ServiceError{Code: bus.CodeExhausted, Message: err.Error()}
	}
	p.start(r)
	if r.check != nil {
		life := time.AfterFunc(p.checkTime, func() { r.end(revoked{"the time of the check is over"}) })
		context.AfterFunc(r.ctx, func() { life.Stop() })
	}
	r.log.Info("port reserved")
	return p.reply(r.port), nil
}

// stands says whether the job still counts on r, which has a stream already: the request is then a repetition and not a
// second offer of the attempt. In doubt it stands, because the alternative cuts a stream.
func (p *Pool) stands(ctx context.Context, r *reservation) bool {
	if r.ctx.Err() != nil {
		return false
	}
	if r.check != nil {
		return true
	}
	j, _, err := p.jobs.Last(ctx, r.ref.Key)
	if err != nil {
		return !errors.Is(err, store.ErrNone)
	}
	return j.ID == r.ref.ID && j.Attempt == r.ref.Attempt && p.holds(j, r.port)
}

// close ends the reservation of an attempt.
func (p *Pool) close(ctx context.Context, req bus.CloseRequest) (struct{}, error) {
	run := job.RunName(req.JobID, req.Attempt)
	p.mu.Lock()
	r := p.reservations[run]
	if r == nil {
		r = p.reservations["check-"+run]
	}
	p.mu.Unlock()
	if r == nil {
		return struct{}{}, &bus.ServiceError{Code: bus.CodeGone, Message: "no reservation for " + run}
	}
	r.end(revoked{req.Reason})
	select {
	case <-r.done:
		return struct{}{}, nil
	case <-ctx.Done():
		return struct{}{}, fmt.Errorf("close %s: %w", run, ctx.Err())
	}
}

// checkRequest is any of the requests that name a reservation.
type checkRequest struct {
	JobID   string `json:"job_id"`
	Attempt int    `json:"attempt"`
}

// awaitCheck waits for what comes through a Check reservation.
func (p *Pool) awaitCheck(ctx context.Context, req checkRequest) (bus.CheckReply, error) {
	run := job.RunName(req.JobID, req.Attempt)
	p.mu.Lock()
	r := p.reservations["check-"+run]
	p.mu.Unlock()
	if r == nil {
		return bus.CheckReply{}, &bus.ServiceError{Code: bus.CodeGone, Message: "no check reservation for " + run}
	}
	reply, err := r.check.wait(ctx)
	if err != nil {
		return bus.CheckReply{}, &bus.ServiceError{Code: bus.CodeGone, Message: "script check: " + err.Error()}
	}
	return reply, nil
}
