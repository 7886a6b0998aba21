package app

import (
	"context"
	"log/slog"

	"drydock/alert"
	"drydock/alert/notify"
	"drydock/config"
	"drydock/store"
)

func (p *process) newAlert(context.Context) (func(context.Context) error, error) {
	cfg := alertConfig(p.Config, p.name, p.Log)
	e, err := alert.New(cfg, p.conn, store.NewJobs(p.conn, cfg.Actor, nil), p.view, p.catalog, store.NewDocs(p.conn))
	if err != nil {
		return nil, err
	}
	p.alert = e
	if p.notifier, err = notify.New(notifyConfig(p.Config, p.name, p.Log), p.conn, p.view); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return together(ctx, e.Run, p.notifier.Run) }, nil
}

func alertConfig(cfg *config.Config, name string, log *slog.Logger) alert.Config {
	out := alert.Config{Actor: actor(RoleAlert, name), Every: cfg.Global.Ticker, Log: log.With("component", "alert")}
	for _, c := range cfg.Clusters {
		out.Clusters = append(out.Clusters, alert.Cluster{
			Name: c.Name, Servers: Servers(c.Servers), Lease: c.Lease, PickupTimeout: c.PickupTimeout, BackupMaxAge: c.BackupMaxAge,
			Archive: c.Archive.Enabled, Drills: c.Drill.Enabled && c.Scheduler, DrillMaxAge: c.Drill.MaxAge, MaxClockSkew: c.MaxClockSkew, Binlogs: c.Binlogs.Enabled,
		})
	}
	return out
}
