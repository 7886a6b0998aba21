package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// jobPage is one job.
type jobPage struct {
	Job      job.Job
	Task     job.Task
	Now      time.Time
	Progress progress
	Steps    []stepRow
	Trouble  []string // what the tool and drydock say went wrong
	Log      []logEntry
	Cut      bool // there is more log than is shown
	NoLog    string
	MayAct   bool     // the reader may cancel it or run it again
	Orders   []string // what may be said to a rolling operation
	Command  string   // that does the same
}

// Title is that of the browser's tab.
func (p *jobPage) Title() string {
	return fmt.Sprintf("%s %s %s", p.Job.State, p.Job.Task, serverName(p.Job.Server))
}

// LogSeq is up to where the log is shown.
func (p *jobPage) LogSeq() uint64 {
	if len(p.Log) == 0 {
		return 0
	}
	return p.Log[len(p.Log)-1].Seq
}

// stepRow is a state of the job and how long it was in it.
type stepRow struct {
	job.Step
	Took    time.Duration
	Present bool // it is in it now
	Start   int  // thousandths of the whole time
	Width   int
}

// jobOf is the job of the request's path, if the visitor may see it.
func (w *Web) jobOf(v *visit) (job.Job, error) {
	j, err := w.Jobs.Find(v.Context(), v.PathValue("id"))
	if err == nil && !v.who.MayRead(j.Cluster) {
		err = store.ErrNone
	}
	if errors.Is(err, store.ErrNone) || errors.Is(err, job.ErrID) {
		return j, notFound("job")
	}
	return j, err
}

func (w *Web) job(v *visit) (any, error) {
	j, err := w.jobOf(v)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	p := &jobPage{Job: j, Now: now, Steps: stepsOf(j, now), Trouble: troubleOf(j), Progress: w.progressOf(j, now)}
	p.Task, _ = job.TaskByName(j.Task) // one that a newer version knows is shown as it is
	p.MayAct = v.who.May(j.Cluster, "", w.Grant(p.Task))
	p.Command = commandOf(j, p.Task)
	if j.Plan != nil && j.State.Live() {
		p.Orders = []string{job.OrderPause, job.OrderResume, job.OrderAbort}
	}
	if strings.HasPrefix(v.URL.Path, "/live/") {
		return p, nil // its log comes in pieces
	}
	x, err := w.tails.get(j)
	if err != nil {
		p.NoLog = err.Error()
		return p, nil
	}
	defer x.leave(nil)
	x.wait(v.Context())
	p.Log, p.Cut = x.since(0)
	return p, nil
}

// aboutJob narrows the changes down to those of the page's job.
func aboutJob(_ *visit, data any) func(change) bool {
	key := data.(*jobPage).Job.Key()
	return func(c change) bool { return c.topic == topicHistory || c.key == key }
}

// stepsOf is the life of a job as a line of states. What has ended takes no time more.
func stepsOf(j job.Job, now time.Time) []stepRow {
	if len(j.Steps) == 0 {
		return nil
	}
	end := now
	if !j.State.Live() {
		end = j.Steps[len(j.Steps)-1].Time
	}
	first := j.Steps[0].Time
	whole := max(end.Sub(first), time.Millisecond)
	var out []stepRow
	for i, s := range j.Steps {
		row := stepRow{Step: s, Present: i == len(j.Steps)-1}
		until := end
		if i+1 < len(j.Steps) {
			until = j.Steps[i+1].Time
		}
		row.Took = max(until.Sub(s.Time), 0)
		row.Start = int(1000 * s.Time.Sub(first) / whole)
		row.Width = int(1000 * row.Took / whole)
		out = append(out, row)
	}
	return out
}

// troubleOf collects what went wrong, the most telling first: the tool's own lines, what its output ended with, what the
// receiver saw. A job that did well has none.
func troubleOf(j job.Job) []string {
	if !failedState(j.State) && j.State != job.Canceled {
		return nil
	}
	var out []string
	add := func(text string) {
		if text = strings.TrimSpace(text); text != "" {
			out = append(out, text)
		}
	}
	add(strings.Join(j.Evidence.Errors, "\n"))
	add(j.Evidence.Result)
	if j.Stream != nil {
		add(j.Stream.Err)
		if j.Stream.Broken {
			add(j.Stream.Format)
		}
	}
	return out
}

