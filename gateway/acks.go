package gateway

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
)

// ackAlert notes that the caller knows of a condition that is open; the id is that of the edge that opened it.
func (g *Gateway) ackAlert(c *gin.Context) {
	if !g.mayAck(c) {
		return
	}
	var in struct {
		Note string `json:"note"`
	}
	if !g.bodyInto(c, &in) {
		return
	}
	k := callOf(c)
	ack, err := g.acks.Set(c.Request.Context(), k.cluster.Name, c.Param("id"), k.who.Name, in.Note)
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, ack)
}

// unackAlert takes an acknowledgement back, whoever gave it.
func (g *Gateway) unackAlert(c *gin.Context) {
	if !g.mayAck(c) {
		return
	}
	ack, err := g.acks.Lift(c.Request.Context(), callOf(c).cluster.Name, c.Param("id"))
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, ack)
}

// mayAck finds the route's cluster and checks the grant; it answers by itself when something is missing.
func (g *Gateway) mayAck(c *gin.Context) bool {
	if !g.mayRead(c, c.Param("cluster")) {
		return false
	}
	k := callOf(c)
	if !k.who.May(k.cluster.Name, "", auth.Ack) {
		g.fail(c, errForbidden.withMessage("the grant %s is missing", auth.Ack))
		return false
	}
	return true
}
