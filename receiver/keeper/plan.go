package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/receiver"
	"drydock/receiver/sink"
	"drydock/retention"
	"drydock/store"
)

// entry is one backup of the catalogue, as it is found here.
type entry struct {
	store.Manifest
	mine    bool
	away    bool     // its receiver does not answer
	absent  bool     // its file is not there
	problem string   // why it is not what the catalogue says
	held    []string // why it may not go now
}

// Plan says what a prune would keep and delete now of what this receiver has of a cluster. It changes nothing.
func (k *Keeper) Plan(ctx context.Context, cluster string) ([]bus.PlanItem, error) {
	all, err := k.catalog.All(ctx, cluster, job.Server{})
	if err != nil {
		return nil, fmt.Errorf("plan a prune: %w", err)
	}
	cl := k.cfg.Clusters[cluster]
	byServer := map[job.Server][]store.Manifest{}
	for _, s := range cl.Servers {
		byServer[s] = nil
	}
	for _, m := range all {
		byServer[m.Server] = append(byServer[m.Server], m)
	}
	away := k.away(ctx, all)
	out := []bus.PlanItem{}
	for _, s := range slices.SortedFunc(maps.Keys(byServer), func(a, b job.Server) int { return strings.Compare(a.String(), b.String()) }) {
		out = append(out, k.judge(cluster, s, byServer[s], away)...)
		if !slices.Contains(cl.Servers, s) {
			continue // its folder is nobody's to clean up
		}
		left, err := k.leftovers(cluster, s, byServer[s])
		if err != nil {
			return nil, fmt.Errorf("plan a prune: %w", err)
		}
		out = append(out, left...)
	}
	return out, nil
}

// away are the other receivers that have some of the backups and do not answer. Nobody knows whether their disks are still there: no
// backup here goes because of one there.
func (k *Keeper) away(ctx context.Context, all []store.Manifest) map[string]bool {
	out := map[string]bool{}
	for _, m := range all {
		if _, asked := out[m.Receiver]; asked || m.Receiver == k.cfg.Name {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, awayAfter)
		_, err := bus.Request[bus.DiskReply](asking, k.conn, bus.ReceiverSubject(m.Receiver, bus.VerbDisk), struct{}{})
		cancel()
		out[m.Receiver] = err != nil
	}
	return out
}

// judge is the plan for the backups of one server.
func (k *Keeper) judge(cluster string, s job.Server, list []store.Manifest, away map[string]bool) (out []bus.PlanItem) {
	var backups []retention.Backup
	entries := map[string]entry{}
	for _, m := range list {
		e := entry{Manifest: m, mine: m.Receiver == k.cfg.Name, away: away[m.Receiver]}
		if !e.mine && !m.Listed() {
			continue // it is no backup any more, and not ours to delete
		}
		if e.mine {
			k.examine(&e)
		}
		if e.mine && !m.Listed() && e.absent {
			out = append(out, k.unfinished(e)...)
			continue
		}
		entries[m.ID] = e
		backups = append(backups, e.worth())
	}
	for _, v := range retention.Judge(k.cfg.Clusters[cluster].Rules, backups, time.Now()) {
		e := entries[v.ID]
		if !e.mine {
			continue
		}
		item := k.item(e)
		item.Keep, item.Why = v.Keep, v.Why
		if !item.Keep {
			if why := inUse(e.Path); why != "" {
				item.Keep, item.Why = true, []string{why}
			}
		}
		out = append(out, item)
	}
	return out
}

// worth is the backup as the rules see it.
func (e entry) worth() retention.Backup {
	_, restored := e.Restored()
	_, failed := e.Fault()
	return retention.Backup{
		ID: e.ID, Group: e.Task, Holder: e.Receiver, Taken: e.Ended, Restored: restored && e.problem == "",
		Doubtful: failed || e.problem != "" || e.away, Pinned: e.Pinned(), Held: e.held,
	}
}

func (k *Keeper) item(e entry) bus.PlanItem {
	return bus.PlanItem{
		Receiver: k.cfg.Name, Cluster: e.Cluster, Server: e.Server, Task: e.Task, Backup: e.ID, File: e.Path, Ended: e.Ended,
		Bytes: e.Stored, Problem: e.problem, Going: !e.Listed(),
	}
}

