package gateway

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/store"
)

// listOpen answers the conditions that are open, with who acknowledged them. Those of drydock itself are everybody's who may
// see a cluster.
func (g *Gateway) listOpen(c *gin.Context, q query, f store.AlertFilter) {
	alerts := store.NewAlerts(g.Conn, g.cfg.Name)
	newer := func(a, b store.OpenCondition) int { return store.NewerAlert(a.Alert, b.Alert) }
	out, err := perCluster(g, c, q, func(name string) ([]store.OpenCondition, error) {
		f.Cluster = name
		return alerts.OpenConditions(c.Request.Context(), f)
	}, newer)
	if err == nil && q.cluster == "" && len(g.readable(callOf(c))) > 0 {
		var own []store.OpenCondition
		f.Cluster = bus.NoCluster
		own, err = alerts.OpenConditions(c.Request.Context(), f)
		out = append(own, out...)
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"alerts": out[:min(len(out), q.limit)]})
}

// findOpen is the open condition of the route, when the caller may acknowledge it. It answers by itself when there is none.
func (g *Gateway) findOpen(c *gin.Context) (o store.OpenCondition, ok bool) {
	o, err := store.NewAlerts(g.Conn, g.cfg.Name).FindOpen(c.Request.Context(), c.Param("id"))
	if err != nil {
		g.fail(c, err)
		return o, false
	}
	callOf(c).act.Cluster = o.Cluster
	if o.Cluster != "" && !g.mayRead(c, o.Cluster) {
		return o, false
	}
	return o, g.mayHoldOn(c, o.Cluster)
}

// ackRequest is the body of an acknowledgement.
type ackRequest struct {
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero"`
}

func (g *Gateway) acknowledge(c *gin.Context) {
	var in ackRequest
	if !g.bodyInto(c, &in) {
		return
	}
	callOf(c).act.Reason = in.Reason
	o, ok := g.findOpen(c)
	if !ok {
		return
	}
	if !in.Until.IsZero() && !in.Until.After(time.Now()) {
		g.fail(c, errBadRequest.withMessage("until is in the past"))
		return
	}
	o, err := store.NewAlerts(g.Conn, g.cfg.Name).Acknowledge(c.Request.Context(), o.Condition, store.Ack{
		By: callOf(c).who.Name, Reason: in.Reason, Until: in.Until,
	})
	if err != nil {
		g.fail(c, err)
		return
	}
	g.log.Info("condition acknowledged", "condition", o.Condition, "by", o.Ack.By, "reason", o.Ack.Reason)
	reply(c, http.StatusOK, o)
}

func (g *Gateway) unacknowledge(c *gin.Context) {
	o, ok := g.findOpen(c)
	if !ok {
		return
	}
	o, err := store.NewAlerts(g.Conn, g.cfg.Name).Unacknowledge(c.Request.Context(), o.Condition)
	if err != nil {
		g.fail(c, err)
		return
	}
	g.log.Info("condition not acknowledged any more", "condition", o.Condition, "by", callOf(c).who.Name)
	reply(c, http.StatusOK, o)
}

// listNotifications answers what was sent. One message may be about several clusters, so it is for those who may see all
// of them.
func (g *Gateway) listNotifications(c *gin.Context) {
	q, ok := g.query(c)
	if !ok {
		return
	}
	if len(g.readable(callOf(c))) < len(g.order) {
		g.fail(c, errForbidden.withMessage("notifications are about all clusters; some of them you may not see"))
		return
	}
	out, err := store.Notifications(c.Request.Context(), g.Conn, store.NotificationFilter{
		Destination: c.Query("destination"), Since: q.since, Limit: q.limit,
	})
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"notifications": out})
}
