package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
)

// slowTool puts a mariadb-backup in the script's PATH that writes the real backup's first bytes and then holds until
// the file `go` appears; then it goes on with exit status `code`, or dies if the file `die` appears.
func (h *host) slowTool(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	tool := `#!/bin/bash
# Runs the real tool, but lets a test stop the stream in its middle.
real=$(PATH=${PATH#*:} command -v mariadb-backup)
case " $* " in *" --stream="*) ;; *) exec "$real" "$@" ;; esac
d=` + dir + `
fifo=$d/fifo.$$; mkfifo "$fifo"
"$real" "$@" > "$fifo" & pid=$!
{ head -c 1000000; : > "$d/half"; while [ ! -e "$d/go" ] && [ ! -e "$d/die" ]; do sleep 0.05; done
  if [ -e "$d/die" ]; then kill -9 "$pid"; kill -9 $$; fi; cat; } < "$fifo"
wait "$pid"
`
	for _, name := range []string{"mariadb-backup", "mariabackup"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.env = append(h.env, "PATH="+dir+":"+os.Getenv("PATH"))
	return dir
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	bustest.Until(t, 60*time.Second, path+" is there", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// goodBackup makes one proven backup and returns its path and content.
func (s *site) goodBackup(h *host) (path string, content []byte) {
	s.t.Helper()
	id := s.run("mariabackup")
	s.awaitState(id, "mariabackup", job.Available)
	out := h.cycle()
	j := s.awaitEnd(id, "mariabackup")
	if j.State != job.Success {
		s.t.Fatalf("the first backup is %s (%s)\n%s", j.State, j.Reason, out)
	}
	content, err := os.ReadFile(j.Stream.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.besides(j.Stream.Path)
	return j.Stream.Path, content
}

// intact checks that the previous backup is as it was and that nothing else pretends to be one.
func (s *site) intact(path string, content []byte) {
	s.t.Helper()
	now, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(now, content) {
		s.t.Errorf("the previous backup was touched: %v", err)
	}
	if all := s.backups(); len(all) != 1 {
		s.t.Errorf("%d files pretend to be backups: %v", len(all), all)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.part"))
	if len(left) > 0 {
		s.t.Errorf("left over: %v", left)
	}
}

func TestToolKilledInMidStreamIsNotABackup(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, options{mode: mode}).start()
			fill(t, s.servers[0], 5<<20)
			h := s.host(0)
			path, content := s.goodBackup(h)

			dir := h.slowTool(t)
			id := s.run("mariabackup")
			s.awaitState(id, "mariabackup", job.Available)
			h.background("--once")
			awaitFile(t, filepath.Join(dir, "half"))
			touch(t, filepath.Join(dir, "die"))
			j := s.awaitEnd(id, "mariabackup")
			if j.State != job.Halted && j.State != job.Failed {
				t.Errorf("the job is %s (%s)", j.State, j.Reason)
			}
			if j.Reason == "" {
				t.Error("no reason is given")
			}
			s.await("mariabackup", "cleaned up", func(job.Job) bool {
				left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.part"))
				return len(left) == 0
			})
			s.intact(path, content)
		})
	}
}

// TestDrydockKilledInEachState kills -9 and starts again while a job is in each of its states.
func TestDrydockKilledInEachState(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		for _, state := range []string{"queued", "available", "processing", "streaming", "finished", "success"} {
			t.Run(mode+"/"+state, func(t *testing.T) {
				t.Parallel()
				killedIn(t, mode, state)
			})
		}
	}
}

