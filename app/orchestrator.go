package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"drydock/config"
	"drydock/job"
	"drydock/scheduler/orchestrator"
	"drydock/scheduler/sshrun"
)

// orchestratorConfig is what the orchestrator of a cluster works from. Without an address that database hosts reach, its
// scripts are not told where the API is, which few of them need.
func orchestratorConfig(cfg *config.Config, c config.Cluster) orchestrator.Config {
	g, o := cfg.Global, c.Orchestrator
	host := sshrun.Config{APIPort: g.APIPort, Log: slog.New(slog.DiscardHandler)}
	host.APIHost, _ = g.AdvertisedAddress()
	if len(g.Users) > 0 {
		host.APIUser, host.APIPassword = g.Users[0].Name, g.Users[0].Password.Reveal()
	}
	return orchestrator.Config{
		Kind: o.Kind, Timeout: o.Timeout, Unit: o.Unit, Sudo: o.Sudo,
		OnPremise: orchestrator.Actions(o.OnPremise), Local: orchestrator.Actions(o.Local), Script: orchestrator.Actions(o.Script),
		Host: host, Cluster: sshCluster(c),
	}
}

// newOrchestrator makes the orchestrator of a cluster. Errors: [orchestrator.ErrNone], [orchestrator.ErrNotBuilt].
func newOrchestrator(cfg *config.Config, c config.Cluster) (orchestrator.Orchestrator, error) {
	return orchestrator.New(orchestratorConfig(cfg, c))
}

// Refusals says of tasks that a cluster's configuration makes impossible why that is, by their names.
func Refusals(cfg *config.Config, c config.Cluster) map[string]string {
	out := map[string]string{}
	_, err := newOrchestrator(cfg, c)
	for _, t := range job.Tasks() {
		if t.Kind != job.KindService {
			continue
		}
		switch here := t.Local(c.ExecRemote); {
		case here && errors.Is(err, orchestrator.ErrNone) && t.Name == "stop": // done over SQL
		case here && err != nil:
			out[t.Name] = err.Error() + "; or let the script do it: name " + t.Name + " in scheduler-jobs-exec-remote"
		case !here && t.Name == "start" && c.JobsMode == string(job.SQL):
			out[t.Name] = "a database that is down has no jobs table to bring a start to the script: set scheduler-jobs-mode = api, " +
				"or prov-orchestrator, and scheduler-jobs-exec-remote without start"
		}
	}
	if why := out["restart"]; why != "" {
		out["rollingrestart"] = why
	}
	if err != nil {
		out["rollingreprov"] = err.Error()
	}
	return out
}

// checkOrchestrator looks at the settings of the orchestrator, and at the tasks that need another one.
func checkOrchestrator(cfg *config.Config, c config.Cluster) (items []Item) {
	name := c.Name + ": orchestrator"
	for _, err := range orchestrator.Problems(orchestratorConfig(cfg, c)) {
		items = append(items, Item{Fail, name, err.Error(), "see docs/orchestrators.md"})
	}
	if len(items) == 0 && c.Orchestrator.Kind != orchestrator.None {
		items = append(items, Item{OK, name, c.Orchestrator.Kind, ""})
	}
	return items
}

// checkOnPremise logs in to the host of a server if the orchestrator works there, unless [checkSSH] did.
func checkOnPremise(ctx context.Context, cfg *config.Config, c config.Cluster, s job.Server) []Item {
	if c.Orchestrator.Kind != orchestrator.OnPremise || c.SSH.Enabled {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*checkTimeout)
	defer cancel()
	name := fmt.Sprintf("%s: ssh %s@%s", c.Name, c.SSH.User, job.Server{Host: s.Host, Port: c.SSH.Port}.Addr())
	return loginItem(name, orchestrator.Greet(ctx, orchestratorConfig(cfg, c), orchestrator.Target{Cluster: c.Name, Server: s}))
}
