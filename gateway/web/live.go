package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"drydock/job"
)

// topic is a kind of change on the bus. Topics are bits.
type topic uint

const (
	topicJobs topic = 1 << iota
	topicProgress
	topicTicks
	topicAlerts
	topicBackups
	topicChecks
	topicHistory // the picture of the last 30 days is complete
	topicControl // a hold, a blackout, a switch or an acknowledgement
	topicPulse   // a minute begins in what is shown of a server's last hour
)

// change is one thing that happened.
type change struct {
	topic topic
	key   job.Key // of the job, for jobs and progress
}

// hub wakes the streams. It holds no messages: a stream that is woken looks at how things are.
type hub struct {
	mu   sync.Mutex
	subs map[*sub]struct{}
}

// sub is one stream. wake has room for one: a stream that is woken twice looks once.
type sub struct {
	on    topic
	match func(change) bool
	wake  chan struct{}
}

func newHub() *hub { return &hub{subs: map[*sub]struct{}{}} }

func (h *hub) tell(c change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if s.on&c.topic != 0 && (s.match == nil || s.match(c)) {
			s.kick()
		}
	}
}

func (s *sub) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (h *hub) join(on topic, match func(change) bool) *sub {
	s := &sub{on, match, make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs[s] = struct{}{}
	return s
}

func (h *hub) leave(s *sub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}

const (
	// livePing is how often a silent stream says that it is alive, and looks whether its session still holds.
	livePing = 15 * time.Second
	// liveWrite is how long a browser may take to read what is sent; then its stream is cut, and it comes again.
	liveWrite = 10 * time.Second
	// livePause is the least time between two looks of a stream. Looking takes at most a tenth of its time, however many
	// servers there are and however much happens.
	livePause = 250 * time.Millisecond
	liveShare = 10
	// liveRest bounds the pause: the process may have been stopped in the middle of a look.
	liveRest = 30 * time.Second
	// streamsEach bounds the streams of one session: a page takes one, while its tab is in front.
	streamsEach = 12
)

// streams counts the open streams by session.
type streams struct {
	mu   sync.Mutex
	open map[string]int
}

func (s *streams) enter(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]int{}
	}
	if s.open[token] >= streamsEach {
		return false
	}
	s.open[token]++
	return true
}

func (s *streams) leave(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[token]--; s.open[token] <= 0 {
		delete(s.open, token)
	}
}

// stream keeps a page up to date until the browser goes, the session ends or drydock stops. It sends the parts that have
// changed, as they are now, whenever the bus says that something happened; nothing is sent when nothing has changed.
func (w *Web) stream(v *visit, p *page) error {
	if !w.streams.enter(v.token) {
		return &problem{http.StatusTooManyRequests, "too many pages of this session are open"}
	}
	defer w.streams.leave(v.token)
	data, err := p.data(v)
	if err != nil {
		return err
	}
	var match func(change) bool
	if p.about != nil {
		match = p.about(v, data)
	}
	s := w.hub.join(p.on, match)
	defer w.hub.leave(s)
	l := &live{
		web: w, v: v, p: p, woken: s, logs: newLogFollow(w), known: strings.Split(v.query.Get("shown"), "."),
		out: &events{rc: http.NewResponseController(v.out), out: v.out},
	}
	defer l.logs.leave()
	if err := l.out.begin(); err != nil {
		return nil
	}
	if err := l.logs.join(v, data, s, l.out); err != nil {
		return nil
	}
	s.kick() // whatever happened before the stream was joined
	l.run()
	return nil
}

// live is a page in a browser that is kept up to date.
type live struct {
	web   *Web
	v     *visit
	p     *page
	out   *events
	woken *sub
	logs  logFollow
	known []string // sums of the parts as they are shown
}

// run looks again whenever something happened, until the stream is over.
func (l *live) run() {
	ping := time.NewTicker(livePing)
	defer ping.Stop()
	changed := l.web.Changed()
	for {
		pinged := false
		select {
		case <-l.v.Context().Done():
			return
		case <-l.web.stopping:
			return
		case <-ping.C:
			pinged = true
		case <-changed:
			changed = l.web.Changed()
		case <-l.woken.wake:
		}
		began := time.Now()
		if !l.look(pinged) {
			return
		}
		l.web.rest(l.v.Context(), min(max(livePause, liveShare*time.Since(began)), liveRest))
	}
}

// look sends what has changed since the last look; false says that the stream is over.
func (l *live) look(pinged bool) bool {
	var err error
	if l.v.who, err = l.web.session(l.v.token); err != nil {
		_ = l.out.send("gone", "", "the session has ended")
		return false
	}
	data, err := l.p.data(l.v)
	var gone *problem
	if errors.As(err, &gone) {
		_ = l.out.send("gone", "", gone.text)
		return false
	}
	if err == nil {
		l.known, err = l.web.sendChanged(l.out, l.p, data, l.known)
	}
	if err == nil && pinged {
		err = l.logs.join(l.v, data, l.woken, l.out)
	}
	if err == nil {
		err = l.logs.send(l.out)
	}
	if err == nil && pinged {
		err = l.out.ping()
	}
	if err != nil && l.v.Context().Err() == nil {
		l.web.log.Debug("a stream of the page ends", "page", l.p.name, "err", err)
	}
	return err == nil
}

// rest waits, unless there is nobody left to wait for.
func (w *Web) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-w.stopping:
	case <-t.C:
	}
}

// sendChanged sends the parts that are not as they were shown last, and returns what is shown now.
func (w *Web) sendChanged(out *events, p *page, data any, known []string) ([]string, error) {
	parts, sums, err := p.render(data)
	if err != nil {
		return known, err
	}
	var b strings.Builder
	for i, name := range p.parts {
		if i < len(known) && known[i] == sums[i] {
			continue
		}
		fmt.Fprintf(&b, "<hx-partial hx-target=\"#part-%s\" hx-swap=\"innerMorph\">%s</hx-partial>\n", name, parts[name])
	}
	if b.Len() == 0 {
		return sums, nil
	}
	return sums, out.send("", "", b.String())
}

// events writes server-sent events, each under its own deadline.
type events struct {
	rc  *http.ResponseController
	out http.ResponseWriter
}

func (e *events) begin() error {
	// The deadline of the request would end the stream: it is over by now, the stream is not.
	if err := e.rc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	h := e.out.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	e.out.WriteHeader(http.StatusOK)
	return e.ping()
}

func (e *events) ping() error { return e.flush(": drydock\n\n") }

// send writes one event: its name, its id (both may be empty) and its data.
func (e *events) send(name, id, data string) error {
	var b strings.Builder
	if name != "" {
		b.WriteString("event: " + name + "\n")
	}
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	// A carriage return ends a line too, and a log may hold any: what it says must not become a field of the event.
	for line := range strings.Lines(strings.ReplaceAll(data, "\r", " ")) {
		b.WriteString("data: " + strings.TrimRight(line, "\n") + "\n")
	}
	b.WriteString("\n")
	return e.flush(b.String())
}

func (e *events) flush(text string) error {
	if err := e.rc.SetWriteDeadline(time.Now().Add(liveWrite)); err != nil {
		return err
	}
	if _, err := e.out.Write([]byte(text)); err != nil {
		return err
	}
	return e.rc.Flush()
}

func seqOf(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // what is no number is the beginning
	return n
}
