package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"drydock/alert"
	"drydock/alert/notify"
	"drydock/config"
	"drydock/gateway"
	"drydock/gateway/auth"
	"drydock/gateway/web"
	"drydock/job"
	"drydock/pruning"
	"drydock/receiver"
	"drydock/receiver/archive"
	"drydock/receiver/binlog"
	"drydock/receiver/duty"
	"drydock/receiver/keeper"
	"drydock/receiver/point"
	"drydock/receiver/proving"
	"drydock/restore"
	"drydock/retention"
	"drydock/scheduler"
	"drydock/scheduler/local"
	"drydock/scheduler/rolling"
	"drydock/store"
)

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// schedules lists every task that a cluster's keys can schedule, the ones that are off with the key that switches
// them on: switching off is recorded in the ledger too.
func schedules(c config.Cluster) []scheduler.Schedule {
	entry := func(task, key string, s config.Schedule) scheduler.Schedule {
		e := scheduler.Schedule{Task: task, Spec: s.Cron, Enabled: s.Enabled && c.Scheduler}
		switch {
		case !c.Scheduler:
			e.Why = "monitoring-scheduler is false"
		case !s.Enabled:
			e.Why = key + " is false"
		}
		return e
	}
	out := []scheduler.Schedule{
		entry("optimize", "scheduler-db-servers-optimize", c.Optimize),
		entry("analyze", "scheduler-db-servers-analyze", c.Analyze),
		entry("checksum", "scheduler-db-servers-checksum", c.Checksum),
		entry("logstablerotate", "scheduler-db-servers-logs-table-rotate", c.LogsTableRotate),
		entry("schemamonitor", "scheduler-db-servers-schema-monitor", c.SchemaMonitor),
		entry("rollingrestart", "scheduler-rolling-restart", c.Rolling.Restart),
		entry("rollingreprov", "scheduler-rolling-reprov", c.Rolling.Reprov),
		entry("backupdrill", "scheduler-backup-drill", c.Drill.Schedule),
	}
	out = append(out, entry(pruning.Task, "scheduler-backup-prune", c.Prune))
	for _, e := range []scheduler.Schedule{
		entry("archiveprune", "scheduler-backup-restic-prune", c.Archive.Prune),
		entry("archivecheck", "scheduler-backup-restic-check", c.Archive.Check),
	} {
		if e.Enabled && !c.Archive.Enabled {
			e.Enabled, e.Why = false, "backup-restic is false"
		}
		out = append(out, e)
	}
	for _, tool := range []string{"mariabackup", "xtrabackup"} {
		e := entry(tool, "scheduler-db-servers-physical-backup", c.PhysicalBackup)
		if tool != c.BackupType {
			e.Enabled, e.Why = false, "backup-physical-type is "+c.BackupType
		}
		out = append(out, e)
	}
	for _, tool := range []string{"mysqldump", "mydumper"} {
		e := entry(tool, "scheduler-db-servers-logical-backup", c.LogicalBackup)
		if tool != c.LogicalType {
			e.Enabled, e.Why = false, "backup-logical-type is "+c.LogicalType
		}
		out = append(out, e)
	}
	for _, t := range job.Tasks() {
		if t.Kind != job.KindLog {
			continue
		}
		e := entry(t.Name, "scheduler-db-servers-logs", c.Logs)
		if e.Why == "" && !slices.Contains(c.LogsTasks, t.Name) {
			e.Enabled, e.Why = false, "scheduler-db-servers-logs-tasks does not name it"
		}
		out = append(out, e)
	}
	return out
}

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
	out := local.FactsConfig{Ticker: cfg.Global.Ticker, Log: log.With("component", "facts")}
	for _, c := range cfg.Clusters {
		for _, s := range Servers(c.Servers) {
			out.Servers = append(out.Servers, local.Login{Cluster: c.Name, Server: s, User: c.User, Password: c.Password.Reveal()})
		}
	}
	return out
}

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

// workFolder is the folder in the data folder where dumps are made and option files stand while they are needed.
const workFolder = "work"

// graphitePort belongs to Graphite in this ecosystem (wire.md section 6).
const graphitePort = 10002

