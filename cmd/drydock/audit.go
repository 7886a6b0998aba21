package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// recordTimeout bounds the write of an entry, also when the command was interrupted meanwhile.
const recordTimeout = 5 * time.Second

// audited does what changes something and records it, with this machine's account as who did it. do adds to the entry
// what it finds out. Every command that changes something goes through here (TestEveryCommandReadsOrIsAudited).
func audited(ctx context.Context, conn *bus.Conn, a bus.Audit, do func(*bus.Audit) error) error {
	a.Outcome, a.User, a.Via = bus.AuditDone, operator(), bus.ViaCommand
	a.Address, _ = os.Hostname()
	err := do(&a)
	if err != nil {
		a.Outcome, a.Error = outcomeOf(err), err.Error()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	rerr := store.NewAudits(conn, cliActor()).Record(ctx, a)
	switch {
	case err != nil:
		return err
	case rerr != nil:
		return fmt.Errorf("it was done, but the audit does not say so: %w", rerr)
	}
	return nil
}

// act is audited for an act on the running drydock that needs nothing else.
func (c *cli) act(cmd *cobra.Command, a bus.Audit, do func(ctx context.Context, conn *bus.Conn, a *bus.Audit) error) error {
	return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
		return audited(ctx, conn, a, func(a *bus.Audit) error { return do(ctx, conn, a) })
	})
}

// outcomeOf tells what was refused from what broke, and from what was done although the command complains.
func outcomeOf(err error) bus.AuditOutcome {
	var complaint exitCode
	if errors.As(err, &complaint) {
		return bus.AuditDone
	}
	for _, broken := range []error{
		context.Canceled, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrConnectionClosed, nats.ErrNoResponders, jetstream.ErrNoStreamResponse, store.ErrBusy,
	} {
		if errors.Is(err, broken) {
			return bus.AuditFailed
		}
	}
	return bus.AuditRefused
}

// aboutJob is the entry of an act on a job.
func aboutJob(verb string, j job.Job) bus.Audit {
	a := bus.Audit{Verb: verb, Cluster: j.Cluster, Target: j.ID, Detail: j.Task}
	if j.Server != (job.Server{}) {
		a.Server = j.Server.String()
	}
	return a
}

func forced(force bool) string {
	if force {
		return "forced"
	}
	return ""
}

func (c *cli) auditCmd() *cobra.Command {
	var f store.AuditFilter
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who ran, cancelled, restored or changed what, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				f.Since = ago(since)
				f.Limit = c.ask(cmd)
				list, err := store.NewAudits(conn, cliActor()).List(ctx, f)
				if err != nil {
					return err
				}
				list = cut(c, cmd, cmd.OutOrStdout(), list)
				return c.print(cmd.OutOrStdout(), list, []string{"TIME", "USER", "VIA", "FROM", "VERB", "OUTCOME", "CLUSTER", "SERVER", "TARGET", "WHAT"}, auditRows(list))
			})
		},
	}
	c.outputFlag(cmd)
	cmd.Flags().StringVar(&f.User, "user", "", "only what this user did")
	cmd.Flags().StringVar(&f.Cluster, "cluster", "", "only on this cluster")
	cmd.Flags().StringVar(&f.Verb, "verb", "", "only this, for example run, cancel, hold, user-add, login")
	cmd.Flags().DurationVar(&since, "since", 7*24*time.Hour, "how far back (0: all)")
	c.limitFlag(cmd)
	return cmd
}

func auditRows(list []bus.Audit) (rows [][]string) {
	for _, a := range list {
		var what []string
		for _, text := range []string{a.Detail, a.Reason, a.Error, strings.Join(a.Jobs, " ")} {
			if text != "" {
				what = append(what, text)
			}
		}
		if a.Omitted > 0 {
			what = append(what, fmt.Sprintf("%d refused acts before it were left out", a.Omitted))
		}
		rows = append(rows, []string{
			clock(a.Time), dash(a.User), dash(a.Via), dash(a.Address), a.Verb, string(a.Outcome), dash(a.Cluster), dash(a.Server), dash(short(a.Target, 40)), dash(short(strings.Join(what, "; "), 120)),
		})
	}
	return rows
}
