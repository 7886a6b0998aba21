package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"drydock/restore"
)

// restorePage is the form that asks for the plan of a restore, and the plan. Nothing is done from here.
type restorePage struct {
	Clusters []Cluster
	Cluster  Cluster // the zero value until one is chosen
	Backup   string
	Server   string // whose backup, HOST:PORT
	To       string
	Kind     string // of the target: server or directory
	Target   string // the server or the folder
	Stay     bool
	Plan     *restore.Plan
	Refused  string // why there is no plan
}

// Title is that of the browser's tab.
func (restorePage) Title() string { return "Restore plan" }

func (w *Web) restorePlan(v *visit) (any, error) {
	q := v.query
	p := restorePage{
		Clusters: w.readable(v), Backup: strings.TrimSpace(q.Get("backup")), Server: q.Get("server"), To: strings.TrimSpace(q.Get("to")),
		Kind: q.Get("kind"), Stay: q.Get("stay") == "1",
	}
	if p.Kind != "server" {
		p.Kind = "directory"
	}
	p.Target = strings.TrimSpace(q.Get(map[string]string{"directory": "directory", "server": "onto"}[p.Kind]))
	if name := q.Get("cluster"); name != "" {
		var err error
		if p.Cluster, err = w.mayRead(v, name); err != nil {
			return nil, err
		}
	} else if len(p.Clusters) == 1 {
		p.Cluster = p.Clusters[0]
	}
	if p.Cluster.Name == "" || p.Target == "" || p.Backup == "" && p.Server == "" {
		return p, nil
	}
	ask := url.Values{"backup": {p.Backup}, "server": {p.Server}, "to": {p.To}, "to-" + p.Kind: {p.Target}}
	if p.Stay {
		ask.Set("no-replication", "1")
	}
	var plan restore.Plan
	err := w.call(v.Request, v.token, http.MethodGet, "/api/clusters/"+url.PathEscape(p.Cluster.Name)+"/restore/plan?"+ask.Encode(), nil, &plan)
	var refused *problem
	switch {
	case errors.As(err, &refused):
		p.Refused = refused.text
	case err != nil:
		return nil, err
	default:
		p.Plan = &plan
	}
	return p, nil
}
