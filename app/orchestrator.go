package app

import (
	"log/slog"

	"drydock/config"
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
