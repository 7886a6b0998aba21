package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/gateway/web"
	"drydock/job"
	"drydock/store"
)

// clusterInfo is one entry of GET /api/clusters.
type clusterInfo struct {
	Name    string   `json:"name"`
	Mode    job.Mode `json:"mode"`
	Servers int      `json:"servers"`
}

func (g *Gateway) listClusters(c *gin.Context) {
	out := []clusterInfo{}
	for _, cl := range g.readable(callOf(c)) {
		out = append(out, clusterInfo{cl.Name, cl.Mode, len(cl.Servers)})
	}
	reply(c, http.StatusOK, gin.H{"clusters": out})
}

// readable are the clusters that the caller may see, as configured.
func (g *Gateway) readable(k *call) []*cluster {
	var out []*cluster
	for _, cl := range g.order {
		if k.who.MayRead(cl.Name) {
			out = append(out, cl)
		}
	}
	return out
}

// mayRead finds the route's cluster for a caller who may see it. Somebody else learns as much as about one that does not
// exist.
func (g *Gateway) mayRead(c *gin.Context, name string) bool {
	if cl, ok := g.clusters[name]; ok && callOf(c).who.MayRead(name) {
		callOf(c).cluster = cl
		return true
	}
	g.fail(c, errCluster)
	return false
}

// serverInfo is one entry of GET /api/clusters/{cluster}/servers. Jobs are the last ones of each task.
type serverInfo struct {
	Cluster string           `json:"cluster"`
	Host    string           `json:"host"`
	Port    int              `json:"port"`
	Script  *store.ScriptDoc `json:"script,omitempty"`
	Facts   *store.Facts     `json:"facts,omitempty"`
	Jobs    []job.Job        `json:"jobs"`
}

func (g *Gateway) listServers(c *gin.Context) {
	if !g.mayRead(c, c.Param("cluster")) {
		return
	}
	cl := callOf(c).cluster
	out := []serverInfo{}
	for _, s := range cl.Servers {
		info := serverInfo{Cluster: cl.Name, Host: s.Host, Port: s.Port, Jobs: append([]job.Job{}, g.View.OfServer(cl.Name, s, nil)...)}
		var doc store.ScriptDoc
		ok, err := g.Docs.Get(c.Request.Context(), cl.Name, s, store.DocScript, &doc)
		if err != nil {
			g.fail(c, err)
			return
		}
		if ok {
			info.Script = &doc
		}
		var facts store.Facts
		if ok, err = g.Docs.Get(c.Request.Context(), cl.Name, s, store.DocFacts, &facts); err != nil {
			g.fail(c, err)
			return
		}
		if ok {
			info.Facts = &facts
		}
		out = append(out, info)
	}
	reply(c, http.StatusOK, gin.H{"servers": out})
}

func (g *Gateway) listSchedules(c *gin.Context) {
	all, err := bus.Request[bus.NextReply](c.Request.Context(), g.Conn, bus.SubjectNext, struct{}{})
	if err != nil {
		g.fail(c, err) // no scheduler answers: 503
		return
	}
	out := []bus.ScheduleInfo{}
	for _, s := range all.Schedules {
		if callOf(c).who.MayRead(s.Cluster) {
			out = append(out, s)
		}
	}
	reply(c, http.StatusOK, gin.H{"schedules": out})
}

func (g *Gateway) listTicks(c *gin.Context) {
	q, ok := g.query(c)
	if !ok {
		return
	}
	f := store.TickFilter{Cluster: q.cluster, Task: q.task, Since: q.since, Limit: q.limit}
	out, err := perCluster(g, c, q, func(name string) ([]bus.Tick, error) {
		f.Cluster = name
		return g.Ledger.List(c.Request.Context(), f)
	}, func(a, b bus.Tick) int { return b.Time.Compare(a.Time) })
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"ticks": out})
}

// judgedBackup is a backup with what the next prune would do with it; nil when its receiver did not answer, or not yet.
type judgedBackup struct {
	store.Manifest
	Retention *web.Verdict `json:"retention,omitempty"`
}

// backupsAnswer is a list of backups.
type backupsAnswer struct {
	Backups []judgedBackup `json:"backups"`
	Pending bool           `json:"retention_pending,omitempty"` // receivers are being asked: more verdicts may come
}

