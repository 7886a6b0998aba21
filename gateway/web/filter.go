package web

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"drydock/job"
)

// filter is what the lists may be narrowed by. What is not given means all.
type filter struct {
	Cluster, Server, Task, State, Trigger string
	Since                                 string // as it was given
	From                                  time.Time
	Limit                                 int
	server                                job.Server
	Clusters                              []Cluster // to choose from
	Tasks                                 []job.Task
	query                                 url.Values
}

// filterOf reads the filter of a list. since is how far back the list goes when nothing is said.
func (w *Web) filterOf(v *visit, since string, limit, most int) (filter, error) {
	f := filter{
		Cluster: v.query.Get("cluster"), Server: strings.TrimSpace(v.query.Get("server")), Task: v.query.Get("task"),
		State: v.query.Get("state"), Trigger: v.query.Get("trigger"), Since: since, Limit: limitOf(v.query.Get("n"), limit, most),
		Clusters: w.readable(v), Tasks: job.Tasks(), query: url.Values{},
	}
	if f.Cluster != "" {
		if _, err := w.mayRead(v, f.Cluster); err != nil {
			return f, err
		}
	}
	if f.Server != "" {
		var err error
		if f.server, err = job.ParseServer(f.Server); err != nil {
			return f, &problem{400, "server: host or host:port is wanted"}
		}
	}
	if s := v.query.Get("since"); s != "" {
		f.Since = s
	}
	if f.Since != "" {
		d, err := time.ParseDuration(f.Since)
		if days, ok := strings.CutSuffix(f.Since, "d"); ok {
			n, derr := strconv.Atoi(days)
			d, err = time.Duration(n)*24*time.Hour, derr
		}
		if err != nil || d <= 0 || d > 400*24*time.Hour {
			return f, &problem{400, "since: a duration such as 36h or 7d is wanted"}
		}
		f.From = time.Now().Add(-d)
	}
	for k, values := range v.query {
		if k != "shown" && k != "after" && len(values) > 0 && values[0] != "" {
			f.query.Set(k, values[0])
		}
	}
	return f, nil
}

// Query is the filter as parameters, for the exports.
func (f filter) Query() string { return f.query.Encode() }

// names are the clusters that the filter means.
func (f filter) names() []string {
	if f.Cluster != "" {
		return []string{f.Cluster}
	}
	var out []string
	for _, c := range f.Clusters {
		out = append(out, c.Name)
	}
	return out
}

// means reports whether a server passes.
func (f filter) means(s job.Server) bool {
	return f.server.Host == "" || f.server.Host == s.Host && (f.server.Port == 0 || f.server.Port == s.Port)
}

// The states that a filter knows beside those of a job.
const (
	stateLive = "live"
	stateBad  = "bad"
)

// keeps reports whether a job's state passes.
func (f filter) keeps(s job.State) bool {
	switch f.State {
	case "":
		return true
	case stateLive:
		return s.Live()
	case stateBad:
		return failedState(s)
	}
	return string(s) == f.State
}

// States are the choices.
func (f filter) States() []string {
	out := []string{stateLive, stateBad}
	for _, s := range job.States {
		out = append(out, string(s))
	}
	return out
}

// Triggers are the choices.
func (f filter) Triggers() []string {
	return []string{string(job.Cron), string(job.Manual), string(job.CatchUp), string(job.Drill), string(job.Rolling)}
}

// among reports whether a name is one of the list.
func among(names []string, name string) bool { return slices.Contains(names, name) }
