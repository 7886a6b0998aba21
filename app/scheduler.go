package app

import (
	"context"
	"log/slog"
	"path/filepath"

	"drydock/config"
	"drydock/job"
	"drydock/scheduler"
	"drydock/scheduler/local"
	"drydock/scheduler/rolling"
	"drydock/store"
)

func schedulerConfig(cfg *config.Config, name string, log *slog.Logger) scheduler.Config {
	out := scheduler.Config{Actor: actor(RoleScheduler, name), Log: log.With("component", "scheduler")}
	for _, c := range cfg.Clusters {
		out.Clusters = append(out.Clusters, scheduler.Cluster{
			Name: c.Name, Servers: Servers(c.Servers), BackupServers: backupServers(c), Mode: job.Mode(c.JobsMode),
			Preferred: Servers(c.BackupHosts), MaxLag: c.MaxLag,
			Zone: c.Timezone, CatchUp: c.CatchUp, MaxLateness: c.MaxLateness, Schedules: schedules(c),
			Lease: c.Lease, PickupTimeout: c.PickupTimeout, ClaimTimeout: c.ClaimTimeout, CheckTimeout: c.CheckTimeout,
			Retry: c.Retry, Windows: c.Windows, WindowPolicy: c.WindowPolicy, MaxBackups: c.MaxBackups, Splay: c.Splay,
			BackupMinSize: c.BackupMinSize, BackupMinRatio: c.BackupMinRatio,
			ExecRemote: c.ExecRemote, Refuse: Refusals(cfg, c), WholeBackups: wholeBackups(c),
		})
	}
	return out
}

func (p *process) newScheduler(context.Context) (func(context.Context) error, error) {
	cfg := schedulerConfig(p.Config, p.name, p.Log)
	jobs := store.NewJobs(p.conn, cfg.Actor, p.view)
	docs := store.NewDocs(p.conn)
	facts := local.NewFacts(factsConfig(p.Config, p.Log), docs)
	localCfg, err := localConfig(p.Config, cfg.Actor, p.Log)
	if err != nil {
		return nil, err
	}
	runner := local.New(localCfg, p.conn, jobs, p.view, docs, facts)
	roller := rolling.New(rollingConfig(p.Config, cfg.Actor, p.Log), p.conn, jobs, store.NewLedger(p.conn, cfg.Actor), p.view, facts)
	cfg.Clear, cfg.List = runner.Clear, runner.List
	s, err := scheduler.New(cfg, p.conn, jobs, store.NewLedger(p.conn, cfg.Actor), p.view)
	if err != nil {
		return nil, err
	}
	p.scheduler = s
	if p.ssh, err = p.newSSHRunner(); err != nil {
		return nil, err
	}
	p.life.start("projection", store.NewProjector(p.conn, p.Log.With("component", "projection")).Run)
	return func(ctx context.Context) error {
		return together(ctx, s.Run, p.ssh.Run, runner.Run, facts.Run, roller.Run)
	}, nil
}

func factsConfig(cfg *config.Config, log *slog.Logger) local.FactsConfig {
	out := local.FactsConfig{Ticker: cfg.Global.Ticker, Frugal: frugal(cfg), Log: log.With("component", "facts")}
	for _, c := range cfg.Clusters {
		for _, s := range Servers(c.Servers) {
			out.Servers = append(out.Servers, local.Login{Cluster: c.Name, Server: s, User: c.User, Password: c.Password.Reveal()})
		}
	}
	return out
}

// workFolder is the folder in the data folder where dumps are made and option files stand while they are needed.
const workFolder = "work"

func localConfig(cfg *config.Config, actor string, log *slog.Logger) (local.Config, error) {
	address, err := cfg.Global.AdvertisedAddress()
	if err != nil {
		return local.Config{}, err
	}
	out := local.Config{
		Bind: cfg.Global.BindAddress, Address: address,
		Actor: actor, Ticker: cfg.Global.Ticker, Log: log.With("component", "local"), WorkDir: filepath.Join(cfg.Global.Datadir, workFolder),
	}
	for _, c := range cfg.Clusters {
		orch, err := newOrchestrator(cfg, c)
		out.Clusters = append(out.Clusters, local.Cluster{
			Name: c.Name, Servers: Servers(c.Servers), User: c.User, Password: c.Password.Reveal(), Lease: c.Lease,
			MaxLag: c.MaxLag, MaxLoad: c.MaxLoad, LockTimeout: c.LockTimeout, MaxPause: c.MaxPause, LogsTableKeep: c.LogsTableKeep,
			Orchestrator: orch, NoOrchestrator: err, ServiceWait: c.Orchestrator.Wait,
			ReplicationUser: c.ReplicationUser, ReplicationPassword: c.ReplicationPassword.Reveal(), ClientTool: c.ClientTool,
			Mysqldump: local.Tool(c.Mysqldump), Mydumper: local.Tool(c.Mydumper), Myloader: local.Tool(c.Myloader), MydumperStall: c.MydumperStall,
			Windows: c.Windows, Zone: c.Timezone,
		})
	}
	return out, nil
}
