package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"drydock/app"
	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// tasks are what each cluster's schedules start.
var tasks = []string{"errorlog", "slowquery", "mariabackup", "optimize"}

// keptLines is how many log lines a row remembers, for the report of a failure.
const keptLines = 5

// row is what is known of one expected job.
type row struct {
	key      job.Key
	due      time.Time
	job      job.Job // zero before it is known
	progress bus.Progress
	lines    []string    // the last log lines
	verdict  bus.Outcome // of a tick that started no job, else empty
	why      string      // the reason of that
}

// board is what the bus says about the eight jobs. Safe for concurrent use.
type board struct {
	mu   sync.Mutex
	rows []*row
	news []string // rows whose state changed, as lines
}

func newBoard(sites []*site, ticks schedule) *board {
	b := &board{}
	for _, s := range sites {
		for _, t := range tasks {
			key := job.Key{Cluster: s.cluster, Server: job.Server{Host: "127.0.0.1", Port: s.server.Port()}, Task: t}
			b.rows = append(b.rows, &row{key: key, due: ticks.of(t)})
		}
	}
	return b
}

// update changes one row under the lock; a row that is not ours is none of our business.
func (b *board) update(key job.Key, change func(*row)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(b.rows, func(r *row) bool { return r.key == key }); i >= 0 {
		change(b.rows[i])
	}
}

func (b *board) onJob(ev bus.JobEvent) {
	b.update(ev.Job.Key(), func(r *row) {
		moved := r.job.State != ev.Job.State || r.job.State == job.Queued && r.job.Reason != ev.Job.Reason
		r.job = ev.Job
		if moved {
			b.news = append(b.news, r.line(ev.Time))
		}
	})
}

func (b *board) onTick(t bus.Tick) {
	if t.Outcome != bus.Skipped && t.Outcome != bus.Missed {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.rows {
		if r.key.Cluster == t.Cluster && r.key.Task == t.Task && (len(t.Servers) == 0 || slices.Contains(t.Servers, r.key.Server)) {
			r.verdict, r.why = t.Outcome, t.Reason
			b.news = append(b.news, r.line(t.Time))
		}
	}
}

func (b *board) onProgress(p bus.Progress) {
	if p.Sign == bus.SignBytes {
		b.update(job.Key{Cluster: p.Cluster, Server: p.Server, Task: p.Task}, func(r *row) { r.progress = p })
	}
}

func (b *board) onLog(l bus.LogBatch) {
	b.update(job.Key{Cluster: l.Cluster, Server: l.Server, Task: l.Task}, func(r *row) {
		for _, text := range l.Lines {
			if text = strings.Join(strings.Fields(text), " "); text != "" { // tools align with spaces
				r.lines = append(r.lines, text)
			}
		}
		r.lines = r.lines[max(0, len(r.lines)-keptLines):]
	})
}

// takeNews returns the lines of the rows that changed since the last call.
func (b *board) takeNews() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	news := b.news
	b.news = nil
	return news
}

// ended reports whether nothing more is awaited.
func (b *board) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !slices.ContainsFunc(b.rows, func(r *row) bool { return !r.ended() })
}

// snapshot copies the rows.
func (b *board) snapshot() []row {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]row, len(b.rows))
	for i, r := range b.rows {
		out[i] = *r
		out[i].lines = slices.Clone(r.lines)
	}
	return out
}

func (r row) ended() bool {
	return r.verdict != "" || r.job.State != "" && !r.job.State.Live()
}

const rowFormat = "%-7s %-15s %-11s %-10s %6s  %s"

var heading = fmt.Sprintf(rowFormat, "CLUSTER", "SERVER", "TASK", "STATE", "TOOK", "WHAT")

// table draws the whole board.
func (b *board) table(now time.Time) []string {
	lines := []string{heading}
	for _, r := range b.snapshot() {
		lines = append(lines, r.line(now))
	}
	return lines
}

// line draws a row.
func (r row) line(now time.Time) string {
	line := fmt.Sprintf(rowFormat, r.key.Cluster, r.key.Server, r.key.Task, r.state(), r.took(now), r.what(now))
	return clip(strings.TrimRight(line, " "), maxWidth)
}

