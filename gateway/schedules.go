package gateway

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/job"
)

// switchRequest is the body of the route that switches a schedule off.
type switchRequest struct {
	Note string `json:"note,omitempty"`
}

// knownTask answers by itself for a task that there is not.
func (g *Gateway) knownTask(c *gin.Context) {
	if _, err := job.TaskByName(c.Param("task")); err != nil {
		g.fail(c, err)
	}
}

// switchOff switches the schedule of a task off: its ticks are recorded as skipped until it is switched on again.
func (g *Gateway) switchOff(c *gin.Context) {
	var in switchRequest
	if !g.bodyInto(c, &in) {
		return
	}
	callOf(c).act.Reason = in.Note
	s, err := g.control.SwitchOff(c.Request.Context(), bus.Switch{
		Cluster: c.Param("cluster"), Task: c.Param("task"), By: callOf(c).who.Name, Note: in.Note,
	})
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, s)
}

func (g *Gateway) switchOn(c *gin.Context) {
	s, err := g.control.SwitchOn(c.Request.Context(), c.Param("cluster"), c.Param("task"), callOf(c).who.Name)
	if err != nil {
		g.fail(c, err)
		return
	}
	callOf(c).act.Detail = s.String()
	reply(c, http.StatusOK, s)
}
