package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"drydock/gateway/auth"
	"drydock/job"
	"drydock/store"
)

// proof is how far a backup was shown to be good.
type proof string

// The proofs, from the weakest. Every backup of the catalogue is checked: its checks made it one.
const (
	proofChecked  proof = "checked"  // complete, hashed and of the right format; never restored
	proofRestored proof = "restored" // the last drill restored it
	proofBroken   proof = "broken"   // the last drill did not
)

func proofOf(m store.Manifest) proof {
	if len(m.Drills) == 0 {
		return proofChecked
	}
	if _, ok := m.Restored(); ok {
		return proofRestored
	}
	return proofBroken
}

// backupsPage is a list of backups.
type backupsPage struct {
	filter
	Proof    string
	Rows     []backupRow
	Matching int
	More     bool
	Chart    *trend // when all are of one server and task
	Stored   int64  // of all that match
}

// backupRow is a backup in one line.
type backupRow struct {
	store.Manifest
	Proof proof
	Drill *store.Drill  // the last
	Took  time.Duration // of the stream
	Rate  float64
	// Change is how far its size is from the median of those before it on the same server, in percent; Odd that it is less
	// than half or more than twice of that.
	Change int
	Odd    bool
	Known  bool // Change says something
}

const (
	backupRows = 100
	backupMost = 1000
)

func (w *Web) backups(v *visit) (any, error) {
	f, err := w.filterOf(v, "", backupRows, backupMost)
	if err != nil {
		return nil, err
	}
	p := backupsPage{filter: f, Proof: v.query.Get("proof")}
	names := map[string]bool{}
	for _, name := range f.names() {
		names[name] = true
	}
	var all []*store.Manifest
	w.model.eachBackup(func(m *store.Manifest) {
		if names[m.Cluster] && f.means(m.Server) && (f.Task == "" || m.Task == f.Task) {
			all = append(all, m)
		}
	})
	slices.SortFunc(all, func(a, b *store.Manifest) int { return strings.Compare(b.ID, a.ID) })
	var shown []*store.Manifest
	for _, m := range all {
		is := proofOf(*m)
		if p.Proof == "none" && is == proofRestored || p.Proof != "" && p.Proof != "none" && string(is) != p.Proof ||
			!f.From.IsZero() && m.Ended.Before(f.From) {
			continue
		}
		p.Matching++
		p.Stored += m.Stored
		if len(shown) < f.Limit {
			shown = append(shown, m)
		}
	}
	p.More = p.Matching > len(shown)
	p.Rows = compared(shown, all)
	p.Chart = trendOf(p.Rows)
	return p, nil
}

// compared makes rows of some backups, and sets each against those before it on its server. Both lists are the newest first,
// and all holds what shown holds.
func compared(shown, all []*store.Manifest) []backupRow {
	key := func(m *store.Manifest) job.Key { return job.Key{Cluster: m.Cluster, Server: m.Server, Task: m.Task} }
	before := map[job.Key][]int64{} // the sizes of the last ones, oldest first
	for _, m := range shown {
		before[key(m)] = nil
	}
	rows := make([]backupRow, len(shown))
	next := len(shown) - 1
	for _, m := range slices.Backward(all) {
		sizes, wanted := before[key(m)]
		if !wanted {
			continue
		}
		if next >= 0 && shown[next] == m {
			rows[next] = rowOfBackup(m, sizes)
			next--
		}
		before[key(m)] = append(sizes[max(0, len(sizes)-runsKept+1):], m.Size)
	}
	return rows
}

func rowOfBackup(m *store.Manifest, before []int64) backupRow {
	r := backupRow{Manifest: *m, Proof: proofOf(*m), Took: m.Ended.Sub(m.Started)}
	if n := len(m.Drills); n > 0 {
		r.Drill = &m.Drills[n-1]
	}
	if s := r.Took.Seconds(); s > 0 {
		r.Rate = float64(m.Size) / s
	}
	if median := quantile(slices.Sorted(slices.Values(before)), 0.5); median > 0 {
		r.Known, r.Change = true, int((100*(m.Size-median)+sign(m.Size-median)*median/2)/median)
		r.Odd = m.Size < median/2 || m.Size > 2*median
	}
	return r
}

func sign(n int64) int64 { return int64(cmp.Compare(n, 0)) }

// trend is the sizes of the backups of one slot, as the points of a picture 1000 wide and 100 high.
type trend struct {
	Points   []trendPoint
	Line     string // the points as SVG writes them
	Max, Min int64
	First    time.Time
	Last     time.Time
}

type trendPoint struct {
	X, Y int
	Row  backupRow
}

