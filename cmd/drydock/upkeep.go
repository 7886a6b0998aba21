package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/scripts"
	"drydock/store"
)

func (c *cli) scriptCmd() *cobra.Command {
	var sum bool
	cmd := &cobra.Command{
		Use:   "script",
		Short: "Print the dbjobs script that runs on the database hosts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if sum {
				fmt.Fprintln(cmd.OutOrStdout(), scripts.Checksum(scripts.Script()))
				return nil
			}
			_, err := cmd.OutOrStdout().Write(scripts.Script())
			return err
		},
	}
	cmd.Flags().BoolVar(&sum, "checksum", false, "print its SHA-256 instead")
	return cmd
}

func (c *cli) replayCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "replay",
		Short: "Fill the bucket drydock_serverstate again from the log of jobs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				return audited(ctx, conn, bus.Audit{Verb: "replay"}, func(a *bus.Audit) error {
					n, err := store.Replay(ctx, conn, slog.New(slog.NewTextHandler(os.Stderr, nil)))
					if err != nil {
						return err
					}
					a.Detail = fmt.Sprintf("%d states", n)
					fmt.Fprintf(cmd.OutOrStdout(), "%d states written\n", n)
					return nil
				})
			})
		},
	}
}

func (c *cli) checkCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, the machine and every server; exit status 1 if anything fails",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.file)
			if err != nil {
				return err
			}
			items := app.Check(cmd.Context(), cfg)
			var rows [][]string
			bad := false
			for _, i := range items {
				rows = append(rows, []string{string(i.Status), i.Name, i.Detail, i.Hint})
				bad = bad || i.Status == app.Fail
			}
			if err := c.print(cmd.OutOrStdout(), items, []string{"STATUS", "ITEM", "FOUND", "HINT"}, rows); err != nil {
				return err
			}
			if bad {
				return exitCode(1)
			}
			return nil
		},
	}
	c.outputFlag(cmd)
	return cmd
}
