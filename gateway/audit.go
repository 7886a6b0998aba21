package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/job"
	"drydock/store"
)

// acts registers the routes that change something: each names its verb in the audit, and there is no other way to
// register one (TestEveryChangingRouteIsAudited). The group's handlers come first: who is unknown does not act.
type acts struct {
	g     *Gateway
	group *gin.RouterGroup
}

func (a acts) handle(method, path, verb string, h ...gin.HandlerFunc) {
	a.g.verbs[method+" "+a.group.BasePath()+path] = verb
	a.group.Handle(method, path, append([]gin.HandlerFunc{a.g.audited(verb)}, h...)...)
}

func (a acts) post(path, verb string, h ...gin.HandlerFunc) {
	a.handle(http.MethodPost, path, verb, h...)
}
func (a acts) put(path, verb string, h ...gin.HandlerFunc) {
	a.handle(http.MethodPut, path, verb, h...)
}
func (a acts) delete(path, verb string, h ...gin.HandlerFunc) {
	a.handle(http.MethodDelete, path, verb, h...)
}

// audited holds the answer of an act back until the audit has it on disk. Handlers add to callOf(c).act what the route
// does not say.
func (g *Gateway) audited(verb string) gin.HandlerFunc {
	return func(c *gin.Context) {
		k := callOf(c)
		k.act = bus.Audit{Verb: verb, Target: firstOf(c.Param("task"), c.Param("kind"), c.Param("name"), c.Param("id"))}
		if cl, ok := g.clusters[c.Param("cluster")]; ok {
			k.act.Cluster = cl.Name
			if i, ok := cl.find(c.Param("host"), c.Param("port")); ok {
				k.act.Server = cl.Servers[i].String()
			}
		}
		if c.Query("force") == "1" {
			k.act.Detail = "forced"
		}
		to := c.Writer
		held := &heldAnswer{ResponseWriter: to, status: http.StatusOK}
		c.Writer = held
		ended := false
		defer func() {
			if !ended { // the handler panics: the answer to that is not held back
				c.Writer = to
				k.act.Outcome, k.act.Error = bus.AuditFailed, errInternal.message
				_ = g.record(c, k.act) // it is in the log as well
			}
		}()
		c.Next()
		ended = true
		c.Writer = to
		k.act.Outcome, k.act.Error = outcomeOf(held.status), k.problem
		if err := g.record(c, k.act); err != nil && k.act.Outcome == bus.AuditDone {
			// It is done. To answer 200 would be to hide that nobody will ever read about it.
			g.fail(c, errUnavailable.withMessage("it was done, but the audit cannot be written now; look before you repeat it"))
			return
		}
		held.send()
	}
}

func firstOf(texts ...string) string {
	i := slices.IndexFunc(texts, func(s string) bool { return s != "" })
	if i < 0 {
		return ""
	}
	return texts[i]
}

func outcomeOf(status int) bus.AuditOutcome {
	switch {
	case status < 300:
		return bus.AuditDone
	case status < 500:
		return bus.AuditRefused
	}
	return bus.AuditFailed
}

// heldAnswer keeps an answer back. Answers of acts are short.
type heldAnswer struct {
	gin.ResponseWriter
	status int
	wrote  bool
	body   bytes.Buffer
}

func (h *heldAnswer) WriteHeader(status int)            { h.status, h.wrote = status, true }
func (h *heldAnswer) WriteHeaderNow()                   { h.wrote = true }
func (h *heldAnswer) Status() int                       { return h.status }
func (h *heldAnswer) Size() int                         { return h.body.Len() }
func (h *heldAnswer) Written() bool                     { return h.wrote }
func (h *heldAnswer) Flush()                            {}
func (h *heldAnswer) Write(b []byte) (int, error)       { h.wrote = true; return h.body.Write(b) }
func (h *heldAnswer) WriteString(s string) (int, error) { h.wrote = true; return h.body.WriteString(s) }

func (h *heldAnswer) send() {
	h.ResponseWriter.WriteHeader(h.status)
	if h.body.Len() > 0 {
		_, _ = h.ResponseWriter.Write(h.body.Bytes()) // the client has gone, if it fails
		return
	}
	h.ResponseWriter.WriteHeaderNow()
}

// omitted counts the refused acts that the audit leaves out.
type omitted struct {
	mu sync.Mutex
	n  int
}

func (o *omitted) add(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n += n
}

func (o *omitted) take() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.n
	o.n = 0
	return n
}

// recordTimeout bounds the write of one entry, whatever the act has left of its own time.
const recordTimeout = 3 * time.Second

// record writes an act into the audit, with who asked for it. Acts that were refused are left out when there are too
// many: a flood of them must not push out the others.
func (g *Gateway) record(c *gin.Context, a bus.Audit) error {
	k := callOf(c)
	a.Address = remoteIP(c.Request)
	if a.User == "" {
		a.User = k.who.Name
	}
	switch {
	case k.who.TokenID != "":
		a.Via, a.Token = bus.ViaToken, k.who.TokenID
	case k.who.SessionID != "":
		a.Via, a.Token = bus.ViaSession, k.who.SessionID
	}
	if a.Outcome != bus.AuditDone {
		if g.tries.take(counter{"audit", refusalsInAudit}) > 0 {
			g.omitted.add(1)
			return nil
		}
		a.Omitted = g.omitted.take()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), recordTimeout)
	defer cancel()
	err := g.audits.Record(ctx, a)
	if err != nil {
		g.omitted.add(a.Omitted)
		g.log.Error("act is not in the audit", "verb", a.Verb, "outcome", string(a.Outcome), "user", a.User, "address", a.Address, "cluster", a.Cluster,
			"server", a.Server, "target", a.Target, "detail", a.Detail, "err", err)
	} else if a.Outcome == bus.AuditDone {
		g.log.Info("act", "verb", a.Verb, "user", a.User, slog.String("address", a.Address), "cluster", a.Cluster, "server", a.Server, "target", a.Target)
	}
	return err
}

func remoteIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// about says in the audit which job an act is about.
func (k *call) about(j job.Job) {
	k.act.Cluster, k.act.Target = j.Cluster, j.ID
	k.act.Detail = strings.TrimSpace(j.Task + " " + k.act.Detail)
	if j.Server != (job.Server{}) {
		k.act.Server = j.Server.String()
	}
}

// listAudit answers who changed what. It needs a grant of its own: it says who works here, and from where.
func (g *Gateway) listAudit(c *gin.Context) {
	q, ok := g.query(c)
	if !ok {
		return
	}
	who := callOf(c).who
	f := store.AuditFilter{Cluster: q.cluster, User: c.Query("user"), Verb: c.Query("verb"), Since: q.since, Limit: q.limit}
	fleet := who.MayAll(auth.Audit)
	seen := map[string]bool{}
	for _, cl := range g.order {
		seen[cl.Name] = who.May(cl.Name, "", auth.Audit)
	}
	if q.cluster != "" && !seen[q.cluster] || !fleet && !slices.ContainsFunc(g.order, func(cl *cluster) bool { return seen[cl.Name] }) {
		g.fail(c, errForbidden.withMessage("the grant %s is missing", auth.Audit))
		return
	}
	f.Keep = func(a bus.Audit) bool { return fleet || seen[a.Cluster] }
	out, err := g.audits.List(c.Request.Context(), f)
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"audit": out})
}
