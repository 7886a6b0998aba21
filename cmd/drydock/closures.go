package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/store"
)

// operator is the name of who calls, as holds and ticks show it.
func operator() string { return strings.TrimPrefix(cliActor(), "cli:") }

// withControl runs f with the holds and blackouts of the running drydock and the cluster that args name.
func (c *cli) withControl(ctx context.Context, args []string, f func(ctx context.Context, conn *bus.Conn, control *store.Control, cluster string) error) error {
	cfg, conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	cluster, err := scope(cfg, args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return f(ctx, conn, store.NewControl(conn), cluster)
}

// actOnControl is withControl for an act, which is audited.
func (c *cli) actOnControl(cmd *cobra.Command, args []string, a bus.Audit, do func(ctx context.Context, control *store.Control, a *bus.Audit) error) error {
	return c.withControl(cmd.Context(), args, func(ctx context.Context, conn *bus.Conn, control *store.Control, cluster string) error {
		a.Cluster = cluster
		return audited(ctx, conn, a, func(a *bus.Audit) error { return do(ctx, control, a) })
	})
}

func (c *cli) holdCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "hold [CLUSTER]",
		Short: "Let no job begin on a cluster, or on the whole fleet, until unhold; what runs goes on",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.actOnControl(cmd, args, bus.Audit{Verb: "hold", Reason: reason}, func(ctx context.Context, control *store.Control, a *bus.Audit) error {
				h, err := control.SetHold(ctx, store.Hold{Cluster: a.Cluster, Reason: reason, By: operator()})
				return said(cmd, err, "%s", h)
			})
		},
	}
	cmd.Flags().StringVarP(&reason, "reason", "r", "", "why, for everybody who wonders")
	return cmd
}

func (c *cli) unholdCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "unhold [CLUSTER]",
		Short: "Lift the hold of a cluster, or of the whole fleet",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.actOnControl(cmd, args, bus.Audit{Verb: "unhold"}, func(ctx context.Context, control *store.Control, a *bus.Audit) error {
				h, err := control.LiftHold(ctx, a.Cluster)
				if err == nil {
					a.Detail = "of " + h.By
				}
				return said(cmd, err, "lifted: %s", h)
			})
		},
	}
}

func (c *cli) blackoutCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "blackout", Short: "Times in which no job may begin, and what is on hold"}
	cmd.AddCommand(c.blackoutAddCmd(), c.blackoutListCmd(), c.blackoutRemoveCmd())
	return cmd
}

func (c *cli) blackoutAddCmd() *cobra.Command {
	var from, to, reason string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "add [CLUSTER]",
		Short: "Add one, for a cluster or the whole fleet",
		Example: `  drydock blackout add prod --from "2026-12-24 18:00" --to "2026-12-27 06:00" --reason "Christmas freeze"` + "\n" +
			`  drydock blackout add --for 2h --reason "network change"`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b := store.Blackout{Reason: reason, By: operator()}
			var err error
			if b.From, b.To, err = span(from, to, lasts); err != nil {
				return err
			}
			return c.actOnControl(cmd, args, bus.Audit{Verb: "blackout-add", Reason: reason}, func(ctx context.Context, control *store.Control, a *bus.Audit) error {
				b.Cluster = a.Cluster
				added, err := control.AddBlackout(ctx, b)
				if err == nil {
					a.Target, a.Detail = added.ID, added.From.Format(time.RFC3339)+" to "+added.To.Format(time.RFC3339)
				}
				return said(cmd, err, "%s  %s", added.ID, added)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`TIME` of its beginning, as in 2026-12-24T18:00:00Z or, in local time, \"2026-12-24 18:00\" (now)")
	cmd.Flags().StringVar(&to, "to", "", "`TIME` of its end")
	cmd.Flags().DurationVar(&lasts, "for", 0, "how long it lasts, instead of --to")
	cmd.Flags().StringVarP(&reason, "reason", "r", "", "why, for everybody who wonders")
	return cmd
}

// span reads a time with an end, or with how long it lasts. It begins now when nothing else is said.
func span(from, to string, lasts time.Duration) (begin, end time.Time, err error) {
	begin = time.Now()
	if from != "" {
		if begin, err = parseTime(from); err != nil {
			return begin, end, err
		}
	}
	switch {
	case (to == "") == (lasts == 0):
		return begin, end, errors.New("give either --to or --for")
	case to == "":
		return begin, begin.Add(lasts), nil
	}
	end, err = parseTime(to)
	return begin, end, err
}

// parseTime reads a time with its zone, or one of this machine's zone.
func parseTime(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(`%q is no time; write it as in 2026-12-24T18:00:00Z or "2026-12-24 18:00"`, text)
}

func (c *cli) blackoutListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List holds and blackouts, those that ended in the last week included",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withControl(cmd.Context(), nil, func(ctx context.Context, conn *bus.Conn, control *store.Control, _ string) error {
				all, err := control.Closures(ctx)
				if err != nil {
					return err
				}
				return c.print(cmd.OutOrStdout(), all, []string{"WHAT", "CLUSTER", "FROM", "TO", "NOW", "BY", "REASON", "ID"}, closureRows(all, time.Now()))
			})
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func closureRows(all store.Closures, now time.Time) (rows [][]string) {
	of := func(cluster string) string {
		if cluster == "" {
			return "(all)"
		}
		return cluster
	}
	for _, h := range all.Holds {
		rows = append(rows, []string{"hold", of(h.Cluster), clock(h.Since), "unhold", "closed", h.By, h.Reason, "-"})
	}
	for _, b := range all.Blackouts {
		state := "closed"
		switch {
		case now.Before(b.From):
			state = "to come"
		case !now.Before(b.To):
			state = "over"
		}
		rows = append(rows, []string{"blackout", of(b.Cluster), clock(b.From), clock(b.To), state, b.By, b.Reason, b.ID})
	}
	return rows
}

func (c *cli) blackoutRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rm BLACKOUT",
		Short: "End or call off a blackout",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.actOnControl(cmd, nil, bus.Audit{Verb: "blackout-remove", Target: args[0]}, func(ctx context.Context, control *store.Control, a *bus.Audit) error {
				b, err := control.RemoveBlackout(ctx, args[0])
				if err == nil {
					a.Cluster, a.Detail = b.Cluster, b.String()
				}
				return said(cmd, err, "removed: %s", b)
			})
		},
	}
}

// refuseClosed says that a cluster is on hold or blacked out.
func refuseClosed(ctx context.Context, conn *bus.Conn, cluster string) error {
	all, err := store.NewControl(conn).Closures(ctx)
	if err != nil {
		return err
	}
	if why, shut := all.Shut(cluster, time.Now()); shut {
		return fmt.Errorf("%s; --force runs it anyway", why)
	}
	return nil
}

// windowState says for `drydock next` whether the schedule's cluster is open, and what becomes of the next tick.
func windowState(s bus.ScheduleInfo) string {
	if len(s.Next) > 0 {
		if b, barred := s.Bar(s.Next[0]); barred && b.Waits {
			return "jobs of the next tick wait: " + short(b.Reason, 80)
		} else if barred {
			return "next tick is skipped: " + short(b.Reason, 80)
		}
	}
	switch {
	case !s.Enabled:
		return "-"
	case s.Closed != "":
		return "closed now: " + short(s.Closed, 80)
	case s.Windows != "":
		return "open"
	}
	return "always"
}
