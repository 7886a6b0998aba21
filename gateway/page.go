package gateway

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"drydock/gateway/web"
)

// newPage makes the page for people. Its actions are calls of api, the REST routes.
func (g *Gateway) newPage(api http.Handler) (*web.Web, error) {
	cfg := web.Config{Version: g.cfg.Version, Log: g.log.With("component", "page"), Check: g.cfg.Check, MaxAge: g.cfg.MaxAge}
	for _, c := range g.cfg.Clusters {
		cfg.Clusters = append(cfg.Clusters, web.Cluster{Name: c.Name, Mode: c.Mode, Servers: c.Servers, Refuse: c.Refuse})
	}
	return web.New(cfg, web.Deps{
		Conn: g.Conn, Jobs: g.Jobs, Ledger: g.Ledger, View: g.View, Catalog: g.Catalog, Docs: g.Docs, Control: g.control,
		Verdicts: g.verdicts.of, Verify: g.verify, Changed: g.users.Changed, API: api, Grant: grantOf,
	}, g.stopping)
}

// handler is everything that both ports serve: the page where it has a route, the API for the rest.
func (g *Gateway) handler() (http.Handler, error) {
	api := g.routes()
	page, err := g.newPage(api)
	if err != nil {
		return nil, err
	}
	g.page = page
	return behindProxy(g.cfg.TrustedProxies, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if page.Serves(r) {
			page.ServeHTTP(out, r)
			return
		}
		api.ServeHTTP(out, r)
	})), nil
}

// tokenOf is the token of a call of the REST API. A session of the page may read with its cookie; what changes something
// wants the token itself, which no other site can make a browser send.
func tokenOf(c *gin.Context) string {
	token := bearer(c.Request)
	if token == "" && (c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead) {
		token = web.CookieToken(c.Request)
	}
	return token
}
