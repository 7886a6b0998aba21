package recovery

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"drydock/job"
)

// ErrSpace says that the backup would not fit on the disk of the folder.
var ErrSpace = errors.New("not enough space")

// headroom is what preparing and the private server need beside the unpacked files, in bytes and as a part of them.
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

// NoSpace reports whether a tool or a server said that the disk is full.
func NoSpace(said string) bool { return noSpace.MatchString(said) }

// noSpace is how tools and servers say that the disk is full.
var noSpace = regexp.MustCompile(`(?i)no space left|errcode: 28\b|error:? (number |code )?28\b|table .{1,200} is full|disk is full|disk full`)

// SpaceIn makes err one of space when what was said tells so.
func SpaceIn(said string, err error) error {
	if !NoSpace(said) {
		return err
	}
	// Only its text: that it was blamed on the backup is no longer true.
	return fmt.Errorf("%w: %s: %s", ErrSpace, err.Error(), said)
}

// Needs is how many bytes a backup takes whose stream has size bytes: a dump becomes tables with indexes, and one of mydumper
// lies beside them.
func Needs(format job.Format, size int64) int64 {
	switch format {
	case job.SQLText:
		return 2*size + headroom
	case job.Tar:
		return 3*size + headroom
	}
	return size + size/headroomPart + headroom
}

// NeedsUnpacked is [Needs] for the files of a dump that no server loads.
func NeedsUnpacked(size int64) int64 { return size + size/headroomPart }

// Room is nil when the parent of folder has need bytes free.
func Room(folder string, need int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(folder), &fs); err != nil {
		return fmt.Errorf("look for space in %s: %w", filepath.Dir(folder), err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	if free < need {
		return fmt.Errorf("%w: %s has %d MiB free and %d MiB are needed", ErrSpace, filepath.Dir(folder), free>>20, need>>20)
	}
	return nil
}
