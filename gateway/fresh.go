package gateway

import (
	"errors"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/store"
)

// The length of a nonce. Our script sends 32 hex digits.
const minNonce, maxNonce = 16, 128

// MaxFreshLogin is the longest that a body may be good for: what was used must be remembered for twice as long, and a
// clock may be wrong.
const MaxFreshLogin = 15 * time.Minute

// fresh reports whether the identity in the body is new, where the cluster wants that (api-require-fresh-login): sealed
// within that time of now, by either clock, and never seen by any gateway. Key and IV of the protocol never change, so
// without it a body that somebody has recorded opens the same door for as long as the password lives (wire.md section
// 2). It answers by itself when it is not; the log says why, the client learns what everybody learns. When nobody can tell, t
// is no failed try.
//
// The envelope has no checksum: who changes its nonce changes the block before as well, to something that is not hex.
func (g *Gateway) fresh(c *gin.Context, t try) bool {
	k := callOf(c)
	if k.cluster.FreshLogin <= 0 {
		return true
	}
	why, hint := "", ""
	off := time.Since(time.Unix(k.id.Time, 0)).Round(time.Second)
	switch {
	case k.id.Time == 0 || !goodNonce(k.id.Nonce):
		why, hint = "it has no time and nonce, or not one of each", "the script on that host is not drydock's or an old one: install what `drydock script` prints, or unset api-require-fresh-login"
	case off.Abs() > k.cluster.FreshLogin:
		why, hint = "its time is "+off.String()+" before drydock's", "set the clocks of both machines (NTP); otherwise somebody has recorded it"
	default:
		err := g.logins.Take(c.Request.Context(), k.server.String(), k.id.Nonce)
		if err == nil {
			return true
		}
		if !errors.Is(err, store.ErrUsed) {
			g.log.Error("cannot tell whether a login is new", "cluster", k.cluster.Name, "server", k.server.String(), "err", err)
			t.undecided()
			g.fail(c, errUnavailable)
			return false
		}
		why, hint = "it was used before", "somebody sends again what he has recorded, unless a proxy repeats calls"
	}
	g.log.Warn("login of a database host refused, although the password is right", "cluster", k.cluster.Name, "server", k.server.String(),
		"addr", remoteIP(c.Request), "reason", why, "hint", hint)
	g.fail(c, errUnauthorized)
	return false
}

func goodNonce(s string) bool {
	hex := func(r rune) bool { return '0' <= r && r <= '9' || 'a' <= r && r <= 'f' || 'A' <= r && r <= 'F' }
	return len(s) >= minNonce && len(s) <= maxNonce && strings.TrimFunc(s, hex) == ""
}
