// Command upgrade takes a split drydock of an earlier version to this one, on three real NATS servers: the earlier one declared its
// streams compressed, this one does not. It writes before, between and after, kills servers of the bus with kill -9, and reads
// every message back from each of the three copies.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"drydock/internal/splitrig"
)

const (
	stream     = "DRYDOCK_AUDIT" // nobody reads it all the time; its blocks have 4 MiB
	subject    = "drydock.audit._.upgrade"
	round      = 6 << 20  // bytes written in a round: more than a block
	size       = 16 << 10 // of a message
	upWithin   = 90 * time.Second
	writers    = 8
	declarerOf = "scheduler-1" // the role that is run; any of them declares the streams
)

func main() {
	runtime.LockOSThread() // what is started here dies with this thread
	old := flag.String("old", "", "the earlier drydock, as built from its commit")
	binary := flag.String("drydock", "bin/drydock", "this drydock")
	repo := flag.String("repo", ".", "the folder with compose.yaml")
	restart := flag.Bool("restart", false, "restart the servers of the bus, one after the other, after the upgrade")
	kills := flag.Int("kills", 6, "how many times a server is killed while messages are written, after the upgrade")
	seed := flag.Uint64("seed", 1, "of which server is killed, and when")
	flag.Parse()
	if *old == "" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	u := &upgrade{restart: *restart, kills: *kills, rng: rand.New(rand.NewPCG(*seed, *seed)), running: map[string]*exec.Cmd{}}
	err := u.run(ctx, *repo, *old, *binary)
	u.stopAll()
	if err != nil {
		fmt.Fprintln(os.Stderr, "upgrade:", err)
		os.Exit(1)
	}
}

type upgrade struct {
	restart bool
	kills   int
	rng     *rand.Rand
	rig     *splitrig.Rig
	servers []string
	running map[string]*exec.Cmd
	nc      *nats.Conn
	js      jetstream.JetStream

	mu    sync.Mutex
	acked map[uint64]string // the beginning of each message, by sequence
	next  int
}

func (u *upgrade) run(ctx context.Context, repo, old, binary string) (err error) {
	dir, err := os.MkdirTemp("", "drydock-upgrade-")
	if err != nil {
		return err
	}
	defer func() {
		u.stopAll()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	for _, path := range []*string{&repo, &old, &binary} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if u.rig, err = splitrig.New(repo, dir); err != nil {
		return err
	}
	u.rig.NATS = filepath.Join(dir, "nats-server")
	if err := splitrig.Build(repo, u.rig.NATS); err != nil {
		return err
	}
	var urls []string
	for _, name := range u.rig.Names() {
		if splitrig.IsNATS(name) {
			u.servers = append(u.servers, name)
			urls = append(urls, "tls://"+u.rig.Addrs[name]+":4222")
			if err := u.start(name); err != nil {
				return err
			}
		}
	}
	if u.nc, err = nats.Connect(strings.Join(urls, ","), nats.UserInfo("drydock", u.rig.Secrets["NATS_PASSWORD"]), nats.RootCAs(u.rig.CA()),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.PingInterval(2*time.Second)); err != nil {
		return err
	}
	defer u.nc.Close()
	if u.js, err = jetstream.New(u.nc); err != nil {
		return err
	}
	u.acked = map[uint64]string{}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"the earlier drydock declares its streams", func() error { return u.declare(ctx, old, jetstream.S2Compression) }},
		{"messages are written", func() error { return u.write(ctx, round) }},
		{"this drydock declares its streams", func() error { return u.declare(ctx, binary, jetstream.NoCompression) }},
		{"messages are written", func() error { return u.write(ctx, round) }},
		{"the servers are restarted one after the other", func() error { return u.restartAll(ctx) }},
		{"messages are written", func() error { return u.write(ctx, round) }},
		{fmt.Sprintf("%d servers are killed in turn while messages are written", u.kills), func() error { return u.killing(ctx) }},
		{"all servers are killed at once", func() error { return u.killAll(ctx) }},
		{"messages are written", func() error { return u.write(ctx, round) }},
		{"every copy is read", func() error { return u.readAll(ctx) }},
	} {
		begun := time.Now()
		if err := step.do(); err != nil {
			for _, name := range append(u.servers, declarerOf) {
				fmt.Fprintf(os.Stderr, "%s said last:\n%s\n", name, tail(u.said(name)))
			}
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Printf("%-62s %5.1f s; acknowledged %5d; blocks (c: compressed): %s\n", step.what, time.Since(begun).Seconds(), len(u.acked), u.blocks())
	}
	return nil
}

