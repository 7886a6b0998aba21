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
	"time"

	"golang.org/x/sys/unix"

	"drydock/bus"
	"drydock/job"
	"drydock/receiver"
	"drydock/receiver/sink"
	"drydock/retention"
	"drydock/store"
)

// diskNow answers how full the disk is, with an answer of a few seconds ago if there is one.
func (k *Keeper) diskNow(ctx context.Context, _ struct{}) (bus.DiskReply, error) {
	k.mu.Lock()
	last := k.disk
	k.mu.Unlock()
	if age := time.Since(last.Time); age >= 0 && age < diskKept {
		return last, nil
	}
	d, err := k.Disk(ctx)
	if err == nil {
		k.mu.Lock()
		k.disk = d
		k.mu.Unlock()
	}
	return d, err
}

// Disk says how full the disk of the backup folder is, and when it will be.
func (k *Keeper) Disk(ctx context.Context) (bus.DiskReply, error) {
	d := bus.DiskReply{Receiver: k.cfg.Name, Time: time.Now().UTC(), Folder: filepath.Join(k.cfg.DataDir, receiver.BackupsFolder), Reserve: k.cfg.Reserve}
	var s unix.Statfs_t
	dir := d.Folder
	err := unix.Statfs(dir, &s)
	for ; errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir; err = unix.Statfs(dir, &s) {
		dir = filepath.Dir(dir) // it is made with the first backup
	}
	if err != nil {
		return d, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	d.Total, d.Free = int64(s.Blocks)*s.Bsize, int64(s.Bavail)*s.Bsize
	all, err := k.catalog.List(ctx, "", job.Server{})
	if err != nil {
		return d, fmt.Errorf("foresee the disk: %w", err)
	}
	o := k.outlook(all, d)
	d.Full, d.FullIn, d.Outlook = o.Full, o.In.Seconds(), o.String()
	d.Rejected, err = k.rejected()
	return d, err
}

// outlook is the forecast from what the catalogue says of our backups.
func (k *Keeper) outlook(all []store.Manifest, d bus.DiskReply) retention.Outlook {
	var mine []retention.Stored
	rules := map[string]*retention.Rules{}
	for _, m := range all {
		cl, known := k.cfg.Clusters[m.Cluster]
		if m.Receiver != k.cfg.Name || !known {
			continue
		}
		series := bus.CatalogKey(m.Cluster, m.Server.Host, m.Server.Port, m.Task)
		if cl.Pruned {
			rules[series] = &cl.Rules
		}
		mine = append(mine, retention.Stored{Series: series, Taken: m.Ended, Bytes: m.Stored, Kept: m.Pinned()})
	}
	return retention.Forecast(d.Time, retention.Disk{Free: d.Free, Reserve: d.Reserve}, mine, func(s string) *retention.Rules { return rules[s] })
}

// rejected counts what was not believed.
func (k *Keeper) rejected() (out []bus.RejectedCount, err error) {
	for _, cluster := range slices.Sorted(maps.Keys(k.cfg.Clusters)) {
		for _, s := range k.cfg.Clusters[cluster].Servers {
			folder, _ := receiver.BackupsOf(k.cfg.DataDir, cluster, s)
			entries, err := os.ReadDir(filepath.Join(folder, sink.AsideFolder))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return out, err
			}
			c := bus.RejectedCount{Cluster: cluster, Server: s}
			for _, e := range entries {
				if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
					c.Files++
					c.Bytes += info.Size()
				}
			}
			if c.Files > 0 {
				out = append(out, c)
			}
		}
	}
	return out, nil
}
