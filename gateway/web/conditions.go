package web

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/store"
)

// conditionsPage is what holds now, and what held.
type conditionsPage struct {
	filter
	Code, Severity string
	Open           []conditionRow
	Matching       int
	History        []bus.Alert
	Severities     []string
}

// conditionRow is a condition that holds.
type conditionRow struct {
	condition
	Ack    *store.Ack
	MayAck bool
}

const (
	conditionRows = 200
	edgeRows      = 100
)

func (w *Web) conditions(v *visit) (any, error) {
	f, err := w.filterOf(v, "24h", conditionRows, historyMost)
	if err != nil {
		return nil, err
	}
	p := conditionsPage{
		filter: f, Code: v.query.Get("code"), Severity: v.query.Get("severity"),
		Severities: []string{string(bus.SeverityError), string(bus.SeverityWarn), string(bus.SeverityInfo)},
	}
	acks, err := w.Control.Acks(v.Context())
	if err != nil {
		return nil, err
	}
	names := f.names()
	keep := func(a bus.Alert) bool {
		return (among(names, a.Cluster) || a.Cluster == "" && f.Cluster == "" && len(names) > 0) && f.means(a.Server) && (f.Task == "" || a.Task == f.Task) &&
			(p.Code == "" || a.Code == p.Code) && (p.Severity == "" || string(a.Severity) == p.Severity)
	}
	open := w.model.openAlerts(keep)
	p.Matching = len(open)
	for _, a := range open[:min(len(open), f.Limit)] {
		row := conditionRow{condition: a, MayAck: w.mayHold(v, a.Cluster)}
		if ack := acks[a.Name]; ack.Holds(a.ID, time.Now()) {
			row.Ack = &ack
		}
		p.Open = append(p.Open, row)
	}
	slices.SortStableFunc(p.Open, func(a, b conditionRow) int { return acked(a) - acked(b) })
	edges, err := store.NewAlerts(w.Conn, "page").List(v.Context(), store.AlertFilter{Cluster: f.Cluster, Task: f.Task, History: true, Since: f.From, Limit: historyExport})
	if err != nil {
		return nil, err
	}
	for _, e := range edges {
		if keep(e) && len(p.History) < edgeRows {
			p.History = append(p.History, e)
		}
	}
	return p, nil
}

func acked(r conditionRow) int {
	if r.Ack != nil {
		return 1
	}
	return 0
}

// mayHold reports whether the visitor has the grant on a cluster, on all of them for an empty name.
func (w *Web) mayHold(v *visit, cluster string) bool {
	return !slices.ContainsFunc(w.cfg.Clusters, func(c Cluster) bool {
		return (cluster == "" || c.Name == cluster) && !v.who.May(c.Name, "", auth.Hold)
	})
}

// acknowledge notes that the visitor looks after a condition, or takes it back. The button says which, by the id of the edge
// that opened it.
func (w *Web) acknowledge(v *visit) error {
	if id := v.PostFormValue("lift"); id != "" {
		return w.act(v, http.MethodDelete, "/api/alerts/"+url.PathEscape(id)+"/ack", nil, "/conditions", "no longer acknowledged")
	}
	id := v.PostFormValue("ack")
	return w.act(v, http.MethodPost, "/api/alerts/"+url.PathEscape(id)+"/ack", nil, "/conditions", "acknowledged; it stays open until its cause is gone")
}
