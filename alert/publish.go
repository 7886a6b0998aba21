package alert

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// runOnce judges once and publishes what changed.
func (e *Evaluator) runOnce(ctx context.Context) error {
	clusters := *e.setup.Load()
	if err := e.readFacts(ctx); err != nil {
		return err
	}
	if err := e.lookBack(ctx, clusters); err != nil {
		return err
	}
	var errs []error
	for subject, next := range e.changes(Holding(e.snapshot(clusters)), clusters) {
		errs = append(errs, e.publish(ctx, subject, next))
	}
	return errors.Join(errs...)
}

// readFacts reads the catalogue, the scripts and the switches, when it is time.
func (e *Evaluator) readFacts(ctx context.Context) error {
	e.mu.Lock()
	stale := e.stale
	e.stale = false
	e.mu.Unlock()
	now := e.now()
	if err := e.readServers(ctx, stale); err != nil {
		e.mu.Lock()
		e.stale = e.stale || stale
		e.mu.Unlock()
		return err
	}
	if !stale && !e.fact.read.IsZero() && now.Sub(e.fact.read) < factsEvery {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, factsRead)
	defer cancel()
	manifests, err := e.catalog.List(ctx, "", job.Server{})
	if err == nil {
		e.fact.scripts, err = e.docs.Scripts(ctx)
	}
	if err == nil {
		e.fact.off, err = e.switches(ctx)
	}
	if err != nil {
		e.mu.Lock()
		e.stale = true
		e.mu.Unlock()
		return fmt.Errorf("read the catalogue, the scripts and the switches: %w", err)
	}
	if err := e.readGaps(ctx, *e.setup.Load(), manifests); err != nil {
		return err
	}
	e.fact.backups = map[string]time.Time{}
	e.fact.missing = map[string]Missing{}
	e.fact.proofs = proofsOf(manifests)
	for _, m := range manifests {
		if len(m.Archives) == 0 {
			at := bus.StateKey(m.Cluster, m.Server.Host, m.Server.Port, taskArchive)
			x := e.fact.missing[at]
			if x.Count++; x.Oldest.IsZero() || m.Ended.Before(x.Oldest) {
				x.Oldest = m.Ended
			}
			e.fact.missing[at] = x
		}
		if m.Ended.After(e.fact.backups[m.Cluster]) {
			e.fact.backups[m.Cluster] = m.Ended
		}
	}
	e.fact.read = now
	e.mu.Lock()
	defer e.mu.Unlock()
	for cluster, b := range e.fresh {
		if b.learned.Before(now) { // a backup is in the catalogue before its job succeeds
			delete(e.fresh, cluster)
		}
	}
	return nil
}

func (e *Evaluator) switches(ctx context.Context) (map[string]store.Switches, error) {
	out := map[string]store.Switches{}
	for _, c := range *e.setup.Load() {
		s, err := e.control.Switches(ctx, c.Name)
		if err != nil {
			return nil, err
		}
		out[c.Name] = s
	}
	return out, nil
}

// readServers reads what the servers say of themselves, when it is time.
func (e *Evaluator) readServers(ctx context.Context, stale bool) error {
	now, begun := e.now(), time.Now()
	if !stale && !e.fact.asked.IsZero() && now.Sub(e.fact.asked) < max(serversEvery, e.fact.pause) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, factsRead)
	defer cancel()
	servers, err := e.docs.Facts(ctx)
	if err != nil {
		return fmt.Errorf("read what the servers say: %w", err)
	}
	checksums, err := e.docs.Checksums(ctx)
	if err != nil {
		return fmt.Errorf("read the comparisons: %w", err)
	}
	if err := e.readBinlogs(ctx, *e.setup.Load()); err != nil {
		return err
	}
	e.fact.servers, e.fact.checksums, e.fact.asked = servers, checksums, now
	e.fact.pause = min(serversShare*time.Since(begun), e.round(*e.setup.Load()))
	return nil
}

// round is how often a scheduler asks the servers.
func (e *Evaluator) round(clusters []Cluster) time.Duration {
	servers := 0
	for _, c := range clusters {
		servers += len(c.Servers)
	}
	return store.AskedEvery(e.every, servers)
}

// lookBack finds how the run before ended where a slot's last job, the only one the view shows, says nothing about it.
// That is so once per slot and life of the evaluator at most.
func (e *Evaluator) lookBack(ctx context.Context, clusters []Cluster) error {
	served := namesOf(clusters)
	for _, j := range e.view.Select(func(j job.Job) bool { return served[j.Cluster] && e.unknown(j.Key()) }) {
		k := j.Key()
		jobs, err := e.jobs.List(ctx, store.Filter{Cluster: k.Cluster, Server: k.Server, Task: k.Task})
		if err != nil {
			return err
		}
		e.mu.Lock()
		if _, meanwhile := e.last[k]; !meanwhile {
			e.last[k] = newest(jobs)
		}
		e.mu.Unlock()
	}
	return nil
}

