// Package orchestrator stops, starts, restarts and reprovisions the service of one database server.
//
// It owns how that is done: over SSH, by commands on this host, by scripts of the user's own. Whether it may be done, and
// that the server is well afterwards, is the caller's business.
package orchestrator

import (
	"context"
	"errors"

	"drydock/job"
)

// ErrNotBuilt is returned by [New] for an orchestrator that a later version will have.
var ErrNotBuilt = errors.New("orchestrator is not built yet")

// Target is the server that something is done to.
type Target struct {
	Cluster string
	Server  job.Server
}

// Orchestrator does something to the service of a server and returns when that is done, or has failed. Errors say what the
// command or script said last. ctx bounds the whole; what was begun is ended with it.
type Orchestrator interface {
	Stop(ctx context.Context, t Target) error
	Start(ctx context.Context, t Target) error
	Restart(ctx context.Context, t Target) error
	// Reprovision makes the service anew: what is left afterwards is a running server that may be empty.
	Reprovision(ctx context.Context, t Target) error
}
