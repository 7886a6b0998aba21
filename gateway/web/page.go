package web

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// page is one of the pages: how its data are found, and which parts of it are kept up to date.
type page struct {
	name  string // of its template file, and in the address of its stream
	title string
	// data is what the templates show. It is asked for again at every change, with the visit of the stream.
	data func(*visit) (any, error)
	// parts are the templates that are kept up to date, in the order of the page. The template of the page places them.
	parts []string
	on    topic // what may change them
	// about, when set, narrows the changes down.
	about func(v *visit, data any) func(change) bool

	tmpl *template.Template
}

// shown is what the layout gets.
type shown struct {
	*frame
	Data any
	Part map[string]template.HTML
}

// frame is what every page has around it.
type frame struct {
	Title, Page, User, CSRF, Version string
	Live                             string // address of the stream of events; empty when there is none
	Note                             *note
	Nav                              []navItem
}

type navItem struct {
	Name, Path string
	Here       bool
}

var nav = []navItem{
	{Name: "Fleet", Path: "/"}, {Name: "Timeline", Path: "/timeline"}, {Name: "Maintenance", Path: "/maintenance"},
	{Name: "History", Path: "/history"}, {Name: "Backups", Path: "/backups"}, {Name: "Schedules", Path: "/schedules"},
	{Name: "Conditions", Path: "/conditions"}, {Name: "Health", Path: "/health"},
}

func (w *Web) loadLayout() (*template.Template, error) {
	t, err := template.New("layout").Funcs(funcs(w.assets)).ParseFS(files, "templates/layout.html", "templates/shared.html")
	if err != nil {
		return nil, fmt.Errorf("read the layout: %w", err)
	}
	return t, nil
}

// add makes a page known: at path, and its stream at /live/NAME and the same parameters.
func (w *Web) add(path string, p page) error {
	t, err := w.layout.Clone()
	if err == nil {
		t, err = t.ParseFS(files, "templates/"+p.name+".html")
	}
	if err != nil {
		return fmt.Errorf("read the page %s: %w", p.name, err)
	}
	p.tmpl = t
	w.pages[p.name] = &p
	w.mux.HandleFunc("GET "+path, w.signedIn(func(v *visit) error { return w.show(v, &p) }))
	if len(p.parts) > 0 {
		live := "/live/" + p.name
		if i := strings.IndexByte(path[1:], '/'); i >= 0 { // what follows the first element are parameters
			live += path[1+i:]
		}
		w.mux.HandleFunc("GET "+live, w.signedIn(func(v *visit) error { return w.stream(v, &p) }))
	}
	return nil
}

// show renders a whole page.
func (w *Web) show(v *visit, p *page) error {
	data, err := p.data(v)
	if err != nil {
		return err
	}
	parts, sums, err := p.render(data)
	if err != nil {
		return err
	}
	f := w.frame(v, p.title, p.name)
	if t, ok := data.(interface{ Title() string }); ok {
		f.Title = t.Title()
	}
	if len(p.parts) > 0 {
		f.Live = liveURL(v, p, data, sums)
	}
	return w.write(v.out, http.StatusOK, p.tmpl, shown{f, data, parts})
}

// liveURL is the address of the page's stream. It says what was shown, so that the stream begins with what has changed
// since.
func liveURL(v *visit, p *page, data any, sums []string) string {
	q := url.Values{}
	for k, values := range v.query {
		q[k] = values
	}
	q.Set("shown", strings.Join(sums, "."))
	if l, ok := data.(interface{ LogSeq() uint64 }); ok {
		q.Set("after", strconv.FormatUint(l.LogSeq(), 10))
	}
	path := "/live/" + p.name
	if rest := strings.TrimPrefix(v.URL.EscapedPath(), "/"); strings.Contains(rest, "/") {
		_, rest, _ = strings.Cut(rest, "/")
		path += "/" + rest
	}
	return path + "?" + q.Encode()
}

// frame is what stands around a page.
func (w *Web) frame(v *visit, title, here string) *frame {
	f := &frame{Title: title, Page: here, User: v.who.Name, CSRF: csrf(v.token), Version: w.cfg.Version, Note: v.takeNote()}
	for _, n := range nav {
		n.Here = strings.EqualFold(n.Name, here)
		f.Nav = append(f.Nav, n)
	}
	return f
}

// render makes the parts of a page, and what tells each of them from a changed one.
func (p *page) render(data any) (parts map[string]template.HTML, sums []string, err error) {
	parts = map[string]template.HTML{}
	var buf bytes.Buffer
	for _, name := range p.parts {
		buf.Reset()
		if err := p.tmpl.ExecuteTemplate(&buf, name, data); err != nil {
			return nil, nil, fmt.Errorf("render %s of the page %s: %w", name, p.name, err)
		}
		parts[name] = template.HTML(buf.String()) // made by html/template, for a place of the same kind
		h := fnv.New64a()
		h.Write(buf.Bytes())
		sums = append(sums, strconv.FormatUint(h.Sum64(), 36))
	}
	return parts, sums, nil
}

func (w *Web) write(out http.ResponseWriter, status int, t *template.Template, data any) error {
	var buf bytes.Buffer
	if err := t.ExecuteTemplate(&buf, "layout", data); err != nil {
		return fmt.Errorf("render: %w", err)
	}
	out.Header().Set("Content-Type", "text/html; charset=utf-8")
	out.WriteHeader(status)
	_, err := out.Write(buf.Bytes())
	if err != nil {
		w.log.Debug("a browser left while its page was sent", "err", err)
	}
	return nil
}

func (w *Web) renderLogin(out http.ResponseWriter, status int, p loginPage) {
	t := w.pages["login"].tmpl
	if err := w.write(out, status, t, shown{frame: &frame{Title: "Sign in", Page: "login", Version: w.cfg.Version}, Data: p}); err != nil {
		w.log.Error("show the login", "err", err)
		http.Error(out, "internal error", http.StatusInternalServerError)
	}
}

// fail shows what went wrong. What the person may not know stays in the log.
func (w *Web) fail(v *visit, err error) {
	var p *problem
	if !errors.As(err, &p) {
		w.log.Error("page failed", "path", v.URL.Path, "err", err)
		p = &problem{http.StatusServiceUnavailable, "a part of drydock does not answer; try again, the log says more"}
	}
	if strings.HasPrefix(v.URL.Path, "/live/") {
		refuseStream(v.out, p.status, p.text)
		return
	}
	if err := w.write(v.out, p.status, w.pages["error"].tmpl, shown{frame: w.frame(v, http.StatusText(p.status), "error"), Data: p.text}); err != nil {
		w.log.Error("show an error", "err", err)
		http.Error(v.out, p.text, p.status)
	}
}

// mayRead is the cluster of this name, if the visitor may see it.
func (w *Web) mayRead(v *visit, name string) (Cluster, error) {
	c, ok := w.known[name]
	if !ok || !v.who.MayRead(name) {
		return Cluster{}, notFound("cluster")
	}
	return c, nil
}

// readable are the clusters that the visitor may see.
func (w *Web) readable(v *visit) []Cluster {
	return slices.DeleteFunc(slices.Clone(w.cfg.Clusters), func(c Cluster) bool { return !v.who.MayRead(c.Name) })
}
