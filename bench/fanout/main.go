// Command fanout measures one drydock with many servers: how long it takes to start, what it costs while nothing is due, and
// how long it takes from the second in which the tasks of every server fall due until the last is dispatched. It also
// measures how long single steps take: a tick until it is offered, done until success, an event until it is on the page.
// drydock is the real binary, a process of its own; figures come from /proc and from the times on the bus.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"drydock/bench/paired"
	"drydock/child"
	"drydock/internal/mariadbd"
)

func main() {
	runtime.LockOSThread() // what is started here dies with this thread
	var o options
	flag.StringVar(&o.binary, "drydock", "bin/drydock", "the drydock under test")
	api := flag.String("api", "1,100,1000,10000", "numbers of servers, mode api")
	sql := flag.String("sql", "100", "numbers of servers, mode sql")
	flag.BoolVar(&o.own, "own", false, "also the tasks that drydock does itself over SQL: nine in all, not six")
	flag.IntVar(&o.ticker, "ticker", 2, "monitoring-ticker, s: from 10 on the servers are asked as seldom as that")
	flag.IntVar(&o.clusters, "clusters", 1, "that the servers are shared out to")
	flag.IntVar(&o.samples, "samples", 200, "of each latency, 0 for none")
	flag.DurationVar(&o.bound, "for", 3*time.Minute, "how long one part may take: mode api, mode sql, latency")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var errs [2]error
	o.api, errs[0] = numbers(*api)
	o.sql, errs[1] = numbers(*sql)
	if o.clusters < 1 {
		exit(fmt.Errorf("-clusters %d: there must be one", o.clusters))
	}
	if err := errors.Join(errs[:]...); err != nil {
		exit(err)
	}
	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type options struct {
	binary   string
	api, sql []int
	own      bool
	clusters int
	ticker   int // seconds
	samples  int
	bound    time.Duration
}

func numbers(text string) (out []int, err error) {
	for f := range strings.SplitSeq(text, ",") {
		if f == "" {
			continue
		}
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > maxServers {
			return nil, fmt.Errorf("%q is no number of servers from 1 to %d", f, maxServers)
		}
		out = append(out, n)
	}
	return out, nil
}

const password = "bench"

func run(ctx context.Context, o options) (err error) {
	fmt.Printf("\n## Fan-out and latency\n\n%s\n", paired.Machine())
	dir, err := os.MkdirTemp("", "drydock-fanout-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, dir: dir}
	defer func() { err = errors.Join(err, b.killAll()) }()
	if err := b.startAll(ctx, slices.Max(slices.Concat(o.api, o.sql, []int{1}))); err != nil {
		return err
	}
	if len(o.api) > 0 {
		if err := b.fanoutAPI(ctx); err != nil {
			return err
		}
	}
	if len(o.sql) > 0 {
		if err := b.fanoutSQL(ctx); err != nil {
			return err
		}
	}
	if o.samples > 0 {
		return b.latency(ctx)
	}
	return nil
}

// bench is what all parts share.
type bench struct {
	options
	dir string
	dbs []*mariadbd.Server // never none
}

// sharedBy is how many entries lead to one real MariaDB at most. Each question for its status adds up all of its connections: with ten thousand
// on one server these questions alone took more than a core, before anything was due.
const sharedBy = 250

// startAll starts real servers for so many entries, which tell them apart by their loopback address.
func (b *bench) startAll(ctx context.Context, entries int) error {
	for len(b.dbs)*sharedBy < entries {
		db, err := mariadbd.Start(ctx, mariadbd.Options{Dir: filepath.Join(b.dir, fmt.Sprintf("db%d", len(b.dbs))), Password: password, Extra: []string{
			"bind-address=0.0.0.0", "max-connections=5000", "thread-handling=pool-of-threads", "back-log=4096",
			"innodb-flush-log-at-trx-commit=2", "table-open-cache=4000", "skip-name-resolve",
		}})
		if err != nil {
			return err
		}
		b.dbs = append(b.dbs, db)
	}
	return nil
}

func (b *bench) killAll() (err error) {
	for _, db := range b.dbs {
		err = errors.Join(err, db.Kill())
	}
	return err
}

// sharing are the real servers that so many entries share.
func (b *bench) sharing(entries int) []*mariadbd.Server {
	return b.dbs[:(entries+sharedBy-1)/sharedBy]
}

// ports are those of the real servers for so many entries.
func (b *bench) ports(entries int) (ports []int) {
	for _, db := range b.sharing(entries) {
		ports = append(ports, db.Port())
	}
	return ports
}

// dbCPU is what the real servers have used so far.
func (b *bench) dbCPU() (total time.Duration) {
	const ticks = 100 // a second, on every Linux that we run on
	for _, db := range b.dbs {
		total += time.Duration(child.ProcessorTime(db.PID())) * time.Second / ticks
	}
	return total
}
