package scheduler

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const (
	gateEvery   = time.Second
	gateGap     = 20 * time.Millisecond // before a look that a change asked for, so that a burst of them costs one
	gateTimeout = 20 * time.Second
	// dueGrace is how long a job that fell due in a window may still begin after its end: what is due in the last second of
	// a window is decided in the next.
	dueGrace = time.Minute
)

// runGate opens and shuts the gates of jobs that have not begun: once a second, and when a job came or ended.
func (s *Scheduler) runGate(ctx context.Context) error {
	tick := time.NewTicker(gateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.queued:
			select {
			case <-ctx.Done():
			case <-time.After(gateGap):
			}
		}
		if err := s.openGates(ctx, s.now()); err != nil && ctx.Err() == nil {
			s.log.Warn("open gates", "err", err)
		}
	}
}

// openGates looks at every queued or offered job once. Several schedulers may do so: every change is made to the job as it was
// judged, and none is made to one that another was faster with.
func (s *Scheduler) openGates(ctx context.Context, now time.Time) error {
	if !s.view.Any(idleStates) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	closures, err := s.control.Closures(ctx)
	if err != nil {
		return err // who knows what is on hold: nothing begins
	}
	calm := map[string]bool{}
	for name, c := range s.setup.Load().clusters {
		_, rolls := s.operation(c, closures, now)
		calm[name] = !rolls && c.calm(closures, now)
	}
	idle := s.view.Among(idleStates, func(j *job.Job) bool {
		return !calm[j.Cluster] || j.Gate != "" || now.Before(j.NotBefore)
	})
	slices.SortFunc(idle, func(a, b *job.Job) int { return strings.Compare(a.ID, b.ID) })
	byCluster := map[string][]job.Job{}
	for _, j := range idle {
		byCluster[j.Cluster] = append(byCluster[j.Cluster], *j)
	}
	var errs []error
	for name, jobs := range byCluster {
		if c, ok := s.cluster(name); ok {
			errs = append(errs, s.openCluster(ctx, c, jobs, closures, now))
		}
	}
	return errors.Join(errs...)
}

var idleStates = []job.State{job.Queued, job.Available}

// calm reports whether nothing shuts a cluster to any job at all, so that one without a gate needs no judging: with thousands of
// servers there are tens of thousands of those. It is pure.
func (c Cluster) calm(closures store.Closures, now time.Time) bool {
	_, held := closures.Hold(c.Name)
	_, black := closures.Blackout(c.Name, now)
	return !held && !black && c.Windows.Open(now, c.Zone)
}

