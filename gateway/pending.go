package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"drydock/job"
)

// heartbeatEvery is how often drydock's own script gives a sign of life, in seconds; the shortest lease is far longer.
const heartbeatEvery = 10

// pending answers in one call what drydock's own script would have to ask route by route: what waits for this server, and
// how to behave (docs/protocol.md). Tasks stand in the order in which clients run them.
func (g *Gateway) pending(c *gin.Context) {
	k := callOf(c)
	doc, err := g.scriptDoc(c.Request.Context(), k)
	if err != nil {
		g.fail(c, err)
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "drydock 1\nmode %s\nbatch %d\nlog-level %s\nheartbeat %d\n", k.cluster.Mode, k.cluster.BatchSize, k.cluster.LogLevel, heartbeatEvery)
	offered := func(j *job.Job) bool { return j.State == job.Available && j.Mode.Script() }
	for _, j := range g.View.OfServer(k.cluster.Name, k.server, offered) {
		fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("task %s %s %d %s", j.Task, j.ID, j.Attempt, job.ArgLine(j.Args))))
	}
	if doc.stale() {
		b.WriteString("jobs-check\n")
	}
	if doc.Upgrade {
		fmt.Fprintf(&b, "jobs-upgrade %s\n", g.sum)
	}
	text(c, http.StatusOK, b.String())
}
