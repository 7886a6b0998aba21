package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/durable"
	"drydock/receiver"
	"drydock/receiver/sink"
	"drydock/store"
)

// prune deletes what a plan named, if a plan made now still lets it go.
func (k *Keeper) prune(ctx context.Context, req bus.PruneRequest) (bus.PruneReply, error) {
	k.pruning.Lock()
	defer k.pruning.Unlock()
	if len(req.Names) > bus.PruneAtOnce {
		return bus.PruneReply{}, fmt.Errorf("prune %d items: at most %d at a time", len(req.Names), bus.PruneAtOnce)
	}
	items, err := k.Plan(ctx, req.Cluster)
	if err != nil {
		return bus.PruneReply{}, err
	}
	rep := bus.PruneReply{Outcomes: []bus.PruneOutcome{}}
	for _, item := range items {
		if !slices.Contains(req.Names, item.Name()) {
			continue
		}
		o := bus.PruneOutcome{Name: item.Name()}
		switch {
		case !item.Keep:
			k.delete(ctx, item, req.By, &o)
		case item.Going && item.Problem == "":
			o.Why = strings.Join(item.Why, ", ")
			if err := k.catalog.Spare(ctx, store.Manifest{ID: item.Backup, Cluster: item.Cluster, Server: item.Server}); err != nil {
				o.Problem = err.Error()
			}
		default:
			o.Why = strings.Join(item.Why, ", ")
		}
		rep.Outcomes = append(rep.Outcomes, o)
		if ctx.Err() != nil {
			break // the rest is asked for again
		}
	}
	return rep, nil
}

// delete deletes one item, and says in o what became of it.
func (k *Keeper) delete(ctx context.Context, item bus.PlanItem, by string, o *bus.PruneOutcome) {
	var err error
	if item.Backup == "" {
		err = k.deleteLeftover(item)
	} else {
		err = k.deleteBackup(ctx, item, by)
	}
	var spared spared
	switch {
	case errors.As(err, &spared):
		o.Why = spared.why
	case errors.Is(err, sink.ErrInUse), errors.Is(err, store.ErrPinned):
		o.Why = err.Error()
	case err != nil:
		o.Problem = err.Error()
		k.cfg.Log.Warn("delete a backup", "cluster", item.Cluster, "server", item.Server, "backup", item.Backup, "path", item.File, "err", err)
	default:
		o.Deleted, o.Freed = true, item.Bytes
		k.cfg.Log.Info("deleted", "cluster", item.Cluster, "server", item.Server, "backup", item.Backup, "path", item.File,
			"bytes", item.Bytes, "reason", strings.Join(item.Why, ", "), "by", by)
	}
}

// spared says why a backup was kept after all.
type spared struct{ why string }

func (s spared) Error() string { return s.why }

// deleteBackup deletes a backup: the record first, the file, what lies beside it, and last the entry of the catalogue. After a crash
// at any point the next prune finds the entry with its record and either goes on or, while the file is there, judges anew. The
// file goes before its manifest, durably: a manifest that is missing is never the work of a prune whose file is still there.
func (k *Keeper) deleteBackup(ctx context.Context, item bus.PlanItem, by string) error {
	k.files.Lock()
	defer k.files.Unlock()
	m, err := k.catalog.ByKey(ctx, item.Cluster, item.Server, item.Backup)
	if errors.Is(err, store.ErrNoBackup) {
		return nil
	}
	if err != nil {
		return err
	}
	if m.Path != item.File {
		return spared{"it moved while it was looked at"}
	}
	held, err := sink.HoldAlone(m.Path)
	switch {
	case err == nil:
		defer held.Close()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case m.Removal == nil:
		return spared{"its file is missing"}
	}
	if err := k.recordRemoval(ctx, m, item, by); err != nil {
		return err
	}
	// Somebody may have asked for it just before the record: from now on nobody can.
	if held != nil {
		if need := k.needed(m); need != "" {
			return errors.Join(k.catalog.Spare(ctx, m), spared{need})
		}
	}
	if err := k.deleteFiles(m); err != nil {
		return fmt.Errorf("delete backup %s: %w", m.ID, err)
	}
	if err := k.step("catalogue"); err != nil {
		return err
	}
	return k.catalog.Removed(ctx, m)
}

// recordRemoval writes into the catalogue and into the notes beside the file that the backup goes.
func (k *Keeper) recordRemoval(ctx context.Context, m store.Manifest, item bus.PlanItem, by string) error {
	if err := k.step("record"); err != nil {
		return err
	}
	r := store.Removal{Time: time.Now().UTC(), By: fmt.Sprintf("receiver %s, job %s", k.cfg.Name, by), Why: strings.Join(item.Why, ", ")}
	now, err := k.catalog.Remove(ctx, m, r, func(now store.Manifest) error {
		if now.Path != m.Path || now.Receiver != k.cfg.Name {
			return spared{"it is another one now"}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := k.step("notes"); err != nil {
		return err
	}
	if _, err := os.Lstat(m.Path); err != nil {
		return nil // an earlier prune came further
	}
	return k.writeNotes(now)
}

// deleteFiles deletes file, manifest and notes of a backup, each durably before the next.
func (k *Keeper) deleteFiles(m store.Manifest) error {
	for _, f := range []struct{ step, path string }{
		{"file", m.Path}, {"manifest", m.Path + receiver.ManifestSuffix}, {"sidecar", m.Path + NotesSuffix},
	} {
		if err := k.step(f.step); err != nil {
			return err
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := k.step("sync " + f.step); err != nil {
			return err
		}
		if err := syncFolder(filepath.Dir(m.Path)); err != nil {
			return err
		}
	}
	return nil
}

// deleteLeftover deletes a file that the plan found to be nobody's.
func (k *Keeper) deleteLeftover(item bus.PlanItem) error {
	k.files.Lock()
	defer k.files.Unlock()
	folder, safe := receiver.BackupsOf(k.cfg.DataDir, item.Cluster, item.Server)
	dir := filepath.Dir(item.File)
	if !safe || dir != filepath.Clean(folder) && dir != filepath.Join(folder, sink.AsideFolder) {
		return fmt.Errorf("delete %s: it is not in the folder of its server", item.File)
	}
	if err := os.Remove(item.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(dir)
}

// syncFolder makes removals in a folder durable. One that is gone holds none.
func syncFolder(dir string) error {
	if err := durable.SyncFolder(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