// openCluster judges the queued and offered jobs of a cluster, oldest first.
func (s *Scheduler) openCluster(ctx context.Context, c Cluster, jobs []job.Job, closures store.Closures, now time.Time) error {
	var want []job.Job
	op, rolls := s.operation(c, closures, now)
	for _, j := range jobs {
		if j.Gated() && c.limits(j.Task) && c.judge(j, closures, true, now).gate == "" && !(rolls && minds(op, j)) {
			want = append(want, j)
		}
	}
	placed, err := s.place(ctx, c, want)
	errs := []error{err}
	for _, j := range jobs {
		if ctx.Err() != nil {
			break // the bus hardly answers, or we stop: the next look goes on
		}
		if j.State == job.Available {
			gate, reason, _ := c.shut(closures, j.Trigger, j.Due, now)
			if rolls && gate == "" && minds(op, j) {
				gate, reason = job.GateRolling, behind(op)
			}
			errs = append(errs, s.callBack(ctx, j, gate, reason))
			continue
		}
		v := c.judge(j, closures, placed[j.Run()], now)
		if rolls && minds(op, j) {
			v = v.behind(op, j)
		}
		switch {
		case v.skip:
			errs = append(errs, s.change(ctx, j, store.Change{Event: job.Skip, Reason: v.reason}))
		case v.gate == j.Gate && (v.gate == "" || v.reason == j.Reason && v.notBefore.Equal(j.NotBefore)):
			// Nothing new; the reason of one that waits for nothing here is the dispatcher's.
		default:
			errs = append(errs, s.change(ctx, j, store.Change{Event: job.Note, Reason: v.told(), Edit: v.edit(j, now)}))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// callBack takes the offer of a job back whose cluster was closed before anybody took it, as gate says. A row in the jobs table is the
// dispatcher's to take away: the shut gate tells it to.
func (s *Scheduler) callBack(ctx context.Context, j job.Job, gate job.Gate, reason string) error {
	switch {
	case isRolling(j), gate == j.Gate:
		return nil
	case gate != "" && j.Dispatch.Row == 0:
		return s.change(ctx, j, store.Change{Event: job.Withdraw, From: job.Available, Reason: reason, Edit: func(f *job.Job) { f.Gate = gate }})
	}
	return s.change(ctx, j, store.Change{Event: job.Note, Reason: verdict{gate: gate, reason: reason}.told(), Edit: func(f *job.Job) {
		if f.State == job.Available && f.Gate == j.Gate {
			f.Gate, f.Reason = gate, reason
		}
	}})
}

// verdict is what a queued job waits for; an empty gate lets it go.
type verdict struct {
	gate      job.Gate
	reason    string
	notBefore time.Time
	skip      bool // it is not to be run any more
}

// told is the reason of the change.
func (v verdict) told() string {
	if v.gate == "" {
		return "nothing keeps it from beginning any more"
	}
	return v.reason
}

// edit brings the verdict on was into the job, if that is still as it was.
func (v verdict) edit(was job.Job, now time.Time) func(*job.Job) {
	return func(j *job.Job) {
		if j.State != job.Queued || j.Gate != was.Gate || !j.NotBefore.Equal(was.NotBefore) {
			return
		}
		j.Gate, j.Reason, j.NotBefore = v.gate, v.reason, v.notBefore
		if v.gate == "" {
			j.Ready = now.UTC() // the time to pick it up counts from here
		}
	}
}

// judge says what keeps a queued job from being offered. placed says that it has one of the places for backups. It is pure.
func (c Cluster) judge(j job.Job, closures store.Closures, placed bool, now time.Time) verdict {
	v := verdict{notBefore: j.NotBefore}
	if gate, reason, skip := c.shut(closures, j.Trigger, j.Due, now); gate != "" {
		v.gate, v.reason, v.skip = gate, reason, skip
		return v
	}
	waited := j.Gate == job.GateHold || j.Gate == job.GateBlackout || j.Gate == job.GateWindow || j.Gate == job.GateRolling
	if waited && j.Trigger.Scheduled() && c.Splay > 0 {
		// Everything that waited would begin at the moment of the opening otherwise.
		v.notBefore = now.Add(c.delay(j.Key(), now)).UTC()
	}
	switch {
	case now.Before(v.notBefore):
		v.gate = job.GateSplay
		v.reason = fmt.Sprintf("waits until %s (scheduler-splay = %s)", stamp(v.notBefore, c.Zone), span(c.Splay))
	case c.limits(j.Task) && j.Gate != "" && !placed:
		v.gate = job.GateLimit
		v.reason = fmt.Sprintf("waits for a place: %s of the cluster at a time (scheduler-max-concurrent-backups)", backups(c.MaxBackups))
	}
	return v
}

func backups(n int) string {
	if n == 1 {
		return "1 backup"
	}
	return fmt.Sprintf("%d backups", n)
}

// shut says why a job with this trigger and due time may not begin now; skip, that it is not to be run later either. A
// person may run what is outside the windows, and with force during a hold or blackout. It is pure.
func (c Cluster) shut(closures store.Closures, by job.Trigger, due, now time.Time) (gate job.Gate, reason string, skip bool) {
	if by.Kind == job.Rolling {
		return "", "", false // the operation waits between its steps; a step that is begun is brought to its end
	}
	if h, ok := closures.Hold(c.Name); ok && !by.Force {
		return job.GateHold, h.String(), false
	}
	if b, ok := closures.Blackout(c.Name, now); ok && !by.Force {
		return job.GateBlackout, b.String(), false
	}
	if !by.Scheduled() || c.Windows.Open(now, c.Zone) || now.Sub(due) <= dueGrace && c.Windows.Open(due, c.Zone) {
		return "", "", false
	}
	return job.GateWindow, c.outside(now), c.WindowPolicy != WindowWait
}

// outside says that no window is open and when the next one opens.
func (c Cluster) outside(now time.Time) string {
	text := fmt.Sprintf("outside maintenance-windows = %q", c.Windows)
	if opens := c.Windows.Opens(now, c.Zone); !opens.IsZero() {
		text += ", which open at " + stamp(opens, c.Zone)
	}
	return text
}

// refuses says why a tick starts nothing at all: the cluster is closed for it, and its jobs are not to wait. A run by hand
// never waits; who asked for it was told so, unless the hold came in between. It is pure.
func (c Cluster) refuses(closures store.Closures, t bus.Tick, now time.Time) (gate job.Gate, reason string) {
	gate, reason, _ = c.shut(closures, t.Trigger, t.Due, now)
	switch {
	case gate == "", t.Trigger.Scheduled() && c.WindowPolicy == WindowWait:
		return "", ""
	case t.Trigger.Scheduled():
		reason += " (maintenance-window-policy = skip)"
	}
	return gate, reason
}

// turnAway makes one entry of a tick that starts nothing, or one for each of the servers that are left when it was begun
// before the cluster closed.
func (s *Scheduler) turnAway(t bus.Tick, servers []job.Server, why skip) (out []skip) {
	begun := func(srv job.Server) bool {
		j, ok := s.view.Get(job.Key{Cluster: t.Cluster, Server: srv, Task: t.Task})
		return ok && j.Tick == t.ID
	}
	if !slices.ContainsFunc(servers, begun) {
		return []skip{why}
	}
	return why.each(slices.DeleteFunc(slices.Clone(servers), begun))
}

// each is the same skip for each of the servers.
func (sk skip) each(servers []job.Server) []skip {
	out := make([]skip, len(servers))
	for i, srv := range servers {
		out[i] = sk
		out[i].server = srv
	}
	return out
}

// enqueue is the job of a tick with what it must wait for, and its first reason. It is pure.
func (c Cluster) enqueue(j job.Job, t bus.Tick, closures store.Closures, now time.Time) (job.Job, string) {
	if t.Trigger.Scheduled() && c.Splay > 0 {
		from := t.Due
		if t.Trigger.Kind == job.CatchUp {
			from = t.Time // all of them are late together
		}
		j.NotBefore = from.Add(c.delay(j.Key(), from)).UTC()
	}
	if c.limits(j.Task) {
		j.Gate = job.GateLimit // places are given one after the other
	}
	v := c.judge(j, closures, false, now)
	if v.gate == "" {
		return j, startReason(t, c)
	}
	j.Gate, j.NotBefore = v.gate, v.notBefore
	return j, v.reason
}

// regate is the retry of a job under the gates of its cluster: none begins while it is closed. It is pure.
func (c Cluster) regate(j job.Job, ch store.Change, closures store.Closures, now time.Time) (store.Change, bool) {
	if gate, _, _ := c.shut(closures, j.Trigger, now, now); gate != "" {
		return ch, false
	}
	if c.limits(j.Task) {
		ch.Edit = func(j *job.Job) { j.Gate = job.GateLimit }
	}
	return ch, true
}

// delay is how long after from the job of a slot begins: the same on every scheduler and every day. A window that closes
// sooner than scheduler-splay is shared out instead, or the servers at its end would never run.
func (c Cluster) delay(k job.Key, from time.Time) time.Duration {
	if c.Splay <= 0 {
		return 0
	}
	splay := c.Splay
	if closes := c.Windows.Closes(from, c.Zone); !closes.IsZero() && closes.After(from) {
		splay = min(splay, closes.Sub(from))
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{k.Cluster, k.Server.String(), k.Task}, "\x00")))
	share := float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53) // [0, 1)
	return time.Duration(share * float64(splay)).Truncate(time.Millisecond)
}

