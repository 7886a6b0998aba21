package drill

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
	socketNote    = "socket-folder"
	socketName    = "s"
	maxSocketPath = 107
)

// OpenScratch makes a folder for a drill below parent and removes what drills left there that are gone. All it touches is in
// a subfolder of its own.
func OpenScratch(parent string) (*Scratch, error) {
	root := filepath.Join(parent, scratchRoot)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the drills: %w", err)
	}
	// The root is locked meanwhile, so that nobody sweeps a folder between its lock file and its lock.
	gate, err := lockFile(filepath.Join(root, lockName), os.O_CREATE, syscall.LOCK_EX)
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
	lock, err := lockFile(filepath.Join(dir, lockName), os.O_CREATE, syscall.LOCK_EX|syscall.LOCK_NB)
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

// lockFile opens a file and takes its lock. Errors: [syscall.EWOULDBLOCK], [fs.ErrNotExist].
func lockFile(path string, open, how int) (*os.File, error) {
	f, err := os.OpenFile(path, open|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep removes the folders whose drill is gone. Their processes died with it.
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
		lock, err := lockFile(filepath.Join(dir, lockName), 0, syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue // a drill that runs, or none of ours
		}
		if err != nil {
			return err
		}
		// The lock file goes last: without it nobody would dare to remove the rest.
		work := filepath.Join(dir, workName)
		if err = errors.Join(removeSocket(work), os.RemoveAll(work)); err == nil {
			err = os.RemoveAll(dir)
		}
		if err = errors.Join(err, lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// socketFolder is where the scratch server's socket lies: in work when its path fits, otherwise in a folder of its own, which is
// noted in work before it is made.
func socketFolder(work string) (string, error) {
	if len(filepath.Join(work, socketName)) <= maxSocketPath {
		return work, nil
	}
	dir := filepath.Join(os.TempDir(), "drydock-drill-"+rand.Text()[:12])
	if err := os.WriteFile(filepath.Join(work, socketNote), []byte(dir), 0o600); err != nil {
		return "", fmt.Errorf("note the socket's folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the socket's folder: %w", err)
	}
	return dir, nil
}

// removeSocket removes the socket's folder that is noted in work. It takes the server's two files and no more: what the note
// says is not trusted with a whole tree.
func removeSocket(work string) error {
	note, err := os.ReadFile(filepath.Join(work, socketNote))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := string(note)
	if !strings.HasPrefix(filepath.Base(dir), "drydock-drill-") {
		return nil
	}
	for _, path := range []string{filepath.Join(dir, socketName), filepath.Join(dir, socketName+".lock"), dir} { // MySQL locks its socket
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
