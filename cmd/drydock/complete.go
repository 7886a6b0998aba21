package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/gateway/auth"
	"drydock/job"
	"drydock/store"
)

// completeWithin is how long the bus may take before a completion does without it.
const completeWithin = 300 * time.Millisecond

// completer lists what may stand in a place of a command line; earlier are the arguments before it.
type completer func(ctx context.Context, earlier []string) []string

// complete gives every command completions: of its arguments by their names in its usage, of its flags by theirs. A name
// that means something else in one command stands there with the command before it.
func (c *cli) complete(root *cobra.Command) {
	places := map[string]completer{
		"CLUSTER": c.clusters, "SERVER": c.servers, "TASK": taskNames, "JOB": c.fromBus(jobIDs), "BACKUP": c.fromBus(backupIDs),
		"CONDITION": c.fromBus(conditions), "DESTINATION": c.destinations, "USER": c.users, "TOKEN": c.fromBus(tokens), "WORD": grantWords,
		"BLACKOUT": c.fromBus(blackouts), "unhold CLUSTER": c.fromBus(held), "READER": c.fromBus(readers),
		"physical|logical|master": func(context.Context, []string) []string { return []string{"physical", "logical", "master"} },
	}
	flags := map[string]completer{
		"cluster": c.clusters, "server": c.servers, "task": taskNames, "backup": c.fromBus(backupIDs),
		"state":  func(context.Context, []string) []string { return stateNames() },
		"output": func(context.Context, []string) []string { return outputForms },
		"level":  func(context.Context, []string) []string { return logLevels },
		"user":   c.users, "destination": c.destinations, "grant": grantWords, "on": c.clusters,
	}
	each(root, func(cmd *cobra.Command) {
		if cmd.ValidArgsFunction == nil && cmd.HasParent() {
			cmd.ValidArgsFunction = completeArgs(cmd, places)
		}
		for name, list := range flags {
			if cmd.LocalFlags().Lookup(name) != nil {
				_ = cmd.RegisterFlagCompletionFunc(name, list.complete) // it fails for a flag that is completed already
			}
		}
	})
}

