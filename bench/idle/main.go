// Command idle measures what thousands of connections that ask for nothing cost a gateway, in clear, over TLS, and over TLS before the
// handshake has ended, and how long a database host waits for its login meanwhile.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"drydock/bench/paired"
	"drydock/gateway/envelope"
)

const (
	cluster  = "lab"
	password = "bench"
	upWithin = time.Minute
	callers  = 32               // that open connections at the same time
	held     = 2 * time.Second  // how long all of them are left alone
	backIn   = 30 * time.Second // within which drydock must have closed them
)

func main() {
	runtime.LockOSThread() // drydock dies with this thread
	n := flag.Int("n", 10_000, "how many connections")
	binary := flag.String("drydock", "bin/drydock", "the drydock under test")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *n); err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

// kinds are the ways not to ask for anything.
var kinds = []struct {
	name   string
	secure bool // on the port with TLS
	open   func(net.Conn) error
}{
	{"in clear", false, ask},
	{"TLS", true, func(c net.Conn) error { return ask(tls.Client(c, lax)) }},
	{"TLS, handshake not ended", true, func(c net.Conn) error { return half(c) }},
}

var lax = &tls.Config{InsecureSkipVerify: true, ServerName: "drydock"}

func run(ctx context.Context, binary string, n int) error {
	hello, err := clientHello()
	if err != nil {
		return err
	}
	firstFlight = hello
	fmt.Printf("\n## %d idle connections\n\n%s\n\n", n, paired.Machine())
	fmt.Println("| connections | `http-max-connections` | most at a time | memory before and then | each | logins meanwhile: all, median, worst, failed | closed again after |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, kind := range kinds {
		for _, most := range []int{4096, 2 * n} {
			row, err := try(ctx, binary, n, most, kind.secure, kind.open)
			if err != nil {
				return fmt.Errorf("%s, at most %d: %w", kind.name, most, err)
			}
			fmt.Printf("| %s | %d | %s |\n", kind.name, most, row)
		}
	}
	return nil
}

