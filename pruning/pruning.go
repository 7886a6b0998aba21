// Package pruning has the receivers say what they would delete of their backups, and has them delete it.
//
// Each receiver judges and deletes what it holds itself (package receiver/keeper); this package asks all of them, so that one
// job, or one dry run, is about a whole cluster. It is used by the CLI, the gateway and whichever receiver has the job.
package pruning

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Task is the name of the task.
const Task = "backupprune"

// Desk asks the receivers. Safe for concurrent use.
type Desk struct {
	conn    *bus.Conn
	catalog *store.Catalog
}

// NewDesk asks over c.
func NewDesk(c *bus.Conn) *Desk { return &Desk{c, store.NewCatalog(c)} }

// The times that a receiver has for a page of its plan, and for some deletions.
const (
	planTime  = 30 * time.Second
	pruneTime = 5 * time.Minute
)

// Plan gives each what every receiver would keep and delete now of the backups of a cluster, by the names of the receivers. A receiver
// that has backups and does not answer is an item with that problem.
func (d *Desk) Plan(ctx context.Context, cluster string, each func(bus.PlanItem)) error {
	got := map[string]Answer{}
	if err := d.Ask(ctx, cluster, func(a Answer) { got[a.Receiver] = a }); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		for _, i := range got[name].Items {
			each(i)
		}
		if err := got[name].Err; err != nil {
			each(bus.PlanItem{Receiver: name, Cluster: cluster, Keep: true, Why: []string{"nothing of it is deleted"}, Problem: silent(name, err)})
		}
	}
	return nil
}

// Answer is what a receiver would do; with Err, as far as it said.
type Answer struct {
	Receiver string
	Items    []bus.PlanItem
	Err      error
}

// Ask asks every receiver what it would keep and delete now of the backups of a cluster. each gets the answers as they come, one at a
// time: none waits for a receiver that is slow.
func (d *Desk) Ask(ctx context.Context, cluster string, each func(Answer)) error {
	names, err := d.receivers(ctx, cluster)
	if err != nil {
		return err
	}
	answers := make(chan Answer) // one send for each receiver, read below
	for _, name := range names {
		go func() {
			items, err := d.planOf(ctx, name, cluster)
			answers <- Answer{name, items, err}
		}()
	}
	for range names {
		each(<-answers)
	}
	return context.Cause(ctx)
}

func silent(name string, err error) string {
	if errors.Is(err, bus.ErrNobody) {
		return "receiver " + name + " does not answer: it is not running"
	}
	return fmt.Sprintf("receiver %s does not answer: %v", name, err)
}

// receivers are those that answer, and those that the catalogue says have backups of the cluster.
func (d *Desk) receivers(ctx context.Context, cluster string) ([]string, error) {
	names, err := bus.Receivers(ctx, d.conn)
	if err != nil {
		return nil, err
	}
	all, err := d.catalog.All(ctx, cluster, job.Server{})
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Listed() || m.Removal.Done.IsZero() {
			names = append(names, m.Receiver)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// planOf reads all pages of a receiver's plan.
func (d *Desk) planOf(ctx context.Context, receiver, cluster string) (items []bus.PlanItem, err error) {
	for from := 0; ; {
		rep, err := request[bus.PlanReply](ctx, d, planTime, receiver, bus.VerbPlan, bus.PlanRequest{Cluster: cluster, From: from})
		if err != nil {
			return items, err
		}
		items = append(items, rep.Items...)
		if rep.Next <= from {
			return items, nil
		}
		from = rep.Next
	}
}

func request[Rep any](ctx context.Context, d *Desk, limit time.Duration, receiver, verb string, req any) (Rep, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return bus.Request[Rep](ctx, d.conn, bus.ReceiverSubject(receiver, verb), req)
}

// Result is what a prune came to.
type Result struct {
	Kept, Deleted, Spared int   // backups and leftovers; spared are those that were in use or needed when their turn came
	Freed                 int64 // bytes
	Problems              []string
}

// String is the result in one line.
func (r Result) String() string {
	s := fmt.Sprintf("%d deleted, %d bytes freed, %d kept", r.Deleted, r.Freed, r.Kept+r.Spared)
	if r.Spared > 0 {
		s += fmt.Sprintf(" (%d of them in use)", r.Spared)
	}
	return s
}

// Run has every receiver prune what it has of a cluster. say gets every verdict, and what became of it; by is the job. One receiver that does not answer, or
// cannot delete, does not keep the others from it: it is an error at the end.
func (d *Desk) Run(ctx context.Context, cluster, by string, say func(string)) (r Result, err error) {
	names, err := d.receivers(ctx, cluster)
	if err != nil {
		return r, err
	}
	for _, name := range names {
		if err := d.prune(ctx, name, cluster, by, say, &r); err != nil {
			if ctx.Err() != nil {
				return r, context.Cause(ctx)
			}
			r.Problems = append(r.Problems, silent(name, err))
		}
	}
	if len(r.Problems) > 0 {
		return r, fmt.Errorf("%s; %d problems, the first: %s", r, len(r.Problems), r.Problems[0])
	}
	return r, nil
}

func (d *Desk) prune(ctx context.Context, receiver, cluster, by string, say func(string), r *Result) error {
	items, err := d.planOf(ctx, receiver, cluster)
	if err != nil {
		return err
	}
	var names []string
	for _, i := range items {
		say(Line(i))
		if i.Keep {
			r.Kept++
		}
		if !i.Keep || i.Going {
			names = append(names, i.Name())
		}
	}
	for some := range slices.Chunk(names, bus.PruneAtOnce) {
		rep, err := request[bus.PruneReply](ctx, d, pruneTime, receiver, bus.VerbPrune, bus.PruneRequest{Cluster: cluster, Names: some, By: by})
		if err != nil {
			return err
		}
		for _, o := range rep.Outcomes {
			r.add(o, say)
		}
	}
	return nil
}

func (r *Result) add(o bus.PruneOutcome, say func(string)) {
	switch {
	case o.Problem != "":
		r.Problems = append(r.Problems, o.Name+": "+o.Problem)
		say("not deleted " + o.Name + ": " + o.Problem)
	case o.Deleted:
		r.Deleted++
		r.Freed += o.Freed
		say("deleted " + o.Name)
	default:
		r.Spared++
		say("kept after all " + o.Name + ": " + o.Why)
	}
}

// Line is an item as a line of a log.
func Line(i bus.PlanItem) string {
	verdict, what := "keep", "backup "+i.Backup+" of "+i.Server.String()+" ("+i.Task+", "+i.Ended.Format(time.RFC3339)+")"
	if !i.Keep {
		verdict = "delete"
	}
	if i.Backup == "" {
		what = i.File
	}
	return fmt.Sprintf("%s %s on %s: %s", verdict, what, i.Receiver, strings.Join(i.Why, ", "))
}
