package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/gateway/auth"
	"drydock/store"
)

// office is what the commands about users work with.
type office struct {
	ctx   context.Context
	cfg   *config.Config
	fixed auth.Config // the users of the configuration
	conn  *bus.Conn
	users *store.Users
}

func (c *cli) withUsers(cmd *cobra.Command, f func(*office) error) error {
	cfg, conn, err := c.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
	defer cancel()
	return f(&office{ctx, cfg, app.APIUsers(cfg), conn, store.NewUsers(conn, nil)})
}

// userCmd is a command about users. It takes as many arguments as its use names, or more where that ends in "...".
func (c *cli) userCmd(use, short string, act func(cmd *cobra.Command, o *office, args []string) error) *cobra.Command {
	n := len(strings.Fields(use)) - 1
	takes := cobra.ExactArgs(n)
	if strings.HasSuffix(use, "...") {
		takes = cobra.MinimumNArgs(n)
	}
	return &cobra.Command{
		Use: use, Short: short, Args: takes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withUsers(cmd, func(o *office) error { return act(cmd, o, args) })
		},
	}
}

// change does something to a user that was added at run time, and records it.
func (o *office) change(verb, name, detail string, do func(*bus.Audit) error) error {
	return audited(o.ctx, o.conn, bus.Audit{Verb: verb, Target: name, Detail: detail}, func(a *bus.Audit) error {
		if o.fixed.Fixed(name) {
			return fmt.Errorf("%s stands in %s (api-credentials): change it there", name, o.cfg.File)
		}
		return do(a)
	})
}

// checkManaged refuses what would leave nobody who may manage users through the API, unless it is forced.
func (o *office) checkManaged(force bool, without store.User) error {
	if force {
		return nil
	}
	docs, err := o.users.All(o.ctx)
	if err != nil {
		return err
	}
	after := append(slices.DeleteFunc(slices.Clone(docs), func(u store.User) bool { return u.Name == without.Name }), without)
	if o.fixed.Managed(docs) && !o.fixed.Managed(after) {
		return fmt.Errorf("nobody could manage users through the API any more (grant %s), only these commands; --force does it anyway", auth.Users)
	}
	return nil
}

func (o *office) exists(name string) error {
	doc, err := o.users.Get(o.ctx, name)
	if err != nil {
		return err
	}
	if _, ok := o.fixed.Info(doc); !ok {
		return fmt.Errorf("%w: %q", store.ErrNoUser, name)
	}
	return nil
}

func forceFlag(cmd *cobra.Command, force *bool) {
	cmd.Flags().BoolVar(force, "force", false, "although nobody can manage users through the API then")
}

// said tells what was done, if it was.
func said(cmd *cobra.Command, err error, format string, args ...any) error {
	if err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
	}
	return err
}