func try(ctx context.Context, binary string, n, most int, secure bool, open func(net.Conn) error) (row string, err error) {
	dir, err := os.MkdirTemp("", "drydock-idle-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d, err := start(ctx, binary, dir, most)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.process.Stop(context.WithoutCancel(ctx))) }()
	before, files, err := d.size()
	if err != nil {
		return "", err
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	logins, peak := &logins{}, &peak{}
	watch.Go(func() { logins.run(watching, d.secure) })
	watch.Go(func() { peak.run(watching, d) })
	port := d.clear
	if secure {
		port = d.secure
	}
	conns, err := openAll(ctx, port, n, open)
	if err == nil {
		select {
		case <-time.After(held):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	stop()
	watch.Wait()
	for _, c := range conns {
		_ = c.Close()
	}
	if err != nil {
		return "", err
	}
	begun := time.Now()
	for {
		_, now, err := d.size()
		if err != nil {
			return "", err
		}
		if now <= files+5 { // the bus and the test's own
			break
		}
		if time.Since(begun) > backIn {
			return "", fmt.Errorf("%d files are open %s after the end, %d were before", now, backIn, files)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Sprintf("%d | %d MiB, %d MiB | %.1f KiB | %s | %.1f s", peak.files-files, before>>20, peak.memory>>20,
		float64(peak.memory-before)/1024/float64(max(peak.files-files, 1)), logins, time.Since(begun).Seconds()), nil
}

// openAll opens n connections. One that drydock has closed before it was through counts as well: that is its answer.
func openAll(ctx context.Context, port, n int, open func(net.Conn) error) (conns []net.Conn, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	todo := make(chan struct{})
	for range callers {
		wg.Go(func() {
			for range todo {
				c, e := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), upWithin)
				if e == nil {
					_ = c.SetDeadline(time.Now().Add(upWithin))
					_ = open(c)
				}
				mu.Lock()
				if e == nil {
					conns = append(conns, c)
				} else {
					err = e
				}
				mu.Unlock()
			}
		})
	}
	for range n {
		select {
		case todo <- struct{}{}:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	close(todo)
	wg.Wait()
	return conns, err
}

// firstFlight is what a client sends first.
var firstFlight []byte

// clientHello is the first message of a handshake: it may be sent by any number of connections, none of which can go on.
func clientHello() ([]byte, error) {
	near, far := net.Pipe()
	defer far.Close()
	go func() { _ = tls.Client(near, lax).Handshake() }() // ends when far is closed
	head := make([]byte, 5)
	if _, err := io.ReadFull(far, head); err != nil {
		return nil, err
	}
	record := append(head, make([]byte, binary.BigEndian.Uint16(head[3:]))...)
	_, err := io.ReadFull(far, record[5:])
	return record, err
}

// half begins a handshake, waits for the server's part of it, and leaves it there.
func half(c net.Conn) error {
	if _, err := c.Write(firstFlight); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// ask asks for something once: who never does is cut off after ten seconds, and would not be there when the last one comes.
func ask(c net.Conn) error {
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: idle\r\n\r\n"); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// drydock is the one under test.
type drydock struct {
	process       *paired.Process
	pid           int
	clear, secure int // ports
}

func start(ctx context.Context, binary, dir string, most int) (*drydock, error) {
	d := &drydock{}
	var err error
	for _, port := range []*int{&d.clear, &d.secure} {
		if *port, err = paired.FreePort("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, "drydock.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
[Default]
monitoring-datadir = %q
monitoring-address = "127.0.0.1"
bind-address = "127.0.0.1"
http-server = true
http-port = %d
api-port = %d
http-max-connections = %d
api-credentials = "admin:secret"
nats-listen = "127.0.0.1:0"
disk-reserve = "0"
[%s]
db-servers-hosts = "127.0.0.1:3306"
db-servers-credential = "drydock:%s"
scheduler-jobs-mode = "api"
`, filepath.Join(dir, "data"), d.clear, d.secure, most, cluster, password), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "serve", "--config", file)
	if d.process, err = paired.Start(cmd); err != nil {
		return nil, err
	}
	d.pid = cmd.Process.Pid
	for end := time.Now().Add(upWithin); ; {
		if err = login(d.secure); err == nil {
			return d, nil
		}
		select {
		case <-d.process.Done():
			_, err := d.process.Wait(ctx)
			return nil, fmt.Errorf("drydock ended: %w", err)
		case <-ctx.Done():
			d.process.Kill()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(end) {
			d.process.Kill()
			return nil, fmt.Errorf("drydock is not up: %w", err)
		}
	}
}

// size is what drydock has in memory, bytes, and how many files it has open.
func (d *drydock) size() (memory int64, files int, err error) {
	if memory, err = d.process.Memory(); err != nil {
		return 0, 0, err
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.pid))
	return memory, len(list), err
}

// peak is the most that was seen.
type peak struct {
	memory int64
	files  int
}

func (p *peak) run(ctx context.Context, d *drydock) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if memory, files, err := d.size(); err == nil {
			p.memory, p.files = max(p.memory, memory), max(p.files, files)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// logins are those of a database host: each on a connection of its own, from another address than the idle ones.
type logins struct {
	took   []time.Duration
	failed int
}

func (l *logins) run(ctx context.Context, port int) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		begun := time.Now()
		if err := login(port); err != nil {
			l.failed++
		}
		l.took = append(l.took, time.Since(begun))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *logins) String() string {
	slices.Sort(l.took)
	return fmt.Sprintf("%d, %d ms, %d ms, %d", len(l.took), l.took[len(l.took)/2].Milliseconds(), l.took[len(l.took)-1].Milliseconds(), l.failed)
}

func login(port int) error {
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 10 * time.Second}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: from.DialContext, TLSClientConfig: lax, DisableKeepAlives: true}}
	body := envelope.New(password).Seal(fmt.Appendf(nil, `{"server":"127.0.0.1:3306","secret":%q}`, password))
	res, err := client.Post(fmt.Sprintf("https://127.0.0.1:%d/api/clusters/%s/servers/127.0.0.1/3306/secret-login", port, cluster), "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("login: %s: %s", res.Status, text)
	}
	return err
}
