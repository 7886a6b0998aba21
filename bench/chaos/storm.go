package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// storm is a seeded row of blows.
type storm struct {
	site   *site
	client *client
	rng    *rand.Rand
	count  map[string]int // blows by kind
	dealt  int            // blows that found something to strike
	blows  []blow

	nc      *nats.Conn    // over all restarts of the bus; set by watch
	traffic atomic.Int64  // messages about jobs that were seen on the bus
	moved   chan struct{} // one send when traffic grew; buffered, the newest is enough
}

// blow is one kind of harm.
type blow struct {
	name   string
	weight int
	strike func(*storm, context.Context) error
}

// everywhere are the blows that any drydock gets.
var everywhere = []blow{
	{"kill -9 drydock", 26, (*storm).killDrydock},
	{"kill -9 drydock while it starts", 6, (*storm).killStarting},
	{"kill -9 the script's loop", 10, (*storm).killLoop},
	{"kill -9 the script and all it runs", 8, (*storm).killScript},
	{"kill -9 a sender or tool of the script", 18, (*storm).killSender},
	{"kill -9 mariadbd", 8, (*storm).killDatabase},
	{"SIGSTOP drydock", 6, (*storm).stopDrydock},
	{"SIGSTOP the script and all it runs", 5, (*storm).stopScript},
	{"SIGSTOP mariadbd", 5, (*storm).stopDatabase},
	{"full bus", 6, (*storm).fillBus},
}

// alone are those of one with a disk of its own.
var alone = []blow{
	{"full disk", 8, (*storm).fillDisk},
	{"slow disk", 6, (*storm).slowDisk},
}

// newStorm is one of all blows that the site can get, or only of those whose names begin with one of these, separated by commas.
func newStorm(s *site, c *client, seed uint64, only string) (*storm, error) {
	more := alone
	if s.split != nil {
		more = apart
	}
	blows := slices.DeleteFunc(slices.Concat(everywhere, more), func(b blow) bool {
		return !slices.ContainsFunc(strings.Split(only, ","), func(name string) bool { return strings.HasPrefix(b.name, strings.TrimSpace(name)) })
	})
	if len(blows) == 0 {
		return nil, fmt.Errorf("no blow's name begins with one of %q", only)
	}
	return &storm{
		site: s, client: c, rng: rand.New(rand.NewPCG(seed, seed)), count: map[string]int{}, moved: make(chan struct{}, 1), blows: blows,
	}, nil
}

// watch counts what happens on the bus, over all restarts of it.
func (st *storm) watch() (stop func(), err error) {
	nc, err := dial(st.site)
	if err != nil {
		return nil, err
	}
	st.nc = nc
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
			st.client.ask(ctx, pickOf(st, []string{"errorlog", "optimize", "analyze", "mariabackup"}))
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
			st.dealt++
		}
	}
	return st.revive(context.WithoutCancel(ctx))
}

func (st *storm) pick() blow {
	total := 0
	for _, b := range st.blows {
		total += b.weight
	}
	n := st.rng.IntN(total)
	for _, b := range st.blows {
		if n -= b.weight; n < 0 {
			return b
		}
	}
	return st.blows[0]
}

