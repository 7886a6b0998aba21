package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/job"
	"drydock/store"
)

func (c *cli) runCmd() *cobra.Command {
	var server string
	var snapshot, skip string
	var wait, force, confirm bool
	cmd := &cobra.Command{
		Use:   "run CLUSTER TASK",
		Short: "Run a task now, on one server or on all that its schedule targets",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, conn, err := c.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.NC.Close()
			return c.runNow(cmd.Context(), cmd.OutOrStdout(), cfg, conn, runRequest{
				cluster: args[0], task: args[1], server: server, snapshot: snapshot, skip: skip, wait: wait, force: force, confirm: confirm,
			})
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "only on this server, HOST:PORT")
	cmd.Flags().BoolVar(&force, "force", false, "although the cluster is on hold or blacked out")
	cmd.Flags().BoolVar(&confirm, "confirm", false, "although it takes a server away that others replicate from, or replaces data")
	cmd.Flags().StringVar(&snapshot, job.ArgSnapshot, "", "of zfssnapback: go back to this snapshot instead of the newest")
	cmd.Flags().StringVar(&skip, job.ArgSkip, "", "of rolling operations: leave these servers out, HOST:PORT comma separated")
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "wait for the end; exit status 0 only if every job reached success")
	return cmd
}

type runRequest struct {
	cluster, task, server, snapshot, skip, backup string
	wait, force, confirm                          bool
}

func (c *cli) runNow(ctx context.Context, w io.Writer, cfg *config.Config, conn *bus.Conn, r runRequest) error {
	servers, told, err := targets(cfg, r)
	if err != nil {
		return err
	}
	args, err := r.args()
	if err != nil {
		return err
	}
	maps.Copy(args, told)
	var tick bus.Tick
	var ids []string
	act := bus.Audit{Verb: "run", Cluster: r.cluster, Server: r.server, Target: r.task, Detail: forced(r.force)}
	err = audited(ctx, conn, act, func(a *bus.Audit) error {
		if tick, servers, err = orderRun(ctx, cfg, conn, r, servers, args); err != nil {
			return err
		}
		for _, s := range servers {
			ids = append(ids, job.NewID(tick.Due, tick.ID, job.Key{Cluster: r.cluster, Server: s, Task: r.task}))
		}
		a.Jobs, a.Reason = ids, tick.Reason
		return nil
	})
	if err != nil {
		return err
	}
	for i, s := range servers {
		on := s.String()
		if s == (job.Server{}) {
			on = "the cluster " + r.cluster
		}
		fmt.Fprintf(w, "%s  %s on %s\n", ids[i], r.task, on)
	}
	if !r.wait {
		return nil
	}
	return watchJobs(ctx, w, conn, tick, ids)
}

// orderRun puts a request into the ledger, unless something is in its way. It returns the servers that were chosen.
func orderRun(ctx context.Context, cfg *config.Config, conn *bus.Conn, r runRequest, servers []job.Server, args map[string]string) (bus.Tick, []job.Server, error) {
	order := store.ByHand(r.cluster, r.task, servers, args, operator(), r.force)
	if task, err := job.TaskByName(r.task); err == nil && task.Logical() && r.server == "" {
		cluster, _ := cfg.Cluster(r.cluster) // targets found it
		chosen, why, err := store.NewDocs(conn).Source(ctx, r.cluster, app.Sources(cluster))
		if err != nil {
			return bus.Tick{}, nil, err
		}
		order.Servers, order.Reason = []job.Server{chosen}, order.Reason+"; "+why
		servers = order.Servers
	}
	if !r.force {
		if err := refuseClosed(ctx, conn, r.cluster); err != nil {
			return bus.Tick{}, nil, err
		}
	}
	if !r.confirm {
		if err := refuseUnconfirmed(ctx, conn, cfg, r, servers); err != nil {
			return bus.Tick{}, nil, err
		}
	}
	tick, err := store.NewLedger(conn, cliActor()).Run(ctx, order)
	return tick, servers, err
}

// args are the arguments of the request that its task knows.
func (r runRequest) args() (map[string]string, error) {
	args := map[string]string{}
	if r.snapshot != "" {
		args[job.ArgSnapshot] = r.snapshot
	}
	if r.skip != "" {
		args[job.ArgSkip] = r.skip
	}
	if r.backup != "" {
		args[job.ArgBackup] = r.backup
	}
	task, err := job.TaskByName(r.task)
	if err != nil {
		return nil, err
	}
	return args, job.CheckArgs(task, args)
}

