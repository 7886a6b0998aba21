package gateway

import (
	"time"

	"drydock/gateway/auth"
)

// usersWait is how long a call of a user waits for the picture of the users after a start. Scripts do not wait for it.
const usersWait = 3 * time.Second

// usersReady waits a moment for the picture of the users; false when it is not complete: a token that was revoked would
// be taken for good then, and a user that was added for unknown.
func (g *Gateway) usersReady() bool {
	select {
	case <-g.users.Ready():
		return true
	default:
	}
	select {
	case <-g.users.Ready():
		return true
	case <-time.After(usersWait):
		return false
	}
}

// verify returns who a token stands for. The token of a database host stands on nothing that the users have to do with.
// Errors: [auth.ErrToken]; while drydock is starting one with status 503.
func (g *Gateway) verify(token string) (auth.Principal, error) {
	who, err := g.auth.Verify(token)
	if token == "" || err == nil && who.Bound() {
		return who, err
	}
	if !g.usersReady() {
		return auth.Principal{}, errStarting
	}
	return g.auth.Verify(token)
}
