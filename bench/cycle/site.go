package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drydock/bench/paired"
	"drydock/internal/mariadbd"
)

// site is the servers that the clients call.
type site struct {
	dir, script string
	db          *mariadbd.Server

	drydock, open        *paired.Process
	tls, clear, openPort int
	spent                map[string]*spent // by side; nil: not counted yet
}

const upWithin = 60 * time.Second

func (s *site) start(ctx context.Context, binary string) (err error) {
	for _, port := range []*int{&s.tls, &s.clear, &s.openPort} {
		if *port, err = paired.FreePort("127.0.0.1"); err != nil {
			return err
		}
	}
	file := filepath.Join(s.dir, "drydock.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
[Default]
monitoring-datadir = %q
monitoring-address = "127.0.0.1"
bind-address = "127.0.0.1"
http-server = true
http-port = %d
api-port = %d
api-credentials = "admin:secret"
nats-listen = "127.0.0.1:0"
disk-reserve = "0"
[%s]
db-servers-hosts = %q
db-servers-credential = "%s:%s"
monitoring-scheduler = false
scheduler-jobs-mode = "api"
`, filepath.Join(s.dir, "data"), s.clear, s.tls, cluster, s.db.Addr(), s.db.User(), password), 0o600); err != nil {
		return err
	}
	if s.drydock, err = paired.Start(exec.Command(binary, "serve", "--config", file)); err != nil {
		return err
	}
	if err := errors.Join(answers(ctx, s.drydock, s.clear), answers(ctx, s.drydock, s.tls)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.open, err = paired.Start(exec.Command(self, asOpen, strconv.Itoa(s.openPort)))
	if err != nil {
		return err
	}
	return answers(ctx, s.open, s.openPort)
}

// answers waits until a process listens on its port.
func answers(ctx context.Context, p *paired.Process, port int) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.Done():
			_, err := p.Wait(ctx)
			return cmp.Or(err, errors.New("it ended"))
		case <-ctx.Done():
			return fmt.Errorf("nobody listens on port %d: %w", port, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *site) stop() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), upWithin)
	defer cancel()
	if s.drydock != nil {
		err = s.drydock.Stop(ctx)
	}
	if s.open != nil {
		s.open.Kill()
	}
	return err
}

// asOpen is the first argument that makes this program the server that keeps connections open; the second is its port.
const asOpen = "as-open"

// serveOpen answers every request as a manager with nothing to do, and then waits for the client to close the connection,
// though the client has closed its side already.
func serveOpen() error {
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[2])
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { // ends with its connection, at the latest with the process
			defer conn.Close()
			_ = answerOnce(conn)
		}()
	}
}

// keepOpen is longer than any client waits.
const keepOpen = 10 * time.Second

func answerOnce(conn net.Conn) error {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return err
	}
	status, body := "500 Internal Server Error", "false"
	if strings.HasSuffix(req.URL.Path, "/secret-login") {
		status, body = "200 OK", `{"token":"a.b.c"}`
	}
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body); err != nil {
		return err
	}
	// The client's end of sending is no reason to go; that it has gone shows only when something is sent to it.
	time.Sleep(keepOpen)
	return nil
}

// calls is how many connections a client makes in one cycle, counted on their way to drydock.
func (s *site) calls(ctx context.Context, client func(port int) *exec.Cmd) (int64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	var count atomic.Int64
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			relays.Go(func() { relay(conn.(*net.TCPConn), s.clear) })
		}
	})
	var said bytes.Buffer
	cmd := client(l.Addr().(*net.TCPAddr).Port)
	cmd.Stderr = &said
	err = cmd.Run()
	l.Close()
	relays.Wait()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, &said)
	}
	return count.Load(), ctx.Err()
}

// relay passes bytes and ends on, both ways.
func relay(from *net.TCPConn, port int) {
	defer from.Close()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return
	}
	to := conn.(*net.TCPConn)
	defer to.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		_ = from.CloseWrite()
	})
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
	back.Wait()
}
