package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrInUse is returned when a published file cannot be deleted because somebody reads it, or be read because it is being
// deleted.
var ErrInUse = errors.New("file is in use")

// OpenHeld opens a published file to read it. Until it is closed nobody deletes it ([HoldAlone]), in whichever process.
// Where the file system knows no such locks, it is merely opened. Errors: [ErrInUse], fs.ErrNotExist.
func OpenHeld(path string) (*os.File, error) {
	return openLocked(path, os.O_RDONLY, unix.LOCK_SH, true)
}

// HoldAlone opens a published file to delete it: nobody else reads it, and nobody begins to while it is open.
// Errors: [ErrInUse], fs.ErrNotExist, and where the file system knows no locks its error: nothing may be deleted there.
func HoldAlone(path string) (*os.File, error) {
	return openLocked(path, os.O_RDWR|unix.O_NOFOLLOW, unix.LOCK_EX, false) // some network file systems lock only what may be written
}

func openLocked(path string, flag, how int, anyway bool) (*os.File, error) {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	err = flock(f, how)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("lock %s: %w", path, ErrInUse)
	case err != nil && anyway:
		return f, nil
	case err != nil:
		err = fmt.Errorf("lock %s: %w", path, err)
	case !linked(f, path): // it went between the two
		err = &fs.PathError{Op: "lock", Path: path, Err: fs.ErrNotExist}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

// linked says whether path still is the open file.
func linked(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(open, there)
}
