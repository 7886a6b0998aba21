package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/gateway/envelope"
	"drydock/gateway/joblog"
	"drydock/job"
	"drydock/store"
)

// Bounds of what a report adds to a job: the job travels whole with every later change.
const (
	maxResult  = 16 << 10 // bytes; the end is kept, where tools say why
	maxRestore = 64 << 10 // bytes
	maxExit    = 32
)

// jobState records what a worker reports. It may be repeated, also after the end. What comes too late changes nothing:
// older clients get 200 then, as they could do nothing about it, and one that names its job gets 409.
func (g *Gateway) jobState(c *gin.Context) {
	k := callOf(c)
	task, err := job.TaskByName(c.Param("task"))
	if err != nil {
		g.fail(c, err)
		return
	}
	event, ok := job.EventOfWord(c.Param("state"))
	if !ok {
		g.fail(c, errNoRoute.withMessage("unknown state, it is one of processing, waiting, done, error"))
		return
	}
	if k.plain {
		k.id.Restore = plainRestore(k.body)
	}
	if len(k.id.Restore) > maxRestore {
		g.fail(c, errTooLarge.withMessage("restore is larger than %d bytes", maxRestore))
		return
	}
	j, err := g.report(c.Request.Context(), k, k.key(task.Name), event)
	switch {
	case err == nil:
		text(c, http.StatusOK, "true")
	case store.Late(err):
		g.log.Info("late report changes nothing", "event", event, "job", j, "reported", job.RunName(k.id.Job, k.id.Attempt), "err", err)
		if k.id.Job != "" {
			g.fail(c, errConflict.withMessage("that job is no longer the current one, or has ended"))
			return
		}
		text(c, http.StatusOK, "true")
	default:
		g.fail(c, err)
	}
}

// plainRestore is the restore object of a body that was not sealed.
func plainRestore(body []byte) json.RawMessage {
	var in struct {
		Restore json.RawMessage `json:"restore"`
	}
	if json.Unmarshal(body, &in) != nil {
		return nil
	}
	return in.Restore
}

// errNoClaim is the late report of a client that names no job: the job that stands in its slot was not taken by anybody,
// or is one that drydock does itself, so what is reported was about an earlier one.
var errNoClaim = fmt.Errorf("%w: the job was not taken by anybody", store.ErrStale)

func (g *Gateway) report(ctx context.Context, k *call, key job.Key, event job.Event) (job.Job, error) {
	if j, ok := g.View.Get(key); ok && (!j.Mode.Script() || k.id.Job == "" && !mayBeAbout(j, event)) {
		return j, errNoClaim
	}
	id := k.id
	// The end line is proof wherever it stands: a script that only pushes warnings still reports its last lines.
	found := joblog.Parse(key.Task, joblog.Info, id.Result).Evidence
	found.Initiated = false // the result is of this run alone; it must not undo what the log said of it
	return g.Jobs.Apply(ctx, store.Ref{Key: key, ID: id.Job, Attempt: id.Attempt}, store.Change{
		Event: event, Reason: reportReason(event, id),
		Edit: func(j *job.Job) {
			if j.State.Live() || j.Since.Equal(j.Updated) { // a job that has ended before keeps its facts
				addReport(&j.Evidence, id)
				j.Evidence = withLog(j.Evidence, found)
			}
		},
	})
}

// mayBeAbout tells whether an event without a job's name can be about the job in the slot. Of a job that is offered, only
// the beginning may be reported, and in api mode not even that: there it is claimed first.
func mayBeAbout(j job.Job, event job.Event) bool {
	switch j.State {
	case job.Queued:
		return false
	case job.Available:
		return j.Mode == job.SQL && (event == job.Start || event == job.Wait)
	}
	return true
}

// reportReason says in a sentence what the worker reported; nothing for what needs no reason.
func reportReason(event job.Event, id envelope.Identity) string {
	if event != job.Error {
		return ""
	}
	out := "the script reported an error"
	if len(id.Exit) > 0 {
		out += fmt.Sprintf(", exit status %v", id.Exit[:min(len(id.Exit), maxExit)])
	}
	if last := lastLine(id.Result); last != "" {
		out += ": " + last
	}
	return out
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return tail(strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:]), 200)
}

// tail is at most the last n bytes of a text, cut between characters.
func tail(text string, n int) string {
	if len(text) <= n {
		return text
	}
	text = text[len(text)-n:]
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return text
}

// addReport takes over what the worker says; what it does not say stays.
func addReport(e *job.Evidence, id envelope.Identity) {
	if len(id.Exit) > 0 {
		e.Exit = append([]int(nil), id.Exit[:min(len(id.Exit), maxExit)]...)
	}
	if id.Bytes != nil {
		sent := *id.Bytes
		e.Sent = &sent
	}
	if id.SHA256 != "" && len(id.SHA256) == 64 {
		e.SentSHA256 = strings.ToLower(id.SHA256)
	}
	if id.Result != "" {
		e.Result = tail(id.Result, maxResult)
	}
	var restore bytes.Buffer
	if len(id.Restore) > 0 && json.Compact(&restore, id.Restore) == nil { // as the log will spell it: a repeated report is no news
		e.Restore = restore.Bytes()
	}
}

// heartbeat takes a sign of life of drydock's own script, and tells it to stop when its job has ended meanwhile.
func (g *Gateway) heartbeat(c *gin.Context) {
	k := callOf(c)
	task, err := job.TaskByName(c.Param("task"))
	if err != nil {
		g.fail(c, err)
		return
	}
	j, goesOn, err := g.goesOn(c.Request.Context(), k, k.key(task.Name))
	switch {
	case err != nil:
		g.fail(c, err)
	case goesOn:
		g.sign(j, bus.SignHeartbeat)
		text(c, http.StatusOK, "ok")
	default:
		text(c, http.StatusOK, "stop")
	}
}

// goesOn tells whether the job that the caller names still is the live one of its slot. The picture may lag behind what
// another gateway wrote, so the log has the last word before somebody's work is stopped.
func (g *Gateway) goesOn(ctx context.Context, k *call, key job.Key) (job.Job, bool, error) {
	current := func(j job.Job) bool {
		return j.State.Live() && j.ID == k.id.Job && (k.id.Attempt == 0 || j.Attempt == k.id.Attempt)
	}
	j, _ := g.View.Get(key)
	if k.id.Job == "" || current(j) {
		return j, true, nil
	}
	j, _, err := g.Jobs.Last(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNone) {
		return j, false, err
	}
	return j, current(j), nil
}

// jobResult tells what became of a job of this server: the word of its state, or 404 `unknown job`.
func (g *Gateway) jobResult(c *gin.Context) {
	k := callOf(c)
	j, err := g.Jobs.Find(c.Request.Context(), c.Param("id"))
	if errors.Is(err, store.ErrNone) || errors.Is(err, job.ErrID) || err == nil && (j.Cluster != k.cluster.Name || j.Server != k.server) {
		text(c, http.StatusNotFound, "unknown job")
		return
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	text(c, http.StatusOK, string(j.State))
}