// refuseUnconfirmed says what somebody has to know before the task is run.
func refuseUnconfirmed(ctx context.Context, conn *bus.Conn, cfg *config.Config, r runRequest, servers []job.Server) error {
	c, _ := cfg.Cluster(r.cluster) // targets found it
	task, err := job.TaskByName(r.task)
	if err != nil {
		return err
	}
	why, err := store.Unconfirmed(ctx, store.NewDocs(conn), r.cluster, task, servers, app.Servers(c.Servers))
	if err == nil && why != "" {
		err = fmt.Errorf("%s; --confirm does it anyway", why)
	}
	return err
}

// targets are the servers whose slots a request means, and what the jobs are told. Errors name what is unknown.
func targets(cfg *config.Config, r runRequest) ([]job.Server, map[string]string, error) {
	cluster, err := clusterNamed(cfg, r.cluster)
	if err != nil {
		return nil, nil, err
	}
	task, err := job.TaskByName(r.task)
	if err != nil {
		return nil, nil, fmt.Errorf("%w %q", err, r.task)
	}
	if !task.Built {
		return nil, nil, fmt.Errorf("task %s is not built yet", task.Name)
	}
	if task.Ordered() {
		return nil, nil, fmt.Errorf("task %s replaces data: use drydock reseed, drydock flashback or drydock restore apply", task.Name)
	}
	if why := app.Refusals(cfg, cluster)[task.Name]; why != "" {
		return nil, nil, fmt.Errorf("%s", why)
	}
	switch {
	case r.server == "":
		return app.Targets(cluster, task), nil, nil
	case !task.OneServer():
		return nil, nil, fmt.Errorf("%s works on the whole cluster; leave --server out", task.Name)
	}
	s, err := serverOf(cluster, r.server)
	if err != nil {
		return nil, nil, err
	}
	slots, told := task.Slots([]job.Server{s}, true)
	return slots, told, nil
}

// board is what is known of the jobs being watched.
type board struct {
	mu       sync.Mutex
	jobs     map[string]job.Job
	progress map[string]bus.Progress
	skipped  map[string]string // by server: why no job was started there
}

// watchJobs shows the jobs until each has ended. Its error says which did not reach success.
func watchJobs(ctx context.Context, w io.Writer, conn *bus.Conn, tick bus.Tick, ids []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &board{jobs: map[string]job.Job{}, progress: map[string]bus.Progress{}, skipped: map[string]string{}}
	changed := make(chan struct{}, 1) // a wish to draw again; one in store is enough
	kick := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	since := bus.From{Since: tick.Time.Add(-time.Second)}
	followers.Go(func() {
		_ = bus.Follow(ctx, conn, bus.StreamJobs, bus.JobFilter(tick.Cluster, "", 0, tick.Task), since, func(_ bus.Meta, ev bus.JobEvent) error {
			if slices.Contains(ids, ev.Job.ID) {
				b.mu.Lock()
				b.jobs[ev.Job.ID] = ev.Job
				b.mu.Unlock()
				kick()
			}
			return nil
		}, nil)
	})
	followers.Go(func() {
		_ = bus.Follow(ctx, conn, bus.StreamTasks, bus.TaskSubject(tick.Cluster, tick.Task), since, func(_ bus.Meta, t bus.Tick) error {
			if t.Outcome == bus.Skipped && t.Due.Equal(tick.Due) {
				b.mu.Lock()
				for _, s := range t.Servers {
					b.skipped[job.NewID(tick.Due, tick.ID, job.Key{Cluster: tick.Cluster, Server: s, Task: tick.Task})] = t.Reason
				}
				b.mu.Unlock()
				kick()
			}
			return nil
		}, nil)
	})
	sub, err := bus.Listen(conn, bus.AllProgress, func(p bus.Progress) {
		b.mu.Lock()
		b.progress[p.JobID] = p
		b.mu.Unlock()
		kick()
	})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	return b.follow(ctx, w, conn, ids, changed)
}

