package archive

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

const (
	stillMost = 30 * time.Second // without a byte more, until the disk is looked at
	roomLeast = 128 << 20        // bytes; the largest pack that restic writes
)

// standstill tells that restic waits for nothing. When the disk of its repository is full, restic 0.14 mostly says so and
// ends, but once in some forty times its workers wait for each other for ever. It goes on telling its status meanwhile.
type standstill struct {
	repository Repository
	done       int64
	since      time.Time // when done was first seen; zero before
}

// see takes a line of status. Errors: that the disk is full, once nothing has moved for stillMost.
func (x *standstill) see(s status, now time.Time) error {
	if x.since.IsZero() || s.Kind != "status" || s.Done != x.done {
		x.done, x.since = s.Done, now
		return nil
	}
	dir, local := x.repository.Local()
	if !local || now.Sub(x.since) < stillMost {
		return nil
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return nil // the repository tells of that itself
	}
	blocks := disk.Bavail
	if os.Geteuid() == 0 {
		blocks = disk.Bfree // root may fill what others may not
	}
	if free := int64(blocks) * disk.Bsize; disk.Blocks > 0 && free < roomLeast {
		return fmt.Errorf("write to %s: %w (%d bytes are free, and restic stands still at %d bytes)", dir, syscall.ENOSPC, free, s.Done)
	}
	return nil
}
