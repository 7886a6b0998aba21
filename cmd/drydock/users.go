package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

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
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short: "List the users: those of the configuration and those that were added",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withUsers(cmd, func(o *office) error {
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
		},
	}
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
	var stdin bool
	cmd := &cobra.Command{
		Use:     "add NAME",
		Short:   "Add a user; the password is asked for",
		Example: `  drydock users add dana --grant db-backup,db-logs --on "prod=db" --on "test=db cluster-hold"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := newPassword(cmd, stdin)
			if err != nil {
				return err
			}
			hash, err := auth.HashPassword(password)
			if err != nil {
				return err
			}
			return c.withUsers(cmd, func(o *office) error {
				clusters, err := o.clusterGrants(perCluster)
				if err != nil {
					return err
				}
				if err := store.CheckUserName(args[0]); err != nil {
					return err
				}
				return o.change("user-add", args[0], gateway.GrantText(grants, clusters), func(*bus.Audit) error {
					u, err := o.users.Add(o.ctx, args[0], hash, grants, clusters, operator())
					if err == nil {
						fmt.Fprintf(cmd.OutOrStdout(), "added %s: %s\n", u.Name, dash(gateway.GrantText(u.Grants, u.Clusters)))
					}
					return err
				})
			})
		},
	}
	cmd.Flags().StringSliceVar(&grants, "grant", nil, "what the user may do: grant words, comma separated")
	cmd.Flags().StringArrayVar(&perCluster, "on", nil, "`CLUSTER=WORDS`: what it may do there instead; may be repeated")
	passwordFlag(cmd, &stdin)
	return cmd
}

// clusterGrants reads CLUSTER=WORDS.
func (o *office) clusterGrants(texts []string) (map[string][]string, error) {
	var out map[string][]string
	for _, text := range texts {
		cluster, words, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--on %q: write CLUSTER=WORDS, as in prod=db-backup", text)
		}
		if _, err := scope(o.cfg, []string{cluster}); err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string][]string{}
		}
		out[cluster] = strings.FieldsFunc(words, func(r rune) bool { return r == ' ' || r == ',' })
	}
	return out, nil
}

func passwordFlag(cmd *cobra.Command, stdin *bool) {
	cmd.Flags().BoolVar(stdin, "password-stdin", false, "read the password from standard input, one line, instead of asking")
}

// newPassword asks for a new password, twice, or reads it from standard input. It is never an argument: those everybody on
// the machine can see.
func newPassword(cmd *cobra.Command, stdin bool) (string, error) {
	if stdin {
		return firstLine(cmd.InOrStdin())
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", errors.New("no terminal to ask for the password on; use --password-stdin")
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		line, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return string(line), nil
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", err
	}
	if err := auth.CheckPassword(first); err != nil {
		return "", err
	}
	second, err := ask("Once more: ")
	if err == nil && first != second {
		err = errors.New("the two are not the same")
	}
	return first, err
}

func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (c *cli) usersRemoveCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"},
		Short: "Remove a user that was added, with all sessions and tokens",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withUsers(cmd, func(o *office) error {
				return o.change("user-remove", args[0], forced(force), func(*bus.Audit) error {
					if err := o.checkManaged(force, store.User{Name: args[0]}); err != nil {
						return err
					}
					_, err := o.users.Remove(o.ctx, args[0], operator())
					return said(cmd, err, "removed %s", args[0])
				})
			})
		},
	}
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

func (c *cli) usersPasswdCmd() *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Give a user another password, and end its sessions",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := newPassword(cmd, stdin)
			if err != nil {
				return err
			}
			hash, err := auth.HashPassword(password)
			if err != nil {
				return err
			}
			return c.withUsers(cmd, func(o *office) error {
				return o.change("user-passwd", args[0], "", func(*bus.Audit) error {
					_, err := o.users.SetPassword(o.ctx, args[0], hash, operator())
					return said(cmd, err, "changed the password of %s; its sessions are over", args[0])
				})
			})
		},
	}
	passwordFlag(cmd, &stdin)
	return cmd
}

func (c *cli) usersGrantCmd() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use:   "grant NAME WORD...",
		Short: "Let a user do more; with --on only on one cluster, where its grants are separate from then on",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.editGrants(cmd, "user-grant", args[0], cluster, true, func(words []string) ([]string, error) {
				for _, w := range args[1:] {
					if !slices.Contains(words, w) {
						words = append(words, w)
					}
				}
				return words, nil
			})
		},
	}
	cmd.Flags().StringVar(&cluster, "on", "", "`CLUSTER` that the words are for")
	return cmd
}

func (c *cli) usersRevokeCmd() *cobra.Command {
	var cluster string
	var force bool
	cmd := &cobra.Command{
		Use:   "revoke NAME WORD...",
		Short: "Take grant words from a user; with --on only on one cluster, where its grants are separate from then on",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.editGrants(cmd, "user-revoke", args[0], cluster, force, func(words []string) ([]string, error) {
				for _, w := range args[1:] {
					i := slices.Index(words, w)
					if i < 0 {
						return nil, fmt.Errorf("%s does not have the word %q: it has %s", args[0], w, dash(strings.Join(words, " ")))
					}
					words = slices.Delete(words, i, i+1)
				}
				return words, nil
			})
		},
	}
	cmd.Flags().StringVar(&cluster, "on", "", "`CLUSTER` that the words are for")
	forceFlag(cmd, &force)
	return cmd
}

// editGrants changes the words of a user, everywhere or on one cluster.
func (c *cli) editGrants(cmd *cobra.Command, verb, name, cluster string, force bool, edit func([]string) ([]string, error)) error {
	return c.withUsers(cmd, func(o *office) error {
		if cluster != "" {
			if _, err := scope(o.cfg, []string{cluster}); err != nil {
				return err
			}
		}
		return o.change(verb, name, "", func(a *bus.Audit) error {
			u, err := o.users.EditGrants(o.ctx, name, operator(), func(u *store.User) error {
				if err := editWords(u, cluster, edit); err != nil {
					return err
				}
				return o.checkManaged(force, *u)
			})
			if err != nil {
				return err
			}
			a.Detail = gateway.GrantText(u.Grants, u.Clusters)
			return said(cmd, nil, "%s: %s", name, dash(a.Detail))
		})
	})
}

func editWords(u *store.User, cluster string, edit func([]string) ([]string, error)) error {
	if cluster == "" {
		words, err := edit(slices.Clone(u.Grants))
		u.Grants = words
		return err
	}
	words, own := u.Clusters[cluster]
	if !own {
		words = u.Grants
	}
	words, err := edit(slices.Clone(words))
	if err != nil {
		return err
	}
	if u.Clusters == nil {
		u.Clusters = map[string][]string{}
	}
	u.Clusters[cluster] = words
	return nil
}

func (c *cli) usersDisableCmd(disable bool) *cobra.Command {
	use, short, verb, done := "enable", "Let a user in again", "user-enable", "%s may log in again"
	if disable {
		use, short, verb, done = "disable", "Shut a user out, with sessions and tokens, until it is enabled", "user-disable", "%s is shut out"
	}
	var force bool
	cmd := &cobra.Command{
		Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withUsers(cmd, func(o *office) error {
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
		},
	}
	if disable {
		forceFlag(cmd, &force)
	}
	return cmd
}

func (c *cli) usersEndCmd() *cobra.Command {
	var tokens bool
	cmd := &cobra.Command{
		Use:   "revoke-tokens NAME",
		Short: "End all sessions of a user at once, of one in the configuration, too",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withUsers(cmd, func(o *office) error {
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
		},
	}
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

func (c *cli) usersTokenCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "API tokens: for programs, with an end and with grants of their own"}
	cmd.AddCommand(c.tokenListCmd(), c.tokenAddCmd(), c.tokenRevokeCmd())
	return cmd
}

func (c *cli) tokenListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list USER", Aliases: []string{"ls"},
		Short: "List the API tokens of a user",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withUsers(cmd, func(o *office) error {
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
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func (c *cli) tokenAddCmd() *cobra.Command {
	var grants []string
	var expires string
	cmd := &cobra.Command{
		Use:   "add USER NAME",
		Short: "Make an API token and print it: it cannot be shown again",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			until, err := gateway.TokenExpiry(expires, time.Now())
			if err != nil {
				return err
			}
			return c.withUsers(cmd, func(o *office) error {
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
		},
	}
	cmd.Flags().StringSliceVar(&grants, "grant", nil, "grant words, comma separated; what the user may not do, the token may not either (all that the user may)")
	cmd.Flags().StringVar(&expires, "expires", "", "`WHEN`: a duration such as 720h or a time such as 2027-01-31T00:00:00Z (90 days)")
	return cmd
}

func (c *cli) tokenRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke USER TOKEN",
		Short: "Revoke an API token by its id or name",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withUsers(cmd, func(o *office) error {
				return audited(o.ctx, o.conn, bus.Audit{Verb: "token-remove", Target: args[0], Detail: "token " + args[1]}, func(a *bus.Audit) error {
					t, err := o.users.RemoveToken(o.ctx, args[0], args[1], operator())
					if err == nil {
						a.Detail = gateway.TokenText(t)
					}
					return said(cmd, err, "revoked %s of %s", args[1], args[0])
				})
			})
		},
	}
}
