// Package demo shows drydock at work on real MariaDB servers, and checks what it shows: a primary and a replica with
// generated data, drydock in this process with both dispatch modes, the real dbjobs script on each "database host",
// eight jobs started by cron ticks, and a proof of both backups that does not ask drydock.
//
// It owns every process it starts and one folder that holds everything else; neither outlives [Run]. Processes end
// also when the program is ended by SIGKILL; the folder then stays. It needs Linux and what build/setup.sh installs.
package demo

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"drydock/app"
	"drydock/config"
	"drydock/internal/mariadbd"
	"drydock/job"
)

// The defaults of [Options].
const (
	DefaultSize    = 300 << 20 // bytes
	DefaultTimeout = 5 * time.Minute
)

// ErrNotProven is returned by [Run] when a job did not reach success or a backup could not be restored; what was
// printed says which and why.
var ErrNotProven = errors.New("not every job reached a proven success")

// errInterrupted is what Run returns when its context ended before the demo did.
var errInterrupted = errors.New("interrupted")

// Options say how large the demo is and what is left of it. Only Out is required.
type Options struct {
	Size    int64         // data generated on the primary, bytes; 0 means DefaultSize
	Keep    bool          // leave everything running until the context ends
	Dir     string        // existing folder in which the demo's own folder is made; empty means the system's for temporary files
	Timeout time.Duration // how long the jobs may take in all, from the start of drydock; 0 means DefaultTimeout
	Out     io.Writer     // what people read; redrawn in place when it is a terminal
	Program string        // how the reader calls drydock, for hints; empty means "drydock"
	Version string        // of drydock, for its log
}

// site is one cluster of one server, and the host that server stands on.
type site struct {
	cluster string
	mode    job.Mode
	server  *mariadbd.Server
	extra   string // further lines of the cluster's section
}

// demo is one run.
type demo struct {
	Options
	dir      string
	began    time.Time
	screen   *screen
	cleanup  cleanup
	monitors sync.WaitGroup          // goroutines that watch for a part's unexpected end
	fail     context.CancelCauseFunc // ends the demo
	kept     atomic.Bool             // the show is over: a part that ends now ends nothing else

	password    string // of the database account
	apiPassword string
	sql, api    *site // the primary in mode sql, the replica in mode api
	cfg         *config.Config
	addrs       app.Addresses
	ticks       schedule
}

// Run shows everything and cleans up behind itself, whatever happens. It returns nil when every job reached success and
// both backups were restored. Errors: [ErrNotProven], why a part could not be started, or that ctx ended first.
func Run(ctx context.Context, o Options) (err error) {
	d, err := open(o)
	if err != nil {
		return err
	}
	ctx, d.fail = context.WithCancelCause(ctx)
	defer func() { err = errors.Join(err, d.close()) }()
	d.announce()
	err = d.show(ctx)
	switch cause := context.Cause(ctx); {
	case cause == nil && d.Keep && d.addrs.API != "":
		d.keepRunning(ctx, err)
	case errors.Is(cause, context.Canceled):
		err = errInterrupted
	case cause != nil:
		err = cause
	}
	return err
}

// open checks that there is room and makes the demo's folder.
func open(o Options) (*demo, error) {
	o.Size, o.Timeout = cmp.Or(o.Size, DefaultSize), cmp.Or(o.Timeout, DefaultTimeout)
	o.Program = cmp.Or(o.Program, "drydock")
	d := &demo{Options: o, began: time.Now(), screen: newScreen(o.Out), apiPassword: rand.Text()}
	// Random, as the account may do anything and every user of this machine reaches the port; with every character that
	// has broken a script before.
	d.password = rand.Text() + ` p'a"s$w\o%r&d é#`
	if err := checkSpace(cmp.Or(o.Dir, os.TempDir()), o.Size); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "drydock-demo-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("make the demo's folder: %w", err)
	}
	if d.dir, err = filepath.Abs(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	d.cleanup.add("remove folder", func() error { return os.RemoveAll(d.dir) })
	return d, nil
}

// The data stand on disk in tables, binary logs and relay logs of two servers, in two backups, and for a while in a
// rebuilt table and an unpacked backup; the redo logs and the bus come on top.
const (
	spaceFactor = 9
	spaceFixed  = 1 << 30 // bytes
)

func checkSpace(dir string, size int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	need, free := spaceFactor*size+spaceFixed, int64(st.Bavail)*st.Bsize
	if free < need {
		return fmt.Errorf("%s has %s free and the demo needs %s: name another folder with --dir, or less data with --size",
			dir, bytes(free), bytes(need))
	}
	return nil
}

func (d *demo) announce() {
	d.screen.print("drydock demo in %s, removed at the end:", d.dir)
	d.screen.print("1. a MariaDB primary and a replica with %s of data, drydock on both (sql and api mode),", bytes(d.Size))
	d.screen.print("2. eight jobs, started by cron ticks; 3. a proof of its own: both backups restored.")
	d.screen.print("")
}

// show is the demo from the first server to the summary.
func (d *demo) show(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.startServers, d.fillServers, d.configure, d.startDrydock, d.startHosts,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b, err := d.watch(ctx)
	if err != nil {
		return err
	}
	return d.conclude(ctx, b)
}

// close ends everything in the reverse order of its start.
func (d *demo) close() error {
	d.kept.Store(true)
	err := d.cleanup.run()
	d.monitors.Wait()
	d.fail(nil)
	if err == nil {
		d.say("cleaned up: no process is left, %s is removed", d.dir)
	}
	return err
}

// monitor ends the demo when a part ends before its time; why is asked afterwards. done is closed at the latest when
// the part is cleaned up.
func (d *demo) monitor(name string, done <-chan struct{}, why func() error) {
	d.monitors.Go(func() {
		<-done
		if !d.kept.Load() {
			d.fail(fmt.Errorf("%s ended too soon: %w", name, why()))
		}
	})
}

// say prints a line with the time since the start.
func (d *demo) say(format string, args ...any) {
	d.screen.print("[%5.1fs] %s", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) path(names ...string) string {
	return filepath.Join(append([]string{d.dir}, names...)...)
}

func (d *demo) sites() []*site { return []*site{d.sql, d.api} }

// cleanup is what has to be undone, run in reverse. The zero value is empty.
type cleanup struct{ steps []cleanupStep }

type cleanupStep struct {
	name string
	undo func() error
}

func (c *cleanup) add(name string, undo func() error) {
	c.steps = append(c.steps, cleanupStep{name, undo})
}

// run makes every step, also after one has failed. Running it again does nothing.
func (c *cleanup) run() error {
	var errs []error
	for i := len(c.steps) - 1; i >= 0; i-- {
		if err := c.steps[i].undo(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.steps[i].name, err))
		}
	}
	c.steps = nil
	return errors.Join(errs...)
}
