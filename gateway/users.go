package gateway

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/store"
)

func (g *Gateway) listUsers(c *gin.Context) {
	if !g.mayManage(c) {
		return
	}
	docs, err := g.people.All(c.Request.Context())
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"users": g.auth.Config().List(docs)})
}

func (g *Gateway) showUser(c *gin.Context) {
	if !own(c) && !g.mayManage(c) {
		return
	}
	doc, err := g.people.Get(c.Request.Context(), c.Param("name"))
	if err != nil {
		g.fail(c, err)
		return
	}
	u, ok := g.auth.Config().Info(doc)
	if !ok {
		g.fail(c, errUser)
		return
	}
	reply(c, http.StatusOK, u)
}

// meAnswer is what GET /api/me answers.
type meAnswer struct {
	store.UserInfo
	Token   string    `json:"token,omitempty"` // id of the API token that asks
	Expires time.Time `json:"expires"`         // of the token or the session
}

func (g *Gateway) me(c *gin.Context) {
	who := callOf(c).who
	doc, _ := g.users.User(who.Name)
	doc.Name = who.Name
	u, ok := g.auth.Config().Info(doc)
	if who.Bound() || !ok {
		g.fail(c, errForbidden)
		return
	}
	reply(c, http.StatusOK, meAnswer{u, who.TokenID, who.Expires})
}

// userRequest is a user to be added.
type userRequest struct {
	Name     string              `json:"name"`
	Password string              `json:"password"`
	Grants   []string            `json:"grants,omitempty"`
	Clusters map[string][]string `json:"clusters,omitempty"` // by cluster, in place of Grants there
}

func (g *Gateway) addUser(c *gin.Context) {
	var in userRequest
	if !g.mayManage(c) || !g.bodyInto(c, &in) {
		return
	}
	k := callOf(c)
	if err := store.CheckUserName(in.Name); err != nil {
		g.fail(c, err)
		return
	}
	k.act.Target, k.act.Detail = in.Name, GrantText(in.Grants, in.Clusters)
	switch {
	case g.auth.Config().Fixed(in.Name):
		g.fail(c, errFixed(in.Name))
		return
	case !g.mayGive(c, in.Grants, in.Clusters):
		return
	}
	hash, err := g.auth.Hash(in.Password)
	if err != nil {
		g.fail(c, err)
		return
	}
	u, err := g.people.Add(c.Request.Context(), in.Name, hash, in.Grants, in.Clusters, k.who.Name)
	if err != nil {
		g.fail(c, err)
		return
	}
	g.answerUser(c, http.StatusCreated, u)
}

func (g *Gateway) answerUser(c *gin.Context, status int, u store.User) {
	info, _ := g.auth.Config().Info(u)
	reply(c, status, info)
}

func (g *Gateway) removeUser(c *gin.Context) {
	u, ok := g.changeable(c)
	if !ok || !g.stillManaged(c, store.User{Name: u.Name}) {
		return
	}
	was, err := g.people.Remove(c.Request.Context(), u.Name, callOf(c).who.Name)
	if err != nil {
		g.fail(c, err)
		return
	}
	g.answerUser(c, http.StatusOK, was)
}

func (g *Gateway) setDisabled(disabled bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		u, ok := g.changeable(c)
		if !ok || disabled && !g.stillManaged(c, store.User{Name: u.Name}) {
			return
		}
		after, err := g.people.SetDisabled(c.Request.Context(), u.Name, disabled, callOf(c).who.Name)
		if err != nil {
			g.fail(c, err)
			return
		}
		g.answerUser(c, http.StatusOK, after)
	}
}
