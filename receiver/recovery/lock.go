package recovery

import (
	"errors"
	"os"
	"syscall"
)

// Lock opens a file and takes its lock. Errors: [syscall.EWOULDBLOCK], [fs.ErrNotExist].
func Lock(path string, open, how int) (*os.File, error) {
	f, err := os.OpenFile(path, open|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
