package recovery

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	socketNote    = "socket-folder"
	socketPrefix  = "drydock-socket-"
	socketName    = "s"
	maxSocketPath = 107
)

// socketFolder is where the private server's socket lies: in work when its path fits, otherwise in a folder of its own, which is
// noted in work before it is made.
func socketFolder(work string) (string, error) {
	if len(filepath.Join(work, socketName)) <= maxSocketPath {
		return work, nil
	}
	dir := filepath.Join(os.TempDir(), socketPrefix+rand.Text()[:12])
	if err := os.WriteFile(filepath.Join(work, socketNote), []byte(dir), 0o600); err != nil {
		return "", fmt.Errorf("note the socket's folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the socket's folder: %w", err)
	}
	return dir, nil
}

// RemoveSocket removes the socket's folder that is noted in work. It takes the server's two files and no more: what the note
// says is not trusted with a whole tree.
func RemoveSocket(work string) error {
	note, err := os.ReadFile(filepath.Join(work, socketNote))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := string(note)
	if !strings.HasPrefix(filepath.Base(dir), socketPrefix) {
		return nil
	}
	for _, path := range []string{filepath.Join(dir, socketName), filepath.Join(dir, socketName+".lock"), dir} { // MySQL locks its socket
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
