package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
)

const (
	// tailsMax bounds the jobs whose logs are followed at once, whoever looks at them.
	tailsMax = 64
	// tailLines and tailBytes bound what is kept of a log: the last of it. All of it is there to be fetched.
	tailLines = 2000
	tailBytes = 1 << 20
	// tailIdle is how long a log is followed on after the last one who looked at it.
	tailIdle = 30 * time.Second
	// tailWait is how long a page waits for the log to be read.
	tailWait = 2 * time.Second
)

// tails follows the logs of jobs that somebody looks at: one consumer per job, however many look.
type tails struct {
	conn *bus.Conn
	log  *slog.Logger

	mu   sync.Mutex
	open map[string]*tail // by job
	base context.Context  // of run; nil before it and after it
	wg   sync.WaitGroup
}

// tail is the end of the log of one job.
type tail struct {
	cancel context.CancelFunc
	caught chan struct{} // closed when what was there at first has been read

	mu      sync.Mutex
	users   int
	idle    time.Time // since when users is 0
	entries []logEntry
	lines   int
	bytes   int
	cut     bool // something older was there
	subs    map[*sub]struct{}
}

// logEntry is one batch of lines.
type logEntry struct {
	Seq     uint64
	Time    time.Time
	Level   string
	Attempt int
	Lines   []string
}

func newTails(conn *bus.Conn, log *slog.Logger) *tails {
	return &tails{conn: conn, log: log, open: map[string]*tail{}}
}

// run owns the followers until ctx ends.
func (t *tails) run(ctx context.Context) error {
	t.mu.Lock()
	t.base = ctx
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.base = nil
		t.mu.Unlock()
		t.wg.Wait()
	}()
	tick := time.NewTicker(tailIdle / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.sweep(time.Now().Add(-tailIdle))
		}
	}
}

// sweep ends the followers that nobody has needed since a time.
func (t *tails) sweep(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, x := range t.open {
		x.mu.Lock()
		if x.users == 0 && !x.idle.After(since) {
			x.cancel()
			delete(t.open, id)
		}
		x.mu.Unlock()
	}
}

var errTails = errors.New("too many logs are looked at; close some pages. It is tried again by itself")

// get gives the end of a job's log to one user more, who must leave it.
func (t *tails) get(j job.Job) (*tail, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.open[j.ID]
	if x == nil {
		if t.base == nil {
			return nil, errors.New("drydock is starting or stopping; try again")
		}
		if len(t.open) >= tailsMax {
			return nil, errTails
		}
		x = t.follow(j)
		t.open[j.ID] = x
	}
	x.mu.Lock()
	x.users++
	x.mu.Unlock()
	return x, nil
}

func (t *tails) follow(j job.Job) *tail {
	ctx, cancel := context.WithCancel(t.base)
	x := &tail{cancel: cancel, caught: make(chan struct{}), subs: map[*sub]struct{}{}}
	t.wg.Go(func() {
		defer cancel()
		err := bus.Follow(ctx, t.conn, bus.StreamLogs, logFilter(j), bus.From{Since: j.Created}, func(m bus.Meta, b bus.LogBatch) error {
			if b.JobID == j.ID {
				x.add(logEntry{m.Seq, b.Time, b.Level, b.Attempt, b.Lines})
			}
			return nil
		}, func() { close(x.caught) })
		if err != nil && ctx.Err() == nil {
			t.log.Warn("follow the log of a job", "job", j, "err", err)
		}
	})
	return x
}

func logFilter(j job.Job) string {
	return bus.LogSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task, "*")
}

func (x *tail) add(e logEntry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entries = append(x.entries, e)
	x.lines += len(e.Lines)
	x.bytes += e.size()
	for len(x.entries) > 1 && (x.lines > tailLines || x.bytes > tailBytes) {
		x.lines -= len(x.entries[0].Lines)
		x.bytes -= x.entries[0].size()
		x.entries, x.cut = x.entries[1:], true
	}
	for s := range x.subs {
		s.kick()
	}
}

func (e logEntry) size() (n int) {
	for _, l := range e.Lines {
		n += len(l)
	}
	return n
}

// since are the batches after a sequence, and whether something between is not kept any more.
func (x *tail) since(seq uint64) (out []logEntry, cut bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.entries {
		if e.Seq > seq {
			out = append(out, e)
		}
	}
	return out, x.cut
}

// wait waits a little for what is there already.
func (x *tail) wait(ctx context.Context) {
	t := time.NewTimer(tailWait)
	defer t.Stop()
	select {
	case <-x.caught:
	case <-ctx.Done():
	case <-t.C:
	}
}

func (x *tail) wake(s *sub) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.subs[s] = struct{}{}
}

// leave ends the use; s may be nil.
func (x *tail) leave(s *sub) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.subs, s)
	if x.users--; x.users == 0 {
		x.idle = time.Now()
	}
}

// logLines sends what is new in a log to one browser.
type logLines struct {
	web  *Web
	tail *tail
	page *page
	seq  uint64
}

// logOf joins the stream of a page that shows a log to that log; lines is nil for any other page.
func (w *Web) logOf(v *visit, data any, s *sub) (lines *logLines, leave func(), err error) {
	d, ok := data.(*jobPage)
	if !ok {
		return nil, func() {}, nil
	}
	x, err := w.tails.get(d.Job)
	if err != nil {
		return nil, func() {}, err
	}
	x.wake(s)
	after := v.query.Get("after")
	if last := v.Header.Get("Last-Event-ID"); last != "" {
		after = last
	}
	return &logLines{w, x, w.pages["jobs"], seqOf(after)}, func() { x.leave(s) }, nil
}

// logFollow is the log on the stream of a page, as soon as it can be followed. A stream that cannot have it stays, and tries
// again with each of its pings: one that ended would be opened anew at once, again and again.
type logFollow struct {
	web   *Web
	lines *logLines // nil for a page without a log, and while it is not followed
	done  func()    // what is to be called at the end
	why   string    // why it is not followed, as the page says it
}

func newLogFollow(w *Web) logFollow { return logFollow{web: w, why: "not tried"} }

// join follows the log of the page, if it has one that is not followed yet, and tells the browser when it cannot.
func (f *logFollow) join(v *visit, data any, s *sub, out *events) error {
	if _, has := data.(*jobPage); !has || f.lines != nil {
		return nil
	}
	lines, leave, err := f.web.logOf(v, data, s)
	why := ""
	if err != nil {
		why = err.Error()
	} else {
		f.lines, f.done = lines, leave
	}
	if why == f.why {
		return nil
	}
	f.why = why
	return out.send("", "", `<hx-partial hx-target="#log-note" hx-swap="innerHTML">`+template.HTMLEscapeString(why)+"</hx-partial>\n")
}

func (f *logFollow) send(out *events) error {
	if f.lines == nil {
		return nil
	}
	return f.lines.send(out)
}

func (f *logFollow) leave() {
	if f.done != nil {
		f.done()
	}
}

func (l *logLines) send(out *events) error {
	entries, _ := l.tail.since(l.seq)
	if len(entries) == 0 {
		return nil
	}
	var b bytes.Buffer
	b.WriteString(`<hx-partial hx-target="#log-lines" hx-swap="beforeend">`)
	if err := l.page.tmpl.ExecuteTemplate(&b, "loglines", entries); err != nil {
		return fmt.Errorf("render the log: %w", err)
	}
	b.WriteString("</hx-partial>\n")
	if err := out.send("", fmt.Sprint(entries[len(entries)-1].Seq), b.String()); err != nil {
		return err
	}
	l.seq = entries[len(entries)-1].Seq
	return nil
}
