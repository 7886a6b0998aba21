package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// key is the slot that a call about a task is about.
func (k *call) key(task string) job.Key {
	return job.Key{Cluster: k.cluster.Name, Server: k.server, Task: task}
}

// needs answers whether a server should run a task, or talk on one of the client's own channels. In api mode `true` hands
// the job to the caller.
func (g *Gateway) needs(c *gin.Context) {
	k, name := callOf(c), c.Param("task")
	if job.IsChannel(name) {
		yes, err := g.needsChannel(c.Request.Context(), k, name)
		if err != nil {
			g.fail(c, err)
			return
		}
		yesNo(c, yes)
		return
	}
	if _, err := job.TaskByName(name); err != nil {
		g.fail(c, err)
		return
	}
	j, ok := g.View.Get(k.key(name))
	switch {
	case !ok:
		yesNo(c, false)
	case !j.Mode.Script(): // drydock's own work
		yesNo(c, false)
	case j.Mode == job.API:
		yes, err := g.claim(c, j)
		if err != nil {
			g.fail(c, err)
			return
		}
		yesNo(c, yes)
	default: // the row is what is taken; asking changes nothing
		yesNo(c, j.State == job.Available || j.State.Running())
	}
}

func (g *Gateway) needsChannel(ctx context.Context, k *call, name string) (bool, error) {
	if name != "jobs-check" && name != "jobs-upgrade" {
		return false, nil // main and print-defaults are for logging only
	}
	doc, err := g.scriptDoc(ctx, k)
	if name == "jobs-check" {
		return doc.stale(), err
	}
	return doc.Upgrade, err
}

const (
	// openTimeout is what the receiver gets to reserve a port: a shell client waits for half a second in all. The others have more
	// patience, but one receiver that stands still must not take all of it: the next call goes to another.
	openTimeout = 250 * time.Millisecond
	openPatient = 2 * time.Second
	// shellLeaves is after how long a shell client must be taken for gone (wire.md section 1).
	shellLeaves = 450 * time.Millisecond
)

// claim hands an offered job to the caller, once. A task that streams to drydock gets its port first, so that nobody holds
// a job that cannot be done.
func (g *Gateway) claim(c *gin.Context, j job.Job) (bool, error) {
	begun, ctx := time.Now(), c.Request.Context()
	if j.State != job.Available || j.CalledBack() {
		return false, nil
	}
	task, err := job.TaskByName(j.Task)
	if err != nil {
		return false, err
	}
	if other := g.seenRival(j); other.ID != "" {
		return false, g.putBack(ctx, j, other) // no port is spent on it
	}
	var to job.Dispatch
	if task.Flow == job.FlowIn {
		port, err := g.reserve(c.Request, bus.OpenRequest{Key: j.Key(), JobID: j.ID, Attempt: j.Attempt})
		if err != nil {
			return false, g.noPort(ctx, j, err)
		}
		to = job.Dispatch{Receiver: port.Receiver, Address: port.Address, Port: port.Port}
	}
	claimed, err := g.Jobs.Apply(ctx, store.RefOf(j), store.Change{
		Event: job.Claim, Reason: "taken by the script at " + c.Request.RemoteAddr, Edit: func(j *job.Job) { j.Dispatch = to },
	})
	switch {
	case store.Late(err):
		return false, nil // another client was first, or the job has ended
	case err != nil:
		return false, err
	}
	// Once more, now that the claim stands in the log: of two that are claimed at once, each by its own client, the one
	// that looks last sees the other, so they are never both let go.
	if other, err := g.rival(ctx, claimed); err != nil || other.ID != "" {
		return false, errors.Join(err, g.giveBack(ctx, claimed, "another heavy job may be running"), g.putBack(ctx, claimed, other))
	}
	if shellLike(c.Request) && time.Since(begun) > g.answerBy {
		return false, g.giveBack(ctx, claimed, "the answer came too late for the script")
	}
	return true, nil
}

// seenRival is what the view knows of [Gateway.rival]: enough to refuse, not to hand out.
func (g *Gateway) seenRival(j job.Job) job.Job {
	if !heavy(j) {
		return job.Job{}
	}
	live := g.View.OfServer(j.Cluster, j.Server, func(x *job.Job) bool { return isHeavy(x.Task) && x.State.Live() && !x.Gated() })
	return rivalOf(j, live)
}

