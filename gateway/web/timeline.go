package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/window"
)

// timelinePage is two days of a fleet: what ran, what runs, what comes.
type timelinePage struct {
	filter
	Name        string // part of the server's name
	Now         time.Time
	From, To    time.Time
	NowX        int // in minutes since From
	Hours       []time.Time
	Lanes       []lane
	Matching    int
	NoScheduler string
	Reading     bool
}

// lane is a server, or a cluster as a whole.
type lane struct {
	Cluster string
	Server  job.Server
	Closed  []block // when nothing that is scheduled may begin
	Bars    []bar
	busy    int // jobs on it; -1 for each that failed
}

// block is a time on a lane, in minutes since the beginning of the picture.
type block struct {
	X, W int
	Why  string
}

// bar is a job on a lane.
type bar struct {
	X, W      int
	Row       int // 0 or 1, so that two at once are both seen
	ID        string
	Task      string
	State     string // a job's state, or planned
	Text      string
	Collision bool // it would begin while another is expected to run
	from, to  time.Time
}

const (
	laneRows  = 40
	laneMost  = 400
	dayAround = 24 * time.Hour
	// shortest keeps a job of seconds visible, minutes.
	shortest = 5
)

func (w *Web) timeline(v *visit) (any, error) {
	f, err := w.filterOf(v, "", laneRows, laneMost)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	from := now.Add(-dayAround).Truncate(time.Hour)
	p := &timelinePage{filter: f, Name: strings.TrimSpace(v.query.Get("q")), Now: now, From: from, To: from.Add(2*dayAround + time.Hour)}
	p.NowX = p.x(now)
	for h := from; h.Before(p.To); h = h.Add(3 * time.Hour) {
		p.Hours = append(p.Hours, h)
	}
	lanes := map[job.Key]*lane{}
	for _, c := range p.Clusters {
		if f.Cluster != "" && c.Name != f.Cluster {
			continue
		}
		for _, s := range append([]job.Server{{}}, c.Servers...) {
			if f.means(s) && strings.Contains(strings.ToLower(c.Name+" "+s.Addr()), strings.ToLower(p.Name)) {
				lanes[job.Key{Cluster: c.Name, Server: s}] = &lane{Cluster: c.Name, Server: s}
			}
		}
	}
	p.Reading = w.pastBars(p, lanes)
	w.plannedBars(v, p, lanes)
	for k, l := range lanes {
		if k.Server == (job.Server{}) && len(l.Bars) == 0 {
			continue // a whole cluster without work of its own
		}
		l.place()
		p.Lanes = append(p.Lanes, *l)
	}
	slices.SortFunc(p.Lanes, func(a, b lane) int {
		return cmp.Or(a.busy-b.busy, strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Server.Host, b.Server.Host), a.Server.Port-b.Server.Port)
	})
	p.Matching = len(p.Lanes)
	p.Lanes = p.Lanes[:min(len(p.Lanes), f.Limit)]
	// Those that are shown stand by cluster: the order above chose them.
	slices.SortStableFunc(p.Lanes, func(a, b lane) int {
		return cmp.Or(strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Server.Host, b.Server.Host), a.Server.Port-b.Server.Port)
	})
	return p, nil
}

func (p *timelinePage) x(t time.Time) int {
	return min(max(int(t.Sub(p.From)/time.Minute), 0), int(p.To.Sub(p.From)/time.Minute))
}

// Width is that of the picture, in minutes.
func (p *timelinePage) Width() int { return int(p.To.Sub(p.From) / time.Minute) }

// pastBars draws the jobs that ended, and those that live; reading is true while the log is being read.
func (w *Web) pastBars(p *timelinePage, lanes map[job.Key]*lane) (reading bool) {
	past, complete := w.model.lastDay(p.From)
	for _, r := range past {
		l := lanes[job.Key{Cluster: r.Cluster, Server: r.Server}]
		if l == nil || p.Task != "" && p.Task != r.Task {
			continue
		}
		l.add(p, r.Began, r.Ended, bar{ID: r.ID, Task: r.Task, State: string(r.State), Text: fmt.Sprintf("%s, %s", r.State, durText(r.Ended.Sub(r.Began)))})
		if failedState(r.State) {
			l.busy -= 100
		}
		l.busy--
	}
	for _, j := range w.View.Select(func(j job.Job) bool { return j.State.Live() }) {
		l, began := lanes[job.Key{Cluster: j.Cluster, Server: j.Server}], j.Started()
		if l == nil || p.Task != "" && p.Task != j.Task {
			continue
		}
		l.busy -= 10
		if began.IsZero() {
			l.add(p, j.Created, p.Now, bar{ID: j.ID, Task: j.Task, State: string(j.State), Text: string(j.State) + ": " + j.Reason})
			continue
		}
		l.add(p, began, p.Now, bar{ID: j.ID, Task: j.Task, State: string(j.State), Text: string(j.State)})
		if e := w.model.expected(j.Key()); e.P90 > p.Now.Sub(began) {
			l.add(p, p.Now, began.Add(e.P90), bar{Task: j.Task, State: "planned", Text: "expected to take " + durText(e.P90)})
		}
	}
	return !complete
}

