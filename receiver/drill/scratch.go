package drill

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"drydock/receiver/recovery"
)

// Scratch is a folder for one drill, under a lock for as long as the drill lives: so another process can tell what a
// killed one left.
type Scratch struct {
	dir  string
	lock *os.File
}

const (
	scratchRoot   = "drydock-drills" // below a folder that holds other people's things
	scratchPrefix = "drill-"
	lockName      = ".lock"
	workName      = "w" // short: a socket's path may have 107 bytes
)

// OpenScratch makes a folder for a drill below parent and removes what drills left there that are gone. All it touches is in
// a subfolder of its own.
func OpenScratch(parent string) (*Scratch, error) {
	root := filepath.Join(parent, scratchRoot)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the drills: %w", err)
	}
	// The root is locked meanwhile, so that nobody sweeps a folder between its lock file and its lock.
	gate, err := recovery.Lock(filepath.Join(root, lockName), os.O_CREATE, syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of the drills: %w", err)
	}
	defer gate.Close()
	if err := sweep(root); err != nil {
		return nil, fmt.Errorf("remove what a drill left: %w", err)
	}
	dir, err := os.MkdirTemp(root, scratchPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a folder for the drill: %w", err)
	}
	lock, err := recovery.Lock(filepath.Join(dir, lockName), os.O_CREATE, syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the folder of the drill: %w", err), os.RemoveAll(dir))
	}
	return &Scratch{dir: dir, lock: lock}, nil
}

// Folder is for [Config].
func (s *Scratch) Folder() string { return filepath.Join(s.dir, workName) }

// Close removes the folder with all that is in it.
func (s *Scratch) Close() error {
	return errors.Join(os.RemoveAll(s.dir), s.lock.Close())
}

// Sweep removes what drills left below parent that are gone: a backup that is encrypted elsewhere lies there in clear.
func Sweep(parent string) error {
	root := filepath.Join(parent, scratchRoot)
	gate, err := recovery.Lock(filepath.Join(root, lockName), 0, syscall.LOCK_EX)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there was no drill yet
	}
	if err != nil {
		return fmt.Errorf("lock the folder of the drills: %w", err)
	}
	return errors.Join(sweep(root), gate.Close())
}

// sweep removes the folders whose drill is gone. Their processes died with it, but for those that a tool had started.
func sweep(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), scratchPrefix) {
			continue
		}
		dir := filepath.Join(root, e.Name())
		lock, err := recovery.Lock(filepath.Join(dir, lockName), 0, syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue // a drill that runs, or none of ours
		}
		if err != nil {
			return err
		}
		// The lock file goes last: without it nobody would dare to remove the rest.
		work := filepath.Join(dir, workName)
		recovery.EndStrays(work)
		if err = errors.Join(recovery.RemoveSocket(work), os.RemoveAll(work)); err == nil {
			err = os.RemoveAll(dir)
		}
		if err = errors.Join(err, lock.Close()); err != nil {
			return err
		}
	}
	return nil
}
