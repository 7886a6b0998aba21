package sink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"drydock/durable"
)

// AsideFolder is where files go in a server's folder that are no backups and are to be looked at.
const AsideFolder = "rejected"

// SetAside moves the temporary file of spec into the folder "rejected" beside it, under its final name, and removes what
// was there before under names with that prefix: one at a time is enough to look at. It may be repeated.
func SetAside(spec Spec, prefix string) (path string, err error) {
	if err := spec.validate(); err != nil {
		return "", err
	}
	dir := filepath.Join(spec.Dir, AsideFolder)
	if err := durable.MakeFolder(dir); err != nil {
		return "", fmt.Errorf("set %s aside: %w", spec.Name, writeError(err))
	}
	path = filepath.Join(dir, filepath.Base(spec.Final()))
	if err := os.Rename(spec.Temp(), path); err != nil && !(errors.Is(err, os.ErrNotExist) && exists(path)) {
		return "", fmt.Errorf("set %s aside: %w", spec.Name, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return path, fmt.Errorf("look at what was set aside before: %w", err)
	}
	errs := []error{durable.SyncFolder(dir), durable.SyncFolder(spec.Dir)}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) && strings.HasPrefix(e.Name(), prefix) && e.Type().IsRegular() {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return path, errors.Join(errs...)
}

// Waits says whether the temporary file of spec is there.
func (s Spec) Waits() bool { return exists(s.Temp()) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
