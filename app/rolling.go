package app

import (
	"log/slog"
	"os/exec"

	"drydock/config"
	"drydock/scheduler/rolling"
)

func rollingConfig(cfg *config.Config, actor string, log *slog.Logger) rolling.Config {
	out := rolling.Config{Actor: actor, Ticker: cfg.Global.Ticker, Log: log.With("component", "rolling")}
	for _, c := range cfg.Clusters {
		r := c.Rolling
		o, err := newOrchestrator(cfg, c)
		out.Clusters = append(out.Clusters, rolling.Cluster{
			Name: c.Name, Servers: Servers(c.Servers), User: c.User, Password: c.Password.Reveal(), Lease: c.Lease, MaxLag: c.MaxLag,
			PreScript: r.PreScript, PostScript: r.PostScript, ScriptTimeout: r.ScriptTimeout, GateTimeout: r.GateTimeout,
			WaitTimeout: r.WaitTimeout, PrimaryReadOnly: r.PrimaryReadOnly, DrainTimeout: r.DrainTimeout, SeedTask: r.Seed,
			Orchestrator: o, NoOrchestrator: err,
		})
	}
	return out
}

// checkHooks looks whether the scripts of the rolling operations can be run.
func checkHooks(c config.Cluster) (items []Item) {
	for _, hook := range []struct{ key, path string }{
		{"rolling-pre-script", c.Rolling.PreScript}, {"rolling-post-script", c.Rolling.PostScript},
	} {
		if hook.path == "" {
			continue
		}
		if _, err := exec.LookPath(hook.path); err != nil {
			items = append(items, Item{Fail, c.Name + ": " + hook.key, err.Error(), "it must be a file that drydock's user may execute"})
		}
	}
	return items
}
