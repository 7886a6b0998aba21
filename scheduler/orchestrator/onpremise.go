package orchestrator

import (
	"bytes"
	"context"
	"fmt"
	"regexp"

	"drydock/scheduler/sshrun"
	"drydock/scripts"
)

// onPremise works over SSH on the database hosts: by systemctl, or by the user's scripts.
type onPremise struct{ Config }

var keysOfOnPremise = Actions{
	Stop: "onpremise-ssh-stop-db-script", Start: "onpremise-ssh-start-db-script", Restart: "onpremise-ssh-restart-db-script",
	Bootstrap: "onpremise-ssh-reprov-db-script",
}

// Stop implements [Orchestrator].
func (o *onPremise) Stop(ctx context.Context, t Target) error {
	return o.run(ctx, t, "stop", keysOfOnPremise.Stop, o.OnPremise.Stop)
}

// Start implements [Orchestrator].
func (o *onPremise) Start(ctx context.Context, t Target) error {
	return o.run(ctx, t, "start", keysOfOnPremise.Start, o.OnPremise.Start)
}

// Restart stops and starts where these have scripts of their own and it has none.
func (o *onPremise) Restart(ctx context.Context, t Target) error {
	a := o.OnPremise
	if a.Restart != "" || a.Stop == "" && a.Start == "" {
		return o.run(ctx, t, "restart", keysOfOnPremise.Restart, a.Restart)
	}
	return o.stopAndStart(ctx, t, o.Stop, o.Start)
}

// Reprovision has no default: systemctl cannot do it.
func (o *onPremise) Reprovision(ctx context.Context, t Target) error {
	if o.OnPremise.Bootstrap == "" {
		return unset(keysOfOnPremise.Bootstrap)
	}
	return o.run(ctx, t, "reprovision", keysOfOnPremise.Bootstrap, o.OnPremise.Bootstrap)
}

// unitName is what systemd takes for a unit's name. No other may become part of a command.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.@-]{1,200}$`)

// run feeds the script of an action to the host, or the command that stands for it.
func (o *onPremise) run(ctx context.Context, t Target, action, key, file string) error {
	script, what := []byte(nil), key
	switch {
	case file != "":
		var err error
		if script, err = sshrun.ReadScript(key, file); err != nil {
			return err
		}
	case !unitName.MatchString(o.Unit) || o.Unit[0] == '-':
		return fmt.Errorf("onpremise-ssh-db-unit: %q is no name of a unit", o.Unit)
	default:
		what = "systemctl " + action + " " + o.Unit
		if o.Sudo {
			what = "sudo -n " + what
		}
		script = []byte("exec 2>&1; " + what + "\n")
	}
	printed, err := o.Host.Shell(ctx, o.Cluster, t.Server, script, scripts.Variable{Name: variableAction, Value: action})
	out := newOutput(t.Output, nil) // Shell left no secret in it
	_, _ = out.Write(bytes.TrimSpace([]byte(printed)))
	out.close()
	if err != nil {
		return fmt.Errorf("%s on %s: %w%s", what, t.Server.Host, err, out.lastWords())
	}
	return nil
}
