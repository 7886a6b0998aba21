package gateway

import (
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/explain"
	"drydock/job"
)

// explainTask answers why a task of a cluster ran or did not: in the 24 hours before now and what comes next, or with `at` in
// the 12 hours before and after that time. `within` is another length of the time looked at.
func (g *Gateway) explainTask(c *gin.Context) {
	if !g.mayRead(c, c.Param("cluster")) {
		return
	}
	task, err := job.TaskByName(c.Param("task"))
	if err != nil {
		g.fail(c, err)
		return
	}
	var at time.Time
	within := explain.Within
	if s := c.Query("at"); s != "" {
		var ok bool
		if at, ok = parseSince(s, time.Now()); !ok {
			g.fail(c, errBadRequest.withMessage("at: a time such as 2026-11-22T01:00:00Z or a duration such as 36h wanted"))
			return
		}
	}
	if s := c.Query("within"); s != "" {
		if within, err = time.ParseDuration(s); err != nil || within <= 0 || within > explain.MaxWithin {
			g.fail(c, errBadRequest.withMessage("within: a duration up to %s wanted, such as 24h", explain.MaxWithin))
			return
		}
	}
	from, to := explain.Around(at, within, time.Now())
	out, err := explain.Of(c.Request.Context(), g.Conn, callOf(c).cluster.Name, task.Name, from, to)
	if errors.Is(err, explain.ErrTooMuch) {
		g.fail(c, errBadRequest.withMessage("%v", explain.ErrTooMuch))
		return
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, out)
}
