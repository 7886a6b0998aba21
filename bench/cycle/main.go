// Command cycle measures what it costs a database host, and drydock, that a client asks and there is nothing to do:
// drydock's own script, and a client that makes the calls of the protocol one by one and closes its side of each
// connection behind the request, against drydock and against a server that then keeps the connection open. Clients and
// servers are processes of their own; clients take turns.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"drydock/bench/paired"
	"drydock/gateway/envelope"
	"drydock/internal/mariadbd"
)

func main() {
	runtime.LockOSThread() // what is started here dies with this thread
	if len(os.Args) > 1 && os.Args[1] == asOpen {
		exit(serveOpen())
	}
	rounds := flag.Int("rounds", 7, "rounds of the comparison")
	bound := flag.Duration("for", 75*time.Second, "how long the comparison may take")
	binary := flag.String("drydock", "bin/drydock", "the drydock under test")
	script := flag.String("script", "scripts/dbjobs", "the script under test")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, *binary, *script, *rounds, *bound))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cycle:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

//go:embed halfclose.sh
var halfClose string

// tasks are asked for one by one, in the order of wire.md section 4.
const tasks = "xtrabackup mariabackup errorlog slowquery auditlog sqlerrorlog zfssnapback optimize " +
	"reseedxtrabackup reseedmariabackup flashbackxtrabackup flashbackmariabackup stop restart start"

const (
	cluster  = "lab"
	password = "bench"
)

func run(ctx context.Context, binary, script string, rounds int, bound time.Duration) (err error) {
	fmt.Printf("\n## Cycle with nothing to do\n\n%s\n", paired.Machine())
	dir, err := os.MkdirTemp("", "drydock-cycle-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := mariadbd.Start(ctx, mariadbd.Options{Dir: filepath.Join(dir, "db"), Password: password})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Kill()) }()
	s := site{dir: dir, script: script, db: db}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, binary); err != nil {
		return err
	}
	c := paired.Contest{Title: "One cycle, mode api", Unit: "cycle", Sides: []paired.Side{
		s.half("half-closing client, in clear, to a server that keeps connections open", s.open, "http", s.openPort),
		s.half("half-closing client, TLS, to drydock", s.drydock, "https", s.tls),
		s.half("half-closing client, in clear, to drydock", s.drydock, "http", s.clear),
		s.ours("drydock's script, TLS", "https", s.tls),
		s.ours("drydock's script, in clear", "http", s.clear),
	}}
	// After the script's first cycles nothing is to do any more: drydock has seen it, and it knows tokens and variables.
	for _, side := range slices.Backward(c.Sides) {
		if _, err := side.Run(ctx); err != nil {
			return fmt.Errorf("%s: %w", side.Name, err)
		}
	}
	s.spent = map[string]*spent{}
	outcomes, err := c.Run(ctx, rounds, bound)
	if err != nil {
		return err
	}
	c.Table(os.Stdout, outcomes)
	return s.report(ctx, outcomes)
}

// half is the half-closing client as a side.
func (s *site) half(name string, server *paired.Process, scheme string, port int) paired.Side {
	return s.side(name, server, func() *exec.Cmd { return s.halfCommand(scheme, port) })
}

func (s *site) halfCommand(scheme string, port int) *exec.Cmd {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	address := "TCP:" + addr + ",connect-timeout=60"
	if scheme == "https" {
		address = "OPENSSL:" + addr + ",verify=0"
	}
	sealed := envelope.New(password).Seal(fmt.Appendf(nil, `{"server":"%s","secret":"%s"}`, s.db.Addr(), password))
	cmd := exec.Command("bash", "-c", halfClose)
	cmd.Env = append(os.Environ(), "ADDRESS="+address, "HOST=127.0.0.1", "SEALED="+string(sealed), "TASKS="+tasks,
		fmt.Sprintf("SERVER_PATH=/api/clusters/%s/servers/127.0.0.1/%d", cluster, s.db.Port()))
	return cmd
}

// ours is drydock's script as a side.
func (s *site) ours(name, scheme string, port int) paired.Side {
	return s.side(name, s.drydock, func() *exec.Cmd { return s.scriptCommand(scheme, port) })
}

func (s *site) scriptCommand(scheme string, port int) *exec.Cmd {
	cmd := exec.Command("bash", s.script, "--once")
	cmd.Env = append(os.Environ(),
		fmt.Sprintf("REPLICATION_MANAGER_URL=%s://127.0.0.1:%d", scheme, port),
		"REPLICATION_MANAGER_CLUSTER_NAME="+cluster,
		"REPLICATION_MANAGER_HOST_NAME=127.0.0.1",
		"REPLICATION_MANAGER_HOST_PORT="+strconv.Itoa(s.db.Port()),
		"REPLICATION_MANAGER_HOST_USER="+s.db.User(),
		"REPLICATION_MANAGER_HOST_PASSWORD="+password,
		"DRYDOCK_STATE_DIR="+filepath.Join(s.dir, "state-"+scheme))
	return cmd
}

// turnTime is more than any cycle takes.
const turnTime = time.Minute

// side runs a client once for each turn.
func (s *site) side(name string, server *paired.Process, client func() *exec.Cmd) paired.Side {
	return paired.Side{Name: name, Run: func(ctx context.Context) (paired.Cost, error) {
		ctx, cancel := context.WithTimeout(ctx, turnTime)
		defer cancel()
		before, err := server.CPU()
		if err != nil {
			return paired.Cost{}, err
		}
		begun := time.Now()
		p, err := paired.Start(client())
		if err != nil {
			return paired.Cost{}, err
		}
		cost, err := p.Wait(ctx)
		cost.Wall, cost.Amount = time.Since(begun), 1
		if err != nil {
			return cost, err
		}
		after, err := server.CPU()
		if used := s.spent[name]; used != nil {
			used.server = append(used.server, (after-before).Seconds()*1000)
		} else if s.spent != nil {
			s.spent[name] = &spent{server: []float64{(after - before).Seconds() * 1000}}
		}
		return cost, err
	}}
}

// spent is what a side cost beside the client's own time.
type spent struct {
	server []float64 // CPU of the server for each cycle, ms
}

// report writes what the common table has no place for: wall time, calls, and both sides' CPU.
func (s *site) report(ctx context.Context, outcomes []paired.Outcome) error {
	half, err := s.calls(ctx, func(port int) *exec.Cmd { return s.halfCommand("http", port) })
	if err != nil {
		return err
	}
	ours, err := s.calls(ctx, func(port int) *exec.Cmd { return s.scriptCommand("http", port) })
	if err != nil {
		return err
	}
	fmt.Print("\n| side | wall, ms | calls | CPU of the client, ms | CPU of the server, ms |\n|---|---|---|---|---|\n")
	for _, o := range outcomes {
		calls := half
		if strings.HasPrefix(o.Side, "drydock's script") {
			calls = ours
		}
		fmt.Printf("| %s | %.0f | %d | %.0f | %.1f |\n", o.Side, o.Wall()*1000, calls, o.CPU()*1000, paired.Median(s.spent[o.Side].server))
	}
	return nil
}
