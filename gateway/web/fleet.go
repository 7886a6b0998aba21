package web

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// fleetPage is what a DBA must know on a Monday.
type fleetPage struct {
	Now                        time.Time
	Running, Queued, Failed    int
	Overdue, Unproven, Backups int
	Faults, Acknowledged       int // open errors
	Rows                       []clusterRow
	Clusters, Matching         int // all that the reader may see; those that match the filter
	Filter                     string
	More                       string // address of the list with more rows
	Live                       []runningRow
	Failures                   []failure
	NoScheduler                string
	Reading                    bool // the last 30 days are being read
}

// Fine reports whether there is nothing to look at.
func (p fleetPage) Fine() bool { return p.Failed == 0 && p.Overdue == 0 && p.Faults == 0 }

// clusterRow is one cluster, in one line.
type clusterRow struct {
	Name              string
	Servers           int
	Worst             bus.Severity // of the open conditions
	Errors, Warnings  int
	Running, Failed   int
	Good              time.Time // end of the newest backup
	Proven, ProvenAt  time.Time // end of the newest backup that a drill restored, and when it did
	MaxAge            time.Duration
	Overdue, Unproven bool
	Next              time.Time
	NextTask          string
	Closed            string
	Opens             time.Time
	Windows           string
	Scheduled         bool
	Off               int  // schedules that somebody switched off
	OffLong           bool // one of them for long
	Strip             strip
	Binlogs           *store.BinlogStatus // how the archive of binary logs stands; nil when there is none
}

// State is the row's state in a word.
func (r clusterRow) State() string {
	switch {
	case r.Worst == bus.SeverityError:
		return "error"
	case r.Worst == bus.SeverityWarn || r.Failed > 0 || r.OffLong:
		return "warn"
	}
	return "ok"
}

// worse puts the clusters that need somebody first.
func worse(a, b clusterRow) int {
	order := map[string]int{"error": 0, "warn": 1, "ok": 2}
	yes := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	return cmp.Or(
		order[a.State()]-order[b.State()], yes(a.Overdue)-yes(b.Overdue), b.Errors-a.Errors, b.Failed-a.Failed, b.Warnings-a.Warnings,
		yes(a.Unproven)-yes(b.Unproven), strings.Compare(a.Name, b.Name),
	)
}

// runningRow is a job that works or waits to.
type runningRow struct {
	job.Job
	Progress progress
}

const (
	fleetRows    = 50
	fleetRowsMax = 1000
	runningRows  = 20
	failureRows  = 10
)

// codeOverdue is the condition that the page counts by itself.
const codeOverdue = "DOCK0201"

func (w *Web) fleet(v *visit) (any, error) {
	now := time.Now()
	p := fleetPage{Now: now, Filter: strings.TrimSpace(v.query.Get("q"))}
	rows := map[string]*clusterRow{}
	for _, c := range w.readable(v) {
		rows[c.Name] = &clusterRow{Name: c.Name, Servers: len(c.Servers)}
		if w.cfg.MaxAge != nil {
			rows[c.Name].MaxAge = w.cfg.MaxAge(c.Name)
		}
	}
	w.fleetJobs(&p, rows)
	acks, err := w.Control.Acks(v.Context())
	if err != nil {
		return nil, err
	}
	w.fleetAlerts(&p, rows, acks)
	w.fleetBackups(&p, rows)
	w.fleetSchedules(v, &p, rows)
	p.Clusters = len(rows)
	for _, r := range rows {
		if strings.Contains(strings.ToLower(r.Name), strings.ToLower(p.Filter)) {
			p.Rows = append(p.Rows, *r)
		}
	}
	p.Matching = len(p.Rows)
	slices.SortFunc(p.Rows, worse)
	limit := limitOf(v.query.Get("n"), fleetRows, fleetRowsMax)
	if p.Matching > limit {
		p.Rows = p.Rows[:limit]
		p.More = "/?" + v.with("n", strconv.Itoa(min(limit*4, fleetRowsMax)))
	}
	for i := range p.Rows {
		p.Rows[i].Strip = w.model.strip(p.Rows[i].Name, now)
		var b store.BinlogStatus
		if ok, err := w.Docs.Get(v.Context(), p.Rows[i].Name, job.Server{}, store.DocBinlogs, &b); err != nil {
			return nil, err
		} else if ok {
			p.Rows[i].Binlogs = &b
		}
		p.Reading = p.Reading || !p.Rows[i].Strip.Known
	}
	return p, nil
}

