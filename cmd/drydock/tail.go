package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

func (c *cli) tailCmd() *cobra.Command {
	var cluster, task string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "tail [JOB]",
		Short: "Follow the log lines and states of one job, or of everything",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				t := &tail{w: cmd.OutOrStdout(), cluster: cluster, task: task}
				from := bus.From{Since: time.Now().Add(-since)}
				if len(args) == 1 {
					j, err := store.NewJobs(conn, cliActor(), nil).Find(ctx, args[0])
					if err != nil {
						return err
					}
					t.id, from.Since = j.ID, j.Created.Add(-time.Second)
				}
				return t.run(ctx, conn, from)
			})
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "only this cluster")
	cmd.Flags().StringVar(&task, "task", "", "only this task")
	cmd.Flags().DurationVar(&since, "since", 0, "begin so long ago")
	return cmd
}

// tail prints log lines and transitions as they come.
type tail struct {
	id, cluster, task string

	mu   sync.Mutex // both followers write
	w    io.Writer
	seen uint64 // log messages up to this sequence are shown
}

func (t *tail) reach(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = max(t.seen, seq)
}

// drain waits until every line is shown that was in the stream when the job ended.
func (t *tail) drain(ctx context.Context, conn *bus.Conn) {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last, err := conn.LastSeq(ctx, bus.StreamLogs)
	for err == nil && ctx.Err() == nil {
		t.mu.Lock()
		done := t.seen >= last
		t.mu.Unlock()
		if done {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (t *tail) run(ctx context.Context, conn *bus.Conn, from bus.From) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before, err := conn.LastSeq(ctx, bus.StreamLogs)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = bus.Follow(ctx, conn, bus.StreamLogs, bus.AllLogs, from, func(m bus.Meta, b bus.LogBatch) error {
			if t.wants(b.Cluster, b.Task, b.JobID) {
				t.lines(b)
			}
			t.reach(m.Seq)
			return nil
		}, func() { t.reach(before) })
	})
	wg.Go(func() {
		defer cancel()           // a single job's tail ends with the job,
		defer t.drain(ctx, conn) // and with the last line that was written before
		_ = bus.Follow(ctx, conn, bus.StreamJobs, bus.AllJobs, from, func(_ bus.Meta, ev bus.JobEvent) error {
			if !t.wants(ev.Job.Cluster, ev.Job.Task, ev.Job.ID) || ev.Event == job.Note {
				return nil
			}
			t.state(ev)
			if t.id != "" && !ev.State.Live() {
				return bus.ErrStop
			}
			return nil
		}, nil)
	})
	wg.Wait()
	return nil
}

func (t *tail) wants(cluster, task, id string) bool {
	return (t.id == "" || t.id == id) && (t.cluster == "" || t.cluster == cluster) && (t.task == "" || t.task == task)
}

func (t *tail) lines(b bus.LogBatch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range b.Lines {
		fmt.Fprintf(t.w, "%s %s/%s %s %s %s\n", b.Time.Local().Format("15:04:05"), b.Cluster, b.Server, b.Task, b.Level, printable(l))
	}
}

func (t *tail) state(ev bus.JobEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "%s %s/%s %s -> %s %s\n", ev.Time.Local().Format("15:04:05"), ev.Job.Cluster, ev.Job.Server, ev.Job.Task, ev.State, printable(ev.Reason))
}

// printable keeps what a database host logged from steering the operator's terminal.
func printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			out[i] = '?'
		}
	}
	return string(out)
}

func (c *cli) cancelCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel JOB",
		Short: "End a job: an open stream is cut, a row is withdrawn, the script is told to stop",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				jobs := store.NewJobs(conn, cliActor(), nil)
				j, err := jobs.Find(ctx, args[0])
				if err != nil {
					return err
				}
				return audited(ctx, conn, aboutJob("cancel", j), func(*bus.Audit) error {
					j, err := jobs.Cancel(ctx, j, cliActor())
					if err != nil {
						return fmt.Errorf("cancel %s: %w", args[0], err)
					}
					fmt.Fprintln(cmd.OutOrStdout(), j.ID, j.State)
					return nil
				})
			})
		},
	}
}