// completeArgs completes the arguments of a command by their names in its usage.
func completeArgs(cmd *cobra.Command, places map[string]completer) cobra.CompletionFunc {
	var args []completer
	words := strings.Fields(cmd.Use)[1:]
	for _, word := range words {
		word = strings.Trim(word, "[].")
		list := places[cmd.Name()+" "+word]
		if list == nil {
			list = places[word]
		}
		args = append(args, list)
	}
	return func(cmd *cobra.Command, earlier []string, typed string) ([]string, cobra.ShellCompDirective) {
		at := len(earlier)
		if last := len(args) - 1; at > last && last >= 0 && strings.HasSuffix(words[last], "...") {
			at = last // it may be said again
		}
		switch {
		case at < len(args) && args[at] != nil:
			return args[at].complete(cmd, earlier, typed)
		case at < len(args) && (strings.Contains(cmd.Use, "DIR") || strings.Contains(cmd.Use, "FILE")):
			return nil, cobra.ShellCompDirectiveDefault
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// complete offers those of the list that go on as typed, and no files.
func (list completer) complete(cmd *cobra.Command, earlier []string, typed string) ([]string, cobra.ShellCompDirective) {
	return matching(list(contextOf(cmd), earlier), typed), cobra.ShellCompDirectiveNoFileComp
}

// each visits every command.
func each(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		each(sub, f)
	}
}

func contextOf(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// matching are those of the list that go on as typed.
func matching(list []string, typed string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !strings.HasPrefix(s, typed) })
}

func (c *cli) clusters(context.Context, []string) (names []string) {
	cfg, err := config.LoadForCommand(c.file)
	if err != nil {
		return nil
	}
	for _, cl := range cfg.Clusters {
		names = append(names, cl.Name)
	}
	return names
}

// servers are those of the cluster named before, or of all.
func (c *cli) servers(_ context.Context, earlier []string) (names []string) {
	cfg, err := config.LoadForCommand(c.file)
	if err != nil {
		return nil
	}
	named := false
	if len(earlier) > 0 {
		_, named = cfg.Cluster(earlier[0])
	}
	for _, cl := range cfg.Clusters {
		if named && cl.Name != earlier[0] {
			continue
		}
		for _, s := range cl.Servers {
			names = append(names, job.Server{Host: s.Host, Port: s.Port}.String())
		}
	}
	return names
}

func taskNames(context.Context, []string) (names []string) {
	for _, t := range job.Tasks() {
		if t.Built {
			names = append(names, t.Name)
		}
	}
	return names
}

func stateNames() (names []string) {
	for _, s := range job.States {
		names = append(names, string(s))
	}
	return names
}

func grantWords(context.Context, []string) []string { return auth.Grants }

func (c *cli) destinations(context.Context, []string) []string {
	cfg, err := config.LoadForCommand(c.file)
	if err != nil {
		return nil
	}
	return app.DestinationNames(cfg)
}

// users are those of the configuration and, when the bus answers, those that were added.
func (c *cli) users(ctx context.Context, earlier []string) (names []string) {
	cfg, err := config.LoadForCommand(c.file)
	if err != nil {
		return nil
	}
	fixed := app.APIUsers(cfg)
	names = slices.Collect(maps.Keys(fixed.Users))
	names = append(names, c.fromBus(func(ctx context.Context, conn *bus.Conn, _ []string) (added []string, err error) {
		docs, err := store.NewUsers(conn, nil).All(ctx)
		for _, u := range docs {
			if !fixed.Fixed(u.Name) {
				added = append(added, u.Name)
			}
		}
		return added, err
	})(ctx, earlier)...)
	slices.Sort(names)
	return names
}

// fromBus asks the bus, and gives up without a word when it does not answer in time. What it left behind ends with the
// process, which has nothing else to do.
func (c *cli) fromBus(ask func(ctx context.Context, conn *bus.Conn, earlier []string) ([]string, error)) completer {
	return func(ctx context.Context, earlier []string) []string {
		ctx, cancel := context.WithTimeout(ctx, completeWithin)
		defer cancel()
		answer := make(chan []string, 1)
		go func() {
			_, conn, err := c.dial(ctx)
			if err != nil {
				answer <- nil
				return
			}
			defer conn.NC.Close()
			list, err := ask(ctx, conn, earlier)
			if err != nil {
				list = nil
			}
			answer <- list
		}()
		select {
		case list := <-answer:
			return list
		case <-ctx.Done():
			return nil
		}
	}
}

func jobIDs(ctx context.Context, conn *bus.Conn, _ []string) (ids []string, err error) {
	list, err := store.NewJobs(conn, cliActor(), nil).List(ctx, store.Filter{Since: time.Now().Add(-24 * time.Hour), Limit: 100})
	for _, j := range list {
		ids = append(ids, j.ID+"\t"+string(j.State)+" "+j.Key().String())
	}
	return ids, err
}

func backupIDs(ctx context.Context, conn *bus.Conn, _ []string) (ids []string, err error) {
	list, err := store.NewCatalog(conn).All(ctx, "", job.Server{})
	for _, m := range list {
		ids = append(ids, m.ID+"\t"+m.Task+" of "+m.Server.String()+", "+clock(m.Ended))
	}
	return ids, err
}

func conditions(ctx context.Context, conn *bus.Conn, _ []string) (names []string, err error) {
	list, err := store.NewAlerts(conn, cliActor()).OpenConditions(ctx, store.AlertFilter{})
	for _, o := range list {
		names = append(names, o.Condition+"\t"+short(o.Text, 60))
	}
	return names, err
}

// tokens are the API tokens of the user named before.
func tokens(ctx context.Context, conn *bus.Conn, earlier []string) (ids []string, err error) {
	doc, err := store.NewUsers(conn, nil).Get(ctx, earlier[0])
	for _, t := range doc.Info().Tokens {
		ids = append(ids, t.ID+"\t"+t.Name+", until "+clock(t.Expires))
	}
	return ids, err
}

// blackouts are those that are not over.
func blackouts(ctx context.Context, conn *bus.Conn, _ []string) (ids []string, err error) {
	all, err := store.NewControl(conn).Closures(ctx)
	for _, b := range all.Blackouts {
		if time.Now().Before(b.To) {
			ids = append(ids, b.ID+"\t"+short(b.String(), 60))
		}
	}
	return ids, err
}

// held are the clusters on hold.
func held(ctx context.Context, conn *bus.Conn, _ []string) (names []string, err error) {
	all, err := store.NewControl(conn).Closures(ctx)
	for _, h := range all.Holds {
		if h.Cluster != "" {
			names = append(names, h.Cluster+"\t"+short(h.String(), 60))
		}
	}
	return names, err
}

func readers(ctx context.Context, conn *bus.Conn, _ []string) (names []string, err error) {
	list, err := store.NewReaders(conn).List(ctx)
	for _, r := range list {
		names = append(names, r.Name+"\tof "+r.By)
	}
	return names, err
}
