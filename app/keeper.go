package app

import (
	"log/slog"

	"drydock/config"
	"drydock/receiver/keeper"
	"drydock/retention"
)

func keeperConfig(cfg *config.Config, name string, log *slog.Logger) (keeper.Config, error) {
	out := keeper.Config{
		Name: name, DataDir: cfg.Global.Datadir, Reserve: cfg.Global.Receiver.Reserve, Clusters: map[string]keeper.Cluster{},
		Log: log.With("component", "keeper"),
	}
	for _, c := range cfg.Clusters {
		out.Clusters[c.Name] = keeper.Cluster{
			Servers: Servers(c.Servers), Rules: rules(c), Pruned: c.Scheduler && c.Prune.Enabled, Archive: c.Archive.Enabled,
		}
	}
	var err error
	out.Keys, err = Keys(cfg, "", func(problem string) { out.Log.Warn("read the public keys", "problem", problem) })
	return out, err
}

// rules say which backups of a cluster stay.
func rules(c config.Cluster) retention.Rules {
	a := c.Archive
	return retention.Rules{
		Last: a.KeepLast, Hourly: a.KeepHourly, Daily: a.KeepDaily, Weekly: a.KeepWeekly, Monthly: a.KeepMonthly, Yearly: a.KeepYearly,
		Zone: c.Timezone,
	}
}
