package receiver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"drydock/bus"
	"drydock/job"
	"drydock/receiver/sink"
)

// growth is what a backup may be larger than the last one, as a part of that: a tenth.
const growth = 10

// expected is how many bytes a backup will take on disk, as far as the last one of its server and tool tells; 0 when nothing
// is known. A catalogue that does not answer keeps no backup from being taken.
func (p *Pool) expected(ctx context.Context, k job.Key, spec sink.Spec, task job.Task) int64 {
	if task.Kind != job.KindBackup {
		return 0
	}
	list, err := p.catalog.List(ctx, k.Cluster, k.Server)
	if err != nil {
		p.cfg.Log.Warn("look up the size of the last backup", "cluster", k.Cluster, "server", k.Server.String(), "task", k.Task, "err", err)
		return 0
	}
	for _, m := range list { // newest first
		if m.Task != k.Task {
			continue
		}
		size := m.Stored
		if spec.Compress == sink.None {
			size = m.Size
		}
		return size + size/growth
	}
	return 0
}

// room is nil when the backup is expected to fit beside the streams that run and the reserve. The caller holds p.mu.
func (p *Pool) room(r *reservation) error {
	if r.task.Kind != job.KindBackup {
		return nil
	}
	disk, free, err := diskOf(r.spec.Dir)
	if err != nil {
		return fmt.Errorf("look for space: %w", err)
	}
	promised := p.cfg.Reserve
	for _, other := range p.reservations {
		if other.need == 0 {
			continue
		}
		if d, _, err := diskOf(other.spec.Dir); err == nil && d == disk {
			promised += other.outstanding()
		}
	}
	if free-promised >= r.need && free > p.cfg.Reserve {
		return nil
	}
	return noSpace(r.need, free, promised)
}

// noSpace rounds what it tells: a text that changes with every byte would be news each time.
func noSpace(need, free, promised int64) error {
	const unit = 100 << 20
	return &bus.ServiceError{Code: bus.CodeNoSpace, Message: fmt.Sprintf(
		"about %d MiB are needed and %d MiB are free, of which %d MiB are kept (disk-reserve, backups under way)",
		(need+unit-1)/unit*100, free/unit*100, promised>>20)}
}

// outstanding is what a backup under way is still expected to take.
func (r *reservation) outstanding() int64 {
	info, err := os.Lstat(r.spec.Temp())
	if errors.Is(err, fs.ErrNotExist) {
		return r.need
	}
	if err != nil {
		return 0
	}
	return max(0, r.need-info.Size())
}

// diskOf is the file system that a folder is on, or will be, and what an ordinary user may still write there.
func diskOf(dir string) (disk unix.Fsid, free int64, err error) {
	var s unix.Statfs_t
	for err = unix.Statfs(dir, &s); errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir; err = unix.Statfs(dir, &s) {
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return disk, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return s.Fsid, int64(s.Bavail) * s.Bsize, nil
}