// commandOf is the command line that asks for the same.
func commandOf(j job.Job, t job.Task) string {
	if t.Ordered() || !t.Built {
		return ""
	}
	c := "drydock run " + j.Cluster + " " + j.Task
	if j.Server != (job.Server{}) {
		c += " --server " + j.Server.Addr()
	}
	return c
}

func (w *Web) cancelJob(v *visit) error {
	id := v.PathValue("id")
	return w.act(v, http.MethodDelete, "/api/jobs/"+url.PathEscape(id), nil, "/jobs/"+url.PathEscape(id), "canceled")
}

func (w *Web) orderJob(v *visit) error {
	id, order := url.PathEscape(v.PathValue("id")), v.PathValue("order")
	switch order {
	case job.OrderPause, job.OrderResume, job.OrderAbort:
		return w.act(v, http.MethodPost, "/api/jobs/"+id+"/"+order, nil, "/jobs/"+id, order+" is asked for")
	}
	return notFound("page")
}

// retryJob runs the task again, as a run by hand, and goes to the new job.
func (w *Web) retryJob(v *visit) error {
	j, err := w.jobOf(v)
	if err != nil {
		return err
	}
	return w.run(v, j.Cluster, j.Server, j.Task, "/jobs/"+url.PathEscape(j.ID))
}

// started is what the run routes answer.
type started struct {
	Jobs []struct {
		ID string `json:"id"`
	} `json:"jobs"`
	Skipped []struct {
		Server job.Server `json:"server"`
		Reason string     `json:"reason"`
	} `json:"skipped"`
}

// run asks for a task on a server, or on the cluster for the zero server. It goes to the job when it is one, and otherwise
// to the page that is named.
func (w *Web) run(v *visit, cluster string, s job.Server, task, back string) error {
	path := "/api/clusters/" + url.PathEscape(cluster)
	if s != (job.Server{}) {
		path += "/servers/" + url.PathEscape(s.Host) + "/" + fmt.Sprint(s.Port)
	}
	path += "/jobs/" + url.PathEscape(task)
	q := url.Values{}
	for _, word := range []string{"force", "confirm"} {
		if v.PostFormValue(word) == "1" {
			q.Set(word, "1")
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	var out started
	if err := w.call(v.Request, v.token, http.MethodPost, path, nil, &out); err != nil {
		return w.finish(v, err, back, "")
	}
	text := "asked for " + task
	for _, s := range out.Skipped {
		text += "; not on " + serverName(s.Server) + ": " + s.Reason
	}
	if len(out.Jobs) == 1 {
		w.awaitJob(v, out.Jobs[0].ID)
		back = "/jobs/" + url.PathEscape(out.Jobs[0].ID)
	}
	return v.after(back, note{Text: text})
}

// awaitJob waits a moment for a scheduler to start the job: its page is there then.
func (w *Web) awaitJob(v *visit, id string) {
	s := w.hub.join(topicJobs, nil)
	defer w.hub.leave(s)
	limit := time.NewTimer(3 * time.Second)
	defer limit.Stop()
	for {
		if _, ok := w.View.Find(id); ok {
			return
		}
		select {
		case <-s.wake:
		case <-limit.C:
			return
		case <-v.Context().Done():
			return
		}
	}
}

// wholeLog answers the log as text.
func (w *Web) wholeLog(v *visit) error {
	j, err := w.jobOf(v)
	if err != nil {
		return err
	}
	v.out.Header().Set("Content-Type", "text/plain; charset=utf-8")
	v.out.Header().Set("Content-Disposition", `attachment; filename="`+j.ID+`.log"`)
	rc := http.NewResponseController(v.out)
	err = bus.Read(v.Context(), w.Conn, bus.StreamLogs, logFilter(j), bus.From{Since: j.Created}, func(m bus.Meta, b bus.LogBatch) error {
		if !j.Ended().IsZero() && m.Time.After(j.Ended().Add(afterEnd)) {
			return bus.ErrStop
		}
		if b.JobID != j.ID {
			return nil
		}
		if err := rc.SetWriteDeadline(time.Now().Add(liveWrite)); err != nil {
			return err
		}
		for _, l := range b.Lines {
			if _, err := fmt.Fprintf(v.out, "%s %-5s %s\n", b.Time.UTC().Format(time.RFC3339), b.Level, l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && v.Context().Err() == nil {
		w.log.Warn("send the log of a job", "job", j, "err", err)
	}
	return nil
}

// afterEnd is how long after its end lines of a job may still come.
const afterEnd = 10 * time.Minute
