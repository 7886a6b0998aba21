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
	const everything = topicJobs | topicTicks | topicAlerts | topicBackups | topicHistory | topicControl
	for _, p := range []struct {
		path string
		page
	}{
		{"/{$}", page{name: "fleet", title: "Fleet", data: w.fleet, parts: []string{"numbers", "clusters", "running", "failures"}, on: everything | topicProgress}},
		{"/timeline", page{name: "timeline", title: "Timeline", data: w.timeline, parts: []string{"lanes"}, on: topicJobs | topicTicks | topicHistory | topicControl}},
		{"/maintenance", page{name: "clusters", title: "Maintenance", data: w.clusters}},
		{"/maintenance/{cluster}", page{name: "maintenance", title: "Maintenance", data: w.maintenance, parts: []string{"gate", "matrix"}, on: topicJobs | topicTicks | topicControl | topicPulse, about: aboutCluster}},
		{"/history", page{name: "history", title: "History", data: w.history, parts: []string{"jobs"}, on: topicJobs}},
		{"/backups", page{name: "backups", title: "Backups", data: w.backups, parts: []string{"list"}, on: topicBackups}},
		{"/backups/{cluster}/{server}/{id}", page{name: "backup", title: "Backup", data: w.backup, parts: []string{"work", "facts", "looks", "drills"}, on: topicBackups | topicJobs | topicProgress, about: aboutBackup}},
		{"/restore", page{name: "restore", title: "Restore plan", data: w.restorePlan}},
		{"/schedules", page{name: "schedules", title: "Schedules", data: w.schedulePage, parts: []string{"plans", "ticks"}, on: topicTicks | topicControl}},
		{"/explain/{cluster}/{task}", page{name: "explain", title: "Why", data: w.explain, parts: []string{"standing", "coming", "ticks"}, on: topicTicks | topicJobs | topicControl, about: aboutExplained}},
		{"/conditions", page{name: "conditions", title: "Conditions", data: w.conditions, parts: []string{"open", "edges"}, on: topicAlerts | topicControl}},
		{"/health", page{name: "health", title: "Health", data: w.health, parts: []string{"checks", "services", "bus"}, on: topicChecks | topicJobs}},
		{"/jobs/{id}", page{name: "jobs", title: "Job", data: w.job, parts: []string{"head", "trouble", "progress", "states", "facts"}, on: topicJobs | topicProgress | topicHistory, about: aboutJob}},
	} {
		if err := w.add(p.path, p.page); err != nil {
			return err
		}
	}
	w.mux.HandleFunc("GET /jobs/{id}/log.txt", w.signedIn(w.wholeLog))
	w.mux.HandleFunc("GET /history.csv", w.signedIn(w.exportCSV))
	w.mux.HandleFunc("GET /history.json", w.signedIn(w.exportJSON))
	for path, action := range map[string]func(*visit) error{
		"/logout":                    w.logout,
		"/jobs/{id}/cancel":          w.cancelJob,
		"/jobs/{id}/retry":           w.retryJob,
		"/jobs/{id}/{order}":         w.orderJob,
		"/maintenance/{cluster}/run": w.runTask, "/maintenance/{cluster}/hold": w.hold,
		"/schedules/{cluster}/{task}/switch":      w.switchSchedule,
		"/backups/{cluster}/{server}/{id}/drill":  w.look(taskDrill, "a drill is asked for"),
		"/backups/{cluster}/{server}/{id}/verify": w.look(taskVerify, "a verification is asked for"),
		"/backups/{cluster}/{server}/{id}/pin":    w.pin,
		"/conditions/ack":                         w.acknowledge,
		"/health/check":                           w.checkNow,
	} {
		w.mux.HandleFunc("POST "+path, w.signedIn(action))
	}
	return nil
}