// await waits for a few transitions of jobs, at most a few seconds: so the blows fall into every state of them.
func (st *storm) await(ctx context.Context) {
	want, bound := st.traffic.Load()+int64(1+st.rng.IntN(8)), st.site.pace.quiet
	if st.rng.IntN(6) == 0 {
		want, bound = want+20, st.site.pace.long // time enough for a backup
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
	for _, name := range s.names() {
		if s.parts[name].ended() {
			s.crashed = append(s.crashed, fmt.Sprintf("%s ended by itself: %s", name, s.parts[name].said()))
			if err := s.start(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// victim is one of drydock's processes.
func (st *storm) victim() string {
	name := pickOf(st, st.site.drydocks())
	if name != whole {
		st.count["of them "+name[:strings.IndexAny(name+"-", "-")]]++
	}
	return name
}

func pickOf[T any](st *storm, all []T) T { return all[st.rng.IntN(len(all))] }

var errNothing = errors.New("nothing to strike")

func (st *storm) killDrydock(ctx context.Context) error {
	return st.killAndStart(ctx, st.victim())
}

func (st *storm) killAndStart(ctx context.Context, name string) error {
	st.site.parts[name].kill()
	return st.site.start(ctx, name)
}

func (st *storm) killStarting(ctx context.Context) error {
	name := st.victim()
	st.site.parts[name].kill()
	if err := st.site.launch(name); err != nil {
		return err
	}
	pause(ctx, time.Duration(st.rng.Int64N(int64(min(st.site.pace.stop, 1500*time.Millisecond)))))
	return st.killAndStart(ctx, name)
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
	for end := time.Now().Add(st.site.pace.sender); len(senders) == 0 && time.Now().Before(end) && pause(ctx, 20*time.Millisecond); {
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
	victim := pickOf(st, senders)
	st.count["of them "+victim.program()]++
	return ignoreGone(syscall.Kill(victim.pid, syscall.SIGKILL))
}

func (st *storm) killDatabase(ctx context.Context) error {
	if err := st.site.db.Kill(); err != nil {
		return err
	}
	pause(ctx, time.Duration(st.rng.Int64N(int64(min(st.site.pace.stop, 2*time.Second)))))
	return st.site.db.Restart(ctx)
}

func (st *storm) stopDrydock(ctx context.Context) error {
	return st.stopFor(ctx, st.site.parts[st.victim()].cmd.Process.Pid)
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
	const least = 200 * time.Millisecond
	return least + time.Duration(st.rng.Int64N(int64(st.site.pace.stop-least)))
}

// fillDisk leaves no byte on the disk of drydock's data folder for a while.
func (st *storm) fillDisk(ctx context.Context) error {
	s := st.site
	if s.disk.path == "" {
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
		s.parts[whole].kill() // and it comes back to a disk with room
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if killed {
		st.count["of them with kill -9 drydock"]++
		return s.start(ctx, whole)
	}
	return nil
}

// slowDisk lets the disk of drydock's data folder take some ten writes a second; a sync wants several.
func (st *storm) slowDisk(ctx context.Context) error { return st.slow(ctx, whole) }

// slow slows the small disk, which is that of a part, and at times kills the part meanwhile: what it had begun to write is written
// by nobody.
func (st *storm) slow(ctx context.Context, part string) error {
	s := st.site
	if s.disk.device == "" {
		return errNothing
	}
	if err := s.disk.slow(10 + st.rng.IntN(40)); err != nil {
		return err
	}
	pause(ctx, 2*st.stopTime())
	killed := st.rng.IntN(4) == 0
	if killed {
		s.parts[part].kill()
	}
	if err := s.disk.slow(0); err != nil {
		return err
	}
	if killed {
		st.count["of them with kill -9 "+part+", disk slow"]++
		return s.start(ctx, part)
	}
	return nil
}

// fillBus has one stream or bucket, or all of them, refuse what would make it larger, as they do when the space that
// they were given is full.
func (st *storm) fillBus(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	js, err := jetstream.New(st.nc)
	if err != nil {
		return err
	}
	names := []string{"DRYDOCK_TASKS", "DRYDOCK_JOBS", "DRYDOCK_LOGS", "KV_drydock_serverstate", "KV_drydock_catalog", "KV_drydock_keys", "KV_drydock_control"}
	if n := st.rng.IntN(len(names) + 1); n < len(names) {
		names = names[n : n+1]
	}
	var before []jetstream.StreamConfig
	for _, name := range names {
		cfg, err := fill(ctx, js, name)
		if err != nil {
			return err
		}
		before = append(before, cfg)
	}
	told, _, _ := st.client.told()
	pause(ctx, st.stopTime())
	if killed := st.rng.IntN(4) == 0; killed {
		st.count["of them with kill -9 drydock, bus full"]++
		return st.killDrydock(ctx) // declaring its streams, it gives them their space again
	}
	if now, _, _ := st.client.told(); len(names) > 1 && len(now) > len(told)+writers*linesAtOnce {
		return fmt.Errorf("%d log lines were acknowledged while the bus was full", len(now)-len(told)) // the blow was none
	}
	for _, cfg := range before {
		if err := update(ctx, js, cfg); err != nil {
			return fmt.Errorf("give %s its space again: %w", cfg.Name, err)
		}
	}
	return nil
}

// fill leaves a stream no room and returns how it was.
func fill(ctx context.Context, js jetstream.JetStream, name string) (before jetstream.StreamConfig, err error) {
	err = asked(ctx, func(ctx context.Context) error {
		stream, err := js.Stream(ctx, name)
		if err == nil {
			before = stream.CachedInfo().Config
		}
		return err
	})
	if err != nil {
		return before, fmt.Errorf("open %s: %w", name, err)
	}
	full := before
	full.MaxBytes, full.Discard = 1, jetstream.DiscardNew // nothing is dropped for it
	if err := update(ctx, js, full); err != nil {
		return before, fmt.Errorf("fill %s: %w", name, err)
	}
	return before, nil
}

func update(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) error {
	return asked(ctx, func(ctx context.Context) error {
		_, err := js.UpdateStream(ctx, cfg)
		return err
	})
}

// asked repeats a request that had no answer: the server that had it was replaced, as it is after a full disk.
func asked(ctx context.Context, request func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := request(one)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

// fillUp makes a file that leaves the disk no byte: what is free is taken at once, what is left of it is written.
func fillUp(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	const rest = 4 << 20 // others write meanwhile, and the file system keeps books
	if free := int64(st.Bavail)*st.Bsize - rest; free > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, free); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("take %d bytes of the disk: %w", free, err)
		}
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
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