// rival is the heavy job for which j, just claimed, must step back; the zero Job when there is none. It is read from the
// log, because the view may lag.
func (g *Gateway) rival(ctx context.Context, j job.Job) (job.Job, error) {
	if !heavy(j) {
		return job.Job{}, nil
	}
	live, err := g.Jobs.LiveHeavy(ctx, j.Cluster, j.Server)
	if err != nil {
		return job.Job{}, err
	}
	return rivalOf(j, live), nil
}

// putBack makes an offered job wait for another in the queue. It may be gone meanwhile.
func (g *Gateway) putBack(ctx context.Context, j, other job.Job) error {
	if other.ID == "" {
		return nil
	}
	_, err := g.Jobs.Apply(ctx, store.RefOf(j), store.Change{Event: job.Withdraw, From: job.Available, Reason: heldBy(other)})
	if store.Late(err) {
		return nil
	}
	return err
}

// giveBack returns a job whose taker does not get it after all: it would wait for the sweeper otherwise.
func (g *Gateway) giveBack(ctx context.Context, j job.Job, reason string) error {
	_, err := g.Jobs.Apply(ctx, store.RefOf(j), store.Change{Event: job.Release, From: job.Claimed, Reason: reason})
	if store.Late(err) {
		return nil
	}
	return err
}

// reserve asks a receiver for a port: any one, or for a client that streams to the host of the API the one on this host, if
// there is one.
func (g *Gateway) reserve(r *http.Request, req bus.OpenRequest) (bus.OpenReply, error) {
	within := openPatient
	if shellLike(r) {
		within = openTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), within)
	defer cancel()
	if g.cfg.Receiver != "" && !ownScript(r) {
		here, err := bus.Request[bus.OpenReply](ctx, g.Conn, bus.ReceiverSubject(g.cfg.Receiver, bus.VerbOpen), req)
		if !errors.Is(err, bus.ErrNobody) {
			return here, err
		}
	}
	return bus.Request[bus.OpenReply](ctx, g.Conn, bus.SubjectReceiverOpen, req)
}

// noPort records why an offered job cannot be taken now. The caller answers `false`: the script comes again. While there is
// no port or no receiver at all the job waits in the queue, where it keeps no other job of the server from going first.
func (g *Gateway) noPort(ctx context.Context, j job.Job, cause error) error {
	var se *bus.ServiceError
	var change store.Change
	switch {
	case errors.As(cause, &se) && se.Code == bus.CodeExhausted:
		change = store.Change{Event: job.Withdraw, Reason: job.ReasonNoPort}
	case errors.As(cause, &se) && se.Code == bus.CodeNoSpace:
		change = store.Change{Event: job.Withdraw, Reason: job.ReasonNoSpace + se.Message}
	case errors.Is(cause, bus.ErrNobody):
		change = store.Change{Event: job.Withdraw, Reason: job.ReasonNoReceiver}
	default:
		reason := "no port could be reserved: " + cause.Error()
		if errors.Is(cause, context.DeadlineExceeded) {
			reason = "no port could be reserved: the receiver did not answer in time"
		}
		change = store.Change{Event: job.Note, Reason: reason, Edit: func(j *job.Job) {
			if j.State == job.Available {
				j.Reason = reason
			}
		}}
	}
	g.log.Warn("reserve a port", "job", j, "err", cause)
	if _, err := g.Jobs.Apply(ctx, store.RefOf(j), change); err != nil && !store.Late(err) {
		return err
	}
	return nil
}

// receiveTask tells where the stream of the job goes that the caller has taken.
func (g *Gateway) receiveTask(c *gin.Context) {
	k := callOf(c)
	task, err := job.TaskByName(c.Param("task"))
	if err != nil {
		g.fail(c, err)
		return
	}
	if task.Flow != job.FlowIn {
		text(c, http.StatusOK, "NO_RECEIVER_NEEDED")
		return
	}
	j, ok := g.View.Get(k.key(task.Name))
	if !ok || !j.State.Live() || j.Dispatch.Port == 0 {
		g.fail(c, errConflict.withMessage("no %s job of this server has a port", task.Name))
		return
	}
	text(c, http.StatusOK, receiverAnswer(j.Dispatch, c.Request))
}

// receiverAnswer names the port, and the address to a client that can use it: the others stream to the host they use for
// the API (wire.md section 3).
func receiverAnswer(d job.Dispatch, r *http.Request) string {
	out := fmt.Sprintf("RECEIVER_PORT=%d", d.Port)
	if d.Address != "" && ownScript(r) {
		out += "\nRECEIVER_ADDRESS=" + d.Address
	}
	return out
}

func ownScript(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("User-Agent"), "drydock-dbjobs/")
}