// plannedBars draws what the schedules bring, as long as nine in ten of the last runs, and when the windows are closed.
func (w *Web) plannedBars(v *visit, p *timelinePage, lanes map[job.Key]*lane) {
	all, err := w.schedules(v.Context())
	if err != nil {
		p.NoScheduler = noScheduler
		return
	}
	shaded := map[string]bool{}
	for _, s := range all {
		if !shaded[s.Cluster] {
			shaded[s.Cluster] = true
			closed := closedTimes(p, s)
			for k, l := range lanes {
				if k.Cluster == s.Cluster {
					l.Closed = closed
				}
			}
		}
		if !s.Enabled || p.Task != "" && p.Task != s.Task {
			continue
		}
		t, err := job.TaskByName(s.Task)
		if err != nil {
			continue
		}
		servers := s.Servers
		if t.Whole {
			servers = []job.Server{{}}
		}
		for _, server := range servers {
			l := lanes[job.Key{Cluster: s.Cluster, Server: server}]
			if l == nil {
				continue
			}
			e := w.model.expected(job.Key{Cluster: s.Cluster, Server: server, Task: s.Task})
			for _, at := range s.Next {
				if !at.Before(p.To) {
					continue
				}
				text := "due"
				if e.P90 > 0 {
					text = "due, expected to take " + durText(e.P90)
				}
				b, barred := s.Bar(at)
				switch {
				case barred && !b.Waits:
					l.add(p, at, at, bar{Task: s.Task, State: string(job.Skipped), Text: "will be skipped: " + b.Reason})
					continue
				case barred:
					text += "; will wait: " + b.Reason
				}
				l.add(p, at, at.Add(e.P90), bar{Task: s.Task, State: "planned", Text: text})
			}
		}
	}
}

// closedTimes are when the windows of a schedule's cluster are closed.
func closedTimes(p *timelinePage, s bus.ScheduleInfo) (out []block) {
	weekly, err := window.Parse(s.Windows)
	zone, zerr := time.LoadLocation(s.Zone)
	if err != nil || zerr != nil || weekly.IsZero() {
		return nil
	}
	for t := p.From; t.Before(p.To); {
		if weekly.Open(t, zone) {
			ends := weekly.Closes(t, zone)
			if ends.IsZero() {
				return out // open for a week and longer
			}
			t = ends
			continue
		}
		opens := weekly.Opens(t, zone)
		if opens.IsZero() || opens.After(p.To) {
			opens = p.To
		}
		out = append(out, block{X: p.x(t), W: p.x(opens) - p.x(t), Why: "outside the windows " + s.Windows})
		t = opens
	}
	return out
}

func (l *lane) add(p *timelinePage, from, to time.Time, b bar) {
	if to.Before(p.From) || !from.Before(p.To) {
		return
	}
	b.from, b.to = from, to
	b.X = p.x(from)
	b.W = max(p.x(to)-b.X, shortest)
	l.Bars = append(l.Bars, b)
}

// place puts bars that overlap into two rows, and marks planned ones that collide: heavy jobs of a server wait for one
// another.
func (l *lane) place() {
	slices.SortFunc(l.Bars, func(a, b bar) int { return cmp.Or(a.X-b.X, strings.Compare(a.Task, b.Task)) })
	end := [2]int{-1, -1}
	for i := range l.Bars {
		b := &l.Bars[i]
		if b.X < end[0] {
			b.Row = 1
		}
		end[b.Row] = max(end[b.Row], b.X+b.W)
	}
	for i := range l.Bars {
		for n := range i {
			a, b := &l.Bars[n], &l.Bars[i]
			if b.State == "planned" && a.Task != b.Task && heavy(a.Task) && heavy(b.Task) && b.from.Before(a.to) && a.to.After(a.from) {
				b.Collision = true
			}
		}
	}
}

func heavy(task string) bool {
	t, err := job.TaskByName(task)
	return err == nil && t.Heavy()
}
