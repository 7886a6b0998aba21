package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/config"
	"drydock/store"
)

func (c *cli) natsUserCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Users of the bus that can look and change nothing, for monitoring"}
	cmd.AddCommand(c.natsUserAddCmd(), c.natsUserListCmd(), c.natsUserRemoveCmd())
	return cmd
}

// readerRow is a row of `drydock nats user list`: what is known of a reader but the hash.
type readerRow struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	By      string    `json:"by"`
}

func (c *cli) natsUserAddCmd() *cobra.Command {
	var readOnly bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user and print its password: it cannot be shown again",
		Long: "The user can subscribe to what happens and read what is kept, but neither the keys nor the users of drydock, and it can\n" +
			"change nothing (docs/bus.md). It is let in a moment later, without a restart. Of an external NATS server (nats-url), what\n" +
			"to add to its configuration is printed, and the password on standard error.",
		Example: "  drydock nats user add grafana --read-only",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !readOnly {
				return errors.New("only users that read can be added: say --read-only")
			}
			cfg, err := config.LoadForCommand(c.file)
			if err != nil {
				return err
			}
			if args[0] == cfg.Global.NATS.User {
				return fmt.Errorf("%s is what drydock itself logs in as (nats-user): choose another name", args[0])
			}
			r, password, err := store.NewReader(args[0], operator())
			if err != nil {
				return err
			}
			if cfg.Global.NATS.URL != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "the password of %s, keep it now: %s\n", r.Name, password)
				return said(cmd, nil, "%s", bus.ReaderConfig(r))
			}
			act := bus.Audit{Verb: "nats-user-add", Target: r.Name, Detail: "read-only"}
			return c.act(cmd, act, func(ctx context.Context, conn *bus.Conn, _ *bus.Audit) error {
				if err := store.NewReaders(conn).Add(ctx, r); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "added %s, which can only read; its password, keep it now:\n", r.Name)
				return said(cmd, nil, "%s", password)
			})
		},
	}
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "it can look and change nothing (there are no others)")
	return cmd
}

// withReaders runs f with the readers of the embedded server.
func (c *cli) withReaders(ctx context.Context, f func(context.Context, *bus.Conn, *store.Readers) error) error {
	cfg, err := config.LoadForCommand(c.file)
	if err != nil {
		return err
	}
	if cfg.Global.NATS.URL != "" {
		return errors.New("the users of an external NATS server (nats-url) are in its own configuration")
	}
	return c.withBus(ctx, func(ctx context.Context, conn *bus.Conn) error { return f(ctx, conn, store.NewReaders(conn)) })
}

func (c *cli) natsUserListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short: "List the users of the bus that were added",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withReaders(cmd.Context(), func(ctx context.Context, _ *bus.Conn, readers *store.Readers) error {
				all, err := readers.List(ctx)
				var list []readerRow
				var rows [][]string
				for _, r := range all {
					list = append(list, readerRow{r.Name, r.Created, r.By})
					rows = append(rows, []string{r.Name, clock(r.Created), r.By})
				}
				if err != nil {
					return err
				}
				return c.print(cmd.OutOrStdout(), list, []string{"USER", "CREATED", "BY"}, rows)
			})
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func (c *cli) natsUserRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use: "remove READER", Aliases: []string{"rm"},
		Short: "Remove a user of the bus and end its connections",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withReaders(cmd.Context(), func(ctx context.Context, conn *bus.Conn, readers *store.Readers) error {
				return audited(ctx, conn, bus.Audit{Verb: "nats-user-remove", Target: args[0]}, func(*bus.Audit) error {
					return said(cmd, readers.Remove(ctx, args[0]), "removed %s", args[0])
				})
			})
		},
	}
}
