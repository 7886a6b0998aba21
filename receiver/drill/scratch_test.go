package drill

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openScratch(t *testing.T, parent string) *Scratch {
	t.Helper()
	s, err := OpenScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// leave is what a killed drill leaves: its folder, a note of its socket's, and no lock.
func leave(t *testing.T, parent string) (s *Scratch, socket string) {
	t.Helper()
	s = openScratch(t, parent)
	socket = filepath.Join(t.TempDir(), "drydock-socket-x")
	mkdir(t, s.Folder())
	if err := errors.Join(os.WriteFile(filepath.Join(s.Folder(), "socket-folder"), []byte(mkdir(t, socket)), 0o600),
		os.WriteFile(filepath.Join(socket, "s"), nil, 0o600), s.lock.Close()); err != nil {
		t.Fatal(err)
	}
	return s, socket
}

// The scratch folder is named by an operator: what else lies in it may be the only copy of something.
func TestSweepingTakesNothingOfOthers(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	gone, socket := leave(t, parent)
	others := []string{
		mkdir(t, filepath.Join(parent, "2025-11-20")), mkdir(t, filepath.Join(parent, "999999")), mkdir(t, filepath.Join(parent, "drill-other")),
		mkdir(t, filepath.Join(parent, scratchRoot, "2025-11-20")), mkdir(t, filepath.Join(parent, scratchRoot, "drill-unlocked")),
	}
	live := openScratch(t, parent)
	next := openScratch(t, parent)
	for _, dir := range append(others, live.dir, next.dir) {
		if !exists(dir) {
			t.Errorf("%s is gone", dir)
		}
	}
	for _, dir := range []string{gone.dir, socket} {
		if exists(dir) {
			t.Errorf("%s, which a killed drill left, is still there", dir)
		}
	}
	if err := errors.Join(live.Close(), next.Close()); err != nil || exists(live.dir) || exists(next.dir) {
		t.Errorf("a closed folder is left: %v", err)
	}
}