// limits reports whether scheduler-max-concurrent-backups counts the task.
func (c Cluster) limits(task string) bool {
	t, err := job.TaskByName(task)
	return err == nil && c.MaxBackups > 0 && t.Kind == job.KindBackup
}

// place gives places to the oldest of the jobs that want one, as many as are left, and returns which of them have one.
// The places stand in a document of the cluster, so that schedulers whose pictures of the jobs differ for a moment do
// not let too many go. A backup that was let go without a place, as before there was a limit, counts too.
func (s *Scheduler) place(ctx context.Context, c Cluster, want []job.Job) (placed map[string]bool, err error) {
	if len(want) == 0 {
		return nil, nil
	}
	err = s.control.Places(ctx, c.Name, func(p *store.Places) (changed bool, err error) {
		kept, err := s.stillTaken(ctx, p.Taken)
		if err != nil {
			return false, err
		}
		changed = len(kept) != len(p.Taken)
		placed = map[string]bool{}
		for _, x := range kept {
			placed[x.Run] = true
		}
		others := s.view.Select(func(j job.Job) bool {
			return j.Cluster == c.Name && j.State.Live() && !j.Gated() && c.limits(j.Task) && !placed[j.Run()]
		})
		left := c.MaxBackups - len(kept) - len(others)
		for _, j := range want {
			if left > 0 && !placed[j.Run()] {
				kept, changed = append(kept, store.Place{Run: j.Run(), Key: j.Key()}), true
				placed[j.Run()] = true
				left--
			}
		}
		p.Taken = kept
		return changed, nil
	})
	if err != nil {
		return nil, fmt.Errorf("give places for backups of cluster %s: %w", c.Name, err)
	}
	return placed, nil
}

