// Package restore decides whether the data of a server may be replaced by a backup, with which one, and writes down the
// order. The REST API and the command line ask here, so that both refuse the same.
//
// It owns the rules (docs/restore.md). It leaves to its callers who may ask, and to the tasks how the work is done.
package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Kind is where the data come from.
type Kind string

// The kinds, as the routes spell them.
const (
	Physical Kind = "physicalbackup"
	Logical  Kind = "logicalbackup"
	Master   Kind = "logicalmaster" // a dump piped from the primary, no backup
)

// ParseKind reads a kind as a route or a person spells it: "physical" and "master" are enough. ok is false for others.
func ParseKind(s string) (k Kind, ok bool) {
	switch s {
	case "physical", string(Physical):
		return Physical, true
	case "logical", string(Logical):
		return Logical, true
	case "master", string(Master):
		return Master, true
	}
	return "", false
}

// Request is what somebody asks for.
type Request struct {
	Cluster string
	Servers []job.Server // all of the cluster
	Server  job.Server   // whose data are replaced
	Kind    Kind
	// Flashback takes the server back to the time of one of its own backups, and leaves replication stopped there.
	Flashback bool
	Backup    string // id; empty for the latest
	// To is a point in time, TIME (RFC 3339) or GTID: the backup's receiver brings the backup there first ([PointTask]), and the server
	// then stays there as with Flashback, which is not set.
	To string
	// For is the id of the job of [PointTask] that asks for the second part of its own order; empty for everybody else. The tick has
	// that id.
	For     string
	Confirm string // HOST:PORT of Server, by which a person says that the data may go
	Login   Login  // optional: to ask the primary whether a replica could catch up
	By      string
	Force   bool // although the cluster is on hold or blacked out; the caller has checked the right to it
}

