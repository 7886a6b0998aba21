package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"drydock/config"
	"drydock/gateway"
	"drydock/gateway/auth"
	"drydock/gateway/web"
	"drydock/job"
	"drydock/restore"
	"drydock/store"
)

// newGateway makes the API and, beside it, the dispatcher that brings queued jobs to the servers.
func (p *process) newGateway(ctx context.Context) (func(context.Context) error, error) {
	cfg, err := gatewayConfig(p.Config, p.name, p.Version, p.Log)
	if err != nil {
		return nil, err
	}
	jobs := store.NewJobs(p.conn, cfg.Name, p.view)
	docs := store.NewDocs(p.conn)
	cfg.Check, cfg.MaxAge, cfg.Porch = p.checkItems, p.maxAge, p.porch
	cfg.Plan = func(ctx context.Context, q restore.Question) (restore.Plan, error) {
		return PlanQuestion(ctx, p.current.Load(), p.conn, q)
	}
	api, err := gateway.New(cfg, gateway.Deps{
		Conn: p.conn, Jobs: jobs, Ledger: store.NewLedger(p.conn, cfg.Name), View: p.view, Catalog: p.catalog, Docs: docs,
	})
	if err != nil {
		return nil, err
	}
	p.serving = api.Serving()
	p.addrs.API = api.APIAddr().String()
	if a := api.HTTPAddr(); a != nil {
		p.addrs.HTTP = a.String()
	}
	dispatch, err := dispatchConfig(p.Config, p.Log)
	if err != nil {
		return nil, err
	}
	dispatcher, err := gateway.NewDispatcher(dispatch, p.conn, jobs, p.view, docs)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return together(ctx, api.Run, dispatcher.Run) }, nil
}

func gatewayConfig(cfg *config.Config, name, version string, log *slog.Logger) (gateway.Config, error) {
	g := cfg.Global
	address, err := g.AdvertisedAddress()
	if err != nil {
		return gateway.Config{}, err
	}
	out := gateway.Config{
		Name: actor(RoleGateway, name), Bind: g.BindAddress, HTTPPort: g.HTTPPort, APIPort: g.APIPort, MaxConnections: g.MaxConnections,
		Address: address, Receiver: name, OpenConfig: !g.SecureConfig,
		CertFile: g.APICert, KeyFile: g.APIKey, TLSDir: filepath.Join(g.Datadir, "tls"),
		TokenLifetime: g.TokenLifetime, Version: version,
		Log: log.With("component", "gateway"),
	}
	if !g.HTTPServer {
		out.HTTPPort = -1
	}
	out.TrustedProxies = g.TrustedProxies
	users := APIUsers(cfg)
	out.Users, out.Grants = users.Users, users.Grants
	for _, c := range cfg.Clusters {
		out.Clusters = append(out.Clusters, gateway.Cluster{
			Name: c.Name, Servers: Servers(c.Servers), BackupServers: backupServers(c), User: c.User, Password: c.Password.Reveal(),
			Preferred: Servers(c.BackupHosts), MaxLag: c.MaxLag,
			Mode: job.Mode(c.JobsMode), AcceptSecret: c.AcceptSecret, FreshLogin: c.FreshLogin, LogLevel: c.JobsLogLevel, BatchSize: c.LogBatchSize,
			ReceiverPorts: c.ReceiverPorts, Refuse: Refusals(cfg, c), Grants: c.Grants,
		})
	}
	return out, nil
}

// APIUsers are the users of the API that stand in the configuration.
func APIUsers(cfg *config.Config) auth.Config {
	out := auth.Config{Users: map[string]string{}, Grants: map[string][]string{}, ClusterGrants: map[string]map[string][]string{}}
	for _, c := range cfg.Clusters {
		out.ClusterGrants[c.Name] = c.Grants
	}
	for _, u := range cfg.Global.Users {
		out.Users[u.Name], out.Grants[u.Name] = u.Password.Reveal(), u.Grants
	}
	return out
}

// checkItems has the page look at what `drydock check` looks at.
func (p *process) checkItems(ctx context.Context) (out []web.CheckItem) {
	for _, it := range Check(ctx, p.current.Load()) {
		out = append(out, web.CheckItem{Status: string(it.Status), Name: it.Name, Detail: it.Detail, Hint: it.Hint})
	}
	return out
}

// maxAge is backup-max-age of a cluster.
func (p *process) maxAge(cluster string) time.Duration {
	c, _ := p.current.Load().Cluster(cluster)
	return c.BackupMaxAge
}

func dispatchConfig(cfg *config.Config, log *slog.Logger) (gateway.DispatchConfig, error) {
	address, err := cfg.Global.AdvertisedAddress()
	if err != nil {
		return gateway.DispatchConfig{}, err
	}
	out := gateway.DispatchConfig{Address: address, Poll: cfg.Global.Ticker, Frugal: frugal(cfg), Log: log.With("component", "dispatcher")}
	for _, c := range cfg.Clusters {
		out.Clusters = append(out.Clusters, gateway.DispatchCluster{
			Name: c.Name, Mode: job.Mode(c.JobsMode), User: c.User, Password: c.Password.Reveal(), Servers: Servers(c.Servers),
		})
	}
	return out, nil
}