// stillTaken asks the log which of the jobs with a place have not ended: the view may not know the newest of them.
func (s *Scheduler) stillTaken(ctx context.Context, taken []store.Place) (kept []store.Place, err error) {
	for _, x := range taken {
		j, _, err := s.jobs.Last(ctx, x.Key)
		if err != nil && !errors.Is(err, store.ErrNone) {
			return nil, err
		}
		if j.Run() == x.Run && j.State.Live() {
			kept = append(kept, x)
		}
	}
	return kept, nil
}

// tellClosed adds to the description of a schedule what its cluster's windows, holds and blackouts do to it.
func (c Cluster) tellClosed(info *bus.ScheduleInfo, closures store.Closures, now time.Time) {
	cron := job.Trigger{Kind: job.Cron}
	if !c.Windows.IsZero() {
		info.Windows = c.Windows.String()
	}
	info.Policy = WindowSkip
	if c.WindowPolicy != "" {
		info.Policy = c.WindowPolicy
	}
	var gate job.Gate
	gate, info.Closed, _ = c.shut(closures, cron, now, now)
	switch gate {
	case job.GateBlackout:
		b, _ := closures.Blackout(c.Name, now)
		info.Opens = c.Windows.Opens(b.To, c.Zone).UTC()
	case job.GateWindow:
		info.Opens = c.Windows.Opens(now, c.Zone).UTC()
	}
	for _, at := range info.Next {
		_, out := closures.Blackout(c.Name, at)
		if out || !c.Windows.Open(at, c.Zone) {
			info.Outside = append(info.Outside, at)
		}
		if b := c.bar(*info, closures, at); b.Gate != "" {
			info.Barred = append(info.Barred, b)
		}
	}
}

// bar says what bars a tick to come, as things stand; no gate when nothing does. It is pure.
func (c Cluster) bar(info bus.ScheduleInfo, closures store.Closures, at time.Time) bus.Barred {
	switch {
	case info.Refused != "":
		return bus.Barred{Due: at, Gate: job.GateConfig, Reason: info.Refused}
	case info.Switch != nil:
		return bus.Barred{Due: at, Gate: job.GateOff, Reason: info.Switch.String()}
	}
	gate, reason, _ := c.shut(closures, job.Trigger{Kind: job.Cron}, at, at)
	return bus.Barred{Due: at, Gate: gate, Waits: c.WindowPolicy == WindowWait, Reason: reason}
}
