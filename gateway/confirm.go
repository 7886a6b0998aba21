package gateway

import (
	"github.com/gin-gonic/gin"

	"drydock/job"
	"drydock/store"
)

// confirmed reports whether a run by hand may do what it does to others; it answers by itself when somebody has to say so
// first, with ?confirm=1.
func (g *Gateway) confirmed(c *gin.Context, cl *cluster, task job.Task, servers []job.Server) bool {
	if c.Query("confirm") == "1" {
		return true
	}
	why, err := store.Unconfirmed(c.Request.Context(), g.Docs, cl.Name, task, servers, cl.Servers)
	switch {
	case err != nil:
		g.fail(c, err)
	case why != "":
		g.fail(c, errConflict.withMessage("%s; ?confirm=1 does it anyway", why))
	}
	return err == nil && why == ""
}

// runArgs are the arguments of a run by hand that its task knows.
func runArgs(c *gin.Context, task job.Task) (map[string]string, error) {
	args := map[string]string{}
	for _, name := range []string{job.ArgSnapshot, job.ArgSkip, job.ArgBackup} {
		if s := c.Query(name); s != "" {
			args[name] = s
		}
	}
	return args, job.CheckArgs(task, args)
}