func (g *Gateway) listBackups(c *gin.Context) {
	q, ok := g.query(c)
	if !ok {
		return
	}
	judge := c.Query("retention") == "1"
	if judge && q.cluster == "" {
		g.fail(c, errBadRequest.withMessage("retention: name a cluster, too: its receivers are asked"))
		return
	}
	out, err := perCluster(g, c, q, func(name string) ([]store.Manifest, error) {
		return g.Catalog.List(c.Request.Context(), name, job.Server{})
	}, func(a, b store.Manifest) int { return strings.Compare(b.ID, a.ID) })
	if err != nil {
		g.fail(c, err)
		return
	}
	kept := []store.Manifest{}
	for _, m := range out {
		if q.matches(m.Server) && (q.task == "" || m.Task == q.task) && (q.always || !m.Ended.Before(q.since)) {
			kept = append(kept, m)
		}
	}
	kept = kept[:min(len(kept), q.limit)]
	if !judge {
		reply(c, http.StatusOK, gin.H{"backups": kept})
		return
	}
	judged := []judgedBackup{}
	said, pending := g.verdicts.of(c.Request.Context(), q.cluster)
	for _, m := range kept {
		b := judgedBackup{Manifest: m}
		if v, ok := said[m.ID]; ok {
			b.Retention = &v
		}
		judged = append(judged, b)
	}
	reply(c, http.StatusOK, backupsAnswer{judged, pending})
}

// listAlerts lists the conditions that are open, or with all=1 every edge since a time.
func (g *Gateway) listAlerts(c *gin.Context) {
	q, ok := g.query(c)
	if !ok {
		return
	}
	f := store.AlertFilter{Server: q.server, Task: q.task, Since: q.since, Limit: q.limit}
	if all := c.Query("all"); all != "" {
		var err error
		if f.History, err = strconv.ParseBool(all); err != nil {
			g.fail(c, errBadRequest.withMessage("all: 1 or 0 wanted"))
			return
		}
	}
	alerts := store.NewAlerts(g.Conn, g.cfg.Name)
	if !f.History {
		g.listOpen(c, q, f)
		return
	}
	out, err := perCluster(g, c, q, func(name string) ([]bus.Alert, error) {
		f.Cluster = name
		return alerts.List(c.Request.Context(), f)
	}, store.NewerAlert)
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"alerts": out[:min(len(out), q.limit)]})
}

// query is what the lists may be narrowed by; fields that are not given mean all.
type query struct {
	cluster string
	server  job.Server // Port 0: every port of Host
	task    string
	state   job.State
	since   time.Time
	always  bool // since is the default
	limit   int
}

const (
	defaultLimit = 200
	maxLimit     = 10_000
	// defaultSince spares a question that names no time the reading of a year of history. Backups are few: all are listed.
	defaultSince = 7 * 24 * time.Hour
)

// query reads the parameters and checks the caller's right to the cluster; ok is false when the answer is given already.
func (g *Gateway) query(c *gin.Context) (q query, ok bool) {
	q = query{cluster: c.Query("cluster"), task: c.Query("task"), state: job.State(c.Query("state")), since: time.Now().Add(-defaultSince), always: true, limit: defaultLimit}
	bad := func(key, values string) (query, bool) {
		g.fail(c, errBadRequest.withMessage("%s: %s wanted", key, values))
		return q, false
	}
	if q.cluster != "" && !g.mayRead(c, q.cluster) {
		return q, false
	}
	if s := c.Query("server"); s != "" {
		var err error
		if q.server, err = job.ParseServer(s); err != nil {
			return bad("server", "host or host:port")
		}
	}
	if q.state != "" && !q.state.Known() {
		return bad("state", "a state's name")
	}
	if s := c.Query("since"); s != "" {
		q.always = false
		if q.since, ok = parseSince(s, time.Now()); !ok {
			return bad("since", "a time such as 2026-11-22T01:00:00Z or a duration such as 36h")
		}
	}
	if s := c.Query("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxLimit {
			return bad("limit", "a number from 1 to "+strconv.Itoa(maxLimit))
		}
		q.limit = n
	}
	return q, true
}

func parseSince(s string, now time.Time) (time.Time, bool) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), true
	}
	t, err := time.Parse(time.RFC3339, s)
	return t, err == nil
}

func (q query) matches(s job.Server) bool {
	return q.server.Host == "" || q.server.Host == s.Host && (q.server.Port == 0 || q.server.Port == s.Port)
}

// perCluster asks list about the cluster of the query, about all at once when the caller may see every cluster, and
// otherwise about one after the other, newest first in all. The result is never nil.
func perCluster[T any](g *Gateway, c *gin.Context, q query, list func(cluster string) ([]T, error), newer func(a, b T) int) ([]T, error) {
	names := []string{q.cluster}
	if q.cluster == "" {
		if seen := g.readable(callOf(c)); len(seen) < len(g.order) {
			names = nil
			for _, cl := range seen {
				names = append(names, cl.Name)
			}
		}
	}
	return merged(names, list, newer)
}
