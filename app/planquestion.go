package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/config"
	"drydock/job"
	"drydock/receiver/recovery"
	"drydock/restore"
	"drydock/store"
)

// PlanQuestion makes the plan of a restore from what the bus knows: the catalogue, the archive of binary logs, what servers and
// receivers say. What only the disk of a receiver can tell is a warning that says so. Errors: [restore.ErrQuestion],
// [store.ErrNoBackup], the bus's.
func PlanQuestion(ctx context.Context, cfg *config.Config, conn *bus.Conn, q restore.Question) (restore.Plan, error) {
	cluster, known := cfg.Cluster(q.Cluster)
	if !known {
		return restore.Plan{}, fmt.Errorf("%w: no cluster %q", restore.ErrQuestion, q.Cluster)
	}
	to, err := ParsePoint(q.To, time.UTC)
	if err != nil {
		return restore.Plan{}, fmt.Errorf("%w: %w", restore.ErrQuestion, err)
	}
	list, err := store.NewCatalog(conn).List(ctx, q.Cluster, job.Server{})
	if err != nil {
		return restore.Plan{}, err
	}
	m, err := Listed(list, q.Cluster, q.Of, q.Backup, to)
	if err != nil {
		return restore.Plan{}, err
	}
	var p RestorePlan
	if q.Directory != "" {
		p, err = planDirectory(ctx, conn, q, m, to, list)
	} else {
		p, err = planServer(ctx, conn, cluster, q, m, to, list)
	}
	return p.Plan, err
}

// Listed is the backup of a list, newest first, that has this id, or else the newest of a server from which a point can be reached
// and of which nothing bad is known. Errors: [store.ErrNoBackup].
func Listed(list []store.Manifest, cluster string, of job.Server, id string, to Point) (store.Manifest, error) {
	i := slices.IndexFunc(list, func(m store.Manifest) bool {
		if id != "" {
			return m.ID == id
		}
		_, bad := m.Fault()
		return m.Cluster == cluster && m.Server == of && !bad && to.Onward(m) && (!to.Given() || restore.KindOf(m) == restore.Physical)
	})
	switch {
	case i < 0 && id != "":
		return store.Manifest{}, fmt.Errorf("%w: %q", store.ErrNoBackup, id)
	case i < 0:
		return store.Manifest{}, fmt.Errorf("%w: no good one of %s in cluster %s that is not beyond %s", store.ErrNoBackup, of, cluster, cmp.Or(to.String(), "now"))
	}
	return list[i], nil
}

func planServer(ctx context.Context, conn *bus.Conn, c config.Cluster, q restore.Question, m store.Manifest, to Point, list []store.Manifest) (RestorePlan, error) {
	closures, err := store.NewControl(conn).Closures(ctx)
	if err != nil {
		return RestorePlan{}, err
	}
	var closed error
	if why, shut := closures.Shut(c.Name, time.Now()); shut {
		closed = errors.New(why + "; --force runs it anyway")
	}
	r := restore.Request{
		Cluster: c.Name, Servers: Servers(c.Servers), Server: q.Server, Kind: restore.KindOf(m), Backup: m.ID, To: to.String(),
		Flashback: q.Stay && !to.Given(), By: "plan",
	}
	p, err := PlanReseed(ctx, conn, r, m, Known{Manifests: list}, closed)
	stay := ""
	if r.Flashback {
		stay = "--no-replication"
	}
	p.Command = commandLine("restore", "apply", m.ID, "--to-server", q.Server.String(), to.flag(), stay, "--confirm", q.Server.String())
	p.Machine = "any machine that reaches the bus"
	return p, err
}

// planDirectory is what can be told from here of a restore to a directory of the receiver's machine.
func planDirectory(ctx context.Context, conn *bus.Conn, q restore.Question, m store.Manifest, to Point, list []store.Manifest) (RestorePlan, error) {
	place, err := recovery.NewPlace(q.Directory)
	if err != nil {
		return RestorePlan{}, fmt.Errorf("%w: %w", restore.ErrQuestion, err)
	}
	b, err := recovery.BackupOf(m, m.Path)
	if err != nil {
		return RestorePlan{}, err
	}
	o := RestoreOptions{Found: Found{Manifest: m, File: m.Path}, Place: place, To: to, Load: to.Given() && b.Format != job.XBStream}
	p := newPlan(m, place.Path(), Known{Manifests: list})
	p.Need = o.needs(b)
	p.Steps = o.steps(b)
	p.Lost = o.lost()
	p.add("disk", restore.Warning, "not looked at from here: whether %s is empty, has %d MiB free, and which tools there are; `drydock restore plan` says it on the machine of receiver %s",
		place.Path(), p.Need>>20, m.Receiver)
	if m.Encrypted {
		p.add("key", restore.Warning, "a key of the backup is needed there: backup-encrypt-identity, or --identity FILE")
	}
	if to.Given() {
		span, err := p.archived(ctx, conn, to.String(), m)
		if err != nil && span == nil {
			return p, err
		}
		p.found("point in time", err, "the archive leads there, by the catalogue; every byte of it is read before it is replayed")
	}
	load := ""
	if o.Load {
		load = "--load"
	}
	p.Command = commandLine("restore", "apply", m.ID, "--to-directory", place.Path(), to.flag(), load, "--confirm", place.Path())
	p.Machine = "the machine of receiver " + m.Receiver
	return p, nil
}

// flag is the point in time as an argument, empty for none.
func (p Point) flag() string {
	if !p.Given() {
		return ""
	}
	return "--to=" + p.String()
}

var plainWord = regexp.MustCompile(`^[0-9A-Za-z_./:=,+@%-]+$`)

// commandLine is a command of drydock as somebody types it into a shell; empty words are left out.
func commandLine(words ...string) string {
	out := []string{"drydock"}
	for _, w := range words {
		switch {
		case w == "":
		case plainWord.MatchString(w):
			out = append(out, w)
		default:
			out = append(out, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
	}
	return strings.Join(out, " ")
}

var gtidList = regexp.MustCompile(`^\d+-\d+-\d+(,\d+-\d+-\d+)*$`)

// ParsePoint reads a point in time: a GTID, or a time, which without a zone is one of the zone given. Empty is none.
func ParsePoint(text string, zone *time.Location) (Point, error) {
	_, err := time.Parse(time.DateOnly, text)
	switch {
	case text == "":
		return Point{}, nil
	case err == nil: // which looks like a GTID
		return Point{}, fmt.Errorf("read the point in time %q: say the time of that day, too, as in \"%s 00:00\"", text, text)
	case gtidList.MatchString(text):
		return Point{GTID: text}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return Point{Time: at}, nil
		}
	}
	return Point{}, fmt.Errorf("read the point in time %q: it is a time as 2026-11-26T03:00:00Z or \"2026-11-26 03:00:00\", or a GTID as 0-1-42", text)
}
