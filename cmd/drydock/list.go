package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// withBus runs f with a connection to the running drydock.
func (c *cli) withBus(ctx context.Context, f func(context.Context, *bus.Conn) error) error {
	_, conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	return f(ctx, conn)
}

func (c *cli) jobsCmd() *cobra.Command {
	var f store.Filter
	var server, state string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "jobs [JOB]",
		Short: "List jobs, newest first, or show one with its whole history",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.listing(cmd, func(ctx context.Context, conn *bus.Conn, w io.Writer) error {
				jobs := store.NewJobs(conn, cliActor(), nil)
				if len(args) == 1 {
					return c.showJob(ctx, w, jobs, args[0])
				}
				var err error
				if f.Server, err = onlyServer(server); err != nil {
					return err
				}
				if f.State = job.State(state); state != "" && !f.State.Known() {
					return fmt.Errorf("unknown state %q: the states are %v", state, job.States)
				}
				f.Since = ago(since)
				f.Limit = c.ask(cmd)
				list, err := jobs.List(ctx, f)
				if err != nil {
					return err
				}
				list = cut(c, cmd, w, list)
				return c.print(w, list, jobHeading, jobRows(list))
			})
		},
	}
	c.outputFlag(cmd)
	c.watchFlag(cmd, bus.AllJobs)
	cmd.Flags().StringVar(&f.Cluster, "cluster", "", "only this cluster")
	cmd.Flags().StringVar(&server, "server", "", "only this server, HOST:PORT")
	cmd.Flags().StringVar(&f.Task, "task", "", "only this task")
	cmd.Flags().StringVar(&state, "state", "", "only jobs in this state")
	cmd.Flags().DurationVar(&since, "since", 7*24*time.Hour, "how far back (0: all)")
	c.limitFlag(cmd)
	return cmd
}

var jobHeading = []string{"JOB", "CLUSTER", "SERVER", "TASK", "STATE", "TRIGGER", "DUE", "TOOK", "BYTES", "REASON"}

func jobRows(list []job.Job) (rows [][]string) {
	for _, j := range list {
		size := "-"
		if j.Stream != nil {
			size = bytes(j.Stream.Bytes)
		}
		rows = append(rows, []string{
			j.ID, j.Cluster, j.Server.String(), j.Task, string(j.State), string(j.Trigger.Kind), clock(j.Due),
			took(j.Started(), j.Ended()), size, short(j.Reason, 80),
		})
	}
	return rows
}

func (c *cli) showJob(ctx context.Context, w io.Writer, jobs *store.Jobs, id string) error {
	j, err := jobs.Find(ctx, id)
	if err != nil {
		return err
	}
	if c.output != "table" {
		return c.print(w, j, nil, nil)
	}
	if err := writeTable(w, jobHeading, jobRows([]job.Job{j})); err != nil {
		return err
	}
	var rows [][]string
	for _, s := range j.Steps {
		rows = append(rows, []string{clock(s.Time), string(s.State), s.Actor, s.Reason})
	}
	fmt.Fprintln(w)
	if err := writeTable(w, []string{"TIME", "STATE", "ACTOR", "REASON"}, rows); err != nil {
		return err
	}
	if err := writeStages(w, j); err != nil {
		return err
	}
	for _, e := range j.Evidence.Errors {
		fmt.Fprintln(w, "error:", printable(e))
	}
	return nil
}

func (c *cli) nextCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "next",
		Short: "Show when every schedule comes next, and why the others are off",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.listing(cmd, func(ctx context.Context, conn *bus.Conn, w io.Writer) error {
				list, err := schedulesNow(ctx, conn)
				if err != nil {
					return err
				}
				return c.print(w, list, []string{"CLUSTER", "TASK", "NEXT", "IN", "SPEC", "ZONE", "SERVERS", "WINDOW"}, scheduleRows(list))
			})
		},
	}
	c.outputFlag(cmd)
	c.watchFlag(cmd, bus.AllTasks, bus.AllControl)
	return cmd
}

