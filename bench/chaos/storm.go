package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// storm is a seeded row of blows.
type storm struct {
	site   *site
	client *client
	rng    *rand.Rand
	count  map[string]int // blows by kind

	traffic atomic.Int64  // messages about jobs that were seen on the bus
	moved   chan struct{} // one send when traffic grew; buffered, the newest is enough
}

// blow is one kind of harm.
type blow struct {
	name   string
	weight int
	strike func(*storm, context.Context) error
}

var blows = []blow{
	{"kill -9 drydock", 26, (*storm).killDrydock},
	{"kill -9 drydock while it starts", 6, (*storm).killStarting},
	{"kill -9 the script's loop", 10, (*storm).killLoop},
	{"kill -9 the script and all it runs", 8, (*storm).killScript},
	{"kill -9 a sender or tool of the script", 18, (*storm).killSender},
	{"kill -9 mariadbd", 8, (*storm).killDatabase},
	{"SIGSTOP drydock", 6, (*storm).stopDrydock},
	{"SIGSTOP the script and all it runs", 5, (*storm).stopScript},
	{"SIGSTOP mariadbd", 5, (*storm).stopDatabase},
	{"full disk", 8, (*storm).fillDisk},
}

func newStorm(s *site, c *client, seed uint64) *storm {
	return &storm{site: s, client: c, rng: rand.New(rand.NewPCG(seed, seed)), count: map[string]int{}, moved: make(chan struct{}, 1)}
}

// watch counts what happens on the bus, over all restarts of it.
func (st *storm) watch() (stop func(), err error) {
	nc, err := dial(st.site)
	if err != nil {
		return nil, err
	}
	_, err = nc.Subscribe("drydock.job.>", func(*nats.Msg) {
		st.traffic.Add(1)
		select {
		case st.moved <- struct{}{}:
		default:
		}
	})
	return nc.Close, err
}

// run strikes steps times, or until ctx ends. An error says that the storm itself could not go on.
func (st *storm) run(ctx context.Context, steps int, progress func(n int, what string)) error {
	for n := range steps {
		st.await(ctx)
		if ctx.Err() != nil {
			break
		}
		if st.rng.IntN(4) == 0 {
			st.client.ask(ctx, []string{"errorlog", "optimize", "analyze", "mariabackup"}[st.rng.IntN(4)])
		}
		b := st.pick()
		progress(n+1, b.name)
		// A blow that was begun is dealt to its end, and what it broke is up again after it; all of it is bounded.
		whole := context.WithoutCancel(ctx)
		if err := st.revive(whole); err != nil {
			return err
		}
		switch err := b.strike(st, whole); {
		case errors.Is(err, errNothing):
			st.count["nothing to strike: "+b.name]++
		case err != nil:
			return fmt.Errorf("step %d, %s: %w", n+1, b.name, err)
		default:
			st.count[b.name]++
		}
	}
	return st.revive(context.WithoutCancel(ctx))
}

func (st *storm) pick() blow {
	total := 0
	for _, b := range blows {
		total += b.weight
	}
	n := st.rng.IntN(total)
	for _, b := range blows {
		if n -= b.weight; n < 0 {
			return b
		}
	}
	return blows[0]
}

