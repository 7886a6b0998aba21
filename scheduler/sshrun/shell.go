package sshrun

import (
	"context"
	"fmt"
	"sync"

	"drydock/job"
	"drydock/scripts"
)

// shellCommand is what [Config.Shell] runs, in the login shell of the SSH user.
const shellCommand = "bash -s"

// Shell logs in to the host of a server, runs script there with the environment block and more, and returns the last of what it
// printed, without secrets. Unlike a session of the runner, what it runs ends with ctx, and all that it started: there is
// no protocol by which it could go on alone. Errors: [Hinted]; [ExitError] when the script failed.
func (c Config) Shell(ctx context.Context, cl Cluster, s job.Server, script []byte, more ...scripts.Variable) (output string, err error) {
	input, err := feed(append(c.Environment(cl, s), more...), script)
	if err != nil {
		return "", err
	}
	// The connection outlives ctx for a moment: the end of what runs there is asked for over it.
	connected, drop := context.WithCancel(context.WithoutCancel(ctx))
	defer drop()
	early := context.AfterFunc(ctx, drop)
	client, err := dial(connected, host{s.Host, cl.Login.Port}, cl.Login)
	early()
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", err
	}
	var alive sync.WaitGroup
	alive.Go(func() { keepAlive(connected, client) })
	defer alive.Wait()
	defer func() { _ = client.Close() }() // an open keep-alive ends with the connection
	defer drop()
	res, err := run(connected, ctx, client, order{command: shellCommand, input: input, secrets: c.secrets(cl), group: true})
	if err == nil && res.exit != 0 {
		err = ExitError{res.exit}
	}
	return res.output, err
}

// ExitError is the exit status of a script that failed.
type ExitError struct{ Status int }

// Error names the status.
func (e ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Status) }

// Greet logs in to the host of a server and does nothing there. Errors: [Hinted], with advice, where there is any.
func Greet(ctx context.Context, cl Cluster, s job.Server) error {
	client, err := dial(ctx, host{s.Host, cl.Login.Port}, cl.Login)
	if err != nil {
		return err
	}
	return client.Close()
}