func scheduleRows(list []bus.ScheduleInfo) (rows [][]string) {
	for _, s := range list {
		next, in := "off: "+s.Why, "-"
		if s.Enabled && len(s.Next) > 0 {
			next, in = clock(s.Next[0]), time.Until(s.Next[0]).Round(time.Second).String()
		}
		rows = append(rows, []string{s.Cluster, s.Task, next, in, s.Spec, s.Zone, fmt.Sprint(len(s.Servers)), windowState(s)})
	}
	return rows
}

func (c *cli) ticksCmd() *cobra.Command {
	var f store.TickFilter
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "ticks",
		Short: "Show the tick ledger: what was due, and what became of it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.listing(cmd, func(ctx context.Context, conn *bus.Conn, w io.Writer) error {
				f.Since = ago(since)
				f.Limit = c.ask(cmd)
				list, err := store.NewLedger(conn, cliActor()).List(ctx, f)
				if err != nil {
					return err
				}
				list = cut(c, cmd, w, list)
				var rows [][]string
				for _, t := range list {
					rows = append(rows, []string{clock(t.Due), t.Cluster, t.Task, string(t.Outcome), string(t.Trigger.Kind), fmt.Sprintf("%.1fs", t.Lateness), short(t.Reason, 100)})
				}
				return c.print(w, list, []string{"DUE", "CLUSTER", "TASK", "OUTCOME", "TRIGGER", "LATE", "REASON"}, rows)
			})
		},
	}
	c.outputFlag(cmd)
	c.watchFlag(cmd, bus.AllTasks)
	cmd.Flags().StringVar(&f.Cluster, "cluster", "", "only this cluster")
	cmd.Flags().StringVar(&f.Task, "task", "", "only this task")
	cmd.Flags().DurationVar(&since, "since", 7*24*time.Hour, "how far back (0: all)")
	c.limitFlag(cmd)
	return cmd
}

func (c *cli) backupsCmd() *cobra.Command {
	var cluster, server string
	cmd := &cobra.Command{
		Use:   "backups",
		Short: "List the backups, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.listing(cmd, func(ctx context.Context, conn *bus.Conn, w io.Writer) error {
				s, err := onlyServer(server)
				if err != nil {
					return err
				}
				list, err := store.NewCatalog(conn).All(ctx, cluster, s)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, m := range list {
					rows = append(rows, []string{m.ID, m.Cluster, m.Server.String(), m.Task, clock(m.Ended), bytes(m.Size), bytes(m.Stored), standing(m), archived(m), m.Algo + ":" + short(m.Hash, 13), m.GTID, m.Path})
				}
				return c.print(w, list, []string{"BACKUP", "CLUSTER", "SERVER", "TOOL", "ENDED", "SIZE", "ON DISK", "PROOF", "ARCHIVE", "HASH", "GTID", "PATH"}, rows)
			})
		},
	}
	c.outputFlag(cmd)
	c.watchFlag(cmd, bus.AllCatalog)
	cmd.Flags().StringVar(&cluster, "cluster", "", "only this cluster")
	cmd.Flags().StringVar(&server, "server", "", "only this server, HOST:PORT")
	cmd.AddCommand(c.backupsVerifyCmd(), c.backupsRebuildCmd(), c.backupsKeyCmd(), c.backupsPruneCmd(), c.backupsPinCmd(true), c.backupsPinCmd(false))
	return cmd
}

// archived is the snapshot that has a backup, or that none has it.
func archived(m store.Manifest) string {
	a, ok := m.Archived()
	switch {
	case ok:
		return a.Snapshot[:min(8, len(a.Snapshot))]
	case len(m.Archives) > 0 && m.Archives[len(m.Archives)-1].Snapshot == "":
		return "deleted"
	case len(m.Archives) > 0:
		return "forgotten"
	}
	return "-"
}
