package web

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/store"
)

// historyPage is a list of jobs.
type historyPage struct {
	filter
	Jobs []historyRow
	More bool
}

// historyRow is a job in one line.
type historyRow struct {
	job.Job
	Start time.Time
	Late  time.Duration // from when it was due until a worker began
	Took  time.Duration // of the work; 0 when none began
	Bytes int64
}

const (
	historyRows   = 100
	historyMost   = 1000
	historyExport = 10_000
)

func (w *Web) history(v *visit) (any, error) {
	f, err := w.filterOf(v, "24h", historyRows, historyMost)
	if err != nil {
		return nil, err
	}
	jobs, err := w.jobsOf(v, f, f.Limit+1)
	if err != nil {
		return nil, err
	}
	p := historyPage{filter: f, More: len(jobs) > f.Limit}
	for _, j := range jobs[:min(len(jobs), f.Limit)] {
		p.Jobs = append(p.Jobs, rowOf(j, time.Now()))
	}
	return p, nil
}

// jobsOf reads the history, newest first.
func (w *Web) jobsOf(v *visit, f filter, limit int) ([]job.Job, error) {
	if f.State == stateLive { // all of them are at hand, however old
		return w.liveJobs(f, limit), nil
	}
	ask := store.Filter{Server: f.server, Task: f.Task, Since: f.From, Limit: historyExport}
	if f.State != "" && f.State != stateBad {
		ask.State = job.State(f.State)
	}
	names := f.names()
	if len(names) == len(w.cfg.Clusters) {
		names = []string{""} // one reading for all
	}
	var out []job.Job
	for _, name := range names {
		ask.Cluster = name
		some, err := w.Jobs.List(v.Context(), ask)
		if err != nil {
			return nil, err
		}
		for _, j := range some {
			if f.keeps(j.State) && (f.Trigger == "" || string(j.Trigger.Kind) == f.Trigger) && v.who.MayRead(j.Cluster) {
				out = append(out, j)
			}
		}
	}
	slices.SortFunc(out, newerJob)
	return out[:min(len(out), limit)], nil
}

func newerJob(a, b job.Job) int { return cmp.Or(strings.Compare(b.ID, a.ID), b.Attempt-a.Attempt) }

func (w *Web) liveJobs(f filter, limit int) []job.Job {
	names := f.names()
	out := w.View.Select(func(j job.Job) bool {
		return j.State.Live() && among(names, j.Cluster) && f.means(j.Server) && (f.Task == "" || f.Task == j.Task) &&
			(f.Trigger == "" || string(j.Trigger.Kind) == f.Trigger)
	})
	slices.SortFunc(out, newerJob)
	return out[:min(len(out), limit)]
}

func rowOf(j job.Job, now time.Time) historyRow {
	r := historyRow{Job: j, Start: j.Started(), Bytes: streamed(j)}
	if r.Start.IsZero() {
		return r
	}
	r.Late = max(r.Start.Sub(j.Due), 0)
	end := j.Ended()
	if end.IsZero() {
		end = now
	}
	r.Took = max(end.Sub(r.Start), 0)
	return r
}

// exportJSON answers the jobs of a filter whole.
func (w *Web) exportJSON(v *visit) error {
	f, err := w.filterOf(v, "24h", historyExport, historyExport)
	if err != nil {
		return err
	}
	jobs, err := w.jobsOf(v, f, f.Limit)
	if err != nil {
		return err
	}
	if jobs == nil {
		jobs = []job.Job{}
	}
	v.out.Header().Set("Content-Type", "application/json; charset=utf-8")
	v.out.Header().Set("Content-Disposition", `attachment; filename="drydock-history.json"`)
	return json.NewEncoder(v.out).Encode(map[string]any{"jobs": jobs})
}

// exportCSV answers the jobs of a filter as a table. Times are UTC, durations seconds.
func (w *Web) exportCSV(v *visit) error {
	f, err := w.filterOf(v, "24h", historyExport, historyExport)
	if err != nil {
		return err
	}
	jobs, err := w.jobsOf(v, f, f.Limit)
	if err != nil {
		return err
	}
	v.out.Header().Set("Content-Type", "text/csv; charset=utf-8")
	v.out.Header().Set("Content-Disposition", `attachment; filename="drydock-history.csv"`)
	out := csv.NewWriter(v.out)
	rows := [][]string{{"id", "cluster", "server", "task", "state", "reason", "trigger", "by", "due", "started", "ended", "late_s", "took_s", "bytes", "attempt"}}
	for _, j := range jobs {
		r := rowOf(j, time.Now())
		rows = append(rows, []string{
			j.ID, plain(j.Cluster), plain(serverName(j.Server)), plain(j.Task), string(j.State), plain(j.Reason), string(j.Trigger.Kind), plain(j.Trigger.By),
			isoOrNone(j.Due), isoOrNone(r.Start), isoOrNone(j.Ended()), fmt.Sprintf("%.1f", r.Late.Seconds()), fmt.Sprintf("%.1f", r.Took.Seconds()),
			fmt.Sprint(r.Bytes), fmt.Sprint(j.Attempt),
		})
	}
	return out.WriteAll(rows)
}

func isoOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return iso(t)
}

// plain keeps a text that others wrote from being a formula where the table is opened.
func plain(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
