package store

import (
	"context"
	"fmt"
	"slices"

	"drydock/job"
)

// Unconfirmed says why a task by hand is to be confirmed first: it replaces data, or takes away several servers, or one
// that others replicate from. Empty when nothing is in its way. all are the servers of the cluster.
func Unconfirmed(ctx context.Context, docs *Docs, cluster string, t job.Task, servers, all []job.Server) (string, error) {
	switch {
	case t.Kind == job.KindRestore:
		return t.Name + " throws the present data away", nil
	case t.Name == "backupprune":
		return t.Name + " deletes the backups that the backup-keep keys let go of; `drydock backups prune` shows which", nil
	case t.Kind == job.KindRolling && t.Name != "rollingrestart":
		return t.Name + " makes every replica anew, with the data of the primary", nil
	case t.Kind != job.KindService || t.Name == "start":
		return "", nil
	case len(servers) > 1:
		return fmt.Sprintf("%d servers at once", len(servers)), nil
	}
	for _, s := range all {
		var f Facts
		if ok, err := docs.Get(ctx, cluster, s, DocFacts, &f); err != nil {
			return "", err
		} else if !ok || !f.Up {
			continue // it is down, or nobody has asked it yet: nothing that is known depends on it
		}
		if f.Replicas > 0 && slices.Contains(servers, s) {
			return fmt.Sprintf("%s has %d replicas", s, f.Replicas), nil
		}
		for _, source := range f.Sources {
			if i := slices.IndexFunc(servers, func(x job.Server) bool { return x.Addr() == source.From }); i >= 0 && source.IO == "Yes" {
				return fmt.Sprintf("%s replicates from %s", s, servers[i]), nil
			}
		}
	}
	return "", nil
}
