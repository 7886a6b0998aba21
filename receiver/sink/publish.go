package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"drydock/durable"
)

// Publish gives the finished temporary file of spec its final name, durably, and returns that name.
// Call it when the job's proof is complete; it cannot know whether Finish was reached.
//
// It may be repeated: when the temporary file is gone and the final one is there, that is success.
// It never replaces a final file (fs.ErrExist: names are unique to one backup, so this one is another
// job's). fs.ErrNotExist says that there is neither.
func Publish(spec Spec) (final string, err error) {
	if err := spec.validate(); err != nil {
		return "", err
	}
	temp, final := spec.Temp(), spec.Final()
	if err := renameNew(temp, final); err != nil {
		if err := alreadyPublished(temp, final, err); err != nil {
			return "", fmt.Errorf("publish %s: %w", final, err)
		}
	}
	// Also when there was nothing to rename: the crash may have been between rename and sync.
	if err := durable.SyncFolder(spec.Dir); err != nil {
		return "", fmt.Errorf("publish %s: %w", final, writeError(err))
	}
	return final, nil
}

// renameNew renames without ever replacing. Where the file system cannot do that in one step (NFS
// for one), a hard link can: it fails when the name is taken.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return linkNew(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func linkNew(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// alreadyPublished turns cause, the error of renameNew, into nil when an earlier call had done the work.
func alreadyPublished(temp, final string, cause error) error {
	there, err := os.Lstat(final)
	if err != nil || !there.Mode().IsRegular() {
		return cause // no final file: cause says why
	}
	left, err := os.Lstat(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && os.SameFile(there, left) {
		return os.Remove(temp) // crashed inside linkNew
	}
	return cause
}

// Discard removes the temporary file of spec when there is one. Published files stay.
func Discard(spec Spec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	removed, err := removeIfThere(spec.Temp())
	if !removed {
		return err
	}
	return durable.SyncFolder(spec.Dir)
}

// Sweep removes the temporary files in dir whose tag keep refuses, and returns their paths. It is
// for the start of the process, before any Create: what a crash cut off would otherwise stay
// forever. Other files are left alone, and a missing folder is an empty one.
func Sweep(dir string, keep func(tag string) bool) (removed []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		tag, isTemp := TagOf(e.Name())
		if !isTemp || !e.Type().IsRegular() || keep(tag) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err := os.Remove(path); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, path)
	}
	if len(removed) > 0 {
		errs = append(errs, durable.SyncFolder(dir))
	}
	return removed, errors.Join(errs...)
}
