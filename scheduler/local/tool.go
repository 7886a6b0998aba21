package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"drydock/child"
	"drydock/store/attempt"
)

// Tool is a program on drydock's own host.
type Tool struct {
	Path    string   // empty: found by its name
	Options []string // further arguments
}

// Find is the program of Path, or else the first of names that the shell would find. key is named in the error.
func (t Tool) Find(key string, names ...string) (string, error) {
	if t.Path != "" {
		names = []string{t.Path}
	}
	for _, n := range names {
		if path, err := exec.LookPath(n); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("no program %s on drydock's host: install it or set %s", strings.Join(names, " or "), key)
}

// run is a program at work for a job.
type run struct {
	path string
	args []string
	dir  string   // its working folder and home: no option file of drydock's own user gets in the way
	in   *os.File // its standard input, nil for none
	out  io.Writer
	// lines takes what it writes to standard error, and to standard output where out is nil. secret never gets there.
	lines  *attempt.Lines
	secret string
	// stall, when it is not 0, is how long it may do nothing for the folder watched; it ends with [errStalled] then.
	stall   time.Duration
	watched string
}

const (
	sayings = 5 // of the last error lines, kept for the reason
	// drainTime is how long the output of a program that was ended may still be read.
	drainTime = 5 * time.Second
)

// do runs the program to its end. code is its exit status, 128 and the signal when one ended it. The error says so with
// its last words. When ctx ends, or out fails, its whole process group is killed.
func (r run) do(ctx context.Context) (code int, err error) {
	// The kernel ends it with drydock: that is bound to the thread which starts it, so this goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, r.path, r.args...)
	cmd.Dir, cmd.Env = r.dir, environment(r.dir)
	cmd.SysProcAttr = child.Attr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drainTime
	if r.in != nil {
		cmd.Stdin = r.in
	}
	said := &saying{lines: r.lines, secret: r.secret}
	cmd.Stderr, cmd.Stdout = said, said
	var failed error
	if r.out != nil {
		cmd.Stdout = writerFunc(func(b []byte) (int, error) {
			n, err := r.out.Write(b)
			if err != nil && failed == nil {
				failed = err
				cancel(err) // nobody reads it any more
			}
			return n, err
		})
	}
	if err = cmd.Start(); err == nil {
		stop := r.watch(ctx, cmd.Process.Pid, cancel)
		err = cmd.Wait()
		stop()
	}
	said.end()
	if cmd.ProcessState != nil {
		code = statusOf(cmd.ProcessState)
	}
	switch {
	case failed != nil:
		return code, failed
	case err != nil && errors.Is(context.Cause(ctx), errStalled):
		return code, errStalled
	case err == nil:
		return code, nil
	case cmd.ProcessState == nil:
		return -1, fmt.Errorf("start %s: %w", filepath.Base(r.path), err)
	case code == 0: // it ended well, but what it wrote could not be read to the end
		return code, fmt.Errorf("read the output of %s: %w", filepath.Base(r.path), err)
	}
	return code, said.failure(filepath.Base(r.path), code)
}

// watch begins to look for a stall, if there is a limit; stop ends that and waits for it.
func (r run) watch(ctx context.Context, pid int, end context.CancelCauseFunc) (stop func()) {
	if r.stall <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { watchStall(ctx, r.watched, pid, r.stall, end) })
	return func() {
		cancel()
		watcher.Wait()
	}
}

func statusOf(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// environment is what a tool gets: nothing that could hold drydock's secrets, or change how a database client logs in.
func environment(home string) []string {
	out := []string{"HOME=" + home, "LC_ALL=C.UTF-8"}
	for _, name := range []string{"PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// saying passes the words of a tool on as log lines, and keeps its last complaints. Safe for concurrent use.
type saying struct {
	lines  *attempt.Lines
	secret string

	mu   sync.Mutex
	rest []byte
	bad  []string // the last error lines
	last string   // the last line of any kind
}

const maxSaid = 2000 // bytes of a line

func (s *saying) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, b...)
	for {
		advance, line, _ := bufio.ScanLines(s.rest, false) // never fails
		if advance == 0 {
			break
		}
		s.line(string(line))
		s.rest = s.rest[advance:]
	}
	if len(s.rest) > maxSaid { // no line: nothing may grow without bounds
		s.line(string(s.rest))
		s.rest = nil
	}
	return len(b), nil
}

// end takes in a last line without its line feed.
func (s *saying) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(string(s.rest))
	s.rest = nil
}

var (
	errorWords   = regexp.MustCompile(`CRITICAL|(?i:\berror\b)|^\S*(?:mysqldump|mariadb-dump): (?:Couldn't|Got)`)
	warningWords = regexp.MustCompile(`(?i)\bwarning\b`)
)

func (s *saying) line(text string) {
	text = strings.TrimRight(text, "\r ")
	if text == "" {
		return
	}
	if s.secret != "" {
		text = strings.ReplaceAll(text, s.secret, "***")
	}
	level := attempt.Info
	switch {
	case errorWords.MatchString(text):
		level = attempt.Error
		s.bad = append(s.bad, text)
		s.bad = s.bad[max(0, len(s.bad)-sayings):]
	case warningWords.MatchString(text):
		level = attempt.Warn
	}
	s.last = text
	s.lines.Add(level, text)
}

// failure is how a tool ended, with its last error lines or else its last line.
func (s *saying) failure(name string, code int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%s ended with exit status %d", name, code)
	if code > 128 {
		text = fmt.Sprintf("%s was ended by signal %d", name, code-128)
	}
	said := strings.Join(s.bad, "; ")
	if said == "" {
		said = s.last
	}
	if said != "" {
		text += ": " + said[:min(len(said), maxSaid)]
	}
	return errors.New(text)
}
