package main

import (
	"context"
	"errors"

	"drydock/app"
	"drydock/job"
	"drydock/restore"
	"drydock/store"
)

// plannedServer asks the running drydock what a reseed of the server would be.
func (c *cli) plannedServer(ctx context.Context, o *recoveryOrder) (p planned, err error) {
	if o.load || o.clean || o.chown != "" || o.identity != "" || o.folder != "" || o.key != "" {
		return p, errors.New("--load, --clean, --chown, --identity, --folder and --key are for --to-directory: a server gets its data from the receiver")
	}
	cfg, conn, err := c.dial(ctx)
	if err != nil {
		return p, err
	}
	defer conn.NC.Close()
	list, err := store.NewCatalog(conn).List(ctx, "", job.Server{})
	if err != nil {
		return p, err
	}
	m, err := o.listed(list)
	if err != nil {
		return p, err
	}
	p.remote = restoreOrder{
		cluster: m.Cluster, server: o.server, kind: string(restore.KindOf(m)), backup: m.ID,
		confirm: o.confirm, flashback: o.stay && o.to == "", wait: o.wait, force: o.force,
	}
	to, err := parsePoint(o.to)
	if err != nil {
		return p, err
	}
	p.remote.to = to.String()
	r, err := p.remote.request(cfg)
	if err != nil {
		return p, err
	}
	var closed error
	if !o.force {
		closed = refuseClosed(ctx, conn, m.Cluster)
	}
	p.plan, err = app.PlanReseed(ctx, conn, r, m, app.Known{Manifests: list}, closed)
	return p, err
}

// listed is the backup of the catalogue that is named, or the newest good one of a server that ended before the wanted time.
func (o *recoveryOrder) listed(list []store.Manifest) (store.Manifest, error) {
	var of job.Server
	if o.backup == "" {
		var err error
		if of, err = serverNamed(o.of); err != nil {
			return store.Manifest{}, err
		}
	}
	to, err := parsePoint(o.to)
	if err != nil {
		return store.Manifest{}, err
	}
	return app.Listed(list, o.cluster, of, o.backup, to)
}
