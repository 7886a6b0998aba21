package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"drydock/scheduler/sshrun"
)

// Problems looks at the settings of a cluster's orchestrator and runs nothing: the programs are there and may be run, the
// scripts can be read. Each error names its key. Errors of [New] come alone; [ErrNone] is none.
func Problems(cfg Config) []error {
	if _, err := New(cfg); errors.Is(err, ErrNone) {
		return nil
	} else if err != nil {
		return []error{err}
	}
	actions, keys, check := cfg.Script, keysOfScript, runnable
	switch cfg.Kind {
	case OnPremise:
		actions, keys, check = cfg.OnPremise, keysOfOnPremise, func(key, file string) error {
			_, err := sshrun.ReadScript(key, file)
			return err
		}
	case Local:
		actions, keys, check = cfg.Local, keysOfLocal, command
	}
	var out []error
	for _, a := range []struct{ key, setting string }{
		{keys.Stop, actions.Stop}, {keys.Start, actions.Start}, {keys.Restart, actions.Restart},
		{keys.Cleanup, actions.Cleanup}, {keys.Bootstrap, actions.Bootstrap},
	} {
		if a.setting == "" {
			continue
		}
		if err := check(a.key, a.setting); err != nil {
			out = append(out, err)
		}
	}
	if cfg.Kind != OnPremise && (actions.Stop == "" || actions.Start == "") {
		out = append(out, fmt.Errorf("%s or %s %w: a stop or a start will fail", keys.Stop, keys.Start, ErrUnset))
	}
	return out
}

// command looks at a command line, as [Orchestrator] would run it.
func command(key, line string) error {
	words, err := split(line)
	if err == nil {
		_, err = exec.LookPath(words[0])
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// runnable looks at the file of a program.
func runnable(key, file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a file", file)
	case syscall.Access(file, 1 /* X_OK */) != nil:
		err = fmt.Errorf("%s may not be executed; chmod +x it", file)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// Greet logs in to the host of a server if the orchestrator would, and does nothing there.
func Greet(ctx context.Context, cfg Config, t Target) error {
	if cfg.Kind != OnPremise {
		return nil
	}
	return sshrun.Greet(ctx, cfg.Cluster, t.Server)
}
