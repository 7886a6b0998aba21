package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	seed           uint64
	steps          int
	bound          time.Duration
	mode           string
	report         string
	binary, script string
	repo           string // with compose.yaml and packaging
	keep           bool
	only           string // the blows whose names begin with one of these, separated by commas; empty: all
	pace           pace
	progress       func(format string, args ...any)
}

func (o options) split() bool { return strings.HasPrefix(o.mode, "split") }

func (o options) jobsMode() string {
	if strings.HasSuffix(o.mode, "sql") {
		return "sql"
	}
	return "api"
}

func main() { os.Exit(run()) }

func run() int {
	var o options
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().Unix()), "seed of the storm; the same seed strikes the same blows, not at the same instants")
	flag.IntVar(&o.steps, "steps", 100, "how many blows")
	flag.DurationVar(&o.bound, "for", 20*time.Minute, "the longest the storm may last")
	flag.StringVar(&o.mode, "mode", "api", "how jobs reach the script: api or sql; split or split-sql: the same with drydock in several processes on three NATS servers")
	flag.StringVar(&o.report, "report", "", "file that the report is written to")
	flag.StringVar(&o.binary, "drydock", "bin/drydock", "the drydock under test")
	flag.StringVar(&o.script, "script", "scripts/dbjobs", "the script under test")
	flag.StringVar(&o.repo, "repo", ".", "the folder with compose.yaml, which says how drydock is split")
	flag.StringVar(&o.only, "only", "", "strike only the blows whose names begin with one of these, separated by commas")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder of the run when a promise was broken")
	flag.Parse()
	if flag.NArg() > 0 || !slices.Contains([]string{"api", "sql", "split", "split-sql"}, o.mode) || o.steps < 1 {
		flag.Usage()
		return 2
	}
	if _, err := exec.LookPath(o.binary); err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %v (run: make build)\n", err)
		return 2
	}
	for _, file := range []string{o.script, filepath.Join(o.repo, "compose.yaml")} { // a storm without the script proves nothing
		if _, err := os.Stat(file); err != nil {
			fmt.Fprintf(os.Stderr, "chaos: %v (run it in drydock's folder, or see -script and -repo)\n", err)
			return 2
		}
	}
	o.pace = steady
	o.progress = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	r, err := chaos(ctx, o)
	if r != nil {
		text := r.markdown()
		fmt.Printf("\n%s", text)
		if o.report != "" {
			if err := os.WriteFile(o.report, text, 0o644); err != nil {
				fmt.Fprintf(os.Stderr, "chaos: write the report: %v\n", err)
				return 2
			}
		}
	}
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "chaos: seed %d: %v\n", o.seed, err)
		return 1
	case len(r.Verdict.Violations) > 0:
		return 1
	}
	return 0
}

// chaos is one run: build up, storm, calm, judge, tear down. The report is nil when nothing could be judged.
func chaos(ctx context.Context, o options) (r *report, err error) {
	runtime.LockOSThread() // the servers' death signal hangs on threads; see internal/mariadbd
	defer runtime.UnlockOSThread()
	begun := time.Now()
	dir, err := os.MkdirTemp("", "drydock-chaos-")
	if err != nil {
		return nil, err
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return nil, err
	}
	if o.script, err = filepath.Abs(o.script); err != nil {
		return nil, err
	}
	if o.repo, err = filepath.Abs(o.repo); err != nil {
		return nil, err
	}
	s, err := newSite(ctx, dir, o)
	defer func() {
		s.sweep()
		if o.keep && (err != nil || r != nil && len(r.Verdict.Violations) > 0) {
			o.progress("kept: %s (its data folder is a mount)", dir)
			return
		}
		s.remove()
	}()
	if err != nil {
		_ = s.close()
		return nil, fmt.Errorf("set up: %w", err)
	}
	r = &report{Seed: o.seed, Only: o.only, Mode: o.mode, Begun: begun}
	if err := r.live(ctx, o, s); err != nil {
		_ = s.close()
		r.Notes = s.notes
		return r, err
	}
	if err := s.close(); err != nil {
		r.Verdict.broken(promiseWell, "", nil, "%v", err)
	}
	for _, what := range s.crashed {
		r.Verdict.broken(promiseWell, "", nil, "%s", what)
	}
	r.Verdict.checkFiles(s, r.catalog)
	for _, x := range relatives(s.marker) {
		r.Verdict.broken(promiseFiles, "", nil, "a process is left over: %s", x.line)
	}
	r.Notes, r.Whole = s.notes, time.Since(begun)
	return r, nil
}

// live is what happens while drydock runs.
func (r *report) live(ctx context.Context, o options, s *site) error {
	c := newClient(s)
	st, err := newStorm(s, c, o.seed, o.only)
	if err != nil {
		return err
	}
	unwatch, err := st.watch()
	if err != nil {
		return err
	}
	defer unwatch()
	writing, endWriting := context.WithCancel(ctx)
	defer endWriting()
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.run(writing)
	}()
	stormy, cancel := context.WithTimeout(ctx, o.bound)
	defer cancel()
	begun := time.Now()
	err = st.run(stormy, o.steps, func(n int, what string) { o.progress("%4d %6.1f s  %s", n, time.Since(begun).Seconds(), what) })
	r.Storm, r.Count, r.Dealt = time.Since(begun), st.count, st.dealt
	endWriting()
	<-written
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	nc, err := dial(s)
	if err != nil {
		return err
	}
	defer nc.Close()
	v := &r.Verdict
	o.progress("calm")
	if err := calm(ctx, s, c, nc, v); err != nil {
		v.broken(promiseWell, "", nil, "%v", err)
	}
	o.progress("judge, %.0f s after the storm", time.Since(begun).Seconds()-r.Storm.Seconds())
	rec, err := readBus(ctx, nc, s.receivers())
	if err != nil {
		return err
	}
	acked, sent, asked := c.told()
	r.Acked, r.Sent, r.Asked = len(acked), sent, len(asked)
	v.checkLines(rec.Lines, acked)
	v.checkTicks(rec.Ticks, rec.Jobs, s.pace.schedule)
	v.checkJobs(rec.Jobs, asked, rec.Ticks)
	v.checkRows(ctx, s)
	v.checkBackups(ctx, s, rec.Jobs, rec.Catalog)
	v.checkCollected(s)
	v.checkPorts(s, rec.PortsOut)
	r.catalog = rec.Catalog
	return nil
}
