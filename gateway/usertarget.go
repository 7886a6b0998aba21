package gateway

import (
	"slices"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
	"drydock/store"
)

// mayManage reports whether the caller may manage users; it answers by itself otherwise.
func (g *Gateway) mayManage(c *gin.Context) bool {
	if callOf(c).who.MayAll(auth.Users) {
		return true
	}
	g.fail(c, errForbidden.withMessage("the grant %s is missing on every cluster or some", auth.Users))
	return false
}

// own reports whether a route is about the caller itself. An API token with grants of its own is less than its user: without
// cluster-grant among them it neither sees the other tokens nor ends them.
func own(c *gin.Context) bool {
	who := callOf(c).who
	return !who.Bound() && who.Name == c.Param("name") && (!who.Narrowed() || who.MayAll(auth.Users))
}

// target is the route's user, for a caller who may change it: one who manages users and has all that the user has, so
// that nobody becomes more than he is by another one's password.
func (g *Gateway) target(c *gin.Context) (store.UserInfo, bool) {
	if !g.mayManage(c) {
		return store.UserInfo{}, false
	}
	return g.seenTarget(c)
}

func (g *Gateway) seenTarget(c *gin.Context) (store.UserInfo, bool) {
	doc, err := g.people.Get(c.Request.Context(), c.Param("name"))
	if err != nil {
		g.fail(c, err)
		return store.UserInfo{}, false
	}
	u, ok := g.auth.Config().Info(doc)
	switch {
	case !ok:
		g.fail(c, errUser)
		return u, false
	case callOf(c).who.Name != u.Name && !callOf(c).who.HoldsAll(u.Grants, u.Clusters):
		g.fail(c, errForbidden.withMessage("%s may do more than you", u.Name))
		return u, false
	}
	return u, true
}

// changeable is target for what the configuration decides of its own users.
func (g *Gateway) changeable(c *gin.Context) (store.UserInfo, bool) {
	u, ok := g.target(c)
	if ok && u.Source == store.FromConfiguration {
		g.fail(c, errFixed(u.Name))
		return u, false
	}
	return u, ok
}

func errFixed(name string) error {
	return errConflict.withMessage("%s stands in the configuration (api-credentials): change it there", name)
}

// stillManaged refuses what would leave nobody who may manage users here; without is the user as it would be.
func (g *Gateway) stillManaged(c *gin.Context, without store.User) bool {
	after := slices.DeleteFunc(g.users.All(), func(u store.User) bool { return u.Name == without.Name })
	if g.auth.Config().Managed(append(after, without)) {
		return true
	}
	g.fail(c, errConflict.withMessage("nobody could manage users through the API any more (grant %s); do it with drydock users on drydock's machine if you mean it", auth.Users))
	return false
}
