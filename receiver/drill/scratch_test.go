package drill

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
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

// leave is what a killed drill leaves: its folder, and no lock.
func leave(t *testing.T, parent string) (s *Scratch, socket string) {
	t.Helper()
	s = openScratch(t, parent)
	long := mkdir(t, filepath.Join(s.Folder(), strings.Repeat("x", maxSocketPath)))
	socket, err := socketFolder(long)
	if err != nil {
		t.Fatal(err)
	}
	// As if the drill's own folder were that deep.
	if err := os.Rename(filepath.Join(long, socketNote), filepath.Join(s.Folder(), socketNote)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(socket, socketName), nil, 0o600), s.lock.Close()); err != nil {
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

func TestANoteOfASocketIsNotTrustedWithATree(t *testing.T) {
	t.Parallel()
	dir := mkdir(t, filepath.Join(t.TempDir(), "drydock-drill-x"))
	kept := mkdir(t, filepath.Join(dir, "kept"))
	foreign := mkdir(t, filepath.Join(t.TempDir(), "foreign"))
	for _, noted := range []string{dir, foreign} {
		work := t.TempDir()
		if err := os.WriteFile(filepath.Join(work, socketNote), []byte(noted), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = removeSocket(work)
	}
	if !exists(kept) || !exists(foreign) {
		t.Error("a folder went that is none of the drill's")
	}
}
