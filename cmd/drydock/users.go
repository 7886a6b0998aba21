package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/gateway"
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
