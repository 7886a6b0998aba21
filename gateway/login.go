package gateway

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"drydock/bus"
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
	t, ok := g.trySecret(c)
	if !ok {
		return
	}
	given, err := k.open(envelope.RequireSecret)
	if err != nil || !given {
		g.fail(c, errUnauthorized)
	} else {
		g.fresh(c, t)
	}
	if c.IsAborted() {
		_ = g.record(c, bus.Audit{Verb: "secret-login", Outcome: bus.AuditRefused, User: auth.SystemUser, Cluster: k.cluster.Name, Server: k.server.String(), Error: k.problem})
		return
	}
	t.worked()
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
	token, ok := g.signIn(c, in.Username, in.Password)
	if !ok {
		return
	}
	c.Header("Cache-Control", "no-store")
	reply(c, http.StatusOK, tokenAnswer{token})
}

// signIn is a login with all that belongs to it: the limit of failures, and the audit. It answers by itself when it
// fails.
func (g *Gateway) signIn(c *gin.Context, user, password string) (token string, ok bool) {
	who, err := g.proven(c, user, password)
	if c.IsAborted() {
		return "", false
	}
	if err == nil {
		token, who, err = g.auth.Session(who)
	}
	if err != nil {
		g.fail(c, err)
		return "", false
	}
	callOf(c).who = who
	if err := g.record(c, bus.Audit{Verb: "login", Outcome: bus.AuditDone}); err != nil {
		g.fail(c, err)
		return "", false
	}
	return token, true
}

// proven checks a user's password under the limit of failures. When there were too many the answer is given already.
// Failures go into the audit: without the name, when it is nobody's, for it may well be a password.
func (g *Gateway) proven(c *gin.Context, user, password string) (auth.Principal, error) {
	if !g.usersReady() {
		return auth.Principal{}, errStarting
	}
	t, ok := g.tryUser(c, user)
	if !ok {
		return auth.Principal{}, errTooMany
	}
	who, err := g.auth.Password(user, password)
	switch {
	case err == nil:
		t.worked()
	case !errors.Is(err, auth.ErrCredentials):
		t.undecided()
	default:
		if !g.exists(user) {
			user = "(unknown)"
		}
		_ = g.record(c, bus.Audit{Verb: "login", Outcome: bus.AuditRefused, User: user, Error: err.Error()}) // it is refused either way
	}
	return who, err
}

func (g *Gateway) exists(user string) bool {
	doc, ok := g.users.User(user)
	return ok && doc.AtRunTime() || g.auth.Config().Fixed(user)
}