// with is the visit's query with one parameter changed.
func (v *visit) with(key, value string) string {
	q := map[string][]string{}
	for k, values := range v.query {
		q[k] = values
	}
	u := v.URL.Query()
	for k := range u {
		if k == "shown" || k == "after" {
			u.Del(k)
		}
	}
	u.Set(key, value)
	return u.Encode()
}

// limitOf reads a number of rows, between 1 and most.
func limitOf(s string, standard, most int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return standard
	}
	return min(n, most)
}

// fleetJobs counts what runs and what failed.
func (w *Web) fleetJobs(p *fleetPage, rows map[string]*clusterRow) {
	live := w.View.Select(func(j job.Job) bool { return rows[j.Cluster] != nil && j.State.Live() })
	slices.SortFunc(live, func(a, b job.Job) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.ID, b.ID)) })
	for _, j := range live {
		if !j.State.Running() && !j.State.Started() {
			p.Queued++
			continue
		}
		p.Running++
		rows[j.Cluster].Running++
		if len(p.Live) < runningRows {
			p.Live = append(p.Live, runningRow{j, w.progressOf(j, p.Now)})
		}
	}
	failures := w.model.recentFailures(p.Now, func(f failure) bool { return rows[f.Cluster] != nil })
	for _, f := range failures {
		rows[f.Cluster].Failed++
	}
	p.Failed = len(failures)
	p.Failures = failures[:min(len(failures), failureRows)]
}

// fleetAlerts counts what is open. What somebody has acknowledged stays in its cluster's row and alarms nobody above.
func (w *Web) fleetAlerts(p *fleetPage, rows map[string]*clusterRow, acks store.Acks) {
	of := func(a bus.Alert) bool { return rows[a.Cluster] != nil || a.Cluster == "" && len(rows) > 0 }
	for _, a := range w.model.openAlerts(of) {
		r := rows[a.Cluster]
		if r == nil {
			r = &clusterRow{} // of drydock itself: it counts, and has no row
		}
		if rank(a.Severity) > rank(r.Worst) {
			r.Worst = a.Severity
		}
		switch a.Severity {
		case bus.SeverityError:
			r.Errors++
			if acks[a.Name].Holds(a.ID, p.Now) {
				p.Acknowledged++
			} else {
				p.Faults++
			}
		case bus.SeverityWarn:
			r.Warnings++
		}
		if a.Code == codeOverdue {
			r.Overdue = true
			p.Overdue++
		}
	}
}

// fleetBackups finds the newest backup of each cluster, and the newest that a drill restored.
func (w *Web) fleetBackups(p *fleetPage, rows map[string]*clusterRow) {
	w.model.eachBackup(func(m *store.Manifest) {
		r := rows[m.Cluster]
		if r == nil {
			return
		}
		p.Backups++
		if m.Ended.After(r.Good) {
			r.Good = m.Ended
		}
		d, ok := m.Restored()
		if !ok {
			p.Unproven++
		} else if m.Ended.After(r.Proven) {
			r.Proven, r.ProvenAt = m.Ended, d.Time
		}
	})
	for _, r := range rows {
		r.Unproven = r.Proven.IsZero()
	}
}

func (w *Web) fleetSchedules(v *visit, p *fleetPage, rows map[string]*clusterRow) {
	all, err := w.schedules(v.Context())
	if err != nil {
		p.NoScheduler = noScheduler
		return
	}
	for _, s := range all {
		r := rows[s.Cluster]
		if r == nil {
			continue
		}
		r.Closed, r.Opens, r.Windows = s.Closed, s.Opens, s.Windows
		if s.Switch != nil {
			r.Off++
			r.OffLong = r.OffLong || s.Switch.Long(p.Now)
		}
		if !s.Enabled || len(s.Next) == 0 || s.Switch != nil {
			continue
		}
		r.Scheduled = true
		if r.Next.IsZero() || s.Next[0].Before(r.Next) {
			r.Next, r.NextTask = s.Next[0], s.Task
		}
	}
}
