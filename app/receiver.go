package app

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"

	"drydock/config"
	"drydock/pruning"
	"drydock/receiver"
	"drydock/receiver/archive"
	"drydock/receiver/binlog"
	"drydock/receiver/duty"
	"drydock/receiver/keeper"
	"drydock/receiver/point"
	"drydock/receiver/proving"
	"drydock/restore"
	"drydock/store"
)

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

func dutyConfig(cfg *config.Config, name string, log *slog.Logger) duty.Config {
	out := duty.Config{Name: name, Log: log.With("component", "duty"), Leases: map[string]time.Duration{}}
	for _, c := range cfg.Clusters {
		out.Leases[c.Name] = c.Lease
	}
	return out
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
