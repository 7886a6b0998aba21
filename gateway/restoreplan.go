package gateway

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"drydock/job"
	"drydock/restore"
)

// planRestore says what a restore would do, as far as the bus knows. It changes nothing, so it asks for no more than to see the
// cluster.
func (g *Gateway) planRestore(c *gin.Context) {
	if !g.mayRead(c, c.Param("cluster")) {
		return
	}
	cl := callOf(c).cluster
	q := restore.Question{
		Cluster: cl.Name, Backup: c.Query("backup"), To: strings.TrimSpace(c.Query("to")), Directory: c.Query("to-directory"),
		Stay: c.Query("no-replication") == "1",
	}
	server := func(param string) (s job.Server, ok bool) {
		if s, ok = cl.named(c.Query(param)); !ok {
			g.fail(c, errServer.withMessage("%s: HOST:PORT of a server of cluster %s wanted", param, cl.Name))
		}
		return s, ok
	}
	ok := true
	if q.Backup == "" {
		if q.Of, ok = server("server"); !ok {
			return
		}
	}
	switch target := c.Query("to-server"); {
	case target == "" == (q.Directory == ""):
		g.fail(c, errBadRequest.withMessage("one of to-server and to-directory is wanted"))
		return
	case target != "":
		if q.Server, ok = server("to-server"); !ok {
			return
		}
	}
	if g.cfg.Plan == nil {
		g.fail(c, errUnavailable.withMessage("this process makes no plans; run drydock restore plan"))
		return
	}
	p, err := g.cfg.Plan(c.Request.Context(), q)
	switch {
	case errors.Is(err, restore.ErrQuestion):
		g.fail(c, errBadRequest.withMessage("%v", err))
	case err != nil:
		g.fail(c, restoreProblem(err))
	default:
		reply(c, http.StatusOK, p)
	}
}

// named is the server of the cluster that a text names, HOST:PORT; port 3306 without one.
func (c *cluster) named(text string) (job.Server, bool) {
	s, err := job.ParseServer(text)
	if err != nil {
		return s, false
	}
	if s.Port == 0 {
		s.Port = 3306
	}
	i, ok := c.servers[nameOf(s.Host, s.Port)]
	if !ok {
		return s, false
	}
	return c.Servers[i], true
}
