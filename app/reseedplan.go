package app

import (
	"context"
	"errors"
	"fmt"

	"drydock/bus"
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
	p.Steps = reseedSteps(r)
	done, err := restore.NewDesk(conn, "plan").Check(ctx, r)
	switch {
	case err == nil:
		p.add("server", Fine, "task %s may replace the data of %s", done.Task, r.Server)
	case errors.Is(err, restore.ErrRefused), errors.Is(err, store.ErrNoBackup):
		p.add("server", Refused, "%v", err)
	default:
		return p, err
	}
	p.found("cluster", closed, "takes jobs now, or --force was given")
	if m.Encrypted {
		p.add("key", Warning, "the receiver %s needs a key (backup-encrypt-identity) on its own machine", m.Receiver)
	}
	if r.Kind == restore.Physical {
		return p, p.serverVersion(ctx, conn, r)
	}
	return p, nil
}

// serverVersion compares the version that the server has now with that of the backup.
func (p *RestorePlan) serverVersion(ctx context.Context, conn *bus.Conn, r restore.Request) error {
	var f store.Facts
	if _, err := store.NewDocs(conn).Get(ctx, r.Cluster, r.Server, store.DocFacts, &f); err != nil {
		return err
	}
	here, ok := recovery.FindVersion(f.Version)
	if !ok {
		p.add("version", Warning, "%s does not say its version; the script on its host compares before it stops the server", r.Server)
		return nil
	}
	p.version(fmt.Sprintf("%s runs %s,", r.Server, here), here, p.Tool)
	return nil
}

func reseedSteps(r restore.Request) []string {
	if r.Kind == restore.Logical {
		return []string{"drydock loads the dump over SQL", "replicate from the primary"}
	}
	steps := []string{
		"the receiver sends the backup", "the script on the host unpacks and prepares it beside the data", "stop the server",
		"put the new data in place of the old ones", "start the server",
	}
	if r.Flashback {
		return append(steps, "leave replication stopped")
	}
	return append(steps, "replicate and catch up")
}
