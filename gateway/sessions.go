package gateway

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
)

func (g *Gateway) sessionOnly(c *gin.Context) bool {
	if callOf(c).who.SessionID != "" && !callOf(c).who.Bound() {
		return true
	}
	g.fail(c, errForbidden.withMessage("this takes a login, not an API token"))
	return false
}

// mayEnd reports whether the caller may end sessions and API tokens of the route's user; it answers by itself otherwise. One's own
// take a login: an API token that was made for little must not lock its user out.
func (g *Gateway) mayEnd(c *gin.Context) bool {
	if own(c) && callOf(c).who.SessionID != "" {
		return true
	}
	if own(c) && !callOf(c).who.MayAll(auth.Users) {
		return g.sessionOnly(c)
	}
	return g.mayManage(c)
}

// revokeRequest says whether the API tokens go, too.
type revokeRequest struct {
	Tokens bool `json:"api_tokens,omitempty"`
}

// endSessions ends all sessions of a user, and with {"api_tokens":true} its API tokens: those of the configuration, too.
func (g *Gateway) endSessions(c *gin.Context) {
	var in revokeRequest
	if !g.bodyInto(c, &in) || !g.mayEnd(c) {
		return
	}
	u, ok := g.seenTarget(c)
	if !ok {
		return
	}
	callOf(c).act.Detail = "sessions"
	if in.Tokens {
		callOf(c).act.Detail = "sessions and API tokens"
	}
	after, err := g.people.EndSessions(c.Request.Context(), u.Name, in.Tokens, callOf(c).who.Name)
	if err != nil {
		g.fail(c, err)
		return
	}
	g.answerUser(c, http.StatusOK, after)
}

// logout ends the session that asks.
func (g *Gateway) logout(c *gin.Context) {
	who := callOf(c).who
	if !g.sessionOnly(c) {
		return
	}
	callOf(c).act.Target = who.Name
	if err := g.people.EndSession(c.Request.Context(), who.Name, who.SessionID, who.Expires); err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"ended": true})
}
