package gateway

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/gateway/metrics"
	"drydock/job"
	"drydock/pruning"
	"drydock/store"
)

// planPrune lists what a prune would keep and delete now. It changes nothing.
func (g *Gateway) planPrune(c *gin.Context) {
	q, ok := g.query(c)
	if !ok {
		return
	}
	out := []bus.PlanItem{}
	for _, cl := range g.readable(callOf(c)) {
		if q.cluster != "" && cl.Name != q.cluster {
			continue
		}
		err := pruning.NewDesk(g.Conn).Plan(c.Request.Context(), cl.Name, func(i bus.PlanItem) {
			if q.matches(i.Server) && (q.task == "" || i.Task == q.task) {
				out = append(out, i)
			}
		})
		if err != nil {
			g.fail(c, err)
			return
		}
	}
	reply(c, http.StatusOK, gin.H{"plan": out})
}

type pinRequest struct {
	Reason string `json:"reason,omitempty"`
}

// pinBackup keeps a backup whatever the backup-keep keys say, or no longer.
func (g *Gateway) pinBackup(on bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		k := callOf(c)
		var in pinRequest
		if len(k.body) > 0 && json.Unmarshal(k.body, &in) != nil {
			g.fail(c, errBadRequest.withMessage(`body is not {"reason":"..."}`))
			return
		}
		m, err := g.Catalog.ByID(c.Request.Context(), c.Param("id"))
		if err == nil && !k.who.MayRead(m.Cluster) {
			err = store.ErrNoBackup // as for one that does not exist
		}
		if err == nil {
			k.act.Cluster, k.act.Server, k.act.Detail, k.act.Reason = m.Cluster, m.Server.String(), m.Task, in.Reason
		}
		if err == nil && !k.who.May(m.Cluster, "", auth.Backup) {
			err = errForbidden.withMessage("the grant %s is missing", auth.Backup)
		}
		if err == nil {
			defer g.verdicts.changed(m.Cluster)
			m, err = g.Catalog.SetPin(c.Request.Context(), m, store.Pin{On: on, Time: time.Now().UTC(), By: k.who.Name, Reason: in.Reason})
		}
		if err != nil {
			g.fail(c, err)
			return
		}
		reply(c, http.StatusOK, m)
	}
}

// metrics answers Prometheus. The values carry the names of hosts and clusters, so it asks for a user, as the rest of the API does: by
// an API token, or by name and password. Whoever it is sees the clusters that he may read.
func (g *Gateway) metrics(c *gin.Context) {
	who, err := g.scraper(c)
	if c.IsAborted() {
		return
	}
	if err != nil {
		c.Header("WWW-Authenticate", `Basic realm="drydock metrics"`)
		g.fail(c, err)
		return
	}
	if who.Bound() {
		g.fail(c, errForbidden) // a database host's
		return
	}
	g.readings.Snapshot(c.Request.Context()).Seen(who.MayRead).Handler().ServeHTTP(c.Writer, c.Request)
}

func metricsConfig(cfg Config) metrics.Config {
	out := metrics.Config{Version: cfg.Version, MaxAge: cfg.MaxAge, Clusters: map[string][]job.Server{}}
	for _, c := range cfg.Clusters {
		out.Clusters[c.Name] = c.Servers
	}
	return out
}

func (g *Gateway) scraper(c *gin.Context) (auth.Principal, error) {
	if user, password, ok := c.Request.BasicAuth(); ok {
		return g.proven(c, user, password)
	}
	return g.verify(bearer(c.Request))
}
