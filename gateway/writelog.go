package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/gateway/joblog"
	"drydock/job"
	"drydock/store"
)

// logLevel answers whether lines of a level are wanted. The filter is the client's business: what is sent all the same is
// kept. Of a backup every line is wanted: clients send the tool's output at DEBUG, and its end line is part of the proof.
func (g *Gateway) logLevel(c *gin.Context) {
	name, err := job.LogName(c.Param("task"))
	if err != nil {
		g.fail(c, err)
		return
	}
	task, _ := job.TaskByName(name) // a channel is no task, and has no end line
	_, inLog := task.Format.EndLine()
	yesNo(c, inLog || joblog.Enabled(callOf(c).cluster.LogLevel, c.Param("level")))
}

// writeLog keeps a batch of log lines: what they prove is added to the job, the lines go to DRYDOCK_LOGS, and 200 means
// that both are on disk. No content of a line is an error.
func (g *Gateway) writeLog(c *gin.Context) {
	k, ctx := callOf(c), c.Request.Context()
	name, err := job.LogName(c.Param("task"))
	if err != nil {
		g.fail(c, err)
		return
	}
	if !k.given && k.plain {
		g.fail(c, errUnauthorized) // log lines come sealed, token or not
		return
	}
	batch := joblog.Parse(name, k.id.Level, k.id.Log)
	j := g.loggedJob(k, name)
	// Evidence first: it may be repeated, lines would stand twice.
	if err := g.addEvidence(ctx, j, batch.Evidence); err != nil {
		g.fail(c, err)
		return
	}
	if err := g.keepLines(ctx, k, name, j, batch.Lines); err != nil {
		g.fail(c, err)
		return
	}
	if len(batch.Lines) > 0 {
		g.sign(j, bus.SignLog)
	}
	text(c, http.StatusOK, "true")
}

// lateLines is how long after its end a job still gets the lines of a client that names none.
const lateLines = time.Minute

// loggedJob is the job that the lines are about: the one the client names, else the one in the slot, if it is at work or
// ended just now. The zero Job for the client's own channels, and for lines about nothing that drydock knows.
func (g *Gateway) loggedJob(k *call, name string) job.Job {
	if job.IsChannel(name) {
		return job.Job{}
	}
	j, ok := g.View.Get(k.key(name))
	named := k.id.Job != ""
	switch {
	case ok && named && j.Mode.Script() && j.ID == k.id.Job && (k.id.Attempt == 0 || k.id.Attempt == j.Attempt):
		return j
	case named:
		if _, err := job.TimeOfID(k.id.Job); err != nil {
			return job.Job{} // another manager's id, or none at all: not one to file lines under
		}
		// An earlier job or attempt, or one this process has not heard of: the lines are its, it gets no evidence here.
		return job.Job{ID: k.id.Job, Attempt: k.id.Attempt}
	case !ok || !j.Mode.Script() || j.State == job.Queued || j.State == job.Available && j.Mode == job.API:
		return job.Job{}
	case !j.State.Live() && time.Since(j.Since) > lateLines:
		return job.Job{}
	}
	return j
}

// addEvidence records what the lines prove, if it is news. Only a job that may still be judged takes evidence, and one
// that was halted or failed, whose error lines tell why.
func (g *Gateway) addEvidence(ctx context.Context, j job.Job, ev joblog.Evidence) error {
	if !takesEvidence(j.State) || !isNews(j, ev) {
		return nil
	}
	_, err := g.Jobs.Apply(ctx, store.RefOf(j), store.Change{Event: job.Note, Edit: func(j *job.Job) {
		if takesEvidence(j.State) {
			j.Evidence = withLog(j.Evidence, ev)
		}
	}})
	if store.Late(err) {
		g.log.Info("late evidence changes nothing", "job", j, "err", err)
		return nil
	}
	return err
}

func takesEvidence(s job.State) bool {
	return s.Live() || s == job.Halted || s == job.Failed
}

func isNews(j job.Job, ev joblog.Evidence) bool {
	return !reflect.DeepEqual(withLog(j.Evidence, ev), j.Evidence)
}

// withLog merges the evidence of a batch into a job's. What the worker reported by itself stays.
func withLog(e job.Evidence, ev joblog.Evidence) job.Evidence {
	ev.Tool = strings.TrimSpace(ev.Tool + " " + ev.Version)
	m := joblog.Merge(joblog.Evidence{
		Tool: e.Tool, BinlogFile: e.BinlogFile, BinlogPos: e.BinlogPos, GTID: e.GTID, Completed: e.Completed, Errors: e.Errors,
	}, ev)
	e.Tool, e.BinlogFile, e.BinlogPos, e.GTID, e.Completed, e.Errors = m.Tool, m.BinlogFile, m.BinlogPos, m.GTID, m.Completed, m.Errors
	if ev.Ended != "" && e.Result == "" {
		// Until the worker's own result comes. As a change of the job it also makes the dispatcher look at the row at once.
		e.Result = "the script's log ends with: " + ev.Ended
	}
	return e
}

// keepLines publishes the lines, one message per run of lines of one level, in their order. A batch that drydock's own
// script repeats has the same nonce and therefore the same message ids, by which the stream knows it; from older clients a
// repeated batch stands twice, because equal lines need not be the same lines.
func (g *Gateway) keepLines(ctx context.Context, k *call, name string, j job.Job, lines []joblog.Line) error {
	for i, m := range messages(lines) {
		id := bus.NewMessageID()
		if k.id.Nonce != "" {
			id = nonceID(k, name, i)
		}
		m.Cluster, m.Server, m.Task, m.JobID, m.Attempt = k.cluster.Name, k.server, name, j.ID, j.Attempt
		m.Type, m.ID, m.Time = bus.TypeLog, id, time.Now().UTC()
		if err := g.logs.Put(ctx, bus.LogSubject(m.Cluster, m.Server.Host, m.Server.Port, name, m.Level), id, m); err != nil {
			return fmt.Errorf("keep log lines: %w", err)
		}
	}
	return nil
}

func nonceID(k *call, name string, part int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%d", k.cluster.Name, k.server, name, k.id.Nonce, part))
	return hex.EncodeToString(sum[:16])
}

// maxMessage bounds the lines of one message, in bytes of JSON; the bus takes 1 MiB in all.
const maxMessage = 512 << 10

// messages cuts lines into runs of one level that fit into a message. A line that is too long for one goes on in the next.
func messages(lines []joblog.Line) []bus.LogBatch {
	var out []bus.LogBatch
	size := 0
	for _, l := range lines {
		for _, part := range fitting(l.Text) {
			n := jsonSize(part)
			if len(out) == 0 || out[len(out)-1].Level != l.Level || size+n > maxMessage {
				out, size = append(out, bus.LogBatch{Level: l.Level}), 0
			}
			last := &out[len(out)-1]
			last.Lines, size = append(last.Lines, part), size+n
		}
	}
	return out
}

// fitting cuts a line that no message could hold, between characters.
func fitting(line string) []string {
	const most = maxMessage / 6 // JSON spends at most six bytes on one
	if len(line) <= most || jsonSize(line) <= maxMessage {
		return []string{line}
	}
	var out []string
	for len(line) > 0 {
		end := 0
		for i, r := range line {
			if i+len(string(r)) > most {
				break
			}
			end = i + len(string(r))
		}
		out, line = append(out, line[:end]), line[end:]
	}
	return out
}

func jsonSize(s string) int {
	data, err := json.Marshal(s)
	if err != nil {
		return maxMessage
	}
	return len(data) + 1
}
