package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is one program that the demo started, in a session of its own.
//
// The session is what makes its end sure: the dbjobs script puts every task into a process group of its own, but none
// of them leaves the session. It also keeps a Ctrl-C in the terminal for the demo alone, which then ends its parts in
// its own order.
type child struct {
	pid  int           // of the program, and the id of its session
	done chan struct{} // closed by the keeper when the program has been reaped
	err  error         // what Wait said; read only after done is closed
}

// startChild starts cmd. When the demo dies, the kernel sends the program deathSignal. It does so at the end of the
// thread that forked, so the keeper holds on to its thread until the program has ended.
func startChild(cmd *exec.Cmd, deathSignal syscall.Signal) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: deathSignal}
	c := &child{done: make(chan struct{})}
	started := make(chan error) // the keeper sends once
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	return c, nil
}

// stop asks the program to end, and after the grace kills it; then it kills what the program left in its session.
func (c *child) stop(grace time.Duration) {
	_ = syscall.Kill(c.pid, syscall.SIGTERM) // not waited for yet, or gone: then killSession finds nothing either
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
	c.kill()
}

// kill ends the program and its session at once.
func (c *child) kill() {
	for len(killSession(c.pid)) > 0 {
		time.Sleep(time.Millisecond) // a process that was killed is gone a moment later; none of ours ignores SIGKILL
	}
	<-c.done
}

// killSession sends SIGKILL to the processes of a session and returns their ids.
func killSession(id int) []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		if state, session := readStat(string(text)); session != id || state == "Z" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// readStat reads state and session from /proc/PID/stat, "pid (name) state ppid pgrp session ..."; the name may hold
// anything.
func readStat(text string) (state string, session int) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 4 {
		return "", 0
	}
	session, _ = strconv.Atoi(fields[3])
	return fields[0], session
}

// finish waits for a program that ends by itself, and kills it when ctx ends first.
func (c *child) finish(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		c.kill()
		return context.Cause(ctx)
	}
}

// runTool runs a program to its end; what it prints goes to the file log.
func runTool(ctx context.Context, log, name string, args ...string) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	c, err := startChild(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	if err := c.finish(ctx); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, lastLines(log, 3))
	}
	return nil
}

// lastLines is the end of a program's output on one line, for an error.
func lastLines(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// exitError says how a program ended that should have gone on.
func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
