// Package durable makes files and their names outlive a crash: what it has written is on disk when it returns. Errors are
// those of the file system.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write writes a file for its owner only, over what stood there. Its name may be lost until its folder is synced.
func Write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// Replace writes a small file for its owner only in one step: a crash leaves the old one or the new one. What it writes first
// stands in the same folder under a hidden name of its own.
func Replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return ReplaceBy(f.Name(), path, data)
}

// ReplaceBy is Replace with a name for the draft, in the same folder, by which somebody knows one that a crash left.
func ReplaceBy(draft, path string, data []byte) error {
	err := Write(draft, data)
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(draft))
	}
	return SyncFolder(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// MakeFolder makes a folder and its missing parents, for their owner only, and syncs the folder above each new one: a file is
// no more durable than the entries that lead to it.
func MakeFolder(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var parents []string // of the folders to be made, deepest first
	for d := dir; ; d = filepath.Dir(d) {
		_, err := os.Stat(d)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parents = append(parents, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		if err := SyncFolder(p); err != nil {
			return err
		}
	}
	return nil
}

// SyncFolder makes the creations, renames and removals in a folder durable.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
