package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/explain"
	"drydock/job"
)

func (c *cli) explainCmd() *cobra.Command {
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "explain CLUSTER TASK [TIME]",
		Short: "Say why a task ran or did not: every tick, what decided it, and the messages behind it",
		Long: "Without TIME: what fell due in the last 24 hours, and what comes next. With TIME (as in \"2026-11-22 02:30\", in local time,\n" +
			"2026-11-22T01:30:00Z, or 36h for so long ago): 12 hours before and after it. It answers also when no scheduler runs.\n\n" +
			"Every line of messages can be looked up with `nats stream get STREAM SEQUENCE` (`drydock nats` prints the context).",
		Example: "  drydock explain prod mariabackup\n  drydock explain prod mariabackup \"2026-11-22 02:30\" --within 2h",
		Args:    cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var at time.Time
			if _, err := job.TaskByName(args[1]); err != nil {
				return fmt.Errorf("%w %q: `drydock next` lists those that have a schedule", err, args[1])
			}
			if len(args) == 3 {
				var err error
				if at, err = parseAt(args[2], time.Now()); err != nil {
					return err
				}
			}
			if within <= 0 || within > explain.MaxWithin {
				return fmt.Errorf("--within %s: give a duration up to %s", within, explain.MaxWithin)
			}
			return c.listing(cmd, func(ctx context.Context, conn *bus.Conn, w io.Writer) error {
				from, to := explain.Around(at, within, time.Now())
				e, err := explain.Of(ctx, conn, args[0], args[1], from, to)
				if err != nil {
					return err
				}
				if c.output != "table" {
					return c.print(w, e, nil, nil)
				}
				return writeExplanation(w, e)
			})
		},
	}
	c.outputFlag(cmd)
	c.watchFlag(cmd, bus.AllTasks, bus.AllJobs)
	cmd.Flags().DurationVar(&within, "within", explain.Within, "length of the time looked at")
	return cmd
}

// parseAt reads a time, or how long ago it was.
func parseAt(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d.Abs()), nil
	}
	return parseTime(text)
}

// writeExplanation writes tick after tick, its jobs and its messages indented under it.
func writeExplanation(w io.Writer, e explain.Explanation) error {
	paint := func(s string) string { return s }
	if colourful(w) {
		paint = coloured
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s/%s from %s to %s\nschedule: %s\n", printable(e.Cluster), e.Task, clock(e.From), clock(e.To), printable(e.Schedule))
	if e.Cut > 0 {
		fmt.Fprintf(&out, "%d earlier ticks are left out: ask about a shorter time (--within)\n", e.Cut)
	}
	if len(e.Ticks) == 0 {
		out.WriteString("\nnothing fell due\n")
	}
	for _, t := range e.Ticks {
		due := clock(t.Due)
		if !t.Until.IsZero() {
			due += " to " + clock(t.Until)
		}
		if t.Count > 1 {
			due += fmt.Sprintf(" (%d ticks)", t.Count)
		}
		fmt.Fprintf(&out, "\n%s  %s  by %s\n    %s\n", due, paint(string(t.Outcome)), t.By, printable(t.Why))
		for _, j := range t.Jobs {
			fmt.Fprintf(&out, "    %s %s %s by %s: %s\n", dash(j.ID), j.Server, paint(string(j.State)), j.By, printable(j.Why))
			if j.ID != "" { // the others are entries of the tick
				writeMessages(&out, "        ", j.Behind)
			}
		}
		writeMessages(&out, "    ", t.Behind)
	}
	if len(e.Next) > 0 {
		out.WriteString("\nnext:\n")
	}
	for _, n := range e.Next {
		fmt.Fprintf(&out, "%s  by %s: %s\n", clock(n.Due), n.By, printable(n.Why))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func writeMessages(w io.Writer, indent string, list []explain.Message) {
	for _, m := range list {
		fmt.Fprintf(w, "%s%s %d  %s  %s\n", indent, m.Stream, m.Seq, clock(m.Time), printable(m.What))
	}
}
