package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"drydock/store"
)

// grantsRequest are all grants that a user is to have.
type grantsRequest struct {
	Grants   []string            `json:"grants,omitempty"`
	Clusters map[string][]string `json:"clusters,omitempty"`
}

func (g *Gateway) setGrants(c *gin.Context) {
	var in grantsRequest
	if !g.bodyInto(c, &in) {
		return
	}
	k := callOf(c)
	k.act.Detail = GrantText(in.Grants, in.Clusters)
	u, ok := g.changeable(c)
	if !ok || !g.mayGive(c, in.Grants, in.Clusters) ||
		!g.stillManaged(c, store.User{Name: u.Name, Hash: "-", Grants: in.Grants, Clusters: in.Clusters, Disabled: u.Disabled}) {
		return
	}
	if in.Clusters == nil {
		in.Clusters = map[string][]string{}
	}
	after, err := g.people.EditGrants(c.Request.Context(), u.Name, k.who.Name, func(now *store.User) error {
		if !k.who.HoldsAll(now.Grants, now.Clusters) {
			return errForbidden.withMessage("%s may do more than you", u.Name) // since we looked
		}
		now.Grants, now.Clusters = in.Grants, in.Clusters
		return nil
	})
	if err != nil {
		g.fail(c, err)
		return
	}
	g.answerUser(c, http.StatusOK, after)
}

// mayGive reports whether the caller has everything that it wants to give, and gives it where there is something.
func (g *Gateway) mayGive(c *gin.Context, grants []string, clusters map[string][]string) bool {
	for name := range clusters {
		if g.clusters[name] == nil {
			g.fail(c, errCluster.withMessage("unknown cluster %q", name))
			return false
		}
	}
	if !callOf(c).who.HoldsAll(grants, clusters) {
		g.fail(c, errForbidden.withMessage("nobody may grant more than he has"))
		return false
	}
	return true
}

// GrantText writes grants for the audit: "db-backup db-logs; on prod: db".
func GrantText(grants []string, clusters map[string][]string) string {
	text := strings.Join(grants, " ")
	names := make([]string, 0, len(clusters))
	for name := range clusters {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text += "; on " + name + ": " + strings.Join(clusters[name], " ")
	}
	return strings.TrimPrefix(text, "; ")
}
