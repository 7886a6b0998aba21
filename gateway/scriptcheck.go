package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// scriptDoc is what is known of the script on a database host.
type scriptDoc struct{ store.ScriptDoc }

// checkEvery is how long a checksum is believed.
const checkEvery = 24 * time.Hour

// stale reports whether the script should be looked at (again).
func (d scriptDoc) stale() bool { return time.Since(d.Checked) > checkEvery }

func (g *Gateway) scriptDoc(ctx context.Context, k *call) (doc scriptDoc, err error) {
	_, err = g.Docs.Get(ctx, k.cluster.Name, k.server, store.DocScript, &doc.ScriptDoc)
	return doc, err
}

// flights are things under way, at most one per server. The zero value is ready.
type flights struct {
	mu  sync.Mutex
	ids map[job.Key]string
}

// enter begins a flight under id, or answers the id of the one that is under way.
func (f *flights) enter(k job.Key, id string) (current string, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if under, ok := f.ids[k]; ok {
		return under, false
	}
	if f.ids == nil {
		f.ids = map[job.Key]string{}
	}
	f.ids[k] = id
	return id, true
}

func (f *flights) leave(k job.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ids, k)
}

const (
	checkTimeout = 75 * time.Second // a little more than the receiver waits for the stream
	sendTimeout  = 15 * time.Second // for the script's listener to come up (wire.md section 5)
	sendPause    = 250 * time.Millisecond
	sendWrite    = 30 * time.Second
	recordWithin = 10 * time.Second
)

// receiveScript opens a port on which the caller sends its own script, and compares checksums when it has come. A repeated
// call gets the same port.
func (g *Gateway) receiveScript(c *gin.Context) {
	k := callOf(c)
	key := k.key("jobs-check")
	now := time.Now()
	id, first := g.checks.enter(key, job.NewID(now, bus.NewMessageID(), key))
	req := bus.OpenRequest{Key: key, JobID: id, Attempt: 1, Check: true}
	port, err := g.reserve(c.Request, req)
	if first && (err != nil || !g.work.run(func(ctx context.Context) { g.awaitScript(ctx, k, req, port) })) {
		g.checks.leave(key)
	}
	if err != nil {
		var se *bus.ServiceError
		if errors.As(err, &se) {
			err = errUnavailable.withMessage("%s", se.Message)
		}
		g.fail(c, err)
		return
	}
	text(c, http.StatusOK, receiverAnswer(job.Dispatch{Address: port.Address, Port: port.Port}, c.Request))
}

// awaitScript waits for the checksum of what came and records whether it is the script that drydock would deliver.
func (g *Gateway) awaitScript(ctx context.Context, k *call, req bus.OpenRequest, port bus.OpenReply) {
	defer g.checks.leave(req.Key)
	log := g.log.With("cluster", k.cluster.Name, "server", k.server.String())
	wait, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	got, err := bus.Request[bus.CheckReply](wait, g.Conn, bus.ReceiverSubject(port.Receiver, bus.VerbCheck), req)
	if err != nil || got.Bytes == 0 {
		log.Info("no script came to be checked", "port", port.Port, "err", err)
		return
	}
	doc := store.ScriptDoc{SHA256: got.SHA256, Checked: time.Now().UTC(), Upgrade: got.SHA256 != g.sum}
	if doc.Upgrade {
		log.Info("the script on the database host is another one: it will be upgraded", "sha256", got.SHA256)
	}
	g.recordScript(ctx, k, doc)
}

func (g *Gateway) recordScript(ctx context.Context, k *call, doc store.ScriptDoc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if err := g.Docs.Put(ctx, k.cluster.Name, k.server, store.DocScript, doc); err != nil {
		g.log.Warn("record the script's checksum", "cluster", k.cluster.Name, "server", k.server.String(), "err", err)
	}
}

// sendScript answers at once and then sends the script to the caller's receiver port.
func (g *Gateway) sendScript(c *gin.Context) {
	k := callOf(c)
	key := k.key("jobs-upgrade")
	if _, first := g.sends.enter(key, ""); first && !g.work.run(func(ctx context.Context) { g.deliverScript(ctx, k, key) }) {
		g.sends.leave(key)
		g.fail(c, errUnavailable)
		return
	}
	text(c, http.StatusOK, "true")
}

// deliverScript connects to the database host and sends the script. Whether the host took it is seen at the next check:
// until then it is not sent again, nor tried again where the host could not be reached. Scripts ask in each of their
// cycles, and a firewall does not go away in a minute.
func (g *Gateway) deliverScript(ctx context.Context, k *call, key job.Key) {
	defer g.sends.leave(key)
	port := k.cluster.receiverPort(k.index)
	log := g.log.With("cluster", k.cluster.Name, "server", k.server.String(), "port", port)
	failed := pushBytes(ctx, net.JoinHostPort(k.server.Host, strconv.Itoa(port)), g.cfg.Script)
	switch {
	case failed != nil && ctx.Err() != nil: // drydock stops
		log.Info("script not sent", "err", failed)
		return
	case failed != nil:
		log.Warn("send the script; it is tried again after the next check", "err", failed)
	default:
		log.Info("script sent", "bytes", len(g.cfg.Script), "sha256", g.sum)
	}
	doc, err := g.scriptDoc(ctx, k)
	if err != nil {
		log.Warn("read what is known of the script", "err", err)
		return
	}
	doc.Upgrade = false
	if failed == nil {
		doc.Checked = time.Now().UTC()
	}
	g.recordScript(ctx, k, doc.ScriptDoc)
}

// pushBytes connects, for as long as the listener may need to come up, and sends data.
func pushBytes(ctx context.Context, addr string, data []byte) error {
	conn, err := dialUntil(ctx, addr, time.Now().Add(sendTimeout))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(sendWrite)); err != nil {
		return err
	}
	if _, err := conn.Write(data); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func dialUntil(ctx context.Context, addr string, end time.Time) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	for {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn, nil
		}
		if time.Now().Add(sendPause).After(end) {
			return nil, fmt.Errorf("connect: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(sendPause):
		}
	}
}
