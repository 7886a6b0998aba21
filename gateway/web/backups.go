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
	proofChecked  proof = "checked"  // complete, hashed and of the right format when it came; not looked at since
	proofVerified proof = "verified" // the last verification found every byte as it came
	proofRestored proof = "restored" // the last drill restored it
	proofBroken   proof = "broken"   // the last drill did not
	proofDamaged  proof = "damaged"  // the last verification found something else
)

// bad reports whether something was found wrong.
func (p proof) bad() bool { return p == proofBroken || p == proofDamaged }

func proofOf(m store.Manifest) proof {
	fault, bad := m.Fault()
	_, restored := m.Restored()
	_, verified := m.Verified()
	switch {
	case bad && fault.Drill:
		return proofBroken
	case bad:
		return proofDamaged
	case restored:
		return proofRestored
	case verified:
		return proofVerified
	}
	return proofChecked
}

// means reports whether a backup of this proof is wanted by the filter's word.
func (p proof) means(filter string) bool {
	switch filter {
	case "":
		return true
	case "none":
		return p != proofRestored
	case string(proofBroken): // it is no backup to rely on, whatever found that
		return p.bad()
	}
	return string(p) == filter
}

// Verdict is what the rules of retention say of a backup now.
type Verdict struct {
	Keep bool      `json:"keep"`
	Why  []string  `json:"why"` // the rules that keep it, or why it may go
	At   time.Time `json:"prune_at,omitzero"`
	// Problem is what the receiver found wrong with it: it stays then.
	Problem string `json:"problem,omitempty"`
}

// backupsPage is a list of backups.
type backupsPage struct {
	filter
	Proof    string
	Rows     []backupRow
	Matching int
	More     bool
	Judged   bool   // the rows are of one cluster, and say what a prune would do
	Chart    *trend // when all are of one server and task
	Stored   int64  // of all that match
}

// backupRow is a backup in one line.
type backupRow struct {
	store.Manifest
	Proof proof
	Look  time.Time     // of the last drill or verification
	Took  time.Duration // of the stream
	Rate  float64
	// Change is how far its size is from the median of those before it on the same server, in percent; Odd that it is less
	// than half or more than twice of that.
	Change int
	Odd    bool
	Known  bool // Change says something
	// Verdict is nil when its receiver did not answer, or, when it is Pending, not yet.
	Verdict *Verdict
	Pending bool
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
		if !proofOf(*m).means(p.Proof) || !f.From.IsZero() && m.Ended.Before(f.From) {
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
	if names := f.names(); len(names) == 1 {
		p.Judged = true
		w.judge(v, names[0], p.Rows)
	}
	p.Chart = trendOf(p.Rows)
	return p, nil
}

// judge adds what a prune would do with each of the rows, which are of one cluster: every receiver is asked for it.
func (w *Web) judge(v *visit, cluster string, rows []backupRow) {
	said, pending := w.Verdicts(v.Context(), cluster)
	for i := range rows {
		verdict, ok := said[rows[i].ID]
		if ok {
			rows[i].Verdict = &verdict
		}
		rows[i].Pending = pending && !ok
	}
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
		r.Look = m.Drills[n-1].Time
	}
	if n := len(m.Verifications); n > 0 && m.Verifications[n-1].Time.After(r.Look) {
		r.Look = m.Verifications[n-1].Time
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
	MayDrill, MayVerify bool
	MayPin              bool
	Work                []backupWork
}

// backupWork is a live job that is about a backup.
type backupWork struct {
	job.Job
	Percent float64 // of the work, 0 when nothing is known
	Bytes   int64
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
	rows := []backupRow{rowOfBackup(&m, nil)}
	w.judge(v, m.Cluster, rows)
	p := backupPage{backupRow: rows[0], Work: w.workOn(m)}
	p.MayPin = v.who.May(m.Cluster, "", auth.Backup)
	p.MayDrill, p.MayVerify = w.offersNamed(v, m.Cluster, taskDrill), w.offersNamed(v, m.Cluster, taskVerify)
	return p, nil
}

func (w *Web) offersNamed(v *visit, cluster, task string) bool {
	t, err := job.TaskByName(task)
	return err == nil && w.offers(v, w.known[cluster], t)
}

// workOn are the live jobs that are about a backup, the drills and verifications among them.
func (w *Web) workOn(m store.Manifest) (out []backupWork) {
	for _, j := range w.View.Select(func(j job.Job) bool {
		return j.Cluster == m.Cluster && j.State.Live() && (j.Args[job.ArgBackup] == m.ID || j.Backup == m.ID)
	}) {
		p, _ := w.model.lastProgress(j.ID)
		out = append(out, backupWork{j, p.Percent, p.Bytes})
	}
	return out
}

// aboutBackup narrows the changes down to those of the backup's cluster, and of the catalogue.
func aboutBackup(_ *visit, data any) func(change) bool {
	name := data.(backupPage).Cluster
	return func(c change) bool { return c.topic == topicBackups || c.key.Cluster == name }
}

// The tasks that look at a stored backup.
const (
	taskDrill  = "backupdrill"  // restores it for a trial
	taskVerify = "backupverify" // reads it and compares it with its manifest
)

// look asks for one of the tasks that look at a stored backup.
func (w *Web) look(task, done string) func(*visit) error {
	return func(v *visit) error {
		m, err := w.manifestOf(v)
		if err != nil {
			return err
		}
		back := backupPath(m)
		var out started
		path := "/api/clusters/" + url.PathEscape(m.Cluster) + "/jobs/" + task + "?backup=" + url.QueryEscape(m.ID)
		if err := w.call(v.Request, v.token, http.MethodPost, path, nil, &out); err != nil {
			return w.finish(v, err, back, "")
		}
		if len(out.Jobs) == 1 {
			w.awaitJob(v, out.Jobs[0].ID)
			back = "/jobs/" + url.PathEscape(out.Jobs[0].ID)
		}
		return v.after(back, note{Text: done})
	}
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
