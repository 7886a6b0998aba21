package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/config"
	"drydock/job"
	"drydock/store"
)

func (c *cli) rollingCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rolling",
		Short: "Show, pause, resume or abort the rolling operation of a cluster (run CLUSTER rollingrestart begins one)",
	}
	cmd.AddCommand(c.rollingShowCmd(),
		c.rollingOrderCmd(job.OrderPause, "Let no further server have its turn until resume"),
		c.rollingOrderCmd(job.OrderResume, "Let it go on"),
		c.rollingOrderCmd(job.OrderAbort, "End it after the step it is in, and undo read_only"))
	return cmd
}

// withOperation runs f with the operation of a cluster: the one that lives, or else the newest.
func (c *cli) withOperation(ctx context.Context, cluster string, f func(context.Context, *bus.Conn, *store.Jobs, job.Job) error) error {
	cfg, conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	jobs := store.NewJobs(conn, cliActor(), nil)
	j, err := operation(ctx, cfg, jobs, cluster)
	if err != nil {
		return err
	}
	return f(ctx, conn, jobs, j)
}

func operation(ctx context.Context, cfg *config.Config, jobs *store.Jobs, cluster string) (job.Job, error) {
	if _, err := clusterNamed(cfg, cluster); err != nil {
		return job.Job{}, err
	}
	var found []job.Job
	for _, t := range job.Tasks() {
		if t.Kind != job.KindRolling {
			continue
		}
		j, _, err := jobs.Last(ctx, job.Key{Cluster: cluster, Task: t.Name})
		switch {
		case errors.Is(err, store.ErrNone):
		case err != nil:
			return job.Job{}, err
		default:
			found = append(found, j)
		}
	}
	if len(found) == 0 {
		return job.Job{}, fmt.Errorf("cluster %s never had a rolling operation", cluster)
	}
	return slices.MaxFunc(found, func(a, b job.Job) int { return strings.Compare(precedence(a), precedence(b)) }), nil
}

// precedence orders operations: those that wait, those that run after those that ended, then by age.
func precedence(j job.Job) string {
	switch {
	case !j.State.Live():
		return "0" + j.ID
	case j.State == job.Queued:
		return "1" + j.ID
	}
	return "2" + j.ID
}

func (c *cli) rollingOrderCmd(word, short string) *cobra.Command {
	return &cobra.Command{
		Use:   word + " CLUSTER",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withOperation(cmd.Context(), args[0], func(ctx context.Context, conn *bus.Conn, jobs *store.Jobs, j job.Job) error {
				return audited(ctx, conn, aboutJob(word, j), func(*bus.Audit) error {
					j, err := jobs.Order(ctx, j, word, operator())
					return said(cmd, err, "%s  %s  %s: %s", j.ID, j.Task, j.State, word)
				})
			})
		},
	}
}

func (c *cli) rollingShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show CLUSTER",
		Short: "Show the operation that runs, or the last one, server by server",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withOperation(cmd.Context(), args[0], func(_ context.Context, _ *bus.Conn, _ *store.Jobs, j job.Job) error {
				w := cmd.OutOrStdout()
				if c.output == "table" {
					fmt.Fprintf(w, "%s %s is %s%s\n\n", j.Task, j.ID, j.State, because(j))
				}
				return c.print(w, j, stageHeading, stageRows(j))
			})
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func because(j job.Job) string {
	text := ""
	if j.Plan != nil && j.Plan.Order.Word != "" {
		text = fmt.Sprintf(" (%s asked for by %s)", j.Plan.Order.Word, j.Plan.Order.By)
	}
	if j.Reason != "" {
		text += ": " + j.Reason
	}
	return text
}

var stageHeading = []string{"SERVER", "ROLE", "STATE", "PHASE", "BEGAN", "TOOK", "JOB", "REASON"}

func stageRows(j job.Job) (rows [][]string) {
	if j.Plan == nil {
		return nil
	}
	for _, s := range j.Plan.Stages {
		began := "-"
		if !s.Began.IsZero() {
			began = clock(s.Began)
		}
		rows = append(rows, []string{s.Server.String(), s.Role, string(s.State), dash(s.Phase), began, took(s.Began, s.Ended), dash(s.Job), s.Reason})
	}
	return rows
}

// writeStages adds the plan of an operation to the description of its job.
func writeStages(w io.Writer, j job.Job) error {
	if j.Plan == nil {
		return nil
	}
	fmt.Fprintln(w)
	return writeTable(w, stageHeading, stageRows(j))
}
