package bus_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
)

// stagingOf is where the streams of a store stage their batches in memory.
func stagingOf(t *testing.T, dir string) (dirs []string) {
	t.Helper()
	links, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "batches"))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, "/dev/shm/") {
			dirs = append(dirs, at)
		}
	}
	return dirs
}

// appendTogether writes the next message of 100 subjects at once and says how many of them went in groups.
func appendTogether(t *testing.T, c *bus.Conn, seqs []uint64) (grouped int) {
	t.Helper()
	ctx := bustest.Context(t)
	var wg sync.WaitGroup
	for slot := range seqs {
		wg.Go(func() {
			var err error
			if seqs[slot], err = c.Append(ctx, bus.StreamJobs, bus.JobSubject("c", "h", slot, "optimize"), bus.NewMessageID(), seqs[slot], note{slot}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	stream, err := c.JS.Stream(ctx, bus.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range seqs {
		m, err := stream.GetMsg(ctx, seq)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("Nats-Batch-Id") != "" {
			grouped++
		}
	}
	return grouped
}

// Groups are staged in memory that others may tidy up: logind does at a logout, an operator does by hand. Writes must go on
// meanwhile, and in groups again a moment later; nothing may be left there by a server that ends.
func TestGroupsOutliveTheMemoryTheyAreStagedIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var staging []string
	t.Cleanup(func() { // after the server's end
		for _, dir := range staging {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is left over: %v", dir, err)
			}
		}
	})
	s, c := bustest.StartServer(t, bus.ServerConfig{Dir: dir})
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(run) }()
	t.Cleanup(func() { stop(); <-done })

	seqs := make([]uint64, 100)
	staging = stagingOf(t, dir)
	if len(staging) != 3 {
		t.Fatalf("staged in memory: %q, want those of the jobs, the ticks and the logs (is /dev/shm a tmpfs?)", staging)
	}
	if n := appendTogether(t, c, seqs); n == 0 {
		t.Error("nothing was written in groups")
	}
	for _, dir := range staging {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	appendTogether(t, c, seqs) // fails when one is not written
	bustest.Until(t, 20*time.Second, "there is memory to stage in again", func() bool {
		again := stagingOf(t, dir)
		for _, dir := range again {
			if _, err := os.Stat(dir); err != nil {
				return false
			}
		}
		staging = again
		return len(again) == 3
	})
	if n := appendTogether(t, c, seqs); n == 0 {
		t.Error("nothing was written in groups after the memory was tidied up")
	}
}

// A server that was killed leaves its staging folders: the next one on that store must remove them, or each crash costs
// memory until the machine starts anew.
func TestStagingOfAKilledServerIsRemovedByTheNext(t *testing.T) {
	t.Parallel()
	killed, restarted := t.TempDir(), filepath.Join(t.TempDir(), "nats")
	bustest.StartServer(t, bus.ServerConfig{Dir: killed})
	left := stagingOf(t, killed)
	if len(left) == 0 {
		t.Fatal("nothing is staged in memory")
	}
	if err := os.CopyFS(restarted, os.DirFS(killed)); err != nil { // as kill -9 leaves it
		t.Fatal(err)
	}
	bustest.StartServer(t, bus.ServerConfig{Dir: restarted})
	for _, dir := range left {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left over: %v", dir, err)
		}
	}
}
