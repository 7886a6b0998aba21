package web

import "net/http"

// routes is the whole page.
func (w *Web) routes() error {
	w.mux.HandleFunc("GET /assets/{sum}/{name}", w.serveAsset)
	w.mux.HandleFunc("GET /login", w.showLogin)
	w.mux.HandleFunc("POST /login", w.login)
	w.mux.HandleFunc("GET /favicon.ico", func(out http.ResponseWriter, r *http.Request) {
		r.SetPathValue("name", "icon.svg")
		w.serveAsset(out, r)
	})
	for _, name := range []string{"login", "error"} { // shown where others cannot be
		t, err := w.layout.Clone()
		if err == nil {
			t, err = t.ParseFS(files, "templates/"+name+".html")
		}
		if err != nil {
			return err
		}
		w.pages[name] = &page{name: name, tmpl: t}
	}
	const everything = topicJobs | topicTicks | topicAlerts | topicBackups | topicHistory
	for _, p := range []struct {
		path string
		page
	}{
		{"/{$}", page{name: "fleet", title: "Fleet", data: w.fleet, parts: []string{"numbers", "clusters", "running", "failures"}, on: everything | topicProgress}},
		{"/jobs/{id}", page{name: "jobs", title: "Job", data: w.job, parts: []string{"head", "trouble", "progress", "states", "facts"}, on: topicJobs | topicProgress | topicHistory, about: aboutJob}},
	} {
		if err := w.add(p.path, p.page); err != nil {
			return err
		}
	}
	w.mux.HandleFunc("GET /jobs/{id}/log.txt", w.signedIn(w.wholeLog))
	for path, action := range map[string]func(*visit) error{
		"/logout":            w.logout,
		"/jobs/{id}/cancel":  w.cancelJob,
		"/jobs/{id}/retry":   w.retryJob,
		"/jobs/{id}/{order}": w.orderJob,
	} {
		w.mux.HandleFunc("POST "+path, w.signedIn(action))
	}
	return nil
}