// trendOf draws the sizes of rows, the newest first; nil when they are of several slots or too few.
func trendOf(rows []backupRow) *trend {
	if len(rows) < 3 {
		return nil
	}
	rows = slices.Clone(rows[:min(len(rows), 120)])
	slices.Reverse(rows)
	key := func(r backupRow) job.Key { return job.Key{Cluster: r.Cluster, Server: r.Server, Task: r.Task} }
	t := &trend{First: rows[0].Ended, Last: rows[len(rows)-1].Ended, Min: rows[0].Size}
	for _, r := range rows {
		if key(r) != key(rows[0]) {
			return nil
		}
		t.Max, t.Min = max(t.Max, r.Size), min(t.Min, r.Size)
	}
	if t.Max == 0 || !t.Last.After(t.First) {
		return nil
	}
	var b strings.Builder
	for i, r := range rows {
		x := int(1000 * r.Ended.Sub(t.First) / t.Last.Sub(t.First))
		y := 100 - int(95*r.Size/t.Max)
		t.Points = append(t.Points, trendPoint{x, y, r})
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d,%d", x, y)
	}
	t.Line = b.String()
	return t
}

// backupPage is one backup.
type backupPage struct {
	backupRow
	MayDrill bool
	MayPin   bool
	Command  string
}

// Title is that of the browser's tab.
func (p backupPage) Title() string { return "backup of " + serverName(p.Server) }

// manifestOf is the backup of the request's path, if the visitor may see it.
func (w *Web) manifestOf(v *visit) (store.Manifest, error) {
	c, err := w.mayRead(v, v.PathValue("cluster"))
	if err != nil {
		return store.Manifest{}, err
	}
	s, err := job.ParseServer(v.PathValue("server"))
	if err != nil {
		return store.Manifest{}, notFound("backup")
	}
	// A name of the configuration need not be one that can be read back: compare it.
	if i := slices.IndexFunc(c.Servers, func(x job.Server) bool { return x.Addr() == v.PathValue("server") }); i >= 0 {
		s = c.Servers[i]
	}
	m, err := w.Catalog.Get(v.Context(), c.Name, s, v.PathValue("id"))
	if err != nil {
		if errors.Is(err, store.ErrNoBackup) {
			return m, notFound("backup")
		}
		return m, err
	}
	return m, nil
}

func (w *Web) backup(v *visit) (any, error) {
	m, err := w.manifestOf(v)
	if err != nil {
		return nil, err
	}
	p := backupPage{backupRow: rowOfBackup(&m, nil), Command: "drydock backups verify " + m.ID}
	p.MayPin = v.who.May(m.Cluster, "", auth.Backup)
	if t, err := job.TaskByName(taskDrill); err == nil {
		p.MayDrill = w.offers(v, w.known[m.Cluster], t)
	}
	return p, nil
}

// taskDrill is the task that restores a backup for a trial.
const taskDrill = "backupdrill"

// drill asks for a drill of a backup.
func (w *Web) drill(v *visit) error {
	m, err := w.manifestOf(v)
	if err != nil {
		return err
	}
	back := backupPath(m)
	var out started
	path := "/api/clusters/" + url.PathEscape(m.Cluster) + "/jobs/" + taskDrill + "?backup=" + url.QueryEscape(m.ID)
	if err := w.call(v.Request, v.token, http.MethodPost, path, nil, &out); err != nil {
		return w.finish(v, err, back, "")
	}
	if len(out.Jobs) == 1 {
		w.awaitJob(v, out.Jobs[0].ID)
		back = "/jobs/" + url.PathEscape(out.Jobs[0].ID)
	}
	return v.after(back, note{Text: "a drill is asked for"})
}

// pin keeps a backup whatever the rules say, or lets it go again.
func (w *Web) pin(v *visit) error {
	m, err := w.manifestOf(v)
	if err != nil {
		return err
	}
	path := "/api/backups/" + url.PathEscape(m.ID) + "/pin"
	body, err := json.Marshal(map[string]string{"reason": v.PostFormValue("reason")})
	if err != nil {
		return err
	}
	if v.PostFormValue("lift") == "1" {
		return w.act(v, http.MethodDelete, path, body, backupPath(m), "it is kept no longer than the rules say")
	}
	return w.act(v, http.MethodPost, path, body, backupPath(m), "it is kept until somebody takes the pin away")
}

func backupPath(m store.Manifest) string {
	return "/backups/" + url.PathEscape(m.Cluster) + "/" + serverPath(m.Server) + "/" + url.PathEscape(m.ID)
}
