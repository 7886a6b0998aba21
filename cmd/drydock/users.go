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
	"drydock/gateway"
	"drydock/gateway/auth"
	"drydock/store"
)

func (c *cli) usersCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "users", Short: "The users of the API, what they may do, and their tokens"}
	cmd.AddCommand(
		c.usersListCmd(), c.usersAddCmd(), c.usersRemoveCmd(), c.usersPasswdCmd(),
		c.usersGrantCmd(), c.usersRevokeCmd(), c.usersDisableCmd(true), c.usersDisableCmd(false),
		c.usersEndCmd(), c.usersTokenCmd(),
	)
	return cmd
}

// office is what the commands about users work with.
type office struct {
	ctx   context.Context
	cfg   *config.Config
	fixed auth.Config // the users of the configuration
	conn  *bus.Conn
	users *store.Users
}

func (c *cli) withUsers(cmd *cobra.Command, f func(*office) error) error {
	cfg, conn, err := c.dial()
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

func (c *cli) usersListCmd() *cobra.Command {
	cmd := c.userCmd("list", "List the users: those of the configuration and those that were added", func(cmd *cobra.Command, o *office, _ []string) error {
		docs, err := o.users.All(o.ctx)
		if err != nil {
			return err
		}
		list := o.fixed.List(docs)
		for _, u := range list {
			if u.Hidden {
				fmt.Fprintf(cmd.ErrOrStderr(), "drydock: %s was added and stands in %s, too: the configuration's password and grants hold\n", u.Name, o.cfg.File)
			}
		}
		return c.print(cmd.OutOrStdout(), list, []string{"USER", "SOURCE", "STATE", "GRANTS", "TOKENS", "CHANGED", "BY"}, userRows(list))
	})
	cmd.Aliases = []string{"ls"}
	c.outputFlag(cmd)
	return cmd
}

func userRows(list []store.UserInfo) (rows [][]string) {
	for _, u := range list {
		state := "active"
		if u.Disabled {
			state = "disabled"
		}
		rows = append(rows, []string{u.Name, u.Source, state, dash(gateway.GrantText(u.Grants, u.Clusters)), fmt.Sprint(len(u.Tokens)), clock(u.Changed), dash(u.ChangedBy)})
	}
	return rows
}

func (c *cli) usersAddCmd() *cobra.Command {
	var grants, perCluster []string
	cmd := c.passwordCmd("add NAME", "Add a user; the password is asked for", func(cmd *cobra.Command, o *office, name, hash string) error {
		clusters, err := o.clusterGrants(perCluster)
		if err != nil {
			return err
		}
		if err := store.CheckUserName(name); err != nil {
			return err
		}
		return o.change("user-add", name, gateway.GrantText(grants, clusters), func(*bus.Audit) error {
			u, err := o.users.Add(o.ctx, name, hash, grants, clusters, operator())
			return said(cmd, err, "added %s: %s", u.Name, dash(gateway.GrantText(u.Grants, u.Clusters)))
		})
	})
	cmd.Example = `  drydock users add dana --grant db-backup,db-logs --on "prod=db" --on "test=db cluster-hold"`
	cmd.Flags().StringSliceVar(&grants, "grant", nil, "what the user may do: grant words, comma separated")
	cmd.Flags().StringArrayVar(&perCluster, "on", nil, "`CLUSTER=WORDS`: what it may do there instead; may be repeated")
	return cmd
}

func (c *cli) usersRemoveCmd() *cobra.Command {
	var force bool
	cmd := c.userCmd("remove USER", "Remove a user that was added, with all sessions and tokens", func(cmd *cobra.Command, o *office, args []string) error {
		return o.change("user-remove", args[0], forced(force), func(*bus.Audit) error {
			if err := o.checkManaged(force, store.User{Name: args[0]}); err != nil {
				return err
			}
			_, err := o.users.Remove(o.ctx, args[0], operator())
			return said(cmd, err, "removed %s", args[0])
		})
	})
	cmd.Aliases = []string{"rm"}
	forceFlag(cmd, &force)
	return cmd
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

func (c *cli) usersDisableCmd(disable bool) *cobra.Command {
	use, short, verb, done := "enable", "Let a user in again", "user-enable", "%s may log in again"
	if disable {
		use, short, verb, done = "disable", "Shut a user out, with sessions and tokens, until it is enabled", "user-disable", "%s is shut out"
	}
	var force bool
	cmd := c.userCmd(use+" USER", short, func(cmd *cobra.Command, o *office, args []string) error {
		return o.change(verb, args[0], "", func(*bus.Audit) error {
			if disable {
				if err := o.checkManaged(force, store.User{Name: args[0]}); err != nil {
					return err
				}
			}
			_, err := o.users.SetDisabled(o.ctx, args[0], disable, operator())
			return said(cmd, err, done, args[0])
		})
	})
	if disable {
		forceFlag(cmd, &force)
	}
	return cmd
}

func (c *cli) usersEndCmd() *cobra.Command {
	var tokens bool
	cmd := c.userCmd("revoke-tokens USER", "End all sessions of a user at once, of one in the configuration, too", func(cmd *cobra.Command, o *office, args []string) error {
		detail := "sessions"
		if tokens {
			detail = "sessions and API tokens"
		}
		act := bus.Audit{Verb: "user-revoke-tokens", Target: args[0], Detail: detail}
		return audited(o.ctx, o.conn, act, func(*bus.Audit) error {
			if err := o.exists(args[0]); err != nil {
				return err
			}
			_, err := o.users.EndSessions(o.ctx, args[0], tokens, operator())
			return said(cmd, err, "ended all %s of %s", detail, args[0])
		})
	})
	cmd.Flags().BoolVar(&tokens, "api-tokens", false, "and revoke all API tokens")
	return cmd
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
