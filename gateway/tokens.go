package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
	"drydock/store"
)

func (g *Gateway) listTokens(c *gin.Context) {
	if !own(c) && !g.mayManage(c) {
		return
	}
	if u, ok := g.seenTarget(c); ok {
		reply(c, http.StatusOK, gin.H{"tokens": u.Tokens})
	}
}

const defaultTokenLifetime = 90 * 24 * time.Hour

// newToken is the answer to a new API token: the only place where it is ever seen.
type newToken struct {
	store.TokenInfo
	Token string `json:"token"`
}

// tokenRequest is an API token to be made.
type tokenRequest struct {
	Name    string   `json:"name"`
	Grants  []string `json:"grants,omitempty"`  // empty: all of the user's
	Expires string   `json:"expires,omitempty"` // a duration or a time; empty: 90 days
}

// addToken makes an API token for the caller, who has logged in: a token that could make tokens would never end.
func (g *Gateway) addToken(c *gin.Context) {
	var in tokenRequest
	if !g.bodyInto(c, &in) {
		return
	}
	k := callOf(c)
	if !own(c) {
		g.fail(c, errForbidden.withMessage("everybody makes his own tokens; drydock users token on drydock's machine makes them for others"))
		return
	}
	if !g.sessionOnly(c) {
		return
	}
	expires, err := TokenExpiry(in.Expires, time.Now())
	if err == nil {
		err = store.CheckGrants(in.Grants)
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	if !g.holdsSomewhere(k.who, in.Grants) {
		g.fail(c, errForbidden.withMessage("no token may do more than its user"))
		return
	}
	t, text := auth.NewToken(in.Name, in.Grants, expires)
	if _, err := g.people.AddToken(c.Request.Context(), k.who.Name, t, k.who.Name); err != nil {
		g.fail(c, err)
		return
	}
	k.act.Detail = TokenText(t)
	c.Header("Cache-Control", "no-store")
	reply(c, http.StatusCreated, newToken{t.Info(), text})
}

// holdsSomewhere reports whether the caller has each of the words somewhere; where it has not, a token with it cannot
// use it either.
func (g *Gateway) holdsSomewhere(who auth.Principal, words []string) bool {
	for _, w := range words {
		some := who.Holds("", []string{w})
		for _, cl := range g.order {
			some = some || who.Holds(cl.Name, []string{w})
		}
		if !some {
			return false
		}
	}
	return true
}

// TokenExpiry reads when an API token is to expire: a time, a duration, or empty for 90 days. Errors: [store.ErrUser].
func TokenExpiry(text string, now time.Time) (time.Time, error) {
	expires := now.Add(defaultTokenLifetime)
	if text != "" {
		if d, err := time.ParseDuration(text); err == nil {
			expires = now.Add(d)
		} else if expires, err = time.Parse(time.RFC3339, text); err != nil {
			return expires, fmt.Errorf("%w: expires: write a duration such as 720h or a time such as 2027-01-31T00:00:00Z", store.ErrUser)
		}
	}
	if !expires.After(now) || expires.After(now.Add(auth.MaxTokenLifetime)) {
		return expires, fmt.Errorf("%w: a token expires in the future, and within five years", store.ErrUser)
	}
	return expires, nil
}

// TokenText writes an API token for the audit.
func TokenText(t store.Token) string {
	text := fmt.Sprintf("token %s %q until %s", t.ID, t.Name, t.Expires.Format(time.RFC3339))
	if len(t.Grants) > 0 {
		text += ": " + strings.Join(t.Grants, " ")
	}
	return text
}

// removeToken revokes an API token. One may always revoke itself: who finds it somewhere has a way to end it.
func (g *Gateway) removeToken(c *gin.Context) {
	who := callOf(c).who
	itself := who.Name == c.Param("name") && who.TokenID != "" && who.TokenID == c.Param("token") // also one that is less than its user
	if !itself && !g.mayEnd(c) {
		return
	}
	callOf(c).act.Detail = "token " + c.Param("token")
	u, ok := g.seenTarget(c)
	if !ok {
		return
	}
	t, err := g.people.RemoveToken(c.Request.Context(), u.Name, c.Param("token"), callOf(c).who.Name)
	if err != nil {
		g.fail(c, err)
		return
	}
	callOf(c).act.Detail = TokenText(t)
	reply(c, http.StatusOK, t.Info())
}
