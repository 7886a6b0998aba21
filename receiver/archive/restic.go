package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// What restic says when it fails, as far as it makes a difference.
var (
	// errLocked: another restic works on the repository, or one died there.
	errLocked = errors.New("the repository is locked")
	// errAbsent: the place can be reached, and there is no repository.
	errAbsent = errors.New("there is no repository")
	// errExists: there is one already, so none is made.
	errExists = errors.New("there is a repository already")
	// errIncomplete: a snapshot was made without all of its files.
	errIncomplete = errors.New("the snapshot is incomplete")
)

// signatures tell these errors by restic's words. Unreachable is not absent: only the words of the backends for a file
// that does not exist are, said about the repository's own.
var signatures = []struct {
	err   error
	words *regexp.Regexp
}{
	{errLocked, regexp.MustCompile(`repository is already locked`)},
	{errExists, regexp.MustCompile(`config file already exists`)},
	{errAbsent, regexp.MustCompile(`unable to open config file: [^\n]*(no such file or directory|does not exist)`)},
}

// exitIncomplete is restic's status for a snapshot without all of its files.
const exitIncomplete = 3

const (
	stopPatience = 20 * time.Second // from the interrupt, by which restic takes its lock away, to the end by force
	saidMost     = 8 << 10          // bytes kept of what restic says on its standard error
	lineMost     = 1 << 20
)

// restic runs the tool on one repository.
type restic struct{ Repository }

// run calls restic and gives each line of its output to line, which may be nil. An error says what restic said last,
// without secrets.
func (x restic) run(ctx context.Context, line func([]byte), args ...string) error {
	return x.call(ctx, func(out io.Reader) { each(out, line) }, args...)
}

// call is like run for a reader of the whole output; what read leaves of it is thrown away, because restic must not be
// stopped by a full pipe.
func (x restic) call(ctx context.Context, read func(out io.Reader), args ...string) error {
	// The process is to die with this one, not to go on beside the next. That is bound to the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, x.Binary, append(x.flags(), args...)...)
	cmd.Env = x.environ()
	cmd.SysProcAttr = dieWithParent()
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = stopPatience
	said := &tail{}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run restic %s: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run restic %s (see backup-restic-binary-path): %w", args[0], err)
	}
	read(out)
	_, _ = io.Copy(io.Discard, out)
	err = cmd.Wait()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("run restic %s: %w", args[0], context.Cause(ctx))
	}
	return x.failure(args[0], err, said.text())
}

// each gives every line to line, up to one that is too long.
func each(out io.Reader, line func([]byte)) {
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, lineMost)
	for sc.Scan() {
		if line != nil {
			line(sc.Bytes())
		}
	}
}

func (x restic) failure(command string, err error, said string) error {
	kind := err
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitIncomplete {
		kind = errIncomplete
	}
	for _, s := range signatures {
		if s.words.MatchString(said) {
			kind = s.err
			break
		}
	}
	return fmt.Errorf("restic %s: %w: %s", command, kind, x.redact(oneLine(said)))
}

// oneLine makes a reason of what restic said: the fatal line and what follows it, or else the last lines.
func oneLine(said string) string {
	const most = 4
	lines := strings.FieldsFunc(said, func(r rune) bool { return r == '\n' || r == '\r' })
	fatal := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Fatal: ") })
	if fatal < 0 {
		fatal = max(0, len(lines)-most)
	}
	lines = lines[fatal:]
	return strings.Join(lines[:min(most, len(lines))], "; ")
}

// tail keeps the end of what is written to it. Safe for one writer and one reader at a time.
type tail struct {
	mu  sync.Mutex
	end []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	if over := len(t.end) - saidMost; over > 0 {
		t.end = append([]byte(nil), t.end[over:]...)
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.end))
}

const lockPause = 10 * time.Second

// unlocked calls f until no lock is in its way. Locks of processes that are no more are taken away by `restic unlock`,
// which leaves the others; those are waited for, and told of through waiting.
func (x restic) unlocked(ctx context.Context, waiting func(reason string), f func() error) error {
	for healed := false; ; {
		err := f()
		if !errors.Is(err, errLocked) {
			return err
		}
		if !healed {
			healed = true
			if err := x.run(ctx, nil, "unlock"); err != nil {
				return err
			}
			continue
		}
		waiting("waits for another restic: " + err.Error())
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(lockPause):
		}
		healed = false // who held it may have died meanwhile
	}
}
