package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/job"
	"drydock/store"
)

// clustersPage leads to the clusters.
type clustersPage struct{ Clusters []Cluster }

func (w *Web) clusters(v *visit) (any, error) {
	return clustersPage{w.readable(v)}, nil
}

// maintenancePage is one cluster: its servers and tasks, when each ran last and comes next.
type maintenancePage struct {
	Cluster         Cluster
	Filter, More    string
	Tasks           []taskColumn
	Rows            []serverRow
	Matching        int
	Whole           []matrixCell // the tasks that do the whole cluster
	Closed, Windows string
	Opens           time.Time
	Hold            *store.Hold // of this cluster
	Shut            string      // a hold or blackout that keeps everything from beginning
	MayHold         bool
	Runnable        []job.Task // that the reader may run
	NoScheduler     string
}

// Title is that of the browser's tab.
func (p maintenancePage) Title() string { return p.Cluster.Name }

// taskColumn is a column of the matrix.
type taskColumn struct {
	Name string
	Next time.Time // of its schedule, zero when it has none
	Why  string    // it has none
}

// serverRow is a server and its last jobs, in the order of the columns.
type serverRow struct {
	Server job.Server
	Facts  *store.Facts
	Lag    *int64
	Cells  []matrixCell
}

// matrixCell is the last job of a task on a server.
type matrixCell struct {
	Slot    string // server and task, for the button
	Name    string
	Job     *job.Job
	When    time.Time // it ended, or began
	MayRun  bool
	Planned bool
	Next    time.Time
}

const (
	maintenanceRows    = 40
	maintenanceRowsMax = 400
)

func (w *Web) maintenance(v *visit) (any, error) {
	c, err := w.mayRead(v, v.PathValue("cluster"))
	if err != nil {
		return nil, err
	}
	p := maintenancePage{Cluster: c, Filter: strings.TrimSpace(v.query.Get("q"))}
	for _, t := range job.Tasks() {
		if w.offers(v, c, t) {
			p.Runnable = append(p.Runnable, t)
		}
	}
	plans, err := w.plansOf(v, &p)
	if err != nil {
		return nil, err
	}
	if err := w.closuresOf(v, &p); err != nil {
		return nil, err
	}
	servers := slices.DeleteFunc(slices.Clone(c.Servers), func(s job.Server) bool {
		return !strings.Contains(strings.ToLower(s.Addr()), strings.ToLower(p.Filter))
	})
	last := w.lastJobs(c.Name)
	p.Matching = len(servers)
	w.columns(&p, last, plans)
	slices.SortStableFunc(servers, func(a, b job.Server) int { return last.trouble(a) - last.trouble(b) })
	if limit := limitOf(v.query.Get("n"), maintenanceRows, maintenanceRowsMax); len(servers) > limit {
		servers = servers[:limit]
		p.More = "/maintenance/" + url.PathEscape(c.Name) + "?" + v.with("n", "400")
	}
	for _, s := range servers {
		row, err := w.serverRow(v.Context(), v, c, s, p.Tasks, last)
		if err != nil {
			return nil, err
		}
		p.Rows = append(p.Rows, row)
	}
	for _, t := range job.Tasks() {
		j, ran := last[job.Key{Cluster: c.Name, Task: t.Name}]
		if plan, planned := plans[t.Name]; t.Whole && (ran || planned && plan.Enabled) {
			cell := w.cellOf(v, c, job.Server{}, t.Name, j, ran)
			if planned && len(plan.Next) > 0 && plan.Switch == nil {
				cell.Planned, cell.Next = true, plan.Next[0]
			}
			p.Whole = append(p.Whole, cell)
		}
	}
	return p, nil
}

// offers reports whether the page has a button for a task: it can be run by hand, and the visitor may.
func (w *Web) offers(v *visit, c Cluster, t job.Task) bool {
	return t.Built && !t.Ordered() && c.Refuse[t.Name] == "" && v.who.May(c.Name, "", w.Grant(t))
}

// plansOf are the cluster's schedules by task.
func (w *Web) plansOf(v *visit, p *maintenancePage) (map[string]bus.ScheduleInfo, error) {
	out := map[string]bus.ScheduleInfo{}
	all, err := w.schedules(v.Context())
	if err != nil {
		p.NoScheduler = noScheduler
		return out, nil
	}
	for _, s := range all {
		if s.Cluster == p.Cluster.Name {
			out[s.Task] = s
			p.Closed, p.Opens, p.Windows = s.Closed, s.Opens, s.Windows
		}
	}
	return out, nil
}

const noScheduler = "no scheduler answers: nothing that is scheduled begins"

func (w *Web) closuresOf(v *visit, p *maintenancePage) error {
	all, err := w.Control.Closures(v.Context())
	if err != nil {
		return err
	}
	p.Shut, _ = all.Shut(p.Cluster.Name, time.Now())
	for _, h := range all.Holds {
		if h.Cluster == p.Cluster.Name {
			p.Hold = &h
		}
	}
	p.MayHold = v.who.May(p.Cluster.Name, "", auth.Hold)
	return nil
}

