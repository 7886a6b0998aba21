package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"drydock/alert/notify"
	"drydock/app"
	"drydock/bus"
	"drydock/store"
)

func (c *cli) alertsCmd() *cobra.Command {
	var f store.AlertFilter
	var server string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "List the conditions that hold now, or with --all when which opened and closed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.listing(cmd, func(ctx context.Context, conn *bus.Conn, w io.Writer) error {
				var err error
				if f.Server, err = onlyServer(server); err != nil {
					return err
				}
				f.Since = ago(since)
				f.Limit = c.ask(cmd)
				alerts := store.NewAlerts(conn, cliActor())
				if !f.History {
					return c.listOpen(ctx, cmd, w, alerts, f)
				}
				list, err := alerts.List(ctx, f)
				if err != nil {
					return err
				}
				list = cut(c, cmd, w, list)
				return c.print(w, list, []string{"TIME", "STATE", "SEVERITY", "CODE", "CLUSTER", "SERVER", "TASK", "SINCE", "JOB", "TEXT"}, alertRows(list))
			})
		},
	}
	c.outputFlag(cmd)
	c.watchFlag(cmd, bus.AllAlerts, bus.AllControl)
	cmd.Flags().BoolVar(&f.History, "all", false, "every opening and closing")
	cmd.Flags().DurationVar(&since, "since", 7*24*time.Hour, "with --all: how far back (0: all)")
	cmd.Flags().StringVar(&f.Cluster, "cluster", "", "only this cluster")
	cmd.Flags().StringVar(&server, "server", "", "only this server, HOST:PORT")
	cmd.Flags().StringVar(&f.Task, "task", "", "only this task")
	c.limitFlag(cmd)
	cmd.AddCommand(c.ackCmd(), c.unackCmd(), c.sentCmd(), c.testCmd())
	return cmd
}

// listOpen prints what holds now, with who looks after it.
func (c *cli) listOpen(ctx context.Context, cmd *cobra.Command, w io.Writer, alerts *store.Alerts, f store.AlertFilter) error {
	list, err := alerts.OpenConditions(ctx, f)
	if err != nil {
		return err
	}
	list = cut(c, cmd, w, list)
	var rows [][]string
	for _, o := range list {
		row := alertRows([]bus.Alert{o.Alert})[0]
		rows = append(rows, append([]string{o.Condition, acked(o.Ack)}, row...))
	}
	return c.print(w, list, []string{"CONDITION", "ACK", "TIME", "STATE", "SEVERITY", "CODE", "CLUSTER", "SERVER", "TASK", "SINCE", "JOB", "TEXT"}, rows)
}

// acked says who looks after a condition.
func acked(a *store.Ack) string {
	switch {
	case a == nil:
		return "-"
	case a.Until.IsZero():
		return printable(a.By)
	}
	return printable(a.By) + " until " + clock(a.Until)
}

func (c *cli) ackCmd() *cobra.Command {
	var reason, until string
	cmd := &cobra.Command{
		Use:   "ack CONDITION",
		Short: "Say that you look after a condition: it is not notified again until it closes",
		Long: "CONDITION is the first column of `drydock alerts`, or the id of the edge that opened it.\n" +
			"The acknowledgement ends when the condition closes, or at --until (a time, or a duration from now as in 8h).",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ack := store.Ack{By: operator(), Reason: reason}
			if until != "" {
				var err error
				if ack.Until, err = parseUntil(until); err != nil {
					return err
				}
			}
			act := bus.Audit{Verb: "alert-ack", Target: args[0], Reason: reason}
			return c.act(cmd, act, func(ctx context.Context, conn *bus.Conn, a *bus.Audit) error {
				o, err := store.NewAlerts(conn, cliActor()).Acknowledge(ctx, args[0], ack)
				if err == nil {
					a.Cluster, a.Target = o.Cluster, o.Condition
				}
				return said(cmd, err, "acknowledged: %s", o.Condition)
			})
		},
	}
	cmd.Flags().StringVarP(&reason, "reason", "r", "", "why, for everybody who wonders")
	cmd.Flags().StringVar(&until, "until", "", "not longer than this")
	return cmd
}

// parseUntil reads a time, or a duration from now.
func parseUntil(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(d), nil
	}
	return parseTime(s)
}

func (c *cli) unackCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "unack CONDITION",
		Short: "Take an acknowledgement back",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.act(cmd, bus.Audit{Verb: "alert-unack", Target: args[0]}, func(ctx context.Context, conn *bus.Conn, a *bus.Audit) error {
				o, err := store.NewAlerts(conn, cliActor()).Unacknowledge(ctx, args[0])
				if err == nil {
					a.Cluster, a.Target = o.Cluster, o.Condition
				}
				return said(cmd, err, "not acknowledged any more: %s", o.Condition)
			})
		},
	}
}

func (c *cli) sentCmd() *cobra.Command {
	var f store.NotificationFilter
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "sent",
		Short: "List every try to notify, newest first, and what became of it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				f.Since = ago(since)
				f.Limit = c.ask(cmd)
				list, err := store.Notifications(ctx, conn, f)
				if err != nil {
					return err
				}
				list = cut(c, cmd, cmd.OutOrStdout(), list)
				var rows [][]string
				for _, n := range list {
					rows = append(rows, []string{
						clock(n.Time), n.Destination, string(n.State), fmt.Sprint(n.Try), fmt.Sprint(len(n.Told)), n.Notification, short(n.Title, 80), dash(short(n.Error, 100)),
					})
				}
				return c.print(cmd.OutOrStdout(), list, []string{"TIME", "DESTINATION", "OUTCOME", "TRY", "CONDITIONS", "NOTIFICATION", "TITLE", "ERROR"}, rows)
			})
		},
	}
	c.outputFlag(cmd)
	cmd.Flags().StringVar(&f.Destination, "destination", "", "only this destination")
	cmd.Flags().DurationVar(&since, "since", 7*24*time.Hour, "how far back (0: all)")
	c.limitFlag(cmd)
	return cmd
}

// testTime is longer than one try of a destination may take.
const testTime = 90 * time.Second

func (c *cli) testCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "test DESTINATION",
		Short: "Have the running drydock send a test message",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				ctx, cancel := context.WithTimeout(ctx, testTime)
				defer cancel()
				n, err := bus.Request[bus.Notification](ctx, conn, bus.SubjectNotifyTest, bus.NotifyTestRequest{Destination: args[0], By: operator()})
				if errors.Is(err, bus.ErrNobody) {
					return errors.New("no process with the role alert notifies on this bus")
				}
				if err != nil {
					return err
				}
				if n.State != bus.TrySent {
					return fmt.Errorf("%s did not take the test message: %s", args[0], printable(n.Error))
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s took the test message %s\n", args[0], n.Notification)
				return nil
			})
		},
	}
}

// sendCmd is what the notifier runs to send one message; see [notify.SendMain].
func sendCmd() *cobra.Command {
	return &cobra.Command{
		Use: app.SendCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if code := notify.SendMain(cmd.InOrStdin(), cmd.ErrOrStderr()); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
}

func alertRows(list []bus.Alert) (rows [][]string) {
	for _, a := range list {
		server := "-"
		if a.Server.Host != "" {
			server = a.Server.String()
		}
		rows = append(rows, []string{
			clock(a.Time), string(a.State), string(a.Severity), a.Code, a.Cluster, server, dash(a.Task), clock(a.Since), dash(a.JobID), short(a.Text, 100),
		})
	}
	return rows
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
