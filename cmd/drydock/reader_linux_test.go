package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/internal/bustest"
	"drydock/job"
)

// `drydock tail | head -1` in a script must end with head: the next line may come tomorrow. (Elsewhere than on Linux it ends at
// the next line: docs/cli.md.)
func TestWhatGoesOnEndsWithItsReader(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.started(job.Offer)
	for _, args := range [][]string{{"tail", "--since", "1m"}, {"jobs", "--watch"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		code := make(chan int, 1)
		go func() {
			code <- execute(context.Background(), append(args, "--config", b.file), w, io.Discard)
			w.Close()
		}()
		if line, err := bufio.NewReader(r).ReadString('\n'); err != nil {
			t.Fatalf("%v: %q, %v", args, line, err)
		}
		r.Close() // as head does
		select {
		case got := <-code:
			if got != 0 {
				t.Errorf("%v: exit status %d", args, got)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%v goes on without a reader", args)
		}
	}
}

// A watch that is stopped while its output is still read ends at once, and leaves no goroutine in a system call.
func TestAReaderThatStaysIsNoReasonToWait(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, stop := whileRead(context.Background(), w)
	if ctx.Err() != nil {
		t.Error("somebody reads")
	}
	stop()
}

// A bus that takes connections and then falls silent must not keep --watch waiting for ever, nor from Ctrl-C.
func TestWatchDoesNotWaitForASilentBus(t *testing.T) {
	t.Parallel()
	nc, err := nats.Connect(silentBus(t))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := flush(context.Background(), nc, 50*time.Millisecond); err == nil {
		t.Error("what nobody read counts as read")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := flush(ctx, nc, time.Hour); err == nil {
		t.Error("Ctrl-C does not end it")
	}
	// As main's context, which has no deadline, on a bus that answers.
	if err := flush(context.Background(), bustest.Start(t).NC, time.Minute); err != nil {
		t.Error(err)
	}
}

// silentBus greets whoever connects and answers nothing after that.
func silentBus(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, `INFO {"server_id":"x","version":"2.11.0","max_payload":1048576}`+"\r\n")
		for in := bufio.NewScanner(conn); in.Scan(); {
			if strings.HasPrefix(in.Text(), "PING") {
				io.WriteString(conn, "PONG\r\n")
				break
			}
		}
		_, _ = io.Copy(io.Discard, conn) // until the client leaves
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "nats://" + l.Addr().String()
}
