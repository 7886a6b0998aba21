// Package orchestrator stops, starts, restarts and reprovisions the service of one database server.
//
// It owns how that is done: over SSH, by commands on this host, by scripts of the user's own (docs/orchestrators.md).
// Whether it may be done, and that the server is well afterwards, is the caller's business.
package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/job"
	"drydock/scheduler/sshrun"
)

// Errors of [New].
var (
	// ErrNone says that the cluster has no orchestrator.
	ErrNone = errors.New("no orchestrator is configured: set prov-orchestrator to onpremise, local or script")
	// ErrNotBuilt is about an orchestrator that a later version will have.
	ErrNotBuilt = errors.New("orchestrator is not built yet")
	// ErrUnset says that an action has no command or script; the text names the key.
	ErrUnset = errors.New("is not set")
)

// Target is the server that something is done to.
type Target struct {
	Cluster string
	Server  job.Server
	// Output is given each line that the command or script prints, without secrets (optional). Calls do not overlap.
	Output func(line string)
}

// Orchestrator does something to the service of a server and returns when that is done, or has failed. Errors say what the
// command or script said last, or [ErrUnset]. ctx bounds the whole; what was begun is ended with it. Safe for concurrent use.
type Orchestrator interface {
	Stop(ctx context.Context, t Target) error
	Start(ctx context.Context, t Target) error
	Restart(ctx context.Context, t Target) error
	// Reprovision makes the service anew: what is left afterwards is a running server that may be empty.
	Reprovision(ctx context.Context, t Target) error
}

// The kinds, as prov-orchestrator names them.
const (
	None      = "none"
	OnPremise = "onpremise"
	Local     = "local"
	Script    = "script"
)

// Config is the orchestrator of one cluster.
type Config struct {
	Kind    string        // prov-orchestrator
	Timeout time.Duration // of one action (prov-orchestrator-timeout)
	Unit    string        // systemd unit on the database hosts (onpremise-ssh-db-unit)
	Sudo    bool          // systemctl by sudo (onpremise-ssh-sudo)
	// OnPremise are scripts that run on the database host in place of systemctl (onpremise-ssh-*-db-script).
	OnPremise Actions
	Local     Actions // commands on this host (local-db-*-command), Bootstrap being the reprovisioning
	Script    Actions // programs on this host (prov-db-*-script)
	// Host is what the environment block is made of: the API, the cluster's account and its SSH login.
	Host    sshrun.Config
	Cluster sshrun.Cluster
}

// Actions are the user's own commands or script files; an empty one is not set.
type Actions struct {
	Stop, Start, Restart string
	Cleanup, Bootstrap   string // the two halves of a reprovisioning
}

// New makes the orchestrator of a cluster. Errors: [ErrNone], [ErrNotBuilt].
func New(cfg Config) (Orchestrator, error) {
	switch cfg.Kind {
	case None, "":
		return nil, ErrNone
	case OnPremise:
		return bounded{&onPremise{cfg}, cfg.Timeout}, nil
	case Local:
		return bounded{&commands{cfg, keysOfLocal, split, cfg.Local}, cfg.Timeout}, nil
	case Script:
		return bounded{&commands{cfg, keysOfScript, alone, cfg.Script}, cfg.Timeout}, nil
	}
	return nil, fmt.Errorf("%s: %w; use onpremise, local or script", cfg.Kind, ErrNotBuilt)
}

// bounded ends an action that takes too long.
type bounded struct {
	Orchestrator
	timeout time.Duration
}

func (b bounded) within(ctx context.Context, do func(context.Context, Target) error, t Target) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.timeout, fmt.Errorf("not done within prov-orchestrator-timeout = %s", b.timeout))
	defer cancel()
	return do(ctx, t)
}

func (b bounded) Stop(ctx context.Context, t Target) error {
	return b.within(ctx, b.Orchestrator.Stop, t)
}
func (b bounded) Start(ctx context.Context, t Target) error {
	return b.within(ctx, b.Orchestrator.Start, t)
}
func (b bounded) Restart(ctx context.Context, t Target) error {
	return b.within(ctx, b.Orchestrator.Restart, t)
}
func (b bounded) Reprovision(ctx context.Context, t Target) error {
	return b.within(ctx, b.Orchestrator.Reprovision, t)
}

// stopAndStart is a restart in two actions. Whatever becomes of the first, the second is done: a stop that failed, was
// canceled or came to no end may have stopped the server all the same, and nobody else would start it.
func (cfg Config) stopAndStart(ctx context.Context, t Target, stop, start func(context.Context, Target) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := stop(ctx, t)
	if err == nil && ctx.Err() == nil {
		if err = start(ctx, t); err == nil || ctx.Err() == nil {
			return err
		}
	}
	again, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), cfg.Timeout, fmt.Errorf("not done within prov-orchestrator-timeout = %s", cfg.Timeout))
	defer cancel()
	if e := start(again, t); e != nil {
		return errors.Join(err, fmt.Errorf("start the server again: %w", e))
	}
	return err
}

// unset is the error of an action that cannot be done.
func unset(key string) error { return fmt.Errorf("%s %w", key, ErrUnset) }
