package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"drydock/scripts"
)

// commands runs the user's programs on this host.
type commands struct {
	Config
	keys    Actions                        // the key of each action
	words   func(string) ([]string, error) // of a setting
	actions Actions
}

var (
	keysOfLocal = Actions{
		Stop: "local-db-stop-command", Start: "local-db-start-command", Restart: "local-db-restart-command",
		Bootstrap: "local-db-reprovision-command",
	}
	keysOfScript = Actions{
		Stop: "prov-db-stop-script", Start: "prov-db-start-script", Restart: "prov-db-restart-script",
		Cleanup: "prov-db-cleanup-script", Bootstrap: "prov-db-bootstrap-script",
	}
)

// alone takes the whole setting for the path of a program.
func alone(s string) ([]string, error) { return []string{s}, nil }

// Stop implements [Orchestrator].
func (c *commands) Stop(ctx context.Context, t Target) error {
	return c.run(ctx, t, "stop", c.keys.Stop, c.actions.Stop)
}

// Start implements [Orchestrator].
func (c *commands) Start(ctx context.Context, t Target) error {
	return c.run(ctx, t, "start", c.keys.Start, c.actions.Start)
}

// Restart stops and starts where there is nothing of its own for it.
func (c *commands) Restart(ctx context.Context, t Target) error {
	if c.actions.Restart != "" {
		return c.run(ctx, t, "restart", c.keys.Restart, c.actions.Restart)
	}
	for _, a := range []struct{ key, setting string }{{c.keys.Stop, c.actions.Stop}, {c.keys.Start, c.actions.Start}} {
		if a.setting == "" { // known before anything is stopped
			return unset(a.key)
		}
	}
	return c.stopAndStart(ctx, t, c.Stop, c.Start)
}

// Reprovision implements [Orchestrator].
func (c *commands) Reprovision(ctx context.Context, t Target) error {
	if c.actions.Bootstrap == "" {
		return unset(c.keys.Bootstrap)
	}
	if c.keys.Cleanup != "" {
		if err := c.run(ctx, t, "cleanup", c.keys.Cleanup, c.actions.Cleanup); err != nil {
			return err
		}
	}
	return c.run(ctx, t, "reprovision", c.keys.Bootstrap, c.actions.Bootstrap)
}

// How a command ends that must: TERM to its process group, KILL a little later.
const (
	endGrace = 5 * time.Second
	// drain is how long output is waited for after the command's end. Who is left then is a service that it started and
	// that writes to the same place.
	drain = 2 * time.Second
)

// run runs one program in a process group of its own. What it is about comes by environment variables only: nothing of a
// server's name is ever part of a command.
func (c *commands) run(ctx context.Context, t Target, action, key, setting string) error {
	if setting == "" {
		return unset(key)
	}
	words, err := c.words(setting)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = c.environment(t, action)
	out := newOutput(t.Output, []string{c.Cluster.Password, c.Host.APIPassword, c.Cluster.Login.Password})
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, drain
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	err = c.wait(ctx, cmd)
	out.close()
	switch {
	case ctx.Err() != nil && err != nil:
		return fmt.Errorf("%s: %w", key, context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // it ended well; a service it started still holds the output
	case err != nil:
		return fmt.Errorf("%s: %w%s", key, err, out.lastWords())
	}
	return nil
}

// wait waits for the command, and ends its process group with ctx.
func (c *commands) wait(ctx context.Context, cmd *exec.Cmd) error {
	group := -cmd.Process.Pid
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	_ = syscall.Kill(group, syscall.SIGTERM) // it may just have ended
	select {
	case err := <-done:
		_ = syscall.Kill(group, syscall.SIGKILL) // what ignored the first
		return errors.Join(err, context.Cause(ctx))
	case <-time.After(endGrace):
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	return errors.Join(<-done, context.Cause(ctx))
}

// What the environment says beside the block.
const (
	variableAction  = "DRYDOCK_ACTION"
	variableHost    = "host"
	variablePort    = "port"
	variableCluster = "cluster"
)

// inherited is all that a command gets of drydock's own environment: the rest may hold passwords of other things.
var inherited = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"}

// environment is the block of maintenance.txt section 6.1.5 and what the action is about.
func (c *commands) environment(t Target, action string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(inherited, name)
	})
	block := append(c.Host.Environment(c.Cluster, t.Server),
		scripts.Variable{Name: variableAction, Value: action}, scripts.Variable{Name: variableCluster, Value: t.Cluster},
		scripts.Variable{Name: variableHost, Value: t.Server.Host}, scripts.Variable{Name: variablePort, Value: strconv.Itoa(t.Server.Port)})
	for _, v := range block {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}
