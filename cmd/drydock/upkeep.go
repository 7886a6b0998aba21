package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"drydock/bus"
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
			return c.act(cmd, bus.Audit{Verb: "replay"}, func(ctx context.Context, conn *bus.Conn, a *bus.Audit) error {
				n, err := store.Replay(ctx, conn, slog.New(slog.NewTextHandler(os.Stderr, nil)))
				if err == nil {
					a.Detail = fmt.Sprintf("%d states", n)
				}
				return said(cmd, err, "%d states written", n)
			})
		},
	}
}
