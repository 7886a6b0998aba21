package gateway

import (
	"net"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
)

// AnswerBy changes after how long shell clients are taken for gone; before [Gateway.Run].
func (g *Gateway) AnswerBy(d time.Duration) { g.answerBy = d }

// Deadlines changes those of a connection, before [Gateway.Run]. It returns what they were.
func (g *Gateway) Deadlines(header, read, idle time.Duration) (was [3]time.Duration) {
	for _, s := range g.servers {
		was = [3]time.Duration{s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout}
		s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = header, read, idle
	}
	return was
}

// Turns changes how many servers have their rows looked at at a time where no connection is kept; before [Dispatcher.Run].
func (d *Dispatcher) Turns(n int) { d.turns = make(chan struct{}, n) }

// Connections is how many there are.
func (g *Gateway) Connections() int { return g.guests.count() }

// QuickConn is what the TLS listener makes of a connection.
func QuickConn(c *net.TCPConn) net.Conn { return quickConn{c} }

// Unaudited lists the routes of operators that change something without an entry in the audit. The routes of the
// scripts answer GET and POST alike.
func (g *Gateway) Unaudited() (routes []string) {
	all := g.engine.Routes()
	for _, r := range all {
		twin := slices.ContainsFunc(all, func(x gin.RouteInfo) bool { return x.Path == r.Path && x.Method == "GET" && x.Handler == r.Handler })
		if r.Method != "GET" && r.Method != "HEAD" && !twin && g.verbs[r.Method+" "+r.Path] == "" {
			routes = append(routes, r.Method+" "+r.Path)
		}
	}
	return routes
}

// Routes lists every route of the API, as in "GET /api/jobs/:id".
func (g *Gateway) Routes() (routes []string) {
	for _, r := range g.engine.Routes() {
		routes = append(routes, r.Method+" "+r.Path)
	}
	return routes
}

// PageRoutes lists every route of the page, as in "GET /jobs/{id}".
func (g *Gateway) PageRoutes() []string { return g.page.Patterns() }

// Operations lists every route of the document in the same way.
func Operations() (routes []string) {
	for _, op := range append(restOperations(), dbjobsOperations()...) {
		routes = append(routes, op.Method+" "+op.Path)
	}
	return routes
}

// APIDocument is what GET /api/openapi.json answers.
func APIDocument() ([]byte, error) { return apiDocument() }

// Follows holds a token per stream of events, and is as long as a gateway has at a time.
func (g *Gateway) Follows() chan struct{} { return g.follows }
