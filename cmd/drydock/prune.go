package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/pruning"
	"drydock/store"
)

func (c *cli) backupsPruneCmd() *cobra.Command {
	var confirm string
	var wait, force, dry bool
	cmd := &cobra.Command{
		Use:   "prune [CLUSTER]",
		Short: "Show which backups a prune keeps and deletes, and why; with --confirm CLUSTER order it",
		Long: "Shows every backup and leftover with what a prune would do about it now, as the receivers see it. Nothing is deleted\n" +
			"without --confirm and the name of the cluster once more; what is deleted then is judged anew and stands in the job's log.\n" +
			"Exit status 1 if a receiver does not answer or a backup is not as it should be.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, conn, err := c.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.NC.Close()
			clusters, err := clustersNamed(cfg, args)
			if err != nil {
				return err
			}
			switch {
			case confirm == "" || dry:
				return c.planPrune(cmd.Context(), cmd.OutOrStdout(), conn, clusters)
			case len(args) != 1 || confirm != args[0]:
				return errors.New("a prune deletes backups: name the cluster, and once more after --confirm")
			}
			return c.runNow(cmd.Context(), cmd.OutOrStdout(), cfg, conn, runRequest{cluster: args[0], task: pruning.Task, wait: wait, force: force, confirm: true})
		},
	}
	c.outputFlag(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what it would do, whatever the other flags say (the default without --confirm)")
	cmd.Flags().StringVar(&confirm, "confirm", "", "the name of the cluster once more: its backups are deleted")
	cmd.Flags().BoolVar(&force, "force", false, "although the cluster is on hold or blacked out")
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "wait for the end; exit status 0 only if the job reached success")
	return cmd
}

func (c *cli) planPrune(ctx context.Context, w io.Writer, conn *bus.Conn, clusters []string) error {
	list, bad := []bus.PlanItem{}, false
	var free int64
	for _, name := range clusters {
		err := pruning.NewDesk(conn).Plan(ctx, name, func(i bus.PlanItem) {
			list = append(list, i)
			bad = bad || i.Problem != ""
			if !i.Keep {
				free += i.Bytes
			}
		})
		if err != nil {
			return err
		}
	}
	if err := c.print(w, list, []string{"VERDICT", "BACKUP", "CLUSTER", "SERVER", "TOOL", "ENDED", "ON DISK", "RECEIVER", "WHY"}, pruneRows(list)); err != nil {
		return err
	}
	if c.output == "table" {
		fmt.Fprintf(w, "a prune would free %s\n", bytes(free))
	}
	if bad {
		return exitCode(1)
	}
	return nil
}

func pruneRows(list []bus.PlanItem) (rows [][]string) {
	for _, i := range list {
		verdict := "keep"
		if !i.Keep {
			verdict = "DELETE"
		}
		what, server, why := i.Name(), i.Server.String(), strings.Join(i.Why, ", ")
		if i.Backup == "" && i.File == "" {
			what, server, why = "-", "-", i.Problem
		}
		rows = append(rows, []string{verdict, what, i.Cluster, server, dash(i.Task), clock(i.Ended), bytes(i.Bytes), i.Receiver, why})
	}
	return rows
}

func (c *cli) backupsPinCmd(on bool) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pin BACKUP",
		Short: "Keep a backup whatever the backup-keep keys say",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				catalog := store.NewCatalog(conn)
				m, err := catalog.ByID(ctx, args[0])
				if err != nil {
					return err
				}
				act := bus.Audit{Verb: "pin", Cluster: m.Cluster, Server: m.Server.String(), Target: m.ID, Detail: m.Task, Reason: reason}
				state := "pinned"
				if !on {
					act.Verb, state = "unpin", "no longer pinned"
				}
				return audited(ctx, conn, act, func(*bus.Audit) error {
					m, err := catalog.SetPin(ctx, m, store.Pin{On: on, Time: time.Now().UTC(), By: operator(), Reason: reason})
					return said(cmd, err, "%s  %s of %s is %s", m.ID, m.Task, m.Server, state)
				})
			})
		},
	}
	if !on {
		cmd.Use, cmd.Short = "unpin BACKUP", "Let the backup-keep keys decide about a backup again"
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who come later")
	return cmd
}

// standing is what was shown of a backup, whether it is pinned, and whether its file is there at all.
func standing(m store.Manifest) string {
	switch {
	case m.Removal != nil && !m.Removal.Done.IsZero():
		return "in the archive only"
	case m.Removal != nil:
		return "being deleted"
	case m.Pinned():
		return proof(m) + ", pinned"
	}
	return proof(m)
}
