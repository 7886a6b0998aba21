package web

import "net/http"

// router is a mux that can say what its routes are, which [http.ServeMux] cannot.
type router struct {
	*http.ServeMux
	patterns []string
}

func (r *router) HandleFunc(pattern string, h http.HandlerFunc) {
	r.patterns = append(r.patterns, pattern)
	r.ServeMux.HandleFunc(pattern, h)
}

// Patterns lists every route of the page, as in "GET /jobs/{id}": who may use each is checked for all of them.
func (w *Web) Patterns() []string { return w.mux.patterns }
