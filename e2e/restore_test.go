package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/app"
	"drydock/internal/bustest"
)

// heldUnpacker is an mbstream that unpacks the first half of a megabyte and then waits for ever.
func heldUnpacker(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	real, err := exec.LookPath("mbstream")
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/bash\nhead -c 500000 | %q \"$@\"\n: >%q\nexec sleep 1000\n", real, filepath.Join(dir, "half"))
	if err := os.WriteFile(filepath.Join(dir, "mbstream"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A folder with a part of the data, taken for all of it, is worse than none.
func TestARestoreCutByKill9IsNeverTakenForOne(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{keys: `compress-backups = "zstd"`}).start()
	fill(t, s.servers[0], 4<<20)
	path, _ := s.goodBackup(s.host(0))
	id := s.manifest("mariabackup").ID
	dir := filepath.Join(t.TempDir(), "restored")
	to := []string{id, "--to-directory", dir}
	apply := append([]string{"restore", "apply", "--confirm", dir}, to...)

	held := heldUnpacker(t)
	cut := exec.CommandContext(t.Context(), binary, append(apply, "--config", s.toml)...)
	cut.Env = s.environ("PATH=" + held + ":" + os.Getenv("PATH"))
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, filepath.Join(held, "half"))
	if out, err := s.cli(append([]string{"restore", "plan"}, to...)...); err == nil || !strings.Contains(out, "under way") {
		t.Errorf("beside one that works: %v\n%s", err, out)
	}
	if err := cut.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cut.Wait()
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder is there")
	}
	// The kernel ends the held unpacker, and the lock goes with the process.
	bustest.Until(t, time.Minute, "the cut restore is seen", func() bool {
		out, err := s.cli(append([]string{"restore", "plan"}, to...)...)
		return err != nil && strings.Contains(out, "was cut off") && strings.Contains(out, "--clean")
	})
	if out, err := s.cli(apply...); err == nil || !strings.Contains(out, "nothing was changed") {
		t.Errorf("without --clean: %v\n%s", err, out)
	}
	if out, err := s.cli(append([]string{"restore", "apply", "--clean"}, to...)...); err == nil || !strings.Contains(out, "--confirm "+dir) {
		t.Errorf("without --confirm: %v\n%s", err, out)
	}
	t.Log(s.cli(append([]string{"restore", "plan", "--clean"}, to...)...))
	t.Log(s.mustCLI(append(apply, "--clean")...))
	if _, err := os.Stat(filepath.Join(dir, "ibdata1")); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("left beside it: %v, %v", entries, err)
	}
	if m := s.manifest("mariabackup"); len(m.Restores) != 1 || m.Restores[0].Directory != dir || m.Restores[0].By == "" {
		t.Errorf("who did what is not in the catalogue: %+v", m.Restores)
	}
	s.stop(syscall.SIGTERM)
	s.planWithoutBus(path, filepath.Join(t.TempDir(), "again"))
}

// planWithoutBus asks for the newest backup where no drydock runs, and from a copy of the folder where there is no configuration.
func (s *site) planWithoutBus(backup, dir string) {
	s.t.Helper()
	latest := []string{"restore", "plan", "--cluster", "lab", "--server", s.servers[0].Addr(), "--to-directory", dir, "-o", "json"}
	var p app.RestorePlan
	cmd := exec.CommandContext(s.t.Context(), binary, append(latest, "--config", s.toml)...)
	cmd.Env = s.environ()
	out, err := cmd.Output()
	if err = errors.Join(err, json.Unmarshal(out, &p)); err != nil || p.Refused() || p.Need == 0 || p.Free == nil || !strings.Contains(backup, p.Backup) {
		s.t.Errorf("%+v, %v\n%s", p, err, out)
	}
	copied := filepath.Join(s.t.TempDir(), "copy")
	if out, err := exec.CommandContext(s.t.Context(), "cp", "-r", filepath.Join(s.here, "Backups"), copied).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	out, err = exec.CommandContext(s.t.Context(), binary, append(latest, "--config", "/nowhere", "--folder", copied, "--key", filepath.Join(s.here, "manifest.pub"))...).Output()
	if err != nil || !json.Valid(out) {
		s.t.Errorf("without a configuration: %v\n%s", err, out)
	}
}