// lastJobs are the last jobs of a cluster by slot.
type lastJobs map[job.Key]job.Job

func (w *Web) lastJobs(cluster string) lastJobs {
	out := lastJobs{}
	for _, j := range w.View.Select(func(j job.Job) bool { return j.Cluster == cluster }) {
		out[j.Key()] = j
	}
	return out
}

// trouble ranks a server: 0 when one of its last jobs failed, 1 when something runs there, 2 otherwise.
func (l lastJobs) trouble(s job.Server) int {
	rank := 2
	for k, j := range l {
		switch {
		case k.Server != s:
		case failedState(j.State):
			return 0
		case j.State.Live():
			rank = 1
		}
	}
	return rank
}

// columns are the tasks that are scheduled for the cluster's servers or ever ran on one.
func (w *Web) columns(p *maintenancePage, last lastJobs, plans map[string]bus.ScheduleInfo) {
	ran := map[string]bool{}
	for k := range last {
		if k.Server != (job.Server{}) {
			ran[k.Task] = true
		}
	}
	for _, t := range job.Tasks() {
		plan, planned := plans[t.Name]
		if t.Whole || !ran[t.Name] && !(planned && plan.Enabled) {
			continue
		}
		col := taskColumn{Name: t.Name, Why: "not scheduled"}
		if planned && plan.Switch != nil {
			col.Why = "switched off by " + plan.Switch.By
		} else if planned && plan.Enabled && len(plan.Next) > 0 {
			col.Next, col.Why = plan.Next[0], ""
		} else if planned && plan.Why != "" {
			col.Why = plan.Why
		}
		p.Tasks = append(p.Tasks, col)
	}
}

func (w *Web) serverRow(ctx context.Context, v *visit, c Cluster, s job.Server, tasks []taskColumn, last lastJobs) (serverRow, error) {
	row := serverRow{Server: s}
	var f store.Facts
	ok, err := w.Docs.Get(ctx, c.Name, s, store.DocFacts, &f)
	if err != nil {
		return row, err
	}
	if ok {
		row.Facts = &f
		for _, source := range f.Sources {
			if source.Lag != nil && (row.Lag == nil || *source.Lag > *row.Lag) {
				row.Lag = source.Lag
			}
		}
	}
	for _, t := range tasks {
		j, ran := last[job.Key{Cluster: c.Name, Server: s, Task: t.Name}]
		row.Cells = append(row.Cells, w.cellOf(v, c, s, t.Name, j, ran))
	}
	return row, nil
}

func (w *Web) cellOf(v *visit, c Cluster, s job.Server, task string, j job.Job, ran bool) matrixCell {
	cell := matrixCell{Slot: s.String() + "/" + task, Name: task}
	if s != (job.Server{}) {
		cell.Slot = s.Addr() + "/" + task
	}
	if ran {
		cell.Job, cell.When = &j, j.Since
	}
	t, err := job.TaskByName(task)
	cell.MayRun = err == nil && (!ran || !j.State.Live()) && w.offers(v, c, t)
	return cell
}

// runTask is the form of the page of a cluster: a button of the matrix, or the choice above it.
func (w *Web) runTask(v *visit) error {
	c, err := w.mayRead(v, v.PathValue("cluster"))
	if err != nil {
		return err
	}
	server, task := v.PostFormValue("server"), v.PostFormValue("task")
	if slot := v.PostFormValue("slot"); slot != "" {
		i := strings.LastIndexByte(slot, '/')
		if i < 0 {
			return &problem{http.StatusBadRequest, "which server and task?"}
		}
		server, task = slot[:i], slot[i+1:]
	}
	back := "/maintenance/" + url.PathEscape(c.Name)
	if task == "" {
		return v.after(back, note{true, "choose a task"})
	}
	var s job.Server
	if server != "" && server != (job.Server{}).String() {
		i := slices.IndexFunc(c.Servers, func(x job.Server) bool { return x.Addr() == server })
		if i < 0 {
			return notFound("server")
		}
		s = c.Servers[i]
	}
	return w.run(v, c.Name, s, task, back)
}

// aboutCluster narrows the changes down to those of the page's cluster.
func aboutCluster(_ *visit, data any) func(change) bool {
	name := data.(maintenancePage).Cluster.Name
	return func(c change) bool { return c.topic == topicControl || c.key.Cluster == name }
}

// hold sets or lifts the hold of a cluster.
func (w *Web) hold(v *visit) error {
	c, err := w.mayRead(v, v.PathValue("cluster"))
	if err != nil {
		return err
	}
	path, back := "/api/clusters/"+url.PathEscape(c.Name)+"/hold", "/maintenance/"+url.PathEscape(c.Name)
	if v.PostFormValue("lift") == "1" {
		return w.act(v, http.MethodDelete, path, nil, back, "the hold is lifted")
	}
	body, err := json.Marshal(map[string]string{"reason": v.PostFormValue("reason")})
	if err != nil {
		return err
	}
	return w.act(v, http.MethodPost, path, body, back, "nothing begins on "+c.Name+" until the hold is lifted")
}
