package recovery

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrMissing is a tool that is not on this machine, which says nothing about a backup.
var ErrMissing = errors.New("is not installed on the receiver's host")

// Look finds a program, also where daemons lie.
func Look(name string) (string, error) {
	for _, path := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name, "/usr/libexec/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s %w", name, ErrMissing)
}

// command is a program that is run here; a gentle one comes behind everybody else who wants the processor or the disk.
func (c *Copy) command(path string, args ...string) *exec.Cmd {
	if c.cfg.Gentle {
		path, args = "nice", append([]string{"-n", "10", path}, args...)
		if ionice, err := exec.LookPath("ionice"); err == nil {
			path, args = ionice, append([]string{"-c", "3", "nice"}, args...)
		}
	}
	cmd := exec.Command(path, args...)
	// A MariaDB server that starts deletes what looks like a server's leavings in its temporary folder, which would be /tmp for the one
	// in mariadb-install-db: other servers delete there what it works with.
	cmd.Env = append(Environment(), "HOME="+c.cfg.Folder, "TMPDIR="+c.tmp())
	return cmd
}

// Environment is what a tool gets of drydock's own, without a home: nothing that may hold a password (`env:NAME` in the
// configuration), or lead the tool to another server.
func Environment() (env []string) {
	for _, name := range []string{"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// process is a running program and whoever waits for it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and what it said was read
	err  error         // how it ended; read after done

	mu    sync.Mutex
	last  []string // what it said last
	fault string   // the first line that tells of an error: mariadb-install-db goes on to advice of a general kind
}

// What is kept of what a program says, for its error: a line may hold a row of a table.
const (
	lastLines = 5
	maxSaid   = 500 // bytes
)

// faulty is how the tools of MariaDB and MySQL begin to tell of an error.
var faulty = regexp.MustCompile(`(?i)\[ERROR\]|^(fatal )?error\b`)

// spawn starts cmd in a process group of its own and gives what it says to line, but its output where that goes elsewhere. It does not outlive drydock: the kernel
// kills it when the thread ends that started it, which therefore waits for it.
func spawn(cmd *exec.Cmd, line func(string)) (*process, error) {
	said, toUs := io.Pipe()
	cmd.Stderr = toUs
	if cmd.Stdout == nil {
		cmd.Stdout = toUs
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second // for a grandchild that keeps the output open
	c := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error) // one send, one receive
	go func() {
		defer close(c.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		var reader sync.WaitGroup
		reader.Go(func() { c.read(said, line) })
		c.err = cmd.Wait()
		_ = toUs.Close()
		reader.Wait()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// read takes what the program says, line by line, until it has ended.
func (c *process) read(said io.Reader, line func(string)) {
	r := bufio.NewReaderSize(said, 64<<10)
	for {
		text, err := r.ReadSlice('\n') // a longer line comes in pieces
		if s := strings.TrimRight(string(text), "\r\n"); s != "" {
			c.mu.Lock()
			c.last = append(c.last, s)
			c.last = c.last[max(0, len(c.last)-lastLines):]
			if c.fault == "" && faulty.MatchString(s) {
				c.fault = s[:min(len(s), maxSaid)]
			}
			c.mu.Unlock()
			line(s)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// said is what the program said last.
func (c *process) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := strings.Join(c.last, "; ")
	return said[max(0, len(said)-maxSaid):]
}

// kill ends the program and all it started, and waits for that.
func (c *process) kill() {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // gone already is as good
	<-c.done
}

// tool runs a program of the backup to its end: exit status 0 and, if wanted, its own last line.
func (c *Copy) tool(ctx context.Context, stdin io.Reader, lastLine, name string, args ...string) error {
	return c.toolTo(ctx, stdin, nil, lastLine, name, args...)
}

// toolTo is tool with its output to stdout.
func (c *Copy) toolTo(ctx context.Context, stdin io.Reader, stdout io.Writer, lastLine, name string, args ...string) error {
	path, err := Look(name)
	if err != nil {
		return err
	}
	cmd := c.command(path, args...)
	cmd.Stdout = stdout
	feed := func() error { return nil }
	if stdin != nil {
		pipe, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		feed = func() error {
			_, err := io.Copy(pipe, until{ctx, stdin})
			return errors.Join(err, pipe.Close())
		}
	}
	running, err := spawn(cmd, c.cfg.Line)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })()
	still := c.endStill(running)
	fed := feed()
	<-running.done
	switch was := still(); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case was != 0:
		return fmt.Errorf("%s %w: it and what it started did nothing for %s", name, errKilled, was)
	case running.err != nil:
		return running.failed(name)
	case fed != nil:
		return fmt.Errorf("%s: %w", name, fed)
	case lastLine != "" && !strings.HasSuffix(running.said(), lastLine):
		return SpaceIn(running.said(), fmt.Errorf("%s did not say %q, but: %s", name, lastLine, running.said()))
	case name == "mbstream" && strings.Contains(running.said(), "mbstream: "):
		return SpaceIn(running.said(), errors.New(running.said())) // it ends with status 0 also when it gave up
	}
	return nil
}

// errKilled is a program that somebody else ended: an operator, or the kernel for want of memory.
var errKilled = errors.New("was killed")

// failed tells why a program ended with an error.
func (c *process) failed(name string) error {
	said := c.said()
	if !strings.Contains(said, c.fault) {
		said = c.fault + " … " + said
	}
	var exit *exec.ExitError
	status, ok := syscall.WaitStatus(0), false
	if errors.As(c.err, &exit) {
		status, ok = exit.Sys().(syscall.WaitStatus)
	}
	switch {
	case ok && status.Signaled() && fromOutside(status.Signal()):
		return fmt.Errorf("%s %w (%s)", name, errKilled, status.Signal())
	case c.err == nil: // a server that ends in good order was told to
		return fmt.Errorf("%s %w: %s", name, errKilled, said)
	}
	return SpaceIn(said, fmt.Errorf("%s: %w: %s", name, c.err, said))
}

// fromOutside tells the signals that somebody sends from those that a program brings upon itself: InnoDB aborts when it
// finds its pages corrupt.
func fromOutside(s syscall.Signal) bool {
	switch s {
	case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT:
		return true
	}
	return false
}

// until reads from r while ctx lives.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}
