package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// workspace is the folder in which the tools of one runner work: dumps that are made, and the option files that tell the
// tools the password. A runner has a folder of its own in it, under a lock, so that another process can tell what a
// killed one left.
type workspace struct {
	dir  string   // of this runner
	lock *os.File // held while the runner lives
}

const lockName = ".lock"

// openWorkspace makes the folder of this runner in root and removes what runners that are gone left there.
func openWorkspace(root string) (*workspace, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("create the work folder: %w", err)
	}
	// The root is locked meanwhile: a folder that was just made and not locked yet looks like one that was left.
	gate, err := os.OpenFile(filepath.Join(root, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the work folder: %w", err)
	}
	defer func() { _ = gate.Close() }()
	if err := syscall.Flock(int(gate.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock the work folder: %w", err)
	}
	if err := sweep(root); err != nil {
		return nil, fmt.Errorf("clear the work folder: %w", err)
	}
	dir, err := os.MkdirTemp(root, "runner-")
	if err != nil {
		return nil, fmt.Errorf("create the work folder: %w", err)
	}
	w := &workspace{dir: dir}
	if w.lock, err = lockOf(dir); err != nil {
		return nil, fmt.Errorf("lock the work folder: %w", err)
	}
	return w, nil
}

// lockOf takes the lock of a runner's folder. Errors: [syscall.EWOULDBLOCK] when its runner lives.
func lockOf(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sweep removes the folders whose runner is gone.
func sweep(root string) error {
	left, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range left {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), "runner-") {
			continue
		}
		dir := filepath.Join(root, e.Name())
		lock, err := lockOf(dir)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = os.RemoveAll(dir)
		_ = lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// folder makes a private folder for one attempt of a job; remove takes it away with all that is in it.
func (w *workspace) folder(run string) (dir string, remove func() error, err error) {
	dir = filepath.Join(w.dir, run)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("create a folder for the dump: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// close removes the runner's folder.
func (w *workspace) close() error {
	return errors.Join(os.RemoveAll(w.dir), w.lock.Close())
}

// writeOptionFile writes how a client logs in, readable by this user only: the one way by which no password shows in a
// process list. localhost would mean a socket to the client library, and another server perhaps. further are lines of the
// same group.
func writeOptionFile(path, host string, port int, user, password string, further ...string) error {
	if strings.ContainsAny(user+password, "\r\n\x00") {
		return errors.New("a user or password with a line break cannot be written into an option file")
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	text := fmt.Sprintf("[client]\nuser=\"%s\"\npassword=\"%s\"\nhost=\"%s\"\nport=%d\nprotocol=tcp\n",
		quoted.Replace(user), quoted.Replace(password), quoted.Replace(host), port)
	for _, line := range further {
		text += line + "\n"
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the option file: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the option file: %w", err)
	}
	return nil
}