func (b *board) follow(ctx context.Context, w io.Writer, conn *bus.Conn, ids []string, changed <-chan struct{}) error {
	screen := newScreen(w)
	sizes := lastSizes(ctx, conn)
	for {
		lines, open, bad := b.lines(ids, sizes)
		screen.draw(lines)
		if open == 0 {
			screen.done()
			if len(bad) > 0 {
				return fmt.Errorf("not successful: %s", strings.Join(bad, "; "))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			screen.done()
			return errors.New("stopped watching; the jobs go on")
		case <-changed:
		}
	}
}

// lines draws one line per job and counts those that have not ended.
func (b *board) lines(ids []string, sizes map[job.Key]int64) (lines []string, open int, bad []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if why, ok := b.skipped[id]; ok {
			lines = append(lines, fmt.Sprintf("%s  skipped: %s", id, why))
			bad = append(bad, id+" skipped")
			continue
		}
		j, ok := b.jobs[id]
		if !ok {
			open++
			lines = append(lines, id+"  waiting for a scheduler")
			continue
		}
		lines = append(lines, jobLine(j, b.progress[id], sizes[j.Key()]))
		switch {
		case j.State.Live():
			open++
		case j.State != job.Success:
			bad = append(bad, fmt.Sprintf("%s %s (%s)", j.Key(), j.State, j.Reason))
		}
	}
	return lines, open, bad
}

func jobLine(j job.Job, p bus.Progress, expect int64) string {
	line := fmt.Sprintf("%-28s %-12s %-10s", j.Cluster+"/"+j.Server.String(), j.Task, j.State)
	moved := p.Bytes
	if j.Stream != nil && j.Stream.Bytes > moved {
		moved = j.Stream.Bytes
	}
	switch {
	case p.Percent > 0 && j.State.Live():
		line += " " + bar(int64(p.Percent), 100) + fmt.Sprintf(" %s, %s/s", bytes(moved), bytes(int64(p.Rate)))
	case moved > 0 && j.State.Live() && expect > 0:
		line += " " + bar(moved, expect) + fmt.Sprintf(" %s, %s/s", bytes(moved), bytes(int64(p.Rate)))
	case moved > 0 && j.State.Live():
		line += fmt.Sprintf(" %s, %s/s", bytes(moved), bytes(int64(p.Rate)))
	case moved > 0:
		line += fmt.Sprintf(" %s in %s", bytes(moved), took(j.Started(), j.Ended()))
	}
	if j.Reason != "" && j.State != job.Success {
		line += "  " + short(j.Reason, 80)
	}
	return line
}

// bar draws how far moved is of expect; what came before is only an estimate, so it never shows more than 99 %.
func bar(moved, expect int64) string {
	const width = 20
	percent := min(99, moved*100/expect)
	full := int(percent) * width / 100
	return fmt.Sprintf("[%s%s] %2d%%", strings.Repeat("#", full), strings.Repeat(".", width-full), percent)
}

// lastSizes are the sizes of the newest backup of every slot, the estimate for the next one.
func lastSizes(ctx context.Context, conn *bus.Conn) map[job.Key]int64 {
	sizes := map[job.Key]int64{}
	list, err := store.NewCatalog(conn).List(ctx, "", job.Server{})
	if err != nil {
		return sizes // only the bars are missing
	}
	for _, m := range slices.Backward(list) {
		sizes[job.Key{Cluster: m.Cluster, Server: m.Server, Task: m.Task}] = m.Size
	}
	return sizes
}

// screen redraws a block of lines in place on a terminal, and elsewhere writes a line when it changes.
type screen struct {
	w     io.Writer
	tty   bool
	drawn []string
}

func newScreen(w io.Writer) *screen { return &screen{w: w, tty: isTerminal(w)} }

func (s *screen) draw(lines []string) {
	if s.tty {
		if len(s.drawn) > 0 {
			fmt.Fprintf(s.w, "\x1b[%dA", len(s.drawn))
		}
		for _, l := range lines {
			fmt.Fprintf(s.w, "\x1b[2K%s\n", l)
		}
		s.drawn = lines
		return
	}
	for i, l := range lines {
		// Without a terminal a line for every state is enough: progress would fill a log.
		if i >= len(s.drawn) || stateWords(s.drawn[i]) != stateWords(l) {
			fmt.Fprintln(s.w, l)
		}
	}
	s.drawn = lines
}

func (s *screen) done() { s.drawn = nil }

func stateWords(line string) string {
	words := strings.Fields(line)
	return strings.Join(words[:min(3, len(words))], " ")
}
