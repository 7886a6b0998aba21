package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

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
	bus.Alert
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
	acks, err := w.Acks.All(v.Context())
	if err != nil {
		return nil, err
	}
	names := f.names()
	keep := func(a bus.Alert) bool {
		return among(names, a.Cluster) && f.means(a.Server) && (f.Task == "" || a.Task == f.Task) &&
			(p.Code == "" || a.Code == p.Code) && (p.Severity == "" || string(a.Severity) == p.Severity)
	}
	open := w.model.openAlerts(keep)
	p.Matching = len(open)
	for _, a := range open[:min(len(open), f.Limit)] {
		row := conditionRow{Alert: a, MayAck: v.who.May(a.Cluster, "", auth.Ack)}
		if ack, ok := acks[a.ID]; ok {
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

// acknowledge notes that the visitor knows of a condition, or takes it back. The button says which: CLUSTER/ID.
func (w *Web) acknowledge(v *visit) error {
	which, lift := v.PostFormValue("ack"), false
	if which == "" {
		which, lift = v.PostFormValue("lift"), true
	}
	i := strings.LastIndexByte(which, '/')
	if i < 0 {
		return notFound("condition")
	}
	c, err := w.mayRead(v, which[:i])
	if err != nil {
		return err
	}
	path := "/api/clusters/" + url.PathEscape(c.Name) + "/alerts/" + url.PathEscape(which[i+1:]) + "/ack"
	if lift {
		return w.act(v, http.MethodDelete, path, nil, "/conditions", "no longer acknowledged")
	}
	return w.act(v, http.MethodPost, path, nil, "/conditions", "acknowledged; it stays open until its cause is gone")
}
