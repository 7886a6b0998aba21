package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/job"
)

// logLine is one line of GET /api/jobs/{id}/log.
type logLine struct {
	Time    time.Time `json:"time"` // when the batch was received
	Level   string    `json:"level"`
	Attempt int       `json:"attempt,omitempty"`
	Text    string    `json:"text"`
}

// stateChange is one transition in the event stream of a job.
type stateChange struct {
	State   job.State `json:"state"`
	Prev    job.State `json:"prev,omitempty"`
	Event   job.Event `json:"event"`
	Reason  string    `json:"reason,omitempty"`
	Time    time.Time `json:"time"`
	Attempt int       `json:"attempt"`
}

// afterEnd is how long after its end lines of a job may still come.
const afterEnd = 10 * time.Minute

// showLog answers the lines of a job, or follows them.
func (g *Gateway) showLog(c *gin.Context) {
	j, ok := g.findJob(c)
	if !ok {
		return
	}
	if c.Query("follow") != "" {
		g.follow(c, j)
		return
	}
	lines := []logLine{}
	err := bus.Read(c.Request.Context(), g.Conn, bus.StreamLogs, logFilter(j), bus.From{Since: j.Created}, func(m bus.Meta, b bus.LogBatch) error {
		if !j.Ended().IsZero() && m.Time.After(j.Ended().Add(afterEnd)) {
			return bus.ErrStop
		}
		if b.JobID == j.ID {
			lines = append(lines, linesOf(b)...)
		}
		return nil
	})
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"job": j.ID, "state": j.State, "lines": lines})
}

func logFilter(j job.Job) string {
	return bus.LogSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task, "*")
}

func linesOf(b bus.LogBatch) []logLine {
	out := make([]logLine, len(b.Lines))
	for i, l := range b.Lines {
		out[i] = logLine{b.Time, b.Level, b.Attempt, l}
	}
	return out
}

const (
	// followGrace is how long a stream of events goes on after the end of the job, for the last lines.
	followGrace = 1500 * time.Millisecond
	// followPing is how often a silent stream says that it is alive, so that no balancer cuts it.
	followPing = 15 * time.Second
	// followWrite is how long a client may take to read one event.
	followWrite = 10 * time.Second
	// followsMax bounds the streams of events of a gateway. Each has a consumer in two streams of the bus, and nats-server holds a
	// thousand in each, drydock's own among them.
	followsMax = 200
)

var errFollows = errTooMany.withMessage("too many jobs are followed at once: end some of the streams, or ask for the log without follow")

// event is one server-sent event.
type event struct {
	name string // log, state or end; empty for "both followers have caught up"
	data any
	live bool // of a state: the job is live in it
}

// follow streams the lines and transitions of a job as server-sent events, from its beginning, until it has ended and
// nothing more comes, the client goes, or drydock stops.
func (g *Gateway) follow(c *gin.Context, j job.Job) {
	select {
	case g.follows <- struct{}{}:
		defer func() { <-g.follows }()
	default:
		g.fail(c, errFollows)
		return
	}
	ctx, cancel := context.WithCancel(clientContext(c))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	events := make(chan event, 64) // senders: the followers, until ctx ends; room for one batch of history
	wg.Go(func() { g.followLogs(ctx, j, events) })
	wg.Go(func() { g.followStates(ctx, j, events) })

	out := eventWriter{c: c, rc: http.NewResponseController(c.Writer)}
	if err := out.begin(); err != nil {
		return
	}
	ping := time.NewTicker(followPing)
	defer ping.Stop()
	end := time.NewTimer(0)
	end.Stop()
	changed := g.users.Changed()
	if !g.stillReads(c, j.Cluster) {
		return // since the request was let in
	}
	told := followed{live: true, behind: 2}
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-g.stopping:
			return
		case <-end.C:
			_ = out.write(event{name: "end", data: gin.H{"state": told.state}}) // the last one either way
			return
		case <-changed:
			changed = g.users.Changed()
			if !g.stillReads(c, j.Cluster) {
				return
			}
		case <-ping.C:
			if !g.stillReads(c, j.Cluster) {
				return // the token has expired
			}
			err = out.ping()
		case e := <-events:
			told.take(e)
			if e.name != "" {
				err = out.write(e)
			}
			if end.Stop(); told.all() {
				end.Reset(followGrace)
			}
		}
		if err != nil {
			return
		}
	}
}

// followed is how far a stream has come.
type followed struct {
	live   bool
	state  job.State // the last that was told
	behind int       // followers that have not caught up yet
}

func (f *followed) take(e event) {
	switch e.name {
	case "":
		f.behind--
	case "state":
		f.live, f.state = e.live, e.data.(stateChange).State
	}
}

// all reports whether the job has ended and everything that was there is told.
func (f *followed) all() bool { return !f.live && f.behind == 0 }

// stillReads reports whether the caller of a stream may go on reading: its token may have been revoked meanwhile.
func (g *Gateway) stillReads(c *gin.Context, cluster string) bool {
	who, err := g.auth.Verify(callOf(c).token)
	return err == nil && who.MayRead(cluster)
}

// send gives an event to the writer, unless it has gone.
func send(ctx context.Context, events chan<- event, e event) error {
	select {
	case events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *Gateway) followLogs(ctx context.Context, j job.Job, events chan<- event) {
	err := bus.Follow(ctx, g.Conn, bus.StreamLogs, logFilter(j), bus.From{Since: j.Created}, func(_ bus.Meta, b bus.LogBatch) error {
		if b.JobID != j.ID {
			return nil
		}
		for _, l := range linesOf(b) {
			if err := send(ctx, events, event{name: "log", data: l}); err != nil {
				return err
			}
		}
		return nil
	}, func() { _ = send(ctx, events, event{}) })
	g.logFollow(ctx, j, err)
}

func (g *Gateway) followStates(ctx context.Context, j job.Job, events chan<- event) {
	filter := bus.JobSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task)
	err := bus.Follow(ctx, g.Conn, bus.StreamJobs, filter, bus.From{Since: j.Created.Add(-time.Minute)}, func(_ bus.Meta, ev bus.JobEvent) error {
		if ev.Job.ID != j.ID || ev.Event == job.Note {
			return nil
		}
		change := stateChange{ev.State, ev.Prev, ev.Event, ev.Reason, ev.Time, ev.Attempt}
		return send(ctx, events, event{name: "state", data: change, live: ev.State.Live()})
	}, func() { _ = send(ctx, events, event{}) })
	g.logFollow(ctx, j, err)
}

func (g *Gateway) logFollow(ctx context.Context, j job.Job, err error) {
	if err != nil && ctx.Err() == nil {
		g.log.Warn("follow a job", "job", j, "err", err)
	}
}

// eventWriter writes server-sent events, each under its own deadline.
type eventWriter struct {
	c  *gin.Context
	rc *http.ResponseController
}

func (w eventWriter) begin() error {
	// The deadline of the request would end the stream: it is over by now, the stream is not.
	if err := w.rc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	h := w.c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.c.Status(http.StatusOK)
	return w.ping()
}

func (w eventWriter) write(e event) error {
	data, err := json.Marshal(e.data)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	return w.flush(fmt.Sprintf("event: %s\ndata: %s\n\n", e.name, data))
}

func (w eventWriter) ping() error { return w.flush(": drydock\n\n") }

func (w eventWriter) flush(text string) error {
	if err := w.rc.SetWriteDeadline(time.Now().Add(followWrite)); err != nil {
		return err
	}
	if _, err := w.c.Writer.WriteString(text); err != nil {
		return err
	}
	return w.rc.Flush()
}
