package bus_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
)

// A full disk freezes JetStream's streams until a restart. drydock must say so, keep what it acknowledged, and go on by
// itself once there is room.
func TestFullDiskIsSaidAndGoneOnFrom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a small tmpfs (run the tests as root): %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	s, c := bustest.StartServer(t, bus.ServerConfig{Dir: filepath.Join(dir, "nats")})
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(run) }()
	t.Cleanup(func() { stop(); <-done })

	ctx := bustest.Context(t)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 80<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	acked := 0
	for {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := c.Append(short, bus.StreamTasks, subject, bus.NewMessageID(), uint64(acked), noise(400_000))
		cancel()
		if err != nil {
			break
		}
		if acked++; acked > 200 {
			t.Fatal("the disk does not fill")
		}
	}
	bustest.Until(t, 20*time.Second, "the bus says that it accepts nothing", func() bool { return s.Health() != nil })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, 30*time.Second, "writes go on over the same connection", func() bool {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := c.Append(short, bus.StreamJobs, bus.JobSubject("c", "h", 1, "optimize"), bus.NewMessageID(), 0, "x")
		return err == nil
	})
	if _, seq, err := bus.Last[string](ctx, c, bus.StreamTasks, subject); err != nil || int(seq) < acked {
		t.Errorf("%d acknowledged, the last one there is %d (%v)", acked, seq, err)
	}
}

// noise does not compress, so that it fills a disk.
func noise(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}
