package attempt

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
)

// The levels of log lines, as the stream DRYDOCK_LOGS spells them.
const (
	Info  = "INFO"
	Warn  = "WARN"
	Error = "ERROR"
)

const (
	linesMax   = 200
	lineMax    = 2000      // bytes
	bytesMax   = 128 << 10 // of a message: JSON spends up to six on each, and the bus takes 1 MiB
	busTimeout = 5 * time.Second
)

// Lines gathers the log lines of one attempt of a job and writes them to DRYDOCK_LOGS in runs of one level. Safe for
// concurrent use.
type Lines struct {
	out *bus.Batcher
	log *slog.Logger
	job job.Job

	mu    sync.Mutex
	level string
	text  []string
	size  int // bytes of it
}

// NewLines writes to out.
func NewLines(out *bus.Batcher, log *slog.Logger, j job.Job) *Lines {
	return &Lines{out: out, log: log, job: j}
}

// Add takes a line in.
func (l *Lines) Add(level, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text = text[:min(len(text), lineMax)]
	if level != l.level || len(l.text) >= linesMax || l.size+len(text) > bytesMax {
		l.write()
	}
	l.level = level
	l.text, l.size = append(l.text, text), l.size+len(text)
}

// Flush writes what has gathered.
func (l *Lines) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write()
}

// write needs the mutex, so that lines stand in the log in their order. What cannot be written is lost, and said.
func (l *Lines) write() {
	if len(l.text) == 0 {
		return
	}
	j := l.job
	m := bus.LogBatch{
		Level: l.level, Lines: l.text, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt,
		Type: bus.TypeLog, ID: bus.NewMessageID(), Time: time.Now().UTC(),
	}
	l.text, l.size = nil, 0
	ctx, cancel := context.WithTimeout(context.Background(), busTimeout) // also when the job was cut
	defer cancel()
	if err := l.out.Put(ctx, bus.LogSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task, m.Level), m.ID, m); err != nil {
		l.log.Warn("keep log lines", "job", j, "lines", len(m.Lines), "err", err)
	}
}
