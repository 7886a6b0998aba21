package drill

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrSpace says that the backup would not fit on the disk of the scratch folder.
var ErrSpace = errors.New("not enough space for a drill")

// headroom is what preparing and the scratch server need beside the unpacked files, in bytes and as a part of them.
const (
	headroom     = 512 << 20
	headroomPart = 10 // a tenth
)

// spaceOr tells that a failure is one of space, if it is.
func spaceOr(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: %w", ErrSpace, err)
	}
	return err
}

// room is nil when a backup of size bytes can be unpacked below the parent of folder.
func room(folder string, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(folder), &fs); err != nil {
		return fmt.Errorf("look for space in %s: %w", filepath.Dir(folder), err)
	}
	free, need := int64(fs.Bavail)*fs.Bsize, size+size/headroomPart+headroom
	if free < need {
		return fmt.Errorf("%w: %s has %d MiB free and %d MiB are needed", ErrSpace, filepath.Dir(folder), free>>20, need>>20)
	}
	return nil
}
