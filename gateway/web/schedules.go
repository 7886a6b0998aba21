package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/job"
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

// drop has the schedulers asked again at once: what they answered is not true any more.
func (c *calendar) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Time{}
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
	Off         bool         // also those that are off by the configuration
	Chosen      *scheduleRow // the one that the filter means, when it may be switched by the visitor
	Open        bool         // its switch is asked for
	Ticks       []bus.Tick
	TicksOf     string // the cluster whose ticks are shown; empty when none is chosen
}

// scheduleRow is a schedule and its next ticks.
type scheduleRow struct {
	bus.ScheduleInfo
	Fires     []fire
	Bars      []bus.Barred // why some of the fires start nothing or wait, one of each kind
	Long      bool         // it is switched off, and has been for long
	MaySwitch bool
}

// fire is one tick to come.
type fire struct {
	At    time.Time
	There string // in the time zone of the schedule
	Clock string // what the clocks of that zone do around it; empty when nothing
	Fate  string // what will become of it, as things stand
	Runs  bool
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
		if !among(names, s.Cluster) || f.Task != "" && s.Task != f.Task || !s.Enabled && s.Switch == nil && !p.Off && f.Task == "" {
			continue
		}
		row := scheduleRowOf(s, time.Now())
		row.MaySwitch = (s.Enabled || s.Switch != nil) && v.who.May(s.Cluster, "", auth.Hold)
		p.Rows = append(p.Rows, row)
		if row.MaySwitch && s.Cluster == f.Cluster && s.Task == f.Task {
			p.Chosen, p.Open = &row, v.query.Get("switch") == "1"
		}
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

// scheduleRowOf tells a schedule and the fate of its next ticks.
func scheduleRowOf(s bus.ScheduleInfo, now time.Time) scheduleRow {
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		zone = time.UTC // a zone that this machine does not know: UTC says so itself
	}
	row := scheduleRow{ScheduleInfo: s, Long: s.Switch != nil && s.Switch.Long(now)}
	for _, at := range s.Next {
		x := fire{At: at, There: at.In(zone).Format("Mon 2006-01-02 15:04:05 MST"), Clock: clockChange(at, zone), Fate: "runs", Runs: true}
		if b, barred := s.Bar(at); barred {
			x.Fate, x.Runs = fateOf(b), false
			if !slices.ContainsFunc(row.Bars, func(o bus.Barred) bool { return o.Gate == b.Gate }) {
				row.Bars = append(row.Bars, b)
			}
		}
		row.Fires = append(row.Fires, x)
	}
	return row
}

// fateOf is what becomes of a tick that is barred, in a few words.
func fateOf(b bus.Barred) string {
	why, known := map[job.Gate]string{
		job.GateOff: "switched off", job.GateHold: "on hold", job.GateBlackout: "in a blackout", job.GateWindow: "outside the windows",
		job.GateConfig: "not possible",
	}[b.Gate]
	if !known {
		why = string(b.Gate)
	}
	if b.Waits {
		return "waits: " + why
	}
	return "is skipped: " + why
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

// switchSchedule switches a schedule off or on again.
func (w *Web) switchSchedule(v *visit) error {
	c, err := w.mayRead(v, v.PathValue("cluster"))
	if err != nil {
		return err
	}
	task := v.PathValue("task")
	path := "/api/clusters/" + url.PathEscape(c.Name) + "/schedules/" + url.PathEscape(task) + "/off"
	back := "/schedules?" + url.Values{"cluster": {c.Name}, "task": {task}}.Encode()
	defer w.calendar.drop() // the page that follows asks the schedulers anew
	if v.PostFormValue("on") == "1" {
		return w.act(v, http.MethodDelete, path, nil, back, "the schedule of "+task+" is switched on again; what was skipped is not made up for")
	}
	body, err := json.Marshal(map[string]string{"note": v.PostFormValue("note")})
	if err != nil {
		return err
	}
	return w.act(v, http.MethodPost, path, body, back, "the schedule of "+task+" is switched off until somebody switches it on again")
}