// ErrRefused is in the chain of every error that says why the data are not replaced. Asking again does not help before
// that has changed.
var ErrRefused = errors.New("refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// Desk takes requests. Safe for concurrent use.
type Desk struct {
	conn    *bus.Conn
	jobs    *store.Jobs
	ledger  *store.Ledger
	catalog *store.Catalog
	docs    *store.Docs
}

// NewDesk writes its orders to the ledger as actor.
func NewDesk(conn *bus.Conn, actor string) *Desk {
	return &Desk{conn, store.NewJobs(conn, actor, nil), store.NewLedger(conn, actor), store.NewCatalog(conn), store.NewDocs(conn)}
}

// Ordered is an order that was written down.
type Ordered struct {
	Tick   bus.Tick
	Task   string
	JobID  string
	Backup *store.Manifest // nil for [Master]
}

// Order checks a request and, if nothing is against it, records it in the ledger; the schedulers start its job.
// Errors: [ErrRefused], [store.ErrNoBackup], the bus's.
func (d *Desk) Order(ctx context.Context, r Request) (Ordered, error) {
	if !names(r.Confirm, r.Server) {
		return Ordered{}, refuse("this replaces all data of %s: confirm must be %q", r.Server, r.Server.String())
	}
	out, order, err := d.decide(ctx, r)
	if err != nil {
		return Ordered{}, err
	}
	out.Tick, err = d.ledger.Run(ctx, order)
	out.JobID = job.NewID(out.Tick.Due, out.Tick.ID, job.Key{Cluster: r.Cluster, Server: r.Server, Task: out.Task})
	return out, err
}

// Check says what [Desk.Order] would order, and records nothing: there is no tick and no job. Errors: those of Order, but for
// the confirmation.
func (d *Desk) Check(ctx context.Context, r Request) (Ordered, error) {
	out, _, err := d.decide(ctx, r)
	return out, err
}

// decide makes an order of a request, if nothing is against it.
func (d *Desk) decide(ctx context.Context, r Request) (out Ordered, order store.Order, err error) {
	if (r.Flashback || r.To != "") && r.Kind != Physical {
		return out, order, refuse("a server is taken to a point in time from a physical backup only")
	}
	if err := d.free(ctx, r); err != nil {
		return out, order, err
	}
	facts, err := d.facts(ctx, r)
	if err != nil {
		return out, order, err
	}
	if err := mayReplace(r, facts, time.Now()); err != nil {
		return out, order, err
	}
	args := map[string]string{job.ArgConfirm: r.Server.String()}
	p, known := primaryFor(r, facts, time.Now())
	if known {
		args[job.ArgPrimary] = p.Addr()
	} else if r.Kind == Master {
		return out, order, refuse("which server is the primary of %s cannot be told: exactly one other must be up and replicate from nobody", r.Server)
	}
	out.Task = "reseedlogicalmaster"
	reason := "from the primary " + args[job.ArgPrimary]
	if r.Kind != Master {
		m, err := d.choose(ctx, r)
		if err != nil {
			return out, order, err
		}
		if known && !r.Flashback && r.To == "" {
			if err := reaches(ctx, r.Login, m, p); err != nil {
				return out, order, err
			}
		}
		out.Backup, out.Task = &m, taskFor(r, m)
		args[job.ArgBackup], args[job.ArgFrom], args[job.ArgReceiver] = m.ID, m.Server.Addr(), m.Receiver
		reason = fmt.Sprintf("from %s backup %s of %s, ended %s", m.Task, m.ID, m.Server, m.Ended.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	if r.To != "" {
		args[job.ArgTo] = r.To
		reason += ", to " + r.To
	}
	if r.For != "" {
		order.ID, order.Due = r.For, time.Now()
	}
	if task, err := job.TaskByName(out.Task); err != nil || !task.Built {
		return out, order, refuse("task %s is not built yet", out.Task)
	}
	return out, store.Order{
		ID: order.ID, Due: order.Due, Cluster: r.Cluster, Task: out.Task, Servers: []job.Server{r.Server}, Args: args,
		Trigger: job.Trigger{Kind: job.Manual, By: r.By, Force: r.Force}, Reason: "asked for by " + r.By + ", " + reason,
	}, nil
}

// PointTask makes a backup of a point in time, of a backup and the binary logs since, and then asks for the flashback to it.
const PointTask = "pointrestore"

// names reports whether a text names a server: HOST:PORT, IPv6 with or without brackets.
func names(text string, s job.Server) bool {
	text = strings.TrimSpace(text)
	return strings.EqualFold(text, s.String()) || strings.EqualFold(text, s.Addr())
}

// free refuses a server on which another restore is live.
func (d *Desk) free(ctx context.Context, r Request) error {
	for _, t := range job.Tasks() {
		if t.Kind != job.KindRestore {
			continue
		}
		j, _, err := d.jobs.Last(ctx, job.Key{Cluster: r.Cluster, Server: r.Server, Task: t.Name})
		switch {
		case errors.Is(err, store.ErrNone):
		case err != nil:
			return err
		case j.State.Live() && j.ID != r.For:
			return refuse("%s job %s of %s is %s", j.Task, j.ID, r.Server, j.State)
		}
	}
	return nil
}

// facts reads what the servers of the cluster said about themselves; who said nothing yet is missing.
func (d *Desk) facts(ctx context.Context, r Request) (map[job.Server]store.Facts, error) {
	out := map[job.Server]store.Facts{}
	for _, s := range r.Servers {
		var f store.Facts
		ok, err := d.docs.Get(ctx, r.Cluster, s, store.DocFacts, &f)
		if err != nil {
			return nil, err
		}
		if ok {
			out[s] = f
		}
	}
	return out, nil
}

// mayReplace refuses to replace the data of a server that others replicate from, or of which that cannot be told. It is
// pure.
func mayReplace(r Request, facts map[job.Server]store.Facts, now time.Time) error {
	for _, s := range r.Servers {
		f, known := facts[s]
		switch {
		case !known || now.Sub(f.Time) > store.FactsFresh:
			return refuse("the role of %s is not known: no facts of %s within %s", r.Server, s, store.FactsFresh)
		case s == r.Server && now.Sub(f.CountedAt()) > store.FactsFresh:
			return refuse("how many replicas are connected to %s was not asked within %s", s, store.FactsFresh)
		case s == r.Server && f.Up && f.Role == "":
			return refuse("the role of %s is not known: %s", s, f.Err)
		case s == r.Server && f.Replicas > 0:
			return refuse("%d replicas are connected to %s", f.Replicas, s)
		case s == r.Server || !f.Up:
		case f.Role == "":
			return refuse("whether %s replicates from %s is not known: %s", s, r.Server, f.Err)
		}
		if s == r.Server || !f.Up {
			continue
		}
		for _, source := range f.Sources {
			id := facts[r.Server].Variables["server_id"] // it may be known to others by another name
			if names(source.From, r.Server) || id != "" && source.ID == id {
				return refuse("%s replicates from %s", s, r.Server)
			}
			if !facts[r.Server].Up && !slices.ContainsFunc(r.Servers, func(x job.Server) bool { return names(source.From, x) }) {
				return refuse("%s is down, and %s replicates from %s, which is no server of the cluster by that name: it may be the same",
					r.Server, s, source.From)
			}
		}
	}
	return nil
}

// primaryFor is the server that the restored one shall replicate from, unless it replicates from somebody already: the
// only other one that is up and replicates from nobody. It is pure.
func primaryFor(r Request, facts map[job.Server]store.Facts, now time.Time) (found job.Server, ok bool) {
	others := slices.DeleteFunc(slices.Clone(r.Servers), func(s job.Server) bool { return s == r.Server })
	return store.Primary(others, facts, now)
}

// taskFor is the task that restores a backup.
func taskFor(r Request, m store.Manifest) string {
	switch {
	case r.To != "":
		return PointTask
	case r.Kind == Logical:
		return "reseedlogical"
	case r.Flashback:
		return "flashback" + m.Task
	}
	return "reseed" + m.Task
}

// KindOf is the kind that a backup is of, by its manifest.
func KindOf(m store.Manifest) Kind {
	if restorable(Physical, m) {
		return Physical
	}
	return Logical
}

// restorable reports whether a backup is of the kind that is asked for.
func restorable(k Kind, m store.Manifest) bool {
	if k == Physical {
		return m.Task == "mariabackup" || m.Task == "xtrabackup"
	}
	return m.Task == "mysqldump" || m.Task == "mydumper"
}

// choose finds the backup that is asked for and makes sure that its receiver can send it. The latest is, for a reseed,
// the newest one of any server of the cluster, because the replica has least to catch up on then; for a flashback, which
// goes back in the server's own time, the newest one of the server itself. One that a drill or a verification found bad is for
// those who name it.
func (d *Desk) choose(ctx context.Context, r Request) (store.Manifest, error) {
	all, err := d.catalog.List(ctx, "", job.Server{})
	if err != nil {
		return store.Manifest{}, err
	}
	i := slices.IndexFunc(all, func(m store.Manifest) bool {
		if r.Backup != "" {
			return m.ID == r.Backup
		}
		_, bad := m.Fault()
		return m.Cluster == r.Cluster && restorable(r.Kind, m) && (!r.Flashback || m.Server == r.Server) && !bad
	})
	switch {
	case i < 0 && r.Backup != "":
		return store.Manifest{}, fmt.Errorf("%w: %q", store.ErrNoBackup, r.Backup)
	case i < 0 && r.Flashback:
		return store.Manifest{}, fmt.Errorf("%w: no good physical backup of %s", store.ErrNoBackup, r.Server)
	case i < 0:
		return store.Manifest{}, fmt.Errorf("%w: no good %s of cluster %s", store.ErrNoBackup, r.Kind, r.Cluster)
	}
	m := all[i]
	switch {
	case m.Cluster != r.Cluster:
		return m, refuse("backup %s is of another cluster", m.ID)
	case !restorable(r.Kind, m):
		return m, refuse("backup %s was made by %s: it is no %s", m.ID, m.Task, r.Kind)
	case r.To != "" && m.Task != "mariabackup":
		return m, refuse("backup %s was made by %s: binary logs are replayed on backups of MariaDB only", m.ID, m.Task)
	case r.Flashback && m.Server != r.Server && m.Point == nil:
		return m, refuse("backup %s is of %s: a flashback goes back to a backup of the server itself; a reseed takes any", m.ID, m.Server)
	}
	return m, d.held(ctx, m)
}

// held asks the receiver of a backup whether it could send it.
func (d *Desk) held(ctx context.Context, m store.Manifest) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	_, err := bus.Request[bus.SendReply](ctx, d.conn, bus.ReceiverSubject(m.Receiver, bus.VerbSend),
		bus.SendRequest{Key: job.Key{Cluster: m.Cluster}, From: m.Server, Backup: m.ID, Probe: true})
	var answer *bus.ServiceError
	switch {
	case errors.Is(err, bus.ErrNobody):
		return refuse("receiver %s, which holds backup %s, does not run", m.Receiver, m.ID)
	case errors.As(err, &answer) && (answer.Code == bus.CodeGone || answer.Code == bus.CodeRefused):
		return refuse("receiver %s cannot send it: %s", m.Receiver, answer.Message)
	}
	return err
}

// probeTime bounds the question to a receiver.
const probeTime = 2 * time.Second