// await waits for a few transitions of jobs, at most a few seconds: so the blows fall into every state of them.
func (st *storm) await(ctx context.Context) {
	want, bound := st.traffic.Load()+int64(1+st.rng.IntN(8)), 3*time.Second
	if st.rng.IntN(6) == 0 {
		want, bound = want+20, 10*time.Second // time enough for a backup
	}
	end := time.After(bound)
	for st.traffic.Load() < want {
		select {
		case <-st.moved:
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}

// revive starts again what ended by itself: a script may (it is told to go by nobody), drydock may not.
func (st *storm) revive(ctx context.Context) error {
	s := st.site
	if s.script.ended() {
		s.note("the script ended by itself:\n%s", s.script.said())
		if err := s.startScript(); err != nil {
			return err
		}
	}
	if s.drydock.ended() {
		s.note("DRYDOCK ENDED BY ITSELF:\n%s", s.drydock.said())
		return s.startDrydock(ctx)
	}
	return nil
}

var errNothing = errors.New("nothing to strike")

func (st *storm) killDrydock(ctx context.Context) error {
	st.site.drydock.kill()
	return st.site.startDrydock(ctx)
}

func (st *storm) killStarting(ctx context.Context) error {
	st.site.drydock.kill()
	if err := st.site.launchDrydock(); err != nil {
		return err
	}
	pause(ctx, time.Duration(st.rng.IntN(1500))*time.Millisecond)
	return st.killDrydock(ctx)
}

func (st *storm) killLoop(context.Context) error {
	st.site.script.kill()
	return st.site.startScript()
}

func (st *storm) killScript(context.Context) error {
	st.signalScript(syscall.SIGKILL)
	<-st.site.script.done
	return st.site.startScript()
}

func (st *storm) signalScript(sig syscall.Signal) {
	for _, r := range st.site.scriptProcesses() {
		_ = syscall.Kill(r.pid, sig)
	}
}

// killSender kills the sender of a stream; when none comes for a while, another program that the script runs.
func (st *storm) killSender(ctx context.Context) error {
	var senders, tools []relative
	for end := time.Now().Add(senderWait); len(senders) == 0 && time.Now().Before(end) && pause(ctx, 20*time.Millisecond); {
		tools = nil
		for _, r := range st.site.scriptProcesses() {
			switch program := r.program(); {
			case program == "socat" && strings.Contains(r.line, " -u "):
				senders = append(senders, r)
			case program != "bash" && program != "sleep":
				tools = append(tools, r)
			}
		}
	}
	if len(senders) == 0 {
		senders = tools
	}
	if len(senders) == 0 {
		return errNothing
	}
	victim := senders[st.rng.IntN(len(senders))]
	st.count["of them "+victim.program()]++
	return ignoreGone(syscall.Kill(victim.pid, syscall.SIGKILL))
}

// senderWait is how long a stream is waited for; one of the log tasks comes every few seconds.
const senderWait = 5 * time.Second

func (st *storm) killDatabase(ctx context.Context) error {
	if err := st.site.db.Kill(); err != nil {
		return err
	}
	pause(ctx, time.Duration(st.rng.IntN(2000))*time.Millisecond)
	return st.site.db.Restart(ctx)
}

func (st *storm) stopDrydock(ctx context.Context) error {
	return st.stopFor(ctx, st.site.drydock.cmd.Process.Pid)
}

func (st *storm) stopDatabase(ctx context.Context) error { return st.stopFor(ctx, st.site.db.PID()) }

func (st *storm) stopFor(ctx context.Context, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	pause(ctx, st.stopTime())
	return ignoreGone(syscall.Kill(pid, syscall.SIGCONT))
}

func (st *storm) stopScript(ctx context.Context) error {
	st.signalScript(syscall.SIGSTOP)
	pause(ctx, st.stopTime())
	st.signalScript(syscall.SIGCONT)
	return nil
}

func (st *storm) stopTime() time.Duration {
	return 200*time.Millisecond + time.Duration(st.rng.IntN(4800))*time.Millisecond
}

// fillDisk leaves no byte on the disk of drydock's data folder for a while.
func (st *storm) fillDisk(ctx context.Context) error {
	s := st.site
	if !s.mounted {
		return errNothing
	}
	path := s.path("data", "ballast")
	if err := fillUp(path); err != nil {
		return err
	}
	before, _, _ := st.client.told()
	pause(ctx, st.stopTime())
	after, _, _ := st.client.told()
	st.count["log lines acknowledged while the disk was full"] += len(after) - len(before) // small writes may still find room
	killed := st.rng.IntN(4) == 0
	if killed {
		s.drydock.kill() // and it comes back to a disk with room
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if killed {
		st.count["of them with kill -9 drydock"]++
		return s.startDrydock(ctx)
	}
	return nil
}

// fillUp writes a file until the disk takes no more.
func fillUp(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for len(chunk) >= 512 {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			return err
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
