package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/internal/bustest"
	"drydock/store"
)

// --scratch may name a folder full of dated backups.
func TestADrillLeavesOtherFoldersAlone(t *testing.T) {
	t.Parallel()
	scratch := t.TempDir()
	for _, name := range []string{"2025-11-20", "999999-old", "7"} {
		if err := os.MkdirAll(filepath.Join(scratch, name, "kept"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := Found{File: file, Manifest: store.Manifest{ID: "1", Task: "mariabackup", Compress: "none", Algo: "blake3", Hash: "x", Size: 5}}
	nothing := func(string) {}
	d, err := RunDrill(bustest.Context(t), found, DrillOptions{Scratch: scratch, Memory: 64 << 20, Step: nothing, Line: nothing})
	if err != nil || !strings.Contains(d.Problem, "does not restore") {
		t.Errorf("noise: %+v, %v", d, err)
	}
	for _, name := range []string{"2025-11-20", "999999-old", "7"} {
		if _, err := os.Stat(filepath.Join(scratch, name, "kept")); err != nil {
			t.Error(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(scratch, "drydock-drills", "drill-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("the drill left %v, %v", left, err)
	}
}
