package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// heldRestic is a restic that holds before its backup until the file `go` appears, and leaves its arguments and
// environment in the file `calls`.
func heldRestic(t *testing.T) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "restic")
	text := `#!/bin/bash
d=` + dir + `
{ echo "ARGS $*"; env; } >> "$d/calls"
case "$1" in backup) : > "$d/begun"; while [ ! -e "$d/go" ]; do sleep 0.05; done ;; esac
exec restic "$@"
`
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// archiveKeys switch the archive on.
func archiveKeys(dir, binary, secret string) string {
	return fmt.Sprintf("backup-restic = true\nbackup-restic-binary-path = %q\nbackup-restic-repository = %q\nbackup-restic-password = %q\n",
		binary, filepath.Join(dir, "repo"), secret)
}

func TestKilledInItsArchiveABackupIsArchivedOnce(t *testing.T) {
	t.Parallel()
	const secret = "archive-secret-of-this-test"
	dir, binary := heldRestic(t)
	s := newSite(t, options{})
	s.start()
	path, content := s.goodBackup(s.host(0))
	s.stop(syscall.SIGKILL) // after the success; nobody has ordered an archive yet
	text, err := os.ReadFile(s.toml)
	if err == nil {
		err = os.WriteFile(s.toml, append(text, archiveKeys(dir, binary, secret)...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	awaitFile(t, filepath.Join(dir, "begun"))
	first := s.await("archive", "processing", func(j job.Job) bool { return j.State == job.Processing })
	s.stop(syscall.SIGKILL) // in the middle of the archive
	touch(t, filepath.Join(dir, "go"))
	s.start()
	j := s.await("archive", "success", func(j job.Job) bool { return j.State == job.Success })
	if j.Run() == first.Run() || j.Mode != job.ByReceiver || j.Args["backup"] != first.Args["backup"] {
		t.Errorf("the archive is %s in mode %s of %v; the one that was killed is %s", j.Run(), j.Mode, j.Args, first.Run())
	}
	list := s.archived(dir, secret)
	if len(list) != 1 {
		t.Fatalf("%d snapshots", len(list))
	}
	to := t.TempDir()
	s.restic(dir, secret, "restore", list[0], "--target", to)
	restored, err := os.ReadFile(filepath.Join(to, path))
	if err != nil || !bytes.Equal(restored, content) {
		t.Errorf("the restored backup is another one: %v", err)
	}
	s.intact(path, content)
	if out := s.mustCLI("backups"); !strings.Contains(out, list[0][:8]) {
		t.Errorf("backups does not show snapshot %s:\n%s", list[0], out)
	}
	for _, task := range []string{"archiveprune", "archivecheck"} {
		s.mustCLI("run", "lab", task, "--wait")
	}
	if len(s.archived(dir, secret)) != 1 {
		t.Error("the prune forgot the only archive")
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(calls), "\n") {
		if strings.Contains(line, secret) && line != "RESTIC_PASSWORD="+secret {
			t.Errorf("the password stands in %q", line)
		}
		if strings.HasPrefix(line, "DRYDOCK_") {
			t.Errorf("restic was given %q", line)
		}
	}
	if strings.Contains(s.proc.log.text(), secret) {
		t.Error("the password is in the log")
	}
}

// archived are the snapshots in the repository.
func (s *site) archived(dir, secret string) (ids []string) {
	s.t.Helper()
	var list []struct{ ID string }
	if err := json.Unmarshal(s.restic(dir, secret, "snapshots", "--json", "--no-lock"), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, x := range list {
		ids = append(ids, x.ID)
	}
	return ids
}

// restic runs the tool as a person would.
func (s *site) restic(dir, secret string, args ...string) []byte {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "restic", args...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+secret, "RESTIC_REPOSITORY="+filepath.Join(dir, "repo"), "RESTIC_CACHE_DIR="+filepath.Join(dir, "cache"))
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("restic %v: %v", args, err)
	}
	return out
}

func TestFailedArchiveLeavesTheBackupAndOpensACondition(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := exec.Command("env", "RESTIC_PASSWORD=right", "restic", "init", "-r", filepath.Join(dir, "repo")).Run(); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, options{keys: archiveKeys(dir, "restic", "not-the-one")}).start()
	path, content := s.goodBackup(s.host(0))
	j := s.await("archive", "halted", func(j job.Job) bool { return j.State == job.Halted })
	if !strings.Contains(j.Reason, "wrong password") {
		t.Errorf("the reason is %q", j.Reason)
	}
	s.intact(path, content)
	s.awaitAlert("DOCK0202", true)
	if out, _ := s.cli("check"); !strings.Contains(out, "wrong password") {
		t.Errorf("check says:\n%s", out)
	}
	s.stop(syscall.SIGTERM)
	text, err := os.ReadFile(s.toml)
	if err == nil {
		err = os.WriteFile(s.toml, bytes.Replace(text, []byte(`"not-the-one"`), []byte(`"right"`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	s.await("archive", "success", func(j job.Job) bool { return j.State == job.Success })
	list, err := store.NewCatalog(s.bus()).List(bustest.Context(t), "lab", s.server())
	if err != nil || len(list) != 1 || len(list[0].Archives) != 1 {
		t.Errorf("the catalogue has %+v: %v", list, err)
	}
	s.awaitAlert("DOCK0202", false)
}
