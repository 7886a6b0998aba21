package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"drydock/job"
)

// program is one client program at work, in a process group of its own. It dies with drydock, whatever ends drydock.
type program struct {
	name   string
	said   *said
	done   chan struct{} // closed once the program has ended; nothing below is read before
	err    error
	status int // its exit status, -1 when a signal ended it
}

const programGrace = 10 * time.Second // for what a program left in its pipes after it was killed

// startProgram starts a program. When ctx ends its whole group is killed. What it writes to standard error goes to the
// job's log; the last lines are kept for the reason.
//
// The kernel sends the parent-death signal when the thread dies that forked, so the goroutine keeps its thread until the
// program has ended.
func (w *work) startProgram(ctx context.Context, dir, path string, args []string, stdin io.Reader, stdout io.Writer) (*program, error) {
	t := &program{name: filepath.Base(path), said: &said{lines: w.lines}, done: make(chan struct{})}
	t.said.name = t.name
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdin, stdout, t.said, programGrace
	cmd.Dir, cmd.Env = dir, environment(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	started := make(chan error) // one send, one receive
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		t.err = cmd.Wait()
		t.status = cmd.ProcessState.ExitCode()
		close(t.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return t, nil
}

// environment is what a program gets: nothing that could hold drydock's secrets, or change how it logs in.
func environment(home string) []string {
	out := []string{"HOME=" + home, "LC_ALL=C.UTF-8"}
	for _, name := range []string{"PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// wait waits for the end and says how it failed, with the program's last words.
func (t *program) wait() error {
	<-t.done
	if t.err == nil {
		return nil
	}
	if last := t.said.last(); last != "" {
		return fmt.Errorf("%s: %w: %s", t.name, t.err, last)
	}
	return fmt.Errorf("%s: %w", t.name, t.err)
}

// said takes what a program writes to standard error. Safe for concurrent use.
type said struct {
	name  string
	lines *lines

	mu   sync.Mutex
	part string   // of a line not ended yet
	kept []string // the last lines
}

const saidKept = 5

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part += string(p)
	for {
		line, rest, ok := strings.Cut(s.part, "\n")
		if !ok && len(s.part) < lineMax {
			return len(p), nil
		}
		if !ok {
			line, rest = s.part, ""
		}
		s.part = rest
		s.keep(line)
	}
}

func (s *said) keep(line string) {
	if line = strings.TrimSpace(line); line == "" {
		return
	}
	s.lines.add(levelWarn, s.name+": "+line)
	if s.kept = append(s.kept, line[:min(len(line), lineMax)]); len(s.kept) > saidKept {
		s.kept = s.kept[1:]
	}
}

func (s *said) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(s.part)
	s.part = ""
	return strings.Join(s.kept, " | ")
}

// desk is the private folder of one attempt of a job: option files with a password, unpacked backups.
type desk struct{ dir string }

// newDesk makes the folder. What a crash left there of an earlier attempt goes first.
func (w *work) newDesk() (desk, error) {
	if w.dir == "" {
		return desk{}, errors.New("no folder for the files of client programs is configured")
	}
	dir, err := filepath.Abs(filepath.Join(w.dir, w.job.ID)) // an id is letters and digits
	if err != nil {
		return desk{}, err
	}
	d := desk{dir}
	if err := os.RemoveAll(d.dir); err != nil {
		return desk{}, fmt.Errorf("clear the folder of an earlier attempt: %w", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return desk{}, fmt.Errorf("make a folder for the files of client programs: %w", err)
	}
	return d, nil
}

func (d desk) clear() error { return os.RemoveAll(d.dir) }

// optionFile writes how to reach a server, for --defaults-file: the password stands in no argument and no environment.
func (d desk) optionFile(name string, s job.Server, user, password string, further ...string) (string, error) {
	text := "[client]\nprotocol=tcp\nhost=" + optionValue(s.Host) + "\nport=" + strconv.Itoa(s.Port) +
		"\nuser=" + optionValue(user) + "\npassword=" + optionValue(password) + "\n" + strings.Join(further, "\n") + "\n"
	path := filepath.Join(d.dir, name+".cnf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write option file: %w", err)
	}
	return path, nil
}

// optionValue quotes a text as option files have it.
func optionValue(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(v) + `"`
}