// state is the job's, or what stands in for one.
func (r row) state() string {
	if r.verdict != "" {
		return string(r.verdict)
	}
	return cmp.Or(string(r.job.State), "due")
}

func (r row) took(now time.Time) string {
	from, to := r.job.Started(), r.job.Ended()
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		to = now
	}
	return fmt.Sprintf("%.1fs", max(0, to.Sub(from)).Seconds())
}

// what says the one thing worth knowing in the row's state.
func (r row) what(now time.Time) string {
	switch {
	case r.verdict != "":
		return r.why
	case r.job.State == "" && now.Before(r.due):
		return fmt.Sprintf("at %s UTC, in %.0fs", r.due.Format(time.TimeOnly), r.due.Sub(now).Seconds())
	case r.job.State == "":
		return "at " + r.due.Format(time.TimeOnly) + " UTC"
	case r.job.State == job.Success:
		return r.result()
	case !r.job.State.Live():
		return r.job.Reason
	case r.progress.Bytes > 0 && r.progress.JobID == r.job.ID:
		return fmt.Sprintf("%s, %s/s", bytes(r.progress.Bytes), bytes(int64(r.progress.Rate)))
	case len(r.lines) > 0:
		return r.lines[len(r.lines)-1]
	}
	return r.job.Reason
}

// result is what a successful job brought.
func (r row) result() string {
	s := r.job.Stream
	switch {
	case s != nil && s.Stored != s.Bytes:
		return fmt.Sprintf("%s received, %s on disk", bytes(s.Bytes), bytes(s.Stored))
	case s != nil:
		return bytes(s.Bytes) + " received"
	}
	return "tables optimized"
}

// errTimeout is why watching ended early.
var errTimeout = errors.New("the jobs took too long")

// drawEvery is how often a terminal is redrawn at most.
const drawEvery = 200 * time.Millisecond

// watch shows the jobs until all have ended or the time is over; what is known then is in the board.
func (d *demo) watch(ctx context.Context) (*board, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.Timeout, errTimeout)
	defer cancel()
	b := newBoard(d.sites(), d.ticks)
	stop, err := d.listen(ctx, b)
	if err != nil {
		return nil, err
	}
	defer stop()
	d.screen.print("")
	if !d.screen.live {
		d.screen.print("         %s", heading)
	}
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		ended := b.ended()
		d.report(b)
		if ended {
			break
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errTimeout) {
				return nil, cause
			}
			d.say("%s are over, and not every job has ended", d.Timeout)
			return b, nil
		case <-tick.C:
		}
	}
	return b, nil
}

// report draws the table on a terminal, and elsewhere writes a line for every change.
func (d *demo) report(b *board) {
	news := b.takeNews()
	if d.screen.live {
		d.screen.draw(b.table(time.Now()))
		return
	}
	for _, line := range news {
		d.say("%s", clip(line, maxWidth-len("[ 12.3s] ")))
	}
}

// listen feeds the board from the bus, over the same connection that the commands use. stop ends it.
func (d *demo) listen(ctx context.Context, b *board) (stop func(), err error) {
	conn, err := app.Dial(ctx, d.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	following, cancel := context.WithCancel(context.Background())
	view := store.NewView(conn)
	view.OnChange(b.onJob)
	var followers sync.WaitGroup
	followers.Go(func() { _ = view.Run(following) })
	followers.Go(func() {
		_ = bus.Follow(following, conn, bus.StreamTasks, bus.AllTasks, bus.From{}, func(_ bus.Meta, t bus.Tick) error { b.onTick(t); return nil }, nil)
	})
	followers.Go(func() {
		_ = bus.Follow(following, conn, bus.StreamLogs, bus.AllLogs, bus.From{}, func(_ bus.Meta, l bus.LogBatch) error { b.onLog(l); return nil }, nil)
	})
	_, err = bus.Listen(conn, bus.AllProgress, b.onProgress) // ends with the connection
	stop = func() {
		cancel()
		followers.Wait()
		conn.NC.Close()
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}
