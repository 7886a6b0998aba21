package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/gateway"
	"drydock/gateway/auth"
)

func (c *cli) usersTokenCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "API tokens: for programs, with an end and with grants of their own"}
	cmd.AddCommand(c.tokenListCmd(), c.tokenAddCmd(), c.tokenRevokeCmd())
	return cmd
}

func (c *cli) tokenListCmd() *cobra.Command {
	cmd := c.userCmd("list USER", "List the API tokens of a user", func(cmd *cobra.Command, o *office, args []string) error {
		if err := o.exists(args[0]); err != nil {
			return err
		}
		doc, err := o.users.Get(o.ctx, args[0])
		if err != nil {
			return err
		}
		list := doc.Info().Tokens
		var rows [][]string
		for _, t := range list {
			grants := strings.Join(t.Grants, " ")
			if grants == "" {
				grants = "(all of the user's)"
			}
			rows = append(rows, []string{t.ID, t.Name, grants, clock(t.Created), t.By, clock(t.Expires)})
		}
		return c.print(cmd.OutOrStdout(), list, []string{"TOKEN", "NAME", "GRANTS", "CREATED", "BY", "EXPIRES"}, rows)
	})
	cmd.Aliases = []string{"ls"}
	c.outputFlag(cmd)
	return cmd
}

func (c *cli) tokenAddCmd() *cobra.Command {
	var grants []string
	var expires string
	cmd := c.userCmd("add USER NAME", "Make an API token and print it: it cannot be shown again", func(cmd *cobra.Command, o *office, args []string) error {
		until, err := gateway.TokenExpiry(expires, time.Now())
		if err != nil {
			return err
		}
		t, text := auth.NewToken(args[1], grants, until)
		act := bus.Audit{Verb: "token-add", Target: args[0]}
		return audited(o.ctx, o.conn, act, func(a *bus.Audit) error {
			if err := o.exists(args[0]); err != nil {
				return err
			}
			if _, err := o.users.AddToken(o.ctx, args[0], t, operator()); err != nil {
				return err
			}
			a.Detail = gateway.TokenText(t)
			fmt.Fprintf(cmd.ErrOrStderr(), "%s until %s; keep it now:\n", t.ID, clock(t.Expires))
			return said(cmd, nil, "%s", text)
		})
	})
	cmd.Flags().StringSliceVar(&grants, "grant", nil, "grant words, comma separated; what the user may not do, the token may not either (all that the user may)")
	cmd.Flags().StringVar(&expires, "expires", "", "`WHEN`: a duration such as 720h or a time such as 2027-01-31T00:00:00Z (90 days)")
	return cmd
}

func (c *cli) tokenRevokeCmd() *cobra.Command {
	return c.userCmd("revoke USER TOKEN", "Revoke an API token by its id or name", func(cmd *cobra.Command, o *office, args []string) error {
		return audited(o.ctx, o.conn, bus.Audit{Verb: "token-remove", Target: args[0], Detail: "token " + args[1]}, func(a *bus.Audit) error {
			t, err := o.users.RemoveToken(o.ctx, args[0], args[1], operator())
			if err == nil {
				a.Detail = gateway.TokenText(t)
			}
			return said(cmd, err, "revoked %s of %s", args[1], args[0])
		})
	})
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