func receiverConfig(cfg *config.Config, name, version string, log *slog.Logger) (receiver.Config, error) {
	g := cfg.Global
	address, err := g.AdvertisedAddress()
	if err != nil {
		return receiver.Config{}, err
	}
	out := receiver.Config{
		Name: name, Version: version, DataDir: g.Datadir, Bind: g.BindAddress, Address: address, Ports: g.Receiver.Ports,
		Reserved:  []int{g.HTTPPort, g.APIPort, graphitePort},
		AllowFrom: g.Receiver.AllowFrom, AcceptTimeout: g.Receiver.AcceptTimeout, IdleTimeout: g.Receiver.IdleTimeout,
		DrainTimeout: g.Receiver.DrainTimeout, Reserve: g.Receiver.Reserve, Clusters: map[string]receiver.Cluster{}, Log: log.With("component", "receiver"),
	}
	if _, port, err := net.SplitHostPort(g.NATS.Listen); err == nil && g.NATS.URL == "" {
		if n, err := strconv.Atoi(port); err == nil {
			out.Reserved = append(out.Reserved, n)
		}
	}
	for _, c := range cfg.Clusters {
		recipients, err := recipientsOf(c)
		if err != nil {
			return receiver.Config{}, err
		}
		identities, err := identitiesOf(c)
		if err != nil {
			return receiver.Config{}, err
		}
		out.Clusters[c.Name] = receiver.Cluster{
			Servers: Servers(c.Servers), Hash: c.BackupHash, Compress: c.Compress, Recipients: recipients,
			Identities: identities, ReceiverPorts: c.ReceiverPorts,
		}
	}
	return out, nil
}

// recipientsOf are whom a cluster's backups are encrypted for.
func recipientsOf(c config.Cluster) ([]age.Recipient, error) {
	if len(c.EncryptRecipients) == 0 {
		return nil, nil
	}
	out, err := age.ParseRecipients(strings.NewReader(strings.Join(c.EncryptRecipients, "\n")))
	if err != nil {
		return nil, fmt.Errorf("read backup-encrypt-recipients of cluster %s: %w; each is a line that age-keygen printed as public key", c.Name, err)
	}
	return out, nil
}

// identitiesOf are the private keys that open a cluster's encrypted backups. The error holds nothing of the file.
func identitiesOf(c config.Cluster) ([]age.Identity, error) {
	if c.EncryptIdentity == "" {
		return nil, nil
	}
	out, err := ReadIdentities(c.EncryptIdentity)
	if err != nil {
		return nil, fmt.Errorf("read backup-encrypt-identity of cluster %s: %w", c.Name, err)
	}
	return out, nil
}

// ReadIdentities reads a file of private keys. The error holds nothing of what is in it.
func ReadIdentities(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out, err := age.ParseIdentities(f)
	if err != nil {
		return nil, fmt.Errorf("%s holds no private keys as age-keygen writes them", path)
	}
	return out, nil
}

func (p *process) newReceiver(ctx context.Context) (func(context.Context) error, error) {
	cfg, err := receiverConfig(p.Config, p.name, p.Version, p.Log)
	if err != nil {
		return nil, err
	}
	signer, err := store.NewSigner(ctx, p.conn)
	if err != nil {
		return nil, err
	}
	warn := func(problem string) { cfg.Log.Warn("line of the public keys passed over", "problem", problem) }
	if err := keepPublicKey(p.Config, signer.Public(), warn); err != nil {
		return nil, err
	}
	cfg.Sign = signer.Sign
	jobs := store.NewJobs(p.conn, actor(RoleReceiver, p.name), p.view)
	pool, err := receiver.New(cfg, p.conn, jobs, p.view, p.catalog)
	if err != nil {
		return nil, err
	}
	ledger := store.NewLedger(p.conn, actor(RoleReceiver, p.name))
	keeping, err := keeperConfig(p.Config, p.name, p.Log)
	if err != nil {
		return nil, err
	}
	keeping.Sign = signer.SignNotes
	drills, err := provingConfig(p.Config, p.name, p.Log)
	if err != nil {
		return nil, err
	}
	points := pointConfig(p.Config, drills, p.Log)
	duties, err := duty.New(dutyConfig(p.Config, p.name, p.Log), p.conn, jobs, p.view,
		archive.New(archiveConfig(p.Config, p.name, p.Log), ledger, p.view, p.catalog), proving.New(drills, p.catalog),
		keeper.Worker{Clusters: keeping.Clusters, Desk: pruning.NewDesk(p.conn)},
		point.New(points, pool, restore.NewDesk(p.conn, actor(RoleReceiver, p.name)), p.catalog, store.NewBinlogs(p.conn)))
	if err != nil {
		return nil, err
	}
	binlogs, err := binlogConfig(p.Config, p.name, p.Log)
	if err != nil {
		return nil, err
	}
	binlogs.Sign = signer.SignSegment
	keep := keeper.New(keeping, p.conn, p.view, p.catalog)
	logs := binlog.New(binlogs, p.conn)
	return func(ctx context.Context) error { return together(ctx, pool.Run, logs.Run, duties.Run, keep.Run) }, nil
}

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

