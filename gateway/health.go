package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// health says that the process serves.
func (g *Gateway) health(c *gin.Context) {
	reply(c, http.StatusOK, gin.H{"status": "ok", "version": g.cfg.Version})
}

const readyTimeout = 2 * time.Second

// readiness says whether calls can be served: a balancer should send them elsewhere otherwise.
func (g *Gateway) readiness(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	missing := []string{}
	if err := g.Conn.Ready(ctx); err != nil {
		g.log.Warn("not ready", "err", err)
		missing = append(missing, "bus")
	}
	select {
	case <-g.View.Ready():
	default:
		missing = append(missing, "jobs")
	}
	select {
	case <-g.users.Ready():
	default:
		missing = append(missing, "users")
	}
	if len(missing) > 0 {
		reply(c, http.StatusServiceUnavailable, gin.H{"status": "not ready", "missing": missing})
		return
	}
	reply(c, http.StatusOK, gin.H{"status": "ready"})
}
