package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
	"drydock/gateway/envelope"
)

// tokenAnswer is what both logins answer.
type tokenAnswer struct {
	Token string `json:"token"`
}

// secretLogin gives a database host a token for its own server: it proves that it knows the server's password (wire.md
// section 2). The answer is the same for everything that may be wrong.
func (g *Gateway) secretLogin(c *gin.Context) {
	k := callOf(c)
	if given, err := k.open(envelope.RequireSecret); err != nil || !given {
		g.fail(c, errUnauthorized)
		return
	}
	token, err := g.auth.System(k.cluster.Name, k.server.String())
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, tokenAnswer{token})
}

type loginRequest struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// login gives an operator a token.
func (g *Gateway) login(c *gin.Context) {
	var in loginRequest
	if err := json.Unmarshal(callOf(c).body, &in); err != nil {
		g.fail(c, errBadRequest.withMessage(`body is not {"username":"...","password":"..."}`))
		return
	}
	if wait := g.logins.open(in.Username, c.Request.RemoteAddr, time.Now()); wait > 0 {
		c.Header("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		g.fail(c, errTooMany)
		return
	}
	token, err := g.auth.Login(in.Username, in.Password)
	switch {
	case err == nil:
		g.logins.passed(in.Username)
	case errors.Is(err, auth.ErrCredentials):
		g.logins.failed(in.Username, c.Request.RemoteAddr, time.Now())
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, tokenAnswer{token})
}
