package web

import (
	"context"
	"slices"
	"sync"
	"time"

	"drydock/bus"
	"drydock/store"
)

// calendar is what the schedulers answered last. Asking takes them a read per schedule, so that the pages share it.
type calendar struct {
	mu    sync.Mutex
	at    time.Time
	stale bool // a tick was decided since
	all   []bus.ScheduleInfo
	err   error
}

const (
	// calendarFresh is how long an answer serves at most, calendarLeast at least.
	calendarFresh = 20 * time.Second
	calendarLeast = time.Second
	calendarWait  = 2 * time.Second
)

// schedules are those of all clusters; err when no scheduler answers.
func (w *Web) schedules(ctx context.Context) ([]bus.ScheduleInfo, error) {
	c := &w.calendar
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := time.Since(c.at); age < calendarLeast || age < calendarFresh && !c.stale {
		return c.all, c.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), calendarWait) // others wait for the answer too
	defer cancel()
	rep, err := bus.Request[bus.NextReply](ctx, w.Conn, bus.SubjectNext, struct{}{})
	c.all, c.err, c.at, c.stale = rep.Schedules, err, time.Now(), false
	return c.all, c.err
}

func (c *calendar) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = true
}

// schedulesPage is when what comes next, and what became of what was due.
type schedulesPage struct {
	filter
	NoScheduler string
	Rows        []scheduleRow
	Matching    int
	Off         bool // also those that are off
	Ticks       []bus.Tick
	TicksOf     string // the cluster whose ticks are shown; empty when none is chosen
}

// scheduleRow is a schedule and its next ticks.
type scheduleRow struct {
	bus.ScheduleInfo
	Fires []fire
}

// fire is one tick to come.
type fire struct {
	At      time.Time
	There   string // in the time zone of the schedule
	Clock   string // what the clocks of that zone do around it; empty when nothing
	Outside bool   // it falls outside the windows or into a blackout
}

const (
	scheduleRows    = 60
	scheduleRowsMax = 1000
	tickRows        = 50
)

func (w *Web) schedulePage(v *visit) (any, error) {
	f, err := w.filterOf(v, "7d", scheduleRows, scheduleRowsMax)
	if err != nil {
		return nil, err
	}
	p := schedulesPage{filter: f, Off: v.query.Get("off") == "1", TicksOf: f.Cluster}
	all, err := w.schedules(v.Context())
	if err != nil {
		p.NoScheduler = noScheduler
	}
	names := f.names()
	for _, s := range all {
		if !among(names, s.Cluster) || f.Task != "" && s.Task != f.Task || !s.Enabled && !p.Off && f.Task == "" {
			continue
		}
		p.Rows = append(p.Rows, scheduleRow{s, firesOf(s)})
	}
	slices.SortStableFunc(p.Rows, func(a, b scheduleRow) int { return nextOf(a).Compare(nextOf(b)) })
	p.Matching = len(p.Rows)
	p.Rows = p.Rows[:min(len(p.Rows), f.Limit)]
	if f.Cluster == "" {
		return p, nil // the ledger of a whole fleet is long: one cluster is to be chosen
	}
	p.Ticks, err = w.Ledger.List(v.Context(), store.TickFilter{Cluster: f.Cluster, Task: f.Task, Since: f.From, Limit: tickRows})
	return p, err
}

// nextOf puts what is off last.
func nextOf(r scheduleRow) time.Time {
	if len(r.Next) == 0 {
		return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return r.Next[0]
}

func firesOf(s bus.ScheduleInfo) []fire {
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		zone = time.UTC // a zone that this machine does not know: UTC says so itself
	}
	var out []fire
	for _, at := range s.Next {
		out = append(out, fire{
			At: at, There: at.In(zone).Format("Mon 2006-01-02 15:04:05 MST"), Clock: clockChange(at, zone),
			Outside: slices.ContainsFunc(s.Outside, at.Equal),
		})
	}
	return out
}

// clockChange says what the clocks of a zone do within a day before a tick, or right at it.
func clockChange(at time.Time, zone *time.Location) string {
	_, now := at.In(zone).Zone()
	_, before := at.Add(-24 * time.Hour).In(zone).Zone()
	_, hour := at.Add(-time.Hour).In(zone).Zone()
	_, later := at.Add(time.Hour).In(zone).Zone()
	switch {
	case later < now:
		return "the clocks go back within the hour: this time comes twice"
	case hour > now:
		return "the clocks went back within the hour: this time comes twice"
	case now > before:
		return "the clocks went forward since the day before"
	case now < before:
		return "the clocks went back since the day before"
	}
	return ""
}