func killedIn(t *testing.T, mode, state string) {
	s := newSite(t, options{mode: mode}).start()
	fill(t, s.servers[0], 2<<20)
	h := s.host(0)
	task := "mariabackup"
	if state == "processing" {
		task = "optimize" // a running job without a stream is followed on, not halted
	}
	switch state {
	case "queued":
		// Without gateway and receiver nobody takes the job on.
		s.stop(syscall.SIGTERM)
		s.start("--roles", "scheduler")
		id := s.run(task)
		s.awaitState(id, task, job.Queued)
		s.killAndStart()
		s.awaitState(id, task, job.Available)
		h.cycle()
		s.mustSucceed(id, task)
	case "available":
		id := s.run(task)
		before := s.awaitState(id, task, job.Available)
		s.killAndStart()
		after := s.awaitState(id, task, job.Available)
		if mode == "sql" && after.Dispatch.Port != before.Dispatch.Port {
			t.Errorf("the row says port %d, drydock listens on %d", before.Dispatch.Port, after.Dispatch.Port)
		}
		h.cycle()
		s.mustSucceed(id, task)
	case "processing":
		gate := h.slowOptimize(t)
		id := s.run(task)
		s.awaitState(id, task, job.Available)
		h.background("--once")
		s.awaitState(id, task, job.Processing)
		s.killAndStart()
		touch(t, gate)
		s.mustSucceed(id, task)
	case "streaming":
		dir := h.slowTool(t)
		id := s.run(task)
		s.awaitState(id, task, job.Available)
		h.background("--once")
		awaitFile(t, filepath.Join(dir, "half"))
		s.killAndStart()
		touch(t, filepath.Join(dir, "go"))
		j := s.awaitEnd(id, task)
		if j.State != job.Halted && j.State != job.Failed {
			t.Errorf("a job whose stream was cut is %s (%s)", j.State, j.Reason)
		}
		// The receiver ends the job first, then removes what came of its stream.
		bustest.Until(t, 20*time.Second, "a cut stream leaves no file", func() bool { return len(s.backups()) == 0 })
	case "finished":
		// Without a scheduler nobody checks what the script reports as done.
		id := s.run(task)
		s.awaitState(id, task, job.Available)
		s.stop(syscall.SIGTERM)
		s.start("--roles", "gateway,receiver")
		h.cycle()
		s.awaitState(id, task, job.Finished)
		s.killAndStart()
		s.mustSucceed(id, task)
	case "success":
		id := s.run(task)
		s.awaitState(id, task, job.Available)
		h.cycle()
		s.mustSucceed(id, task)
		s.killAndStart()
		if list := s.mustCLI("jobs"); !strings.Contains(list, id) || !strings.Contains(list, "success") {
			t.Errorf("after the restart the history is\n%s", list)
		}
		h.cycle()
	}
	if list := s.mustCLI("jobs", "-o", "json"); strings.Count(list, `"task": "`+task+`"`) != 1 {
		t.Errorf("one request made other than one job:\n%s", list)
	}
}

func (s *site) mustSucceed(id, task string) {
	s.t.Helper()
	if j := s.awaitEnd(id, task); j.State != job.Success {
		s.t.Fatalf("%s is %s (%s), steps %+v", task, j.State, j.Reason, j.Steps)
	}
}

// slowOptimize puts a mariadb-check in the script's PATH that waits for the returned file before the real work.
func (h *host) slowOptimize(t *testing.T) (gate string) {
	t.Helper()
	dir := t.TempDir()
	gate = filepath.Join(dir, "go")
	tool := `#!/bin/bash
while [ ! -e ` + gate + ` ]; do sleep 0.05; done
PATH=${PATH#*:} exec "${0##*/}" "$@"
`
	for _, name := range []string{"mariadb-check", "mysqlcheck"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.env = append(h.env, "PATH="+dir+":"+os.Getenv("PATH"))
	return gate
}

func TestFullDiskFailsTheJobAndKeepsTheOldBackup(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api"})
	for _, dir := range s.receivers() {
		mountSmall(t, filepath.Join(dir, "Backups"), "40m") // more than the second is expected to take, less than it will
	}
	s.start()
	h := s.host(0)
	path, content := s.goodBackup(h)
	fill(t, s.servers[0], 40<<20)
	id := s.run("mariabackup")
	s.awaitState(id, "mariabackup", job.Available)
	h.cycle()
	j := s.awaitEnd(id, "mariabackup")
	if j.State != job.Halted && j.State != job.Failed || !strings.Contains(j.Reason+steps(j), "no space left") {
		t.Errorf("the job is %s (%s) %s", j.State, j.Reason, steps(j))
	}
	s.intact(path, content)
	s.awaitAlert("WARN0100", true)
}

func steps(j job.Job) (all string) {
	for _, s := range j.Steps {
		all += string(s.State) + ": " + s.Reason + "; "
	}
	return all
}

// mountSmall mounts a small file system of its own; tests that need one run as root, as CI does.
func mountSmall(t *testing.T, dir, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=0700,size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a small tmpfs (run the tests as root): %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
}

func TestTwoSchedulersStartEachTickOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api", keys: `
monitoring-scheduler = true
scheduler-db-servers-optimize = true
scheduler-db-servers-optimize-cron = "* * * * * *"
`}).start()
	second := s.another("scheduler")
	h := s.host(0)
	h.background("--loop", "1")
	s.await("optimize", "three jobs on", func(j job.Job) bool {
		return strings.Count(s.mustCLI("ticks", "--limit", "1000", "-o", "json"), `"fired"`) >= 6
	})
	second.stop(syscall.SIGTERM)
	s.checkTicksOnce()
}
