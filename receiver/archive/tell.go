package archive

import (
	"context"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// pulse gives signs of life with the progress, and writes the log lines that have gathered. stop ends it.
func (w *work) pulse(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	every := min(max(w.cluster.Lease/4, 250*time.Millisecond), time.Second)
	done := make(chan struct{}) // closed when the pulse has ended
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		var last int64
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			w.write("INFO")
			last = w.sign(last, every)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// sign publishes a sign of life; last is how many bytes the one before told of.
func (w *work) sign(last int64, every time.Duration) int64 {
	w.mu.Lock()
	p := w.progress
	w.mu.Unlock()
	j := w.job
	p.Sign, p.Type, p.Time = bus.SignHeartbeat, bus.TypeProgress, time.Now().UTC()
	p.Cluster, p.Server, p.Task, p.JobID, p.Attempt = j.Cluster, j.Server, j.Task, j.ID, j.Attempt
	if p.Bytes > last {
		p.Sign, p.Rate = bus.SignBytes, float64(p.Bytes-last)/every.Seconds()
	}
	if err := w.conn.Publish(bus.ProgressSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task), p); err != nil {
		w.log.Warn("tell of a sign of life", "job", j, "err", err)
	}
	return p.Bytes
}

// tell takes a status line of restic.
func (w *work) tell(s status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Kind == "status" {
		w.progress.Bytes, w.progress.Percent = s.Done, 100*s.Percent
	}
}

// note sets the reason of the job while it works.
func (w *work) note(reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), busTimeout)
	defer cancel()
	reason = w.cluster.redact(reason)
	if reason != "" {
		w.log.Info("job waits", "job", w.job, "reason", reason)
	}
	w.apply(ctx, w.job, store.Change{Event: job.Note, Reason: reason, Edit: func(j *job.Job) {
		if j.State == job.Processing {
			j.Reason = reason
		}
	}})
}

func (w *work) sayLine(line []byte) {
	if s := strings.TrimSpace(string(line)); s != "" {
		w.say(s)
	}
}

const linesMost = 500 // kept until the next write; what is more is lost

func (w *work) say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) < linesMost {
		w.lines = append(w.lines, w.cluster.redact(text))
	}
}

// write puts the lines that have gathered into DRYDOCK_LOGS. What cannot be written is lost, and said.
func (w *work) write(level string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) == 0 {
		return
	}
	j := w.job
	m := bus.LogBatch{
		Level: level, Lines: w.lines, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt,
		Type: bus.TypeLog, ID: bus.NewMessageID(), Time: time.Now().UTC(),
	}
	w.lines = nil
	ctx, cancel := context.WithTimeout(context.Background(), busTimeout) // also when the job was cut
	defer cancel()
	if err := w.logs.Put(ctx, bus.LogSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task, level), m.ID, m); err != nil {
		w.log.Warn("keep log lines", "job", j, "lines", len(m.Lines), "err", err)
	}
}
