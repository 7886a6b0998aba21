package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"drydock/bus"
	"drydock/receiver/binlog"
	"drydock/receiver/recovery"
	"drydock/restore"
	"drydock/store"
)

// PlanReseed says what an order of this request would do to its server, with the backup of m. closed is why the cluster takes no
// jobs now, if it does not. Errors are those of looking; what stands against it is in the findings.
func PlanReseed(ctx context.Context, conn *bus.Conn, r restore.Request, m store.Manifest, known Known, closed error) (RestorePlan, error) {
	p := newPlan(m, r.Server.String(), known)
	b, err := recovery.BackupOf(m, "")
	if err != nil {
		return p, err
	}
	p.Need = recovery.Needs(b.Format, m.Size)
	p.Steps, p.Lost = reseedSteps(r), reseedLoses(r, m)
	done, err := restore.NewDesk(conn, "plan").Check(ctx, r)
	switch {
	case err == nil:
		p.add("server", restore.Fine, "task %s may replace the data of %s", done.Task, r.Server)
	case errors.Is(err, restore.ErrRefused), errors.Is(err, store.ErrNoBackup):
		p.add("server", restore.Refused, "%v", err)
	default:
		return p, err
	}
	p.found("cluster", closed, "takes jobs now, or --force was given")
	if m.Encrypted {
		p.add("key", restore.Warning, "the receiver %s needs a key (backup-encrypt-identity) on its own machine", m.Receiver)
	}
	if r.To != "" {
		if err := p.pointOnServer(ctx, conn, r, m); err != nil {
			return p, err
		}
	}
	if r.Kind == restore.Physical {
		return p, p.serverVersion(ctx, conn, r)
	}
	return p, nil
}

// pointOnServer looks in the catalogue whether the archive of binary logs leads to the point; the receiver reads all of it before it
// makes anything.
func (p *RestorePlan) pointOnServer(ctx context.Context, conn *bus.Conn, r restore.Request, m store.Manifest) error {
	const what = "point in time"
	span, err := p.archived(ctx, conn, r.To, m)
	if span == nil {
		return err
	}
	if i := slices.IndexFunc(span.Segments, func(s store.Segment) bool { return s.Receiver != m.Receiver }); i >= 0 {
		s := span.Segments[i]
		p.add("segments", restore.Warning, "from %s on they are on receiver %s, and the backup on %s, which refuses what it has not on its machine: "+
			"for a point behind that bring both to one machine and restore to a directory", s.First.UTC().Format(time.DateTime), s.Receiver, m.Receiver)
	}
	p.found(what, err, "the archive leads there, by the catalogue; the receiver %s reads every byte of it before it begins", m.Receiver)
	p.add("scratch", restore.Warning, "receiver %s makes a backup of the point: it needs about %d MiB in backup-drill-scratch while it works, and room for one more backup",
		m.Receiver, p.Need>>20)
	return nil
}

// archived looks in the catalogue whether the archive of binary logs leads from a backup to a point. Without a span the error is
// that of looking; with one it says why the archive does not lead there.
func (p *RestorePlan) archived(ctx context.Context, conn *bus.Conn, to string, m store.Manifest) (*binlog.Span, error) {
	until, err := binlog.ParseUntil(to)
	if err != nil {
		return nil, err
	}
	base, err := binlog.BaseOf(m)
	if err != nil {
		return &binlog.Span{}, err
	}
	segments, err := store.NewBinlogs(conn).List(ctx, m.Cluster)
	if err != nil {
		return nil, err
	}
	p.Point = &restore.PointPlan{To: to, Base: cmp.Or(base.GTID, fmt.Sprintf("%s:%d", base.File, base.Pos))}
	span, err := binlog.Reach(binlog.Request{Segments: segments, Base: base, Until: until})
	cover(p.Point, span)
	if err == nil && !(Point{Time: until.Time, GTID: until.GTID}).Onward(m) {
		err = fmt.Errorf("backup %s goes beyond %s (%s, GTID %s): choose an older one", m.ID, to, m.Ended.UTC().Format(time.DateTime), m.GTID)
	}
	return &span, err
}

// serverVersion compares the version that the server has now with that of the backup.
func (p *RestorePlan) serverVersion(ctx context.Context, conn *bus.Conn, r restore.Request) error {
	var f store.Facts
	if _, err := store.NewDocs(conn).Get(ctx, r.Cluster, r.Server, store.DocFacts, &f); err != nil {
		return err
	}
	here, ok := recovery.FindVersion(f.Version)
	if !ok {
		p.add("version", restore.Warning, "%s does not say its version; the script on its host compares before it stops the server", r.Server)
		return nil
	}
	p.version(fmt.Sprintf("%s runs %s,", r.Server, here), here, p.Tool)
	return nil
}

// reseedLoses says what a server does not have any more when its data were replaced.
func reseedLoses(r restore.Request, m store.Manifest) string {
	if r.Flashback || r.To != "" {
		return fmt.Sprintf("all that was written on %s after %s: it stays there, without replication", r.Server, until(m, r.To))
	}
	return fmt.Sprintf("all data of %s are replaced by those of %s until %s, and it then catches up from the primary: lost is what only %s has",
		r.Server, m.Server, until(m, ""), r.Server)
}

func reseedSteps(r restore.Request) []string {
	if r.Kind == restore.Logical {
		return []string{"drydock loads the dump over SQL", "replicate from the primary"}
	}
	var steps []string
	if r.To != "" {
		steps = []string{"the receiver restores the backup to a private server", "replays the binary logs there", "makes a backup of that"}
	}
	steps = append(steps,
		"the receiver sends the backup", "the script on the host unpacks and prepares it beside the data", "stop the server",
		"put the new data in place of the old ones", "start the server",
	)
	if r.Flashback || r.To != "" {
		return append(steps, "leave replication stopped")
	}
	return append(steps, "replicate and catch up")
}
