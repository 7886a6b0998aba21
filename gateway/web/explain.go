package web

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"drydock/explain"
	"drydock/job"
)

// explainPage is why a task of a cluster ran or did not.
type explainPage struct {
	explain.Explanation
	At     string // as it was asked for; empty for now
	Within string
}

// Title is that of the page.
func (p explainPage) Title() string { return "Why " + p.Task + " of " + p.Cluster }

// aboutExplained narrows the changes down to those of the page's schedule: every look reads the log.
func aboutExplained(_ *visit, data any) func(change) bool {
	p := data.(explainPage)
	return func(c change) bool {
		return c.topic == topicControl || c.key.Cluster == p.Cluster && c.key.Task == p.Task
	}
}

// explain looks at the 24 hours before now, or around the time that was asked for.
func (w *Web) explain(v *visit) (any, error) {
	c, err := w.mayRead(v, v.PathValue("cluster"))
	if err != nil {
		return nil, err
	}
	task, err := job.TaskByName(v.PathValue("task"))
	if err != nil {
		return nil, notFound("task")
	}
	p := explainPage{At: v.query.Get("at"), Within: v.query.Get("within")}
	var at time.Time
	if p.At != "" {
		if at, err = parseAt(p.At); err != nil {
			return nil, &problem{http.StatusBadRequest, "a time is written as in 2026-11-22 02:30 (UTC)"}
		}
	}
	within := explain.Within
	if p.Within != "" {
		if within, err = time.ParseDuration(p.Within); err != nil || within <= 0 || within > explain.MaxWithin {
			return nil, &problem{http.StatusBadRequest, "within is a duration such as 24h, up to " + explain.MaxWithin.String()}
		}
	}
	from, to := explain.Around(at, within, time.Now())
	p.Explanation, err = explain.Of(v.Context(), w.Conn, c.Name, task.Name, from, to)
	if errors.Is(err, explain.ErrTooMuch) {
		return nil, &problem{http.StatusBadRequest, err.Error()}
	}
	slices.Reverse(p.Ticks) // a page is read from the newest on
	return p, err
}

// parseAt reads a time in UTC, as browsers and people write it.
func parseAt(s string) (at time.Time, err error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if at, err = time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return at, err
}
