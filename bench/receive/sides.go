package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"drydock/bench/paired"
)

// loopback is an address where nobody else takes the ports that were free a moment ago.
const loopback = "127.0.7.9"

// streams is how many come at once where many do.
const streams = 64

// bench is where the sides write to, and what was noticed beside the times.
type bench struct {
	dir    string
	idle   int64              // bytes in memory of a sink that waits
	crowds []int64            // the same at its most, with all streams
	sizes  map[string]float64 // of the files, in those of what was sent, by side
}

// shell is a side that is a command line of a shell, with $PORT and $FILE.
func (b *bench) shell(name string, s stream, send sender, line string) paired.Side {
	return paired.Side{Name: name, Run: func(ctx context.Context) (paired.Cost, error) {
		return b.turn(ctx, name, s, send, 1, func(port int) *exec.Cmd {
			cmd := exec.Command("bash", "-o", "pipefail", "-c", line)
			cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(port), "FILE="+filepath.Join(b.dir, "file"))
			return cmd
		})
	}}
}

// sink is a side that is drydock's sink, in a process of its own.
func (b *bench) sink(name string, s stream, send sender, args ...string) paired.Side {
	return paired.Side{Name: name, Run: func(ctx context.Context) (paired.Cost, error) {
		return b.turn(ctx, name, s, send, 1, func(port int) *exec.Cmd { return b.command(port, 1, args) })
	}}
}

// sinks is one sink that takes many streams at once.
func (b *bench) sinks(name string, s stream, args ...string) paired.Side {
	return paired.Side{Name: name, Run: func(ctx context.Context) (paired.Cost, error) {
		var said strings.Builder
		cost, err := b.turn(ctx, name, s, sendFile, streams, func(port int) *exec.Cmd {
			cmd := b.command(port, streams, append(args, "-cut"))
			cmd.Stdout = &said
			return cmd
		})
		if err != nil {
			return cost, err
		}
		peak, err := strconv.ParseInt(strings.TrimSpace(said.String()), 10, 64)
		b.crowds = append(b.crowds, peak)
		return cost, err
	}}
}

func (b *bench) command(port, streams int, args []string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return exec.Command(self, append([]string{asSink, "-dir=" + b.dir, fmt.Sprintf("-port=%d", port), fmt.Sprintf("-streams=%d", streams)}, args...)...)
}

// socats is one socat for each of many streams.
func (b *bench) socats(name string, s stream) paired.Side {
	return paired.Side{Name: name, Run: func(ctx context.Context) (total paired.Cost, err error) {
		if err := b.clear(); err != nil {
			return total, err
		}
		var all []*paired.Process
		var ports []int
		for i := range streams {
			port, err := paired.FreePort(loopback)
			if err != nil {
				return total, err
			}
			p, err := paired.Start(exec.Command("socat", "-u", fmt.Sprintf("TCP-LISTEN:%d,bind="+loopback, port), fmt.Sprintf("OPEN:%s/%d,creat", b.dir, i)))
			if err != nil {
				return total, err
			}
			defer p.Kill()
			if err := listening(ctx, port); err != nil {
				return total, err
			}
			all, ports = append(all, p), append(ports, port)
		}
		begun := time.Now()
		if err := sendAll(ctx, s, sendFile, ports); err != nil {
			return total, err
		}
		for _, p := range all {
			cost, err := p.Wait(ctx)
			if err != nil {
				return total, err
			}
			total.CPU += cost.CPU
		}
		p, err := paired.Start(exec.Command("bash", "-c", "sync "+b.dir+"/*"))
		if err != nil {
			return total, err
		}
		cost, err := p.Wait(ctx)
		total.CPU += cost.CPU
		total.Wall, total.Amount = time.Since(begun), gib(s.size)*streams
		return total, err
	}}
}

// turn starts a receiver, sends it so many streams and waits for its end: then all of them are on disk.
func (b *bench) turn(ctx context.Context, name string, s stream, send sender, count int, receiver func(port int) *exec.Cmd) (cost paired.Cost, err error) {
	if err := b.clear(); err != nil {
		return cost, err
	}
	port, err := paired.FreePort(loopback)
	if err != nil {
		return cost, err
	}
	p, err := paired.Start(receiver(port))
	if err != nil {
		return cost, err
	}
	defer p.Kill()
	if err := listening(ctx, port); err != nil {
		return cost, err
	}
	if count > 1 {
		b.idle, _ = p.Memory()
	}
	ports := make([]int, count)
	for i := range ports {
		ports[i] = port
	}
	begun := time.Now()
	sendErr := sendAll(ctx, s, send, ports)
	cost, err = p.Wait(ctx)
	cost.Wall, cost.Amount = time.Since(begun), gib(s.size)*float64(count)
	if err = errors.Join(err, sendErr); err != nil {
		return cost, err
	}
	return cost, b.weigh(name, s.size*int64(count))
}

// sendAll sends one copy of the stream to each port.
func sendAll(ctx context.Context, s stream, send sender, ports []int) error {
	errs := make([]error, len(ports))
	var wg sync.WaitGroup
	for i, port := range ports {
		wg.Go(func() { errs[i] = send(ctx, s, net.JoinHostPort(loopback, strconv.Itoa(port))) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// weigh notes how much of the stream's size its files take, which also shows that all of it has arrived.
func (b *bench) weigh(name string, sent int64) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	var stored int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		stored += info.Size()
	}
	if b.sizes == nil {
		b.sizes = map[string]float64{}
	}
	b.sizes[name] = float64(stored) / float64(sent)
	if stored == 0 || !strings.Contains(name, "zstd") && !strings.Contains(name, "gzip") && stored != sent {
		return fmt.Errorf("%d of %d bytes are there", stored, sent)
	}
	return nil
}

// clear removes what the last turn wrote and waits until the disk has nothing left to do of it.
func (b *bench) clear() error {
	if err := os.RemoveAll(b.dir); err != nil {
		return err
	}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return err
	}
	return exec.Command("sync", "-f", b.dir).Run()
}

// report writes what was noticed beside the times.
func (b *bench) report(w io.Writer) {
	most := int64(0)
	for _, m := range b.crowds {
		most = max(most, m)
	}
	fmt.Fprintf(w, "\nMemory of one sink: %d KiB when it waits, %d KiB at its most with %d streams: %d KiB for each. Stored, of what was sent: zstd -1 %.3f, gzip -1 %.3f; sink, zstd %.3f, gzip %.3f.\n",
		b.idle>>10, most>>10, streams, (most-b.idle)>>10/streams,
		b.sizes["socat, zstd -1, sync"], b.sizes["socat, gzip -1, sync"], b.sizes["sink, zstd, sha256"], b.sizes["sink, gzip, sha256"])
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }

// listening waits until somebody listens on a port, without connecting: socat takes one connection only.
func listening(ctx context.Context, port int) error {
	want := fmt.Sprintf("0907007F:%04X 00000000:0000 0A", port)
	for range 2000 {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			return err
		}
		if strings.Contains(string(table), want) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("nobody listens on port %d", port)
}
