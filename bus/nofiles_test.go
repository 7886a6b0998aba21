package bus_test

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
)

// Without a file left to open JetStream's streams are frozen until a restart, and NATS says that it is well. drydock must say that it is not,
// and go on once there are files. The limit is that of a process, so the test has one of its own.
func TestNoFilesLeftIsGoneOnFrom(t *testing.T) {
	t.Parallel()
	if os.Getenv("DRYDOCK_NO_FILES") == "" {
		cmd := exec.CommandContext(bustest.Context(t), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "DRYDOCK_NO_FILES=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	s, c := bustest.StartServer(t, bus.ServerConfig{})
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(run) }()
	t.Cleanup(func() { stop(); <-done })
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 300, Max: 300}); err != nil {
		t.Fatal(err)
	}
	var held []*os.File
	hold := func() {
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				return
			}
			held = append(held, f)
		}
	}
	ctx := bustest.Context(t)
	hold()
	acked := 0
	for begun, frozen := time.Now(), false; s.Health() == nil || !frozen; hold() {
		if time.Since(begun) > 30*time.Second {
			t.Fatal("the bus does not say that it accepts nothing")
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		_, err := c.Append(short, bus.StreamTasks, subject, bus.NewMessageID(), uint64(acked), noise(400_000))
		cancel()
		if frozen = err != nil; !frozen {
			acked++
		}
	}
	for _, f := range held {
		_ = f.Close()
	}
	bustest.Until(t, 30*time.Second, "the bus is healthy", func() bool { return s.Health() == nil })
	id := bus.NewMessageID() // of one message, however often it is sent
	bustest.Until(t, 30*time.Second, "writes go on over the same connection", func() bool {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := c.Append(short, bus.StreamTasks, "drydock.task.c.analyze", id, 0, "x")
		return err == nil
	})
	if _, seq, err := bus.Last[string](ctx, c, bus.StreamTasks, subject); err != nil || int(seq) < acked {
		t.Errorf("%d acknowledged, the last one there is %d (%v)", acked, seq, err)
	}
}