// newest is the outcome of the newest run that has one; jobs are newest first.
func newest(jobs []job.Job) Outcome {
	for _, j := range jobs {
		if out, ok := outcomeOf(j); ok {
			return out
		}
	}
	return Outcome{}
}

func (e *Evaluator) unknown(k job.Key) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, known := e.last[k]
	return !known
}

// namesOf is asked about every job there is.
func namesOf(clusters []Cluster) map[string]bool {
	names := make(map[string]bool, len(clusters))
	for _, c := range clusters {
		names[c.Name] = true
	}
	return names
}

// snapshot puts together what is known.
func (e *Evaluator) snapshot(clusters []Cluster) Snapshot {
	served := namesOf(clusters)
	jobs := e.view.Select(func(j job.Job) bool { return served[j.Cluster] })
	s := Snapshot{
		Now: e.now(), Up: e.up, Clusters: clusters, Backups: maps.Clone(e.fact.backups), Scripts: e.fact.scripts, Missing: e.fact.missing, Proofs: e.fact.proofs, Off: e.fact.off,
		Checksums: e.fact.checksums, Binlogs: maps.Clone(e.fact.binlogs), Open: map[string]bool{},
	}
	s.Servers = e.fact.heard.fresh(e.fact.servers, s.Now, freshFor*e.round(clusters))
	e.mu.Lock()
	defer e.mu.Unlock()
	live := map[string]bool{}
	for _, j := range jobs {
		g := e.signs.of(j, s.Now)
		live[j.Run()] = true
		s.Slots = append(s.Slots, Slot{Job: j, Last: e.last[j.Key()], Sign: g.last, Heard: g.heard})
	}
	e.signs.keep(live)
	for cluster, b := range e.fresh {
		if b.ended.After(s.Backups[cluster]) {
			s.Backups[cluster] = b.ended
		}
	}
	for subject, last := range e.edges {
		s.Open[subject] = last.alert.State == bus.AlertOpened
	}
	return s
}

// change is an edge to be written, if the last message of its subject still has sequence last.
type change struct {
	alert bus.Alert
	last  uint64
}

// changes compares what holds with what is open. Clusters of other evaluators are left to them.
func (e *Evaluator) changes(holds map[string]bus.Alert, clusters []Cluster) map[string]change {
	now := e.now()
	out, served := map[string]change{}, namesOf(clusters)
	e.mu.Lock()
	defer e.mu.Unlock()
	for subject, a := range holds {
		last, known := e.edges[subject]
		if known && (last.alert.State == bus.AlertOpened || e.unsettled(last, now)) {
			continue
		}
		if a.Since.IsZero() {
			a.Since = now.UTC()
		}
		out[subject] = change{a, last.seq}
	}
	for subject, last := range e.edges {
		_, stays := holds[subject]
		if stays || last.alert.State != bus.AlertOpened || !served[last.alert.Cluster] || e.unsettled(last, now) {
			continue
		}
		a := last.alert
		a.State = bus.AlertClosed
		out[subject] = change{a, last.seq}
	}
	return out
}

// unsettled protects the fresh edge of another evaluator, which may know more than our picture shows yet.
func (e *Evaluator) unsettled(last edge, now time.Time) bool {
	return !last.mine && now.Sub(last.learned) < e.settle
}

// publish writes an edge. That somebody else wrote first is no error: the follower brings it, and the next look decides.
func (e *Evaluator) publish(ctx context.Context, subject string, next change) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	a, seq, err := e.alerts.Append(ctx, subject, next.last, next.alert)
	if errors.Is(err, bus.ErrConflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("publish %s %s: %w", a.Code, a.State, err)
	}
	e.mu.Lock()
	if seq >= e.edges[subject].seq {
		e.edges[subject] = edge{alert: a, seq: seq, learned: e.now(), mine: true}
	}
	e.mu.Unlock()
	e.log.Info("condition "+string(a.State), "code", a.Code, "severity", string(a.Severity), "cluster", a.Cluster,
		"server", serverName(a.Server), "task", a.Task, "job_id", a.JobID, "text", a.Text)
	return nil
}

// serverName is empty for a whole cluster.
func serverName(s job.Server) string {
	if s.Host == "" {
		return ""
	}
	return s.String()
}