// start starts a part, whose output goes on where it was.
func (u *upgrade) start(name string) error {
	cmd, err := u.rig.Command(name, u.config(name), "DRYDOCK_MONITORING_DATADIR="+u.rig.Home(name))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(u.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // it has its own
	cmd.Stderr = log
	u.running[name] = cmd
	return cmd.Start()
}

func (u *upgrade) log(name string) string { return filepath.Join(u.rig.Dir, name+".log") }

// said is what a part wrote to its log so far.
func (u *upgrade) said(name string) string {
	text, err := os.ReadFile(u.log(name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// config is the configuration of a drydock.
func (u *upgrade) config(name string) string {
	path := filepath.Join(u.rig.Dir, name+".toml")
	if splitrig.IsNATS(name) {
		return ""
	}
	text, err := u.rig.Text(name)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		return err.Error() // drydock says that there is no such file
	}
	return path
}

func (u *upgrade) end(name string, sig syscall.Signal) {
	if cmd := u.running[name]; cmd != nil {
		_ = cmd.Process.Signal(sig)
		_ = cmd.Wait()
		delete(u.running, name)
	}
}

func (u *upgrade) stopAll() {
	u.end(declarerOf, syscall.SIGTERM)
	for _, name := range u.servers {
		u.end(name, syscall.SIGKILL)
	}
}

// declare runs a drydock until its streams are as they are to be.
func (u *upgrade) declare(ctx context.Context, binary string, want jetstream.StoreCompression) error {
	u.rig.Drydock = binary
	if err := u.start(declarerOf); err != nil {
		return err
	}
	err := until(ctx, func() error {
		s, err := u.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		if got := s.CachedInfo().Config; got.Compression != want || got.Replicas != 3 {
			return fmt.Errorf("compression is %s with %d copies", got.Compression, got.Replicas)
		}
		return nil
	})
	u.end(declarerOf, syscall.SIGTERM) // it declares its streams in an order, and stops in order
	return errors.Join(err, u.whole(ctx))
}

// write has some callers write until so many bytes are acknowledged.
func (u *upgrade) write(ctx context.Context, bytes int) error {
	var wg sync.WaitGroup
	todo := make(chan int)
	errs := make(chan error, writers) // one send each at most
	for range writers {
		wg.Go(func() {
			for n := range todo {
				if err := u.put(ctx, n); err != nil {
					errs <- err
					for range todo { // let the others end
					}
				}
			}
		})
	}
	for range bytes / size {
		todo <- u.next
		u.next++
	}
	close(todo)
	wg.Wait()
	close(errs)
	return <-errs
}

// put writes a message until it is acknowledged. Its text does not compress to nothing, nor not at all.
func (u *upgrade) put(ctx context.Context, n int) error {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	head := fmt.Sprintf(`{"type":"drydock.v1.audit","n":%d,"text":"`, n)
	text := make([]byte, size-len(head)-2)
	for i := range text {
		text[i] = 'a' + byte(rng.IntN(16))
	}
	body := append(append([]byte(head), text...), `"}`...)
	return until(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		ack, err := u.js.Publish(ctx, subject, body, jetstream.WithMsgID(fmt.Sprint("upgrade-", n)))
		if err == nil {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.acked[ack.Sequence] = head
		}
		return err
	})
}

// whole waits until every copy is up to date and every server says that it is well.
func (u *upgrade) whole(ctx context.Context) error {
	return until(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		s, err := u.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		info := s.CachedInfo()
		if info.Cluster == nil || info.Cluster.Leader == "" {
			return errors.New("no leader")
		}
		var errs []error
		for _, r := range info.Cluster.Replicas {
			if !r.Current || r.Offline {
				errs = append(errs, fmt.Errorf("%s is behind by %d, offline %v", r.Name, r.Lag, r.Offline))
			}
		}
		for _, name := range u.servers {
			errs = append(errs, u.rig.Healthy(ctx, name))
		}
		return errors.Join(errs...)
	})
}

func (u *upgrade) restartAll(ctx context.Context) error {
	if !u.restart {
		return nil
	}
	for _, name := range u.servers {
		u.end(name, syscall.SIGTERM)
		if err := errors.Join(u.start(name), u.whole(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// killing kills a server at any moment of each round, and starts it again.
func (u *upgrade) killing(ctx context.Context) error {
	for range u.kills {
		wrote := make(chan error, 1)
		go func() { wrote <- u.write(ctx, round) }()
		time.Sleep(time.Duration(u.rng.IntN(1500)) * time.Millisecond)
		name := u.servers[u.rng.IntN(len(u.servers))]
		u.end(name, syscall.SIGKILL)
		if err := errors.Join(u.start(name), <-wrote); err != nil {
			return fmt.Errorf("%s was killed: %w", name, err)
		}
		if err := u.again(ctx, name); err != nil {
			return fmt.Errorf("%s was killed: %w", name, err)
		}
	}
	return nil
}

// again waits until a server that was killed has caught up. One that does not is started once more, as its operator would.
func (u *upgrade) again(ctx context.Context, name string) error {
	err := u.whole(ctx)
	if err == nil {
		return nil
	}
	fmt.Printf("%s DOES NOT CATCH UP: %v; blocks %s; it is started again\n", name, err, u.blocks())
	u.end(name, syscall.SIGTERM)
	return errors.Join(u.start(name), u.whole(ctx))
}

func (u *upgrade) killAll(ctx context.Context) error {
	for _, name := range u.servers {
		u.end(name, syscall.SIGKILL)
	}
	for _, name := range u.servers {
		if err := u.start(name); err != nil {
			return err
		}
	}
	return u.whole(ctx)
}

// readAll has each server lead in turn, and reads every message that was acknowledged.
func (u *upgrade) readAll(ctx context.Context) error {
	var errs []error
	for _, name := range u.servers {
		err := until(ctx, func() error {
			s, err := u.js.Stream(ctx, stream)
			if err != nil {
				return err
			}
			if c := s.CachedInfo().Cluster; c == nil || c.Leader != name {
				_, _ = u.nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, name), 5*time.Second)
				return fmt.Errorf("%s does not lead", name)
			}
			return nil
		})
		if err == nil {
			err = u.read(ctx)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("copy of %s: %w", name, err))
		}
	}
	for _, name := range u.servers {
		if said := u.said(name); strings.Contains(said, "s2: ") {
			errs = append(errs, fmt.Errorf("%s says %.200q", name, said[strings.Index(said, "s2: "):]))
		}
	}
	return errors.Join(errs...)
}

func (u *upgrade) read(ctx context.Context) error {
	s, err := u.js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	for _, seq := range slices.Sorted(maps.Keys(u.acked)) {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			return fmt.Errorf("message %d was acknowledged: %w", seq, err)
		}
		if !bytes.HasPrefix(m.Data, []byte(u.acked[seq])) || len(m.Data) != size {
			return fmt.Errorf("message %d is another one: %.60q", seq, m.Data)
		}
	}
	return nil
}

// blocks says of each server's files which are compressed, in order.
func (u *upgrade) blocks() string {
	var out []string
	for _, name := range u.servers {
		files, _ := filepath.Glob(filepath.Join(u.rig.Home(name), "jetstream", "*", "streams", stream, "msgs", "*.blk"))
		slices.SortFunc(files, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }) // 9.blk comes before 10.blk
		var b strings.Builder
		for _, file := range files {
			b.WriteByte(kindOf(file))
		}
		out = append(out, b.String())
	}
	return strings.Join(out, " ")
}

// kindOf is '-' for a block as it was written, 'c' for one that is compressed, and 'X' for one that begins as if it were and cannot be
// unpacked: something was appended to it.
func kindOf(file string) byte {
	data, err := os.ReadFile(file)
	rest, compressed := bytes.CutPrefix(data, []byte("cmp\x01"))
	_, n := binary.Uvarint(rest)
	const checksum = 8 // at the end, as it was
	switch {
	case err != nil:
		return '?'
	case !compressed:
		return '-'
	case n <= 0 || len(rest) < n+checksum:
		return 'X'
	}
	if _, err := io.Copy(io.Discard, s2.NewReader(bytes.NewReader(rest[n:len(rest)-checksum]))); err != nil {
		return 'X'
	}
	return 'c'
}

// until tries again until it works, for upWithin at most.
func until(ctx context.Context, try func() error) (err error) {
	for end := time.Now().Add(upWithin); ; {
		if err = try(); err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
