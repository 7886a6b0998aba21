package gateway

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
)

// passwordRequest is a new password, with the old one when it is one's own.
type passwordRequest struct {
	Old      string `json:"old,omitempty"`
	Password string `json:"password"`
}

// setPassword changes somebody's password. For one's own it takes a session and the old one: an API token must not become
// a way to stay, nor a browser that was left open.
func (g *Gateway) setPassword(c *gin.Context) {
	var in passwordRequest
	if !g.bodyInto(c, &in) {
		return
	}
	k := callOf(c)
	switch {
	case own(c) && g.auth.Config().Fixed(k.who.Name):
		g.fail(c, errFixed(k.who.Name))
		return
	case own(c):
		if !g.sessionOnly(c) || !g.provenAgain(c, in.Old) {
			return
		}
	default:
		if _, ok := g.changeable(c); !ok {
			return
		}
	}
	hash, err := g.auth.Hash(in.Password)
	if err != nil {
		g.fail(c, err)
		return
	}
	u, err := g.people.SetPassword(c.Request.Context(), c.Param("name"), hash, k.who.Name)
	if err != nil {
		g.fail(c, err)
		return
	}
	g.answerUser(c, http.StatusOK, u)
}

// provenAgain asks for the caller's password once more, under the limit of logins.
func (g *Gateway) provenAgain(c *gin.Context, password string) bool {
	t, ok := g.tryUser(c, callOf(c).who.Name)
	if !ok {
		return false
	}
	_, err := g.auth.Password(callOf(c).who.Name, password)
	switch {
	case err == nil:
		t.worked()
		return true
	case errors.Is(err, auth.ErrCredentials):
		g.fail(c, errForbidden.withMessage("the old password is wrong")) // no 401: the token is good
	default:
		t.undecided()
		g.fail(c, err)
	}
	return false
}
