package sshrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	keptOutput = 4 << 10          // bytes of what a session printed last
	stopGrace  = 10 * time.Second // for a script that was asked to stop
)

// errTimeout ends a session that lasts too long.
var errTimeout = errors.New("not done in time")

// result is how the remote shell ended.
type result struct {
	exit   int
	output string // the last of what it printed, without secrets
}

// order is what one session runs.
type order struct {
	command string // holds nothing of the configuration
	input   []byte
	secrets []string
	group   bool // end all that the shell started with it, not the shell alone
}

// run feeds the remote shell and waits for its end. An error means that there is no exit status. When until ends, the
// shell is asked to end itself (TERM, which the built-in script hands on to its tools) and the connection is closed a
// little later if that did not help; when ctx ends, with which the connection ends, what runs there goes on alone.
func run(ctx, until context.Context, c *ssh.Client, o order) (result, error) {
	s, err := c.NewSession()
	if err != nil {
		return result{}, fmt.Errorf("open a session: %w", err)
	}
	defer func() { _ = s.Close() }()
	out := newTail()
	s.Stdin, s.Stdout, s.Stderr = bytes.NewReader(o.input), out, out
	if err := s.Start(o.command); err != nil {
		return result{}, fmt.Errorf("start bash: %w", err)
	}
	late := make(chan struct{}) // closed when until has ended
	stop := context.AfterFunc(until, func() {
		close(late)
		time.AfterFunc(stopGrace, func() { _ = c.Close() })
		stopShell(c, out.pid(stopGrace/2), o.group)
	})
	defer stop()
	err = s.Wait()
	res := result{output: out.text(o.secrets)}
	select {
	case <-late:
		return res, context.Cause(until)
	default:
	}
	var exit *ssh.ExitError
	switch {
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case errors.As(err, &exit) && exit.Signal() == "":
		res.exit = exit.ExitStatus()
		return res, nil
	case err != nil:
		return res, fmt.Errorf("wait for bash: %w", err)
	}
	return res, nil
}

// within ends when a session has lasted long enough. It does not end with ctx: a restart of drydock must not end a
// backup of hours.
func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), timeout,
		fmt.Errorf("%w: the session was ended after %s (scheduler-jobs-ssh-timeout)", errTimeout, timeout))
}

// stopShell sends TERM to the shell over the same connection, or to the whole of its process group. The protocol has a
// signal request, but OpenSSH refuses it to root.
func stopShell(c *ssh.Client, pid string, group bool) {
	if pid == "" {
		return
	}
	s, err := c.NewSession()
	if err != nil {
		return // the connection is closed soon, there is no better way
	}
	defer func() { _ = s.Close() }()
	target := pid
	if group { // the fifth word of stat: the shell's name, the second, is bash
		target = "-- -$(cut -d ' ' -f 5 /proc/" + pid + "/stat)"
	}
	_ = s.Run("kill -TERM " + target)
}

// pidLine is what the loader prints first; a shell's start-up files may print before it.
var pidLine = regexp.MustCompile(`(?m)^` + pidMark + `([0-9]{1,10})\r?\n`)

// tail keeps the process id of the shell and the last bytes written to it. Safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
	cut bool   // the beginning is gone
	id  string // of the process

	named chan struct{} // closed when id is known
}

func newTail() *tail { return &tail{named: make(chan struct{})} }

// Write never fails: a shell that cannot write would die of it.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if t.id == "" && !t.cut && bytes.Contains(t.buf, []byte(pidMark)) { // it comes first or not at all
		if at := pidLine.FindSubmatchIndex(t.buf); at != nil {
			t.id = string(t.buf[at[2]:at[3]])
			t.buf = slices.Delete(t.buf, at[0], at[1])
			close(t.named)
		}
	}
	if len(t.buf) > 2*keptOutput { // twice, so that little is copied
		t.buf, t.cut = append(t.buf[:0], t.buf[len(t.buf)-keptOutput:]...), true
	}
	return len(p), nil
}

// pid is the process id of the remote shell, for which it waits a little: who stops a shell that has just begun would leave it
// running else. Empty when it did not come.
func (t *tail) pid(patience time.Duration) string {
	select {
	case <-t.named:
	case <-time.After(patience):
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.id
}

// text is what was kept, with the secrets blotted out. What is left of a line that was cut is left out: it could begin
// with half a secret.
func (t *tail) text(secrets []string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := string(t.buf)
	if t.cut {
		_, s, _ = strings.Cut(s, "\n")
	}
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[secret]")
		}
	}
	return strings.TrimSpace(strings.ToValidUTF8(s[max(0, len(s)-keptOutput):], "?"))
}
