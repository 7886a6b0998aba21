package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"drydock/job"
)

// harmful puts a tool of this name before the real one in the script's PATH. In body, $real is the real one.
func (h *host) harmful(t *testing.T, name, body string) {
	t.Helper()
	real, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/bash\nreal="+real+"\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
}

// A backup is called good when every ingredient of its proof is there, never because one of them looks well. Each is taken
// away alone, from a backup that a real tool sends by a real socat to a real receiver: the job must fail by that one, and
// the good backup stay as it is. (The tool killed in mid-stream: TestToolKilledInMidStreamIsNotABackup; the disk full:
// TestFullDiskFailsTheJobAndKeepsTheOldBackup.)
func TestWithoutOneIngredientNothingIsASuccess(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api", keys: `backup-min-size-ratio = "0.9"`}).start()
	fill(t, s.servers[0], 4<<20)
	h := s.host(0)
	h.env = nil
	path, content := s.goodBackup(h)

	const backup = `case " $* " in *" --stream="*) ;; *) exec "$real" "$@" ;; esac` + "\n"
	const stream = `case " $* " in *" -b 1048576 "*) ;; *) exec "$real" "$@" ;; esac` + "\n"
	for _, c := range []struct{ what, tool, body, reason string }{
		{"the tool's exit status", "mariadb-backup", backup + `"$real" "$@"; exit 3`, "exit status 3"},
		{"socat's exit status", "socat", stream + `"$real" "$@"; exit 4`, "exit status"},
		{"the end line", "mariadb-backup", backup + `"$real" "$@" 2> >(sed "s/completed OK!/completed/" >&2)`, "did not say that it completed"},
		{"bytes on their way", "socat", stream + `"$real" "$@" 2> >(sed "s/I transferred /&1/" >&2)`, "bytes: sent "},
		{"the end of the stream", "mariadb-backup", backup + `"$real" "$@" | head -c -3000; exit "${PIPESTATUS[0]}"`, "format: "},
		{"a bit on its way", "socat", stream + `perl -e 'binmode STDIN; binmode STDOUT; while (sysread STDIN, $b, 65536) {
			substr($b, 3000000 - $n, 1) ^= "\x01" if $n <= 3000000 && $n + length $b > 3000000; $n += length $b; print $b }' | "$real" "$@"`,
			"hash of the sent bytes differs"},
		{"half of the data", "", "", "size bounds: "},
	} {
		h.env = nil
		if c.tool == "" {
			query(t, s.servers[0], "DROP DATABASE shop")
		} else {
			h.harmful(t, c.tool, c.body)
		}
		id := s.run("mariabackup")
		s.awaitState(id, "mariabackup", job.Available)
		out := h.cycle()
		j := s.awaitEnd(id, "mariabackup")
		if said := j.Reason + steps(j); j.State != job.Failed && j.State != job.Halted || !strings.Contains(said, c.reason) {
			t.Errorf("without %s: the job is %s (%s), want it to name %q\n%s", c.what, j.State, said, c.reason, out)
		}
		s.await("mariabackup", "cleaned up", func(job.Job) bool {
			left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.part"))
			return len(left) == 0
		})
		s.intact(path, content)
	}
}