func dutyConfig(cfg *config.Config, name string, log *slog.Logger) duty.Config {
	out := duty.Config{Name: name, Log: log.With("component", "duty"), Leases: map[string]time.Duration{}}
	for _, c := range cfg.Clusters {
		out.Leases[c.Name] = c.Lease
	}
	return out
}

func provingConfig(cfg *config.Config, name string, log *slog.Logger) (proving.Config, error) {
	out := proving.Config{Name: name, Log: log.With("component", "drill")}
	var err error
	// The key of now is in the file already.
	if out.Trusted, err = Keys(cfg, "", func(problem string) { out.Log.Warn("pass over a public key", "problem", problem) }); err != nil {
		return out, err
	}
	for _, c := range cfg.Clusters {
		identities, err := identitiesOf(c)
		if err != nil {
			return out, err
		}
		out.Clusters = append(out.Clusters, proving.Cluster{
			Name: c.Name, Scratch: ScratchFolder(cfg, c.Name), Memory: c.Drill.Memory, Identities: identities, Compare: c.Drill.Compare,
		})
	}
	return out, nil
}

// pointConfig is of the machine that drills are done on, and does the same kind of work.
func pointConfig(cfg *config.Config, drills proving.Config, log *slog.Logger) point.Config {
	out := point.Config{Name: drills.Name, Log: log.With("component", "point"), Trusted: drills.Trusted}
	for _, c := range drills.Clusters {
		cl, _ := cfg.Cluster(c.Name)
		out.Clusters = append(out.Clusters, point.Cluster{
			Name: c.Name, Servers: Servers(cl.Servers), Scratch: c.Scratch, Memory: c.Memory, Identities: c.Identities,
		})
	}
	return out
}

func archiveConfig(cfg *config.Config, name string, log *slog.Logger) archive.Config {
	out := archive.Config{Name: name, DataDir: cfg.Global.Datadir, Log: log.With("component", "archive")}
	for _, c := range cfg.Clusters {
		out.Clusters = append(out.Clusters, archive.Cluster{
			Name: c.Name, Servers: Servers(c.Servers), On: c.Archive.Enabled, Repository: repository(cfg, c),
			Keep: archive.Keep{
				Last: c.Archive.KeepLast, Hourly: c.Archive.KeepHourly, Daily: c.Archive.KeepDaily,
				Weekly: c.Archive.KeepWeekly, Monthly: c.Archive.KeepMonthly, Yearly: c.Archive.KeepYearly,
			},
			CheckSubset: c.Archive.CheckSubset,
		})
	}
	return out
}

// repository is where the archive of a cluster is.
func repository(cfg *config.Config, c config.Cluster) archive.Repository {
	a := c.Archive
	r := archive.Repository{
		Binary: a.Binary, Location: a.Repository, Password: a.Password.Reveal(), Args: a.Args, Timeout: a.Timeout,
		UploadKiB: a.Upload, DownloadKiB: a.Download,
	}
	if r.Location == "" {
		r.Location = filepath.Join(cfg.Global.Datadir, "archive", c.Name)
	}
	if a.AWS {
		r.AWSKey, r.AWSSecret = a.AWSKey.Reveal(), a.AWSSecret.Reveal()
	}
	return r
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
	out := gateway.DispatchConfig{Address: address, Poll: cfg.Global.Ticker, Log: log.With("component", "dispatcher")}
	for _, c := range cfg.Clusters {
		out.Clusters = append(out.Clusters, gateway.DispatchCluster{
			Name: c.Name, Mode: job.Mode(c.JobsMode), User: c.User, Password: c.Password.Reveal(), Servers: Servers(c.Servers),
		})
	}
	return out, nil
}

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

// together runs all of them until ctx ends or one fails, and waits for every one.
func together(ctx context.Context, runs ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(runs))
	var wg sync.WaitGroup
	for i, run := range runs {
		wg.Go(func() {
			defer cancel()
			errs[i] = run(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// drillSettings are those that a restart puts in force.
func drillSettings(c config.Cluster) []any {
	return []any{c.Drill.Scratch, c.Drill.Memory, c.Drill.Compare}
}

// archiveSettings are those that a restart puts in force; the schedules need none.
func archiveSettings(c config.Cluster) config.Archive {
	a := c.Archive
	a.Prune, a.Check = config.Schedule{}, config.Schedule{}
	return a
}
