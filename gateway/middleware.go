package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/gateway/envelope"
	"drydock/job"
)

// call is what the middleware found out about a request, for the handlers.
type call struct {
	cluster *cluster
	server  job.Server // zero on routes of a cluster
	index   int        // of server in the cluster
	spelled string     // HOST:PORT as the route spells it
	body    []byte
	plain   bool // body is a JSON object that is no envelope, from a caller with a token

	token string            // of a user, for streams: it may be revoked while they run
	who   auth.Principal    // zero when a sealed identity proved the caller
	id    envelope.Identity // zero when the body held none
	given bool              // id was in the body

	act     bus.Audit // on routes that change something: what goes into the audit
	problem string    // what the answer says went wrong
}

const callKey = "drydock.call"

// callOf is the request's [call]; the first use makes it.
func callOf(c *gin.Context) *call {
	if k, ok := c.Get(callKey); ok {
		return k.(*call)
	}
	k := new(call)
	c.Set(callKey, k)
	return k
}

// handlerTimeout bounds what a handler does, whether or not anybody still waits for the answer.
const handlerTimeout = 5 * time.Second

type clientKey struct{}

// detach gives handlers a context that the client cannot end: net/http cancels a request's own context as soon as the
// client closes its sending side, while it still waits for the answer (wire.md section 1).
func detach(c *gin.Context) {
	client := c.Request.Context()
	ctx, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(client), clientKey{}, client), handlerTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// clientContext ends when the client goes, for handlers that stream to it.
func clientContext(c *gin.Context) context.Context {
	return c.Request.Context().Value(clientKey{}).(context.Context)
}

// shellLike tells the raw requests of the shell clients, which name no agent and wait for the end of the connection.
func shellLike(r *http.Request) bool { return r.Header.Get("User-Agent") == "" }

// closeForShell ends the connection after the answer where the client waits for that; others keep theirs.
func (g *Gateway) closeForShell(c *gin.Context) {
	if shellLike(c.Request) {
		c.Header("Connection", "close")
	}
}

// catch turns a panic of one handler into a 500 and a log line.
func (g *Gateway) catch(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v)
		}
		g.log.Error("handler panicked", "path", c.Request.URL.Path, "panic", v, "stack", string(debug.Stack()))
		if !c.Writer.Written() {
			g.fail(c, errInternal)
		}
	}()
	c.Next()
}

func (g *Gateway) findCluster(c *gin.Context) {
	cl, ok := g.clusters[c.Param("cluster")]
	if !ok {
		g.fail(c, errCluster)
		return
	}
	callOf(c).cluster = cl
}

func (g *Gateway) findServer(c *gin.Context) {
	g.findCluster(c)
	if c.IsAborted() {
		return
	}
	k := callOf(c)
	i, ok := k.cluster.find(c.Param("host"), c.Param("port"))
	if !ok {
		g.fail(c, errServer)
		return
	}
	k.index, k.server = i, k.cluster.Servers[i]
	k.spelled = c.Param("host") + ":" + c.Param("port")
}

const (
	maxBody  = 1 << 20 // bytes
	maxDrain = 8 << 20 // bytes of a larger body that are read and thrown away, so that the client sees the answer
)

// readBody reads the whole body before anything else is done: until then net/http does not notice the client's half-close.
// A body that is packed is refused unread: no client packs, and what unpacks to a gigabyte is no request.
func (g *Gateway) readBody(c *gin.Context) {
	if packed := c.GetHeader("Content-Encoding"); packed != "" && !strings.EqualFold(packed, "identity") {
		c.Header("Connection", "close")
		g.fail(c, errPacked)
		return
	}
	body, err := io.ReadAll(io.LimitReader(c.Request.Body, maxBody+1))
	switch {
	case err != nil:
		c.Header("Connection", "close")
		g.fail(c, errBadRequest)
	case len(body) > maxBody:
		_, _ = io.CopyN(io.Discard, c.Request.Body, maxDrain) // whatever comes of it, the answer is the same
		c.Header("Connection", "close")
		g.fail(c, errTooLarge)
	default:
		callOf(c).body = body
	}
}

