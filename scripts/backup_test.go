package scripts

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"drydock/internal/freeport"
)

func TestBackupArrivesWholeThoughThePasswordIsHostile(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	m := newManager(t, oddPassword, db.Port(), true)
	c := newClient(t, m)
	m.offer("mariabackup", "01JOB", 2)
	c.mustCycle()

	end := m.last("mariabackup")
	if end.State != "done" {
		t.Fatalf("ended as %q: %+v\n%s", end.State, end.Identity, strings.Join(m.logLines(), "\n"))
	}
	stream := m.stream("mariabackup")
	if len(stream) < 1<<20 || end.Identity.Bytes == nil || *end.Identity.Bytes != int64(len(stream)) {
		t.Errorf("%d bytes arrived, reported %v", len(stream), end.Identity.Bytes)
	}
	if sum := Checksum([]byte(stream)); end.Identity.SHA256 != sum {
		t.Errorf("hash reported %q, want %q", end.Identity.SHA256, sum)
	}
	if !slices.Equal(end.Identity.Exit, []int{0, 0, 0}) || end.Identity.Job != "01JOB" || end.Identity.Attempt != 2 {
		t.Errorf("end %+v", end.Identity)
	}
	unpack(t, stream)
	lines := m.logLines()
	if !strings.HasPrefix(lines[0], "INFO Job mariabackup initiated. ") ||
		!slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, "completed OK!") }) ||
		lines[len(lines)-1] != "INFO Job mariabackup ended with state: Finished" {
		t.Errorf("log:\n%s", strings.Join(lines, "\n"))
	}
	states := view(m, func() (s []string) {
		for _, r := range m.reports {
			s = append(s, r.State)
		}
		return s
	})
	if !slices.Equal(states, []string{"processing", "done"}) {
		t.Errorf("states %v", states)
	}
}

// unpack proves the stream with mariabackup's own reader and its prepare step.
func unpack(t *testing.T, stream string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("mbstream", "-x", "-C", dir)
	cmd.Stdin = strings.NewReader(stream)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mbstream: %v\n%s", err, out)
	}
	if out, err := exec.Command("mariadb-backup", "--prepare", "--target-dir="+dir).CombinedOutput(); err != nil {
		t.Fatalf("prepare: %v\n%s", err, out)
	}
}

// stalledBackup starts a cycle whose backup blocks because the receiver does not read.
func stalledBackup(t *testing.T, m *manager, c *client) (interrupt func(), wait func() int) {
	t.Helper()
	m.set(func() { m.stall["mariabackup"] = true })
	m.offer("mariabackup", "STALL", 1)
	cmd, wait := c.start("--once")
	eventually(t, m, "backup blocks", func() bool {
		return c.process("--stream=xbstream") != 0 && slices.ContainsFunc(m.logLines(), func(l string) bool { return strings.Contains(l, "Connecting to") })
	})
	return func() { _ = cmd.Process.Signal(syscall.SIGTERM) }, wait
}

// lingering fails the test if the client left a process behind.
func lingering(t *testing.T, c *client) {
	t.Helper()
	eventually(t, c.m, "everything ends", func() bool { return len(c.processes()) == 0 })
}

func TestToolKilledMidStreamIsAnErrorWithItsExitCodes(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	m := newManager(t, oddPassword, db.Port(), true)
	c := newClient(t, m)
	_, wait := stalledBackup(t, m, c)
	if err := syscall.Kill(c.process("--stream=xbstream"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.release()
	if code := wait(); code != 0 {
		t.Errorf("cycle ended with status %d", code)
	}
	end := m.last("mariabackup")
	if end.State != "error" || len(end.Identity.Exit) != 3 || end.Identity.Exit[0] != 137 || !strings.Contains(end.Identity.Result, "exit status 137") {
		t.Errorf("ended as %+v", end)
	}
	lingering(t, c)
}

func TestBackupIsEndedWhenTheManagerSaysStop(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	m := newManager(t, oddPassword, db.Port(), true)
	c := newClient(t, m)
	_, wait := stalledBackup(t, m, c)
	m.set(func() { m.stop["mariabackup"] = true })
	wait()
	if end := m.last("mariabackup"); end.State != "error" || !strings.Contains(end.Identity.Result, "canceled by the manager") {
		t.Errorf("ended as %+v", end)
	}
	lingering(t, c)
}

func TestInterruptedScriptReportsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	m := newManager(t, oddPassword, db.Port(), true)
	c := newClient(t, m)
	interrupt, wait := stalledBackup(t, m, c)
	interrupt()
	wait()
	if end := m.last("mariabackup"); end.State != "error" || !strings.Contains(end.Identity.Result, "interrupted") {
		t.Errorf("ended as %+v", end)
	}
	lingering(t, c)
	if left, _ := filepath.Glob(filepath.Join(c.folder(), "work", "*")); len(left) > 0 {
		t.Errorf("left behind %v", left)
	}
}

// A tool that exits 0 without its last line has not made a backup.
func TestBackupWithoutItsLastLineIsAnError(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, freeport.Pick(t), false)
	c := newClient(t, m)
	c.fakeTool("mariadb-backup", `echo data; echo "Copying ./db/completed OK! .ibd" >&2`)
	m.offer("mariabackup", "B", 1)
	c.mustCycle()
	if end := m.last("mariabackup"); end.State != "error" || !strings.Contains(end.Identity.Result, "did not say") {
		t.Errorf("ended as %+v", end)
	}
}

// The secrets are the password and what the protocol makes of it.
func TestNoSecretIsVisibleWhileAJobRuns(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	m := newManager(t, oddPassword, db.Port(), true)
	c := newClient(t, m)
	audit := filepath.Join(filepath.Dir(c.state), "audit")
	for _, tool := range []string{"openssl", "socat", "timeout", "mariadb", "mariadb-backup", "sha256sum", "md5sum", "awk", "dd", "tail", "mv", "flock"} {
		real, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		// Most of these live for milliseconds, so each writes down itself what anybody could have seen of it.
		c.fakeTool(tool, fmt.Sprintf("{ printf '%%s ' %s \"$@\"; /usr/bin/env; } >>'%s'\nexec %s \"$@\"\n", tool, audit, real))
	}
	interrupt, wait := stalledBackup(t, m, c)
	secrets := []string{oddPassword, Checksum([]byte(oddPassword)), fmt.Sprintf("%x", md5.Sum([]byte(oddPassword)))}
	look := func(place string, text []byte) {
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) || bytes.Contains(bytes.ToLower(text), []byte(secret)) {
				t.Errorf("%s shows %.8s...", place, secret)
			}
		}
	}
	for _, line := range c.processes() {
		look("argv", []byte(line))
	}
	interrupt()
	files := 0
	check := func() {
		_ = filepath.WalkDir(filepath.Dir(c.state), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			files++
			if info, err := d.Info(); err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			text, _ := os.ReadFile(path)
			if filepath.Base(path) != "client.cnf" { // the option file has it: that is what it is for
				look(path, text)
			}
			return nil
		})
	}
	check()
	wait()
	check()
	if seen, _ := os.ReadFile(audit); files < 5 || bytes.Count(seen, []byte("openssl enc ")) < 3 || !bytes.Contains(seen, []byte("mariadb-backup --defaults-extra-file")) {
		t.Errorf("only %d files seen, %d bytes in the audit", files, len(seen))
	}
	if info, err := os.Stat(c.folder()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state folder: %v %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.folder(), "work", "*", "client.cnf")); len(left) > 0 {
		t.Errorf("left behind %v", left)
	}
	look("the log lines", []byte(strings.Join(m.logLines(), "\n")))
}
