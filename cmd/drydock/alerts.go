package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

func (c *cli) alertsCmd() *cobra.Command {
	var f store.AlertFilter
	var server string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "List the conditions that hold now, or with --all when which opened and closed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				if server != "" {
					s, err := job.ParseServer(server)
					if err != nil {
						return err
					}
					f.Server = s
				}
				if since > 0 {
					f.Since = time.Now().Add(-since)
				}
				list, err := store.NewAlerts(conn, cliActor()).List(ctx, f)
				if err != nil {
					return err
				}
				if list == nil {
					list = []bus.Alert{}
				}
				return c.print(cmd.OutOrStdout(), list, []string{"TIME", "STATE", "SEVERITY", "CODE", "CLUSTER", "SERVER", "TASK", "SINCE", "JOB", "TEXT"}, alertRows(list))
			})
		},
	}
	c.outputFlag(cmd)
	cmd.Flags().BoolVar(&f.History, "all", false, "every opening and closing")
	cmd.Flags().DurationVar(&since, "since", 7*24*time.Hour, "with --all: how far back (0: all)")
	cmd.Flags().StringVar(&f.Cluster, "cluster", "", "only this cluster")
	cmd.Flags().StringVar(&server, "server", "", "only this server, HOST:PORT")
	cmd.Flags().StringVar(&f.Task, "task", "", "only this task")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "at most so many")
	return cmd
}

func alertRows(list []bus.Alert) (rows [][]string) {
	for _, a := range list {
		server := "-"
		if a.Server.Host != "" {
			server = a.Server.String()
		}
		rows = append(rows, []string{
			clock(a.Time), string(a.State), string(a.Severity), a.Code, a.Cluster, server, dash(a.Task), clock(a.Since), dash(a.JobID), short(a.Text, 100),
		})
	}
	return rows
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
