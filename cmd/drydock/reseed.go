package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/job"
	"drydock/restore"
	"drydock/store"
)

// restoreOrder is what the reseed and flashback commands were given.
type restoreOrder struct {
	cluster, server, kind, backup, confirm string
	to                                     string // point in time
	flashback, wait, force                 bool
}

func (c *cli) reseedCmd() *cobra.Command {
	var o restoreOrder
	cmd := &cobra.Command{
		Use:   "reseed CLUSTER SERVER physical|logical|master",
		Short: "Replace all data of a server by a backup, or by a dump of the primary, and have it replicate",
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.cluster, o.server, o.kind = args[0], args[1], args[2]
			return c.runRestore(cmd, o)
		},
	}
	restoreFlags(cmd, &o)
	return cmd
}

func (c *cli) flashbackCmd() *cobra.Command {
	o := restoreOrder{kind: "physical", flashback: true}
	cmd := &cobra.Command{
		Use:   "flashback CLUSTER SERVER",
		Short: "Take a server back to the time of one of its own physical backups",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.cluster, o.server = args[0], args[1]
			return c.runRestore(cmd, o)
		},
	}
	restoreFlags(cmd, &o)
	return cmd
}

func restoreFlags(cmd *cobra.Command, o *restoreOrder) {
	cmd.Flags().StringVar(&o.backup, "backup", "", "id of the backup; the latest without it")
	cmd.Flags().StringVar(&o.confirm, "confirm", "", "HOST:PORT of the server once more: its data are replaced")
	cmd.Flags().BoolVar(&o.force, "force", false, "although the cluster is on hold or blacked out")
	cmd.Flags().BoolVarP(&o.wait, "wait", "w", false, "wait for the end; exit status 0 only if the job reached success")
}

func (c *cli) runRestore(cmd *cobra.Command, o restoreOrder) error {
	return c.runRestoreOrder(cmd.Context(), cmd.OutOrStdout(), o)
}

func (c *cli) runRestoreOrder(ctx context.Context, w io.Writer, o restoreOrder) error {
	cfg, conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	return c.orderRestore(ctx, w, cfg, conn, o)
}

func (c *cli) orderRestore(ctx context.Context, w io.Writer, cfg *config.Config, conn *bus.Conn, o restoreOrder) error {
	r, err := o.request(cfg)
	if err != nil {
		return err
	}
	act := bus.Audit{Verb: "reseed", Cluster: o.cluster, Server: r.Server.String(), Target: o.kind, Detail: forced(o.force)}
	if o.flashback || o.to != "" {
		act.Verb = "flashback"
	}
	var done restore.Ordered
	err = audited(ctx, conn, act, func(a *bus.Audit) error {
		if !o.force {
			if err := refuseClosed(ctx, conn, o.cluster); err != nil {
				return err
			}
		}
		if done, err = restore.NewDesk(conn, cliActor()).Order(ctx, r); err != nil {
			return err
		}
		a.Jobs, a.Reason = []string{done.JobID}, done.Tick.Reason
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s  %s on %s, %s\n", done.JobID, done.Task, r.Server, done.Tick.Reason)
	if !o.wait {
		return nil
	}
	if err := watchJobs(ctx, w, conn, done.Tick, []string{done.JobID}); err != nil || o.to == "" {
		return err
	}
	return followFlashback(ctx, w, conn, done)
}

// followFlashback waits for the second part of a restore to a point in time, which the job of the first asked for before it ended.
func followFlashback(ctx context.Context, w io.Writer, conn *bus.Conn, first restore.Ordered) error {
	ticks, err := store.NewLedger(conn, cliActor()).List(ctx, store.TickFilter{Cluster: first.Tick.Cluster, Since: first.Tick.Time.Add(-time.Minute)})
	if err != nil {
		return err
	}
	for _, t := range ticks {
		if t.ID == first.JobID && t.Outcome == bus.Fired && len(t.Servers) == 1 {
			id := job.NewID(t.Due, t.ID, job.Key{Cluster: t.Cluster, Server: t.Servers[0], Task: t.Task})
			fmt.Fprintf(w, "%s  %s on %s, %s\n", id, t.Task, t.Servers[0], t.Reason)
			return watchJobs(ctx, w, conn, t, []string{id})
		}
	}
	return fmt.Errorf("job %s asked for no flashback: see drydock jobs", first.JobID)
}

// request is what the desk is asked. Errors name what is unknown.
func (o restoreOrder) request(cfg *config.Config) (r restore.Request, err error) {
	kind, ok := restore.ParseKind(o.kind)
	if !ok {
		return r, fmt.Errorf("cannot restore from %q: it is physical, logical or master", o.kind)
	}
	cluster, err := clusterNamed(cfg, o.cluster)
	if err != nil {
		return r, err
	}
	server, err := serverOf(cluster, o.server)
	if err != nil {
		return r, err
	}
	return restore.Request{
		Cluster: o.cluster, Servers: app.Servers(cluster.Servers), Server: server, Kind: kind, Flashback: o.flashback,
		To: o.to, Login: restore.Login{User: cluster.User, Password: cluster.Password.Reveal()}, Backup: o.backup, Confirm: o.confirm, By: operator(), Force: o.force,
	}, nil
}