// bearer is the token of a request, "" for none.
func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// open reads the identity in a sealed body. The server's name in it must be the route's; IPv6 hosts may have brackets.
// given is false for a body without payload. Errors: [envelope.ErrSealed].
func (k *call) open(opts ...envelope.Option) (given bool, err error) {
	plain, err := k.cluster.cipher.Open(k.body)
	if err != nil {
		return false, err
	}
	if len(plain) == 0 {
		return false, nil
	}
	tried := map[string]bool{}
	for _, name := range []string{k.server.String(), k.server.Addr(), k.spelled} {
		if tried[name] {
			continue
		}
		tried[name] = true
		if k.id, err = k.cluster.cipher.Identify(plain, name, k.cluster.Password, opts...); err == nil {
			return true, nil
		}
	}
	return false, err
}

// caller lets through who may use the job routes of a server (wire.md section 2): a token with the grant always, a sealed
// identity in sql mode, or in api mode where the cluster accepts it. A payload that cannot be opened is refused whatever
// the token says.
func (g *Gateway) caller(c *gin.Context) {
	k := callOf(c)
	who, err := g.verify(bearer(c.Request))
	may := err == nil && who.May(k.cluster.Name, k.server.String(), auth.Jobs)
	given, sealedErr, ok := g.openSealed(c, !may)
	if !ok {
		return
	}
	k.given = given
	if sealedErr != nil && (err != nil || !plainObject(k.body)) {
		g.fail(c, errUnauthorized)
		return
	}
	k.plain = sealedErr != nil
	switch {
	case may:
		k.who = who
	case given && k.cluster.acceptsSecret():
	case err == nil:
		g.fail(c, errForbidden)
	default:
		g.fail(c, err)
	}
}

// openSealed opens the identity in the body. Where nothing else proves the caller, a wrong one is a guess at the database
// password and counts as a failed secret-login; ok is false when there were too many, and the answer is given.
func (g *Gateway) openSealed(c *gin.Context, alone bool) (given bool, err error, ok bool) {
	k := callOf(c)
	if !alone || !k.cluster.acceptsSecret() || len(k.body) == 0 {
		given, err = k.open()
		return given, err, true
	}
	t, ok := g.trySecret(c)
	if !ok {
		return false, nil, false
	}
	given, err = k.open()
	if err == nil && !given {
		t.undecided()
	}
	if given && !g.fresh(c, t) {
		return given, nil, false
	}
	if given {
		t.worked()
	}
	return given, err, true
}

// acceptsSecret reports whether a sealed identity serves without a token.
func (c *cluster) acceptsSecret() bool { return c.Mode == job.SQL || c.AcceptSecret }

// plainObject tells a JSON object that is no envelope: with a token a client may send one.
func plainObject(body []byte) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return false
	}
	_, sealed := members["data"]
	return !sealed
}

// channelCaller lets through who may ask for the log level of a cluster. Older clients send neither token nor payload
// there (wire.md section 2), and the answer is no secret: where they are served, no credentials are looked at.
func (g *Gateway) channelCaller(c *gin.Context) {
	k := callOf(c)
	if k.cluster.acceptsSecret() {
		return // not even a token that has expired: a client that is in the middle of a job asks this for every line
	}
	who, err := g.verify(bearer(c.Request))
	if err != nil {
		g.fail(c, err)
		return
	}
	if !who.MayJobs(k.cluster.Name) {
		g.fail(c, errForbidden)
	}
	k.who = who
}

// user lets through who has a token; what it may do is the handler's question. A database host has no business here: its
// token is for the routes of its own server, and shows nothing of the others.
func (g *Gateway) user(c *gin.Context) {
	c.Header("Cache-Control", "no-store") // a browser reads with its cookie, and keeps what it may
	c.Header("X-Content-Type-Options", "nosniff")
	k := callOf(c)
	k.token = tokenOf(c)
	who, err := g.verify(k.token)
	switch {
	case err != nil:
		g.fail(c, err)
	case who.Bound():
		g.fail(c, errForbidden.withMessage("the token of a database host serves on the routes of its own server only"))
	default:
		k.who = who
	}
}

// viewWait is how long a call waits for the picture of the jobs to be complete after a start.
const viewWait = 200 * time.Millisecond

// viewReady answers 503 while the jobs are not known yet: `false` would be wrong, and so would "unknown job".
func (g *Gateway) viewReady(c *gin.Context) {
	select {
	case <-g.View.Ready():
		return
	default:
	}
	select {
	case <-g.View.Ready():
	case <-time.After(viewWait):
		g.fail(c, errUnavailable.withMessage("drydock is starting, try again"))
	}
}
