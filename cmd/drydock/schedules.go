package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// schedulesNow asks the schedulers for every schedule.
func schedulesNow(ctx context.Context, conn *bus.Conn) ([]bus.ScheduleInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	reply, err := bus.Request[bus.NextReply](ctx, conn, bus.SubjectNext, struct{}{})
	if errors.Is(err, bus.ErrNobody) {
		return nil, errNoScheduler
	}
	return reply.Schedules, err
}

var errNoScheduler = errors.New("no scheduler runs on this bus")

func (c *cli) schedulesCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "schedules", Short: "Switch schedules off and on while drydock runs, and see which are off"}
	cmd.AddCommand(c.schedulesListCmd(), c.schedulesOffCmd(), c.schedulesOnCmd())
	return cmd
}

func (c *cli) schedulesListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [CLUSTER] [TASK]",
		Short: "List the schedules: on, switched off since when by whom and why, or off by the configuration",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.listing(cmd, func(ctx context.Context, conn *bus.Conn, w io.Writer) error {
				list, err := schedulesNow(ctx, conn)
				if err != nil {
					return err
				}
				list = slices.DeleteFunc(list, func(s bus.ScheduleInfo) bool {
					return len(args) > 0 && s.Cluster != args[0] || len(args) > 1 && s.Task != args[1]
				})
				return c.print(w, list, []string{"CLUSTER", "TASK", "SWITCH", "SINCE", "BY", "NOTE", "NEXT"}, switchRows(list))
			})
		},
	}
	c.outputFlag(cmd)
	c.watchFlag(cmd, bus.AllTasks, bus.AllControl)
	return cmd
}

func switchRows(list []bus.ScheduleInfo) (rows [][]string) {
	for _, s := range list {
		row := []string{s.Cluster, s.Task, "on", "-", "-", "", "-"}
		if len(s.Next) > 0 {
			row[6] = clock(s.Next[0])
		}
		switch {
		case s.Switch != nil:
			row[2], row[3], row[4], row[5] = "switched off", clock(s.Switch.From), s.Switch.By, short(s.Switch.Note, 80)
			row[6] += ", skipped"
		case !s.Enabled:
			row[2], row[5] = "off", s.Why
		}
		rows = append(rows, row)
	}
	return rows
}

func (c *cli) schedulesOffCmd() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:   "off CLUSTER TASK",
		Short: "Switch a schedule off: its ticks are recorded as skipped until it is switched on; what it started goes on",
		Example: `  drydock schedules off prod optimize --note "bug 17: it locks orders"` + "\n" +
			"  drydock schedules on prod optimize",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.switchSchedule(cmd, bus.Audit{Verb: "schedule-off", Reason: note}, args, func(ctx context.Context, control *store.Control, a *bus.Audit) error {
				s, err := control.SwitchOff(ctx, bus.Switch{Cluster: a.Cluster, Task: a.Target, By: operator(), Note: note})
				if errors.Is(err, bus.ErrNobody) {
					return fmt.Errorf("%w, so that nobody knows whether there is such a schedule: start one, or let nothing begin by `drydock hold %s`", errNoScheduler, a.Cluster)
				}
				return said(cmd, err, "%s", s)
			})
		},
	}
	cmd.Flags().StringVarP(&note, "note", "n", "", "why, for everybody who wonders why it does not run")
	return cmd
}

func (c *cli) schedulesOnCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "on CLUSTER TASK",
		Short: "Switch a schedule on again, from its next tick on; what was skipped is not made up for",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.switchSchedule(cmd, bus.Audit{Verb: "schedule-on"}, args, func(ctx context.Context, control *store.Control, a *bus.Audit) error {
				s, err := control.SwitchOn(ctx, a.Cluster, a.Target, operator())
				if err == nil {
					a.Detail = s.String()
				}
				return said(cmd, err, "%s", s)
			})
		},
	}
}

// switchSchedule runs f, which acts on the schedule that args name, and has it audited.
func (c *cli) switchSchedule(cmd *cobra.Command, a bus.Audit, args []string, f func(ctx context.Context, control *store.Control, a *bus.Audit) error) error {
	if _, err := job.TaskByName(args[1]); err != nil {
		return fmt.Errorf("%w %q: `drydock schedules list` lists those that have a schedule", err, args[1])
	}
	a.Target = args[1]
	return c.actOnControl(cmd, args, a, f)
}
