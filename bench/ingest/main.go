// Command ingest measures how many batches of log lines a gateway takes, each decrypted and on disk before it is answered
// with 200: drydock's own gateway on its own bus, beside a handler that does the same and keeps nothing, and beside the
// gateway on a disk that is memory, where a sync costs nothing. Sides are processes of their own and take turns; the
// clients are the same for all. TMPDIR says which disk it is about.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"drydock/bench/paired"
)

func main() {
	runtime.LockOSThread() // what is started here dies with this thread
	if len(os.Args) > 1 && serve[os.Args[1]] != nil {
		exit(serve[os.Args[1]](os.Args[2]))
	}
	turn := flag.Duration("turn", 1500*time.Millisecond, "how long each side is loaded in a round")
	rounds := flag.Int("rounds", 5, "rounds of each comparison")
	bound := flag.Duration("for", 25*time.Second, "how long a comparison may take")
	only := flag.String("only", "", "only the comparisons whose title has this in it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, *turn, *rounds, *bound, *only))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve are the sides, by the first argument of the process that is one; the second is its folder.
var serve = map[string]func(dir string) error{asBaseline: serveBaseline, asGateway: serveGateway}

// memoryDisk is a file system without a disk, on every Linux.
const memoryDisk = "/dev/shm"

func run(ctx context.Context, turn time.Duration, rounds int, bound time.Duration, only string) (err error) {
	fmt.Printf("\n## Log ingestion\n\n%s\n", paired.Machine())
	var servers []*server
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
	}()
	for _, side := range []struct{ name, as, below string }{
		{"decrypts and answers, keeps nothing", asBaseline, ""},
		{"drydock, kept in memory", asGateway, memoryDisk},
		{"drydock, durable", asGateway, ""},
	} {
		s, err := startServer(ctx, side.name, side.as, side.below)
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	for _, manner := range []struct {
		name string
		call caller
	}{{"keep-alive", keepAlive}, {"half-closing, a connection a call", halfClose}} {
		for _, n := range []int{1, 16, 64} {
			c := paired.Contest{Title: fmt.Sprintf("%d connections, %s", n, manner.name), Unit: "batch"}
			if !strings.Contains(c.Title, only) {
				continue
			}
			for _, s := range servers {
				c.Sides = append(c.Sides, s.side(n, manner.call, turn))
			}
			outcomes, err := c.Run(ctx, rounds, bound)
			if err != nil {
				return err
			}
			c.Table(os.Stdout, outcomes)
		}
	}
	return nil
}

// server is one side's process.
type server struct {
	name  string
	dir   string
	addr  string
	proc  *paired.Process
	out   *bufio.Reader // its standard output
	acked int           // batches it has answered with 200
	keeps bool
}

// startServer starts a side with a folder below the one given ("": the temporary folder) and waits for its address.
func startServer(ctx context.Context, name, as, below string) (*server, error) {
	dir, err := os.MkdirTemp(below, "drydock-ingest-")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, as, dir)
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = in
	proc, err := paired.Start(cmd)
	in.Close()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s := &server{name: name, dir: dir, proc: proc, out: bufio.NewReader(out), keeps: as == asGateway}
	line, err := s.out.ReadString('\n') // ends with the process at the latest
	if err != nil {
		_, why := proc.Wait(ctx)
		return nil, errors.Join(err, why, os.RemoveAll(dir))
	}
	s.addr = strings.TrimSpace(line)
	return s, nil
}

// side is so many clients that call as fast as they are answered.
func (s *server) side(clients int, call caller, turn time.Duration) paired.Side {
	return paired.Side{Name: s.name, Run: func(ctx context.Context) (paired.Cost, error) {
		before, err := s.proc.CPU()
		if err != nil {
			return paired.Cost{}, err
		}
		begun := time.Now()
		ctx, cancel := context.WithTimeout(ctx, turn)
		defer cancel()
		counts, errs := make([]int, clients), make([]error, clients)
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() { counts[i], errs[i] = call(ctx, s.addr, i) })
		}
		wg.Wait()
		cost := paired.Cost{Wall: time.Since(begun)}
		after, err := s.proc.CPU()
		cost.CPU = after - before
		for _, n := range counts {
			cost.Amount += float64(n)
			s.acked += n
		}
		return cost, errors.Join(append(errs, err)...)
	}}
}

const stopTime = 30 * time.Second

// stop ends the process. One that keeps batches says how many it has: fewer than it has acknowledged are an error.
func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err := s.proc.Stop(ctx)
	rest, readErr := io.ReadAll(s.out)
	err = errors.Join(err, readErr, os.RemoveAll(filepath.Clean(s.dir)))
	if err != nil || !s.keeps {
		return err
	}
	kept, err := strconv.Atoi(strings.TrimSpace(string(rest)))
	if err == nil && kept < s.acked {
		err = fmt.Errorf("%s: %d batches were acknowledged, %d are there", s.name, s.acked, kept)
	}
	return err
}
