package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// logLevels are those of log lines, the least first.
var logLevels = []string{"DEBUG", "INFO", "WARN", "ERROR"}

func (c *cli) tailCmd() *cobra.Command {
	t := &tail{}
	var server, level string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "tail [JOB]",
		Short: "Follow the log lines and states of one job, of a cluster, server or task, or of everything",
		Long:  "Shows states and log lines as they come, until Ctrl-C. With JOB from its beginning, until its end.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if t.server, err = onlyServer(server); err != nil {
				return err
			}
			if t.least = slices.Index(logLevels, strings.ToUpper(level)); t.least < 0 {
				return fmt.Errorf("unknown level %q: the levels are %s", level, strings.Join(logLevels, ", "))
			}
			t.w, t.colours = cmd.OutOrStdout(), colourful(cmd.OutOrStdout())
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				from := bus.From{Since: time.Now().Add(-since)}
				if len(args) == 1 {
					if from.Since, err = t.only(ctx, conn, args[0]); err != nil {
						return err
					}
				}
				ctx, stop := whileRead(ctx, cmd.OutOrStdout())
				defer stop()
				return t.run(ctx, conn, from)
			})
		},
	}
	cmd.Flags().StringVar(&t.cluster, "cluster", "", "only this cluster")
	cmd.Flags().StringVar(&server, "server", "", "only this server, HOST or HOST:PORT")
	cmd.Flags().StringVar(&t.task, "task", "", "only this task")
	cmd.Flags().StringVar(&level, "level", "DEBUG", "only lines of this level and above: "+strings.Join(logLevels, ", "))
	cmd.Flags().DurationVar(&since, "since", 0, "begin so long ago")
	return cmd
}

// tail prints log lines and transitions as they come.
type tail struct {
	id, cluster, task string
	server            job.Server // Port 0: every port of Host
	least             int        // in logLevels
	colours           bool

	mu   sync.Mutex // both followers write
	w    io.Writer
	seen uint64 // log messages up to this sequence are shown
}

// only narrows the tail to one job, and returns from when on there may be something about it.
func (t *tail) only(ctx context.Context, conn *bus.Conn, id string) (time.Time, error) {
	j, err := store.NewJobs(conn, cliActor(), nil).Find(ctx, id)
	if err != nil {
		return time.Time{}, fmt.Errorf("follow job %s: %w", id, err)
	}
	t.id = j.ID
	return j.Created.Add(-time.Second), nil
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
			if t.wants(b.Cluster, b.Server, b.Task, b.JobID) && t.loud(b.Level) {
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
			if !t.wants(ev.Job.Cluster, ev.Job.Server, ev.Job.Task, ev.Job.ID) || ev.Event == job.Note {
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

func (t *tail) wants(cluster string, server job.Server, task, id string) bool {
	return (t.id == "" || t.id == id) && (t.cluster == "" || t.cluster == cluster) && (t.task == "" || t.task == task) &&
		(t.server.Host == "" || t.server.Host == server.Host && (t.server.Port == 0 || t.server.Port == server.Port))
}

// loud reports whether lines of the level are shown. A level of another program's is.
func (t *tail) loud(level string) bool {
	at := slices.Index(logLevels, strings.ToUpper(level))
	return at < 0 || at >= t.least
}

func (t *tail) paint(word string) string {
	if t.colours {
		return coloured(word)
	}
	return word
}

func (t *tail) lines(b bus.LogBatch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range b.Lines {
		fmt.Fprintf(t.w, "%s %s/%s %s %s %s\n", b.Time.Local().Format("15:04:05"), b.Cluster, b.Server, b.Task, t.paint(b.Level), printable(l))
	}
}

func (t *tail) state(ev bus.JobEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "%s %s/%s %s -> %s %s\n", ev.Time.Local().Format("15:04:05"), ev.Job.Cluster, ev.Job.Server, ev.Job.Task, t.paint(string(ev.State)), printable(ev.Reason))
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
					if j, err = jobs.Cancel(ctx, j, cliActor()); err != nil {
						return fmt.Errorf("cancel %s: %w", args[0], err)
					}
					return said(cmd, nil, "%s %s", j.ID, j.State)
				})
			})
		},
	}
}
