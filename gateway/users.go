package gateway

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
	"drydock/store"
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
	Clusters map[string][]string `json:"clusters,omitempty"` // further grants, by cluster
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
