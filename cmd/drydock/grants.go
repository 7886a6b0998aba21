package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/gateway"
	"drydock/store"
)

func (c *cli) usersGrantCmd() *cobra.Command {
	var cluster string
	cmd := c.userCmd("grant USER WORD...", "Let a user do more; with --on only on one cluster, where its grants are separate from then on",
		func(cmd *cobra.Command, o *office, args []string) error {
			return o.editGrants(cmd, "user-grant", args[0], cluster, true, func(words []string) ([]string, error) {
				for _, w := range args[1:] {
					if !slices.Contains(words, w) {
						words = append(words, w)
					}
				}
				return words, nil
			})
		})
	onFlag(cmd, &cluster)
	return cmd
}

func (c *cli) usersRevokeCmd() *cobra.Command {
	var cluster string
	var force bool
	cmd := c.userCmd("revoke USER WORD...", "Take grant words from a user; with --on only on one cluster, where its grants are separate from then on",
		func(cmd *cobra.Command, o *office, args []string) error {
			return o.editGrants(cmd, "user-revoke", args[0], cluster, force, func(words []string) ([]string, error) {
				for _, w := range args[1:] {
					i := slices.Index(words, w)
					if i < 0 {
						return nil, fmt.Errorf("%s does not have the word %q: it has %s", args[0], w, dash(strings.Join(words, " ")))
					}
					words = slices.Delete(words, i, i+1)
				}
				return words, nil
			})
		})
	onFlag(cmd, &cluster)
	forceFlag(cmd, &force)
	return cmd
}

func onFlag(cmd *cobra.Command, cluster *string) {
	cmd.Flags().StringVar(cluster, "on", "", "`CLUSTER` that the words are for")
}

// editGrants changes the words of a user, everywhere or on one cluster.
func (o *office) editGrants(cmd *cobra.Command, verb, name, cluster string, force bool, edit func([]string) ([]string, error)) error {
	if cluster != "" {
		if _, err := clusterNamed(o.cfg, cluster); err != nil {
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

// clusterGrants reads CLUSTER=WORDS.
func (o *office) clusterGrants(texts []string) (map[string][]string, error) {
	var out map[string][]string
	for _, text := range texts {
		cluster, words, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--on %q: write CLUSTER=WORDS, as in prod=db-backup", text)
		}
		if _, err := clusterNamed(o.cfg, cluster); err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string][]string{}
		}
		out[cluster] = strings.FieldsFunc(words, func(r rune) bool { return r == ' ' || r == ',' })
	}
	return out, nil
}
