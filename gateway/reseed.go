package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
	"drydock/restore"
	"drydock/store"
)

// restoreBody is the body of the reseed and flashback routes.
type restoreBody struct {
	Backup  string `json:"backup,omitempty"` // id; empty for the latest
	Confirm string `json:"confirm"`          // HOST:PORT of the route's server
}

// restoreAnswer is what they answer with 202.
type restoreAnswer struct {
	runAnswer
	Backup *store.Manifest `json:"backup,omitempty"` // the chosen one
}

// reseed orders that the data of a server be replaced (maintenance.txt section 6.1.4).
func (g *Gateway) reseed(c *gin.Context) { g.restore(c, false) }

// flashback orders that a server go back to one of its own backups.
func (g *Gateway) flashback(c *gin.Context) { g.restore(c, true) }

func (g *Gateway) restore(c *gin.Context, flashback bool) {
	if !g.mayRead(c, c.Param("cluster")) {
		return
	}
	k := callOf(c)
	i, known := k.cluster.find(c.Param("host"), c.Param("port"))
	kind, ok := restore.ParseKind(c.Param("kind"))
	var body restoreBody
	switch {
	case !k.who.May(k.cluster.Name, "", auth.Restore):
		g.fail(c, errForbidden.withMessage("the grant %s is missing", auth.Restore))
		return
	case !known:
		g.fail(c, errServer)
		return
	case !ok:
		g.fail(c, errNoRoute.withMessage("what to restore from is one of physicalbackup, logicalbackup, logicalmaster"))
		return
	case len(k.body) > 0 && json.Unmarshal(k.body, &body) != nil:
		g.fail(c, errBadRequest)
		return
	}
	force, open := g.open(c, k.cluster.Name)
	if !open {
		return
	}
	server := k.cluster.Servers[i]
	ordered, err := g.desk.Order(c.Request.Context(), restore.Request{
		Cluster: k.cluster.Name, Servers: k.cluster.Servers, Server: server, Kind: kind, Flashback: flashback,
		Login: restore.Login{User: k.cluster.User, Password: k.cluster.Password}, Backup: body.Backup, Confirm: body.Confirm, By: k.who.Name, Force: force,
	})
	if err != nil {
		g.fail(c, restoreProblem(err))
		return
	}
	k.act.Jobs, k.act.Reason = []string{ordered.JobID}, ordered.Tick.Reason
	if ordered.Backup != nil {
		k.act.Detail = strings.TrimSpace("backup " + ordered.Backup.ID + " " + k.act.Detail)
	}
	reply(c, http.StatusAccepted, restoreAnswer{
		runAnswer{Tick: ordered.Tick.ID, Jobs: []started{{ordered.JobID, k.cluster.Name, server, ordered.Task}}}, ordered.Backup,
	})
}

func restoreProblem(err error) error {
	switch {
	case errors.Is(err, restore.ErrRefused):
		return errConflict.withMessage("%s", strings.TrimPrefix(err.Error(), restore.ErrRefused.Error()+": "))
	case errors.Is(err, store.ErrNoBackup):
		return errBackup.withMessage("%v", err)
	}
	return err
}