// unfinished is what is left to do about a backup whose file a prune deleted: to delete what lay beside it and to take it
// out of the catalogue. While the archive has a copy nothing is.
func (k *Keeper) unfinished(e entry) []bus.PlanItem {
	if _, copied := e.Archived(); copied && !e.Removal.Done.IsZero() {
		return nil
	}
	item := k.item(e)
	item.Bytes, item.Problem, item.Why = 0, "", []string{"its file is deleted: " + e.Removal.Why}
	return []bus.PlanItem{item}
}

// examine looks whether the file and manifest of a backup are what the catalogue says, and what needs it now. Whatever is not as it
// should be is reported and stays: it may be evidence.
func (k *Keeper) examine(e *entry) {
	hold := func(format string, args ...any) {
		e.problem = fmt.Sprintf(format, args...)
		e.held = append(e.held, e.problem)
	}
	folder, safe := receiver.BackupsOf(k.cfg.DataDir, e.Cluster, e.Server)
	cl := k.cfg.Clusters[e.Cluster]
	if !safe || !inFolder(e.Path, folder) {
		hold("the file is not in the folder of its server")
		return
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() { // as without a mount
		hold("the folder of its server is missing")
		return
	}
	info, err := os.Lstat(e.Path)
	switch e.absent = errors.Is(err, fs.ErrNotExist); {
	case e.absent:
		hold("the file is missing")
		return
	case err != nil:
		hold("the file cannot be looked at: %v", err)
	case !info.Mode().IsRegular() || info.Size() != e.Stored:
		hold("the file has %d bytes, the manifest says %d", info.Size(), e.Stored)
	}
	if err := k.vouched(e.Manifest); err != nil {
		hold("the manifest is not to be trusted: %v", err)
	}
	if _, err := k.notesBeside(e.Manifest); err != nil {
		hold("%v", err) // there may be a pin in them
	}
	if !slices.Contains(cl.Servers, e.Server) {
		e.held = append(e.held, "the server is not in the configuration")
	}
	if cl.Archive && !slices.ContainsFunc(e.Archives, func(a store.Archive) bool { return a.Snapshot != "" }) {
		e.held = append(e.held, "not archived yet (backup-restic)")
	}
	if need := k.needed(e.Manifest); need != "" {
		e.held = append(e.held, need)
	}
}

// inFolder says whether a file stands in a folder itself. The catalogue may have absolute paths where the configuration has not.
func inFolder(path, folder string) bool {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return false
	}
	folder, err = filepath.Abs(folder)
	return err == nil && dir == folder
}

// vouched is nil when one of the keys vouches for the manifest beside the file and the catalogue says the same.
func (k *Keeper) vouched(m store.Manifest) error {
	raw, err := os.ReadFile(m.Path + receiver.ManifestSuffix)
	if err != nil {
		return err
	}
	err = store.ErrOtherKey
	for _, key := range k.cfg.Keys {
		signed, e := store.VerifyManifest(raw, key)
		if e != nil {
			if !errors.Is(e, store.ErrOtherKey) {
				err = e
			}
			continue
		}
		if signed.ID != m.ID || signed.Cluster != m.Cluster || signed.Server != m.Server || filepath.Base(signed.Path) != filepath.Base(m.Path) ||
			signed.Stored != m.Stored || signed.StoredHash != m.StoredHash {
			return errors.New("it is that of another backup")
		}
		return nil
	}
	return err
}

// needed says which live job needs a backup, empty when none does.
func (k *Keeper) needed(m store.Manifest) string {
	for _, j := range k.view.Select(func(j job.Job) bool { return j.Cluster == m.Cluster && j.State.Live() }) {
		if j.ID == m.ID || j.Backup == m.ID || slices.Contains(slices.Collect(maps.Values(j.Args)), m.ID) {
			return fmt.Sprintf("job %s (%s) needs it", j.ID, j.Task)
		}
	}
	return ""
}

// inUse says that somebody reads a file just now, empty when nobody does.
func inUse(path string) string {
	f, err := sink.HoldAlone(path)
	if err == nil {
		f.Close()
		return ""
	}
	if errors.Is(err, sink.ErrInUse) {
		return "in use: somebody reads it"
	}
	return err.Error()
}
