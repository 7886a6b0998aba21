package bus_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
)

// stagingOf is where a store stages its batches in memory, and how many streams do so there.
func stagingOf(t *testing.T, dir string) (memory string, streams int) {
	t.Helper()
	memory, err := os.Readlink(filepath.Join(dir, "staging"))
	if err != nil || !strings.HasPrefix(memory, "/dev/shm/") {
		t.Fatalf("staged in %q, %v (is /dev/shm a tmpfs?)", memory, err)
	}
	links, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "batches"))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if at, err := filepath.EvalSymlinks(link); err == nil && filepath.Dir(at) == memory {
			streams++
		}
	}
	return memory, streams
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
	var memory string
	t.Cleanup(func() { // after the server's end
		if _, err := os.Stat(memory); !os.IsNotExist(err) {
			t.Errorf("%s is left over: %v", memory, err)
		}
	})
	s, c := bustest.StartServer(t, bus.ServerConfig{Dir: dir})
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(run) }()
	t.Cleanup(func() { stop(); <-done })

	seqs := make([]uint64, 100)
	memory, n := stagingOf(t, dir)
	if n != 3 {
		t.Fatalf("%d streams are staged in memory, want those of the jobs, the ticks and the logs", n)
	}
	if n := appendTogether(t, c, seqs); n == 0 {
		t.Error("nothing was written in groups")
	}
	for _, stream := range []string{bus.StreamJobs, bus.StreamLogs} {
		if left, err := os.ReadDir(filepath.Join(memory, stream)); err != nil || len(left) > 0 {
			t.Errorf("left of %s: %v, %v", stream, left, err)
		}
	}
	if err := os.RemoveAll(memory); err != nil {
		t.Fatal(err)
	}
	appendTogether(t, c, seqs) // fails when one is not written
	bustest.Until(t, 20*time.Second, "there is memory to stage in again", func() bool {
		memory, n = stagingOf(t, dir)
		return n == 3
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
	left, _ := stagingOf(t, killed)
	if err := os.CopyFS(restarted, os.DirFS(killed)); err != nil { // as kill -9 leaves it
		t.Fatal(err)
	}
	bustest.StartServer(t, bus.ServerConfig{Dir: restarted})
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s is left over: %v", left, err)
	}
	if now, n := stagingOf(t, restarted); n != 3 || now == left {
		t.Errorf("%d streams are staged in memory, in %s", n, now)
	}
}

// A drydock that is killed for good, with its store deleted, as by a test or in a container that is thrown away, leaves a folder that
// no link leads to any more. The next on the machine removes it, and none of those that live.
func TestStagingOfAServerThatIsGoneForGoodIsRemovedByAnother(t *testing.T) {
	t.Parallel()
	living, gone := t.TempDir(), "/dev/shm/drydock-staging-test-"+strings.ToLower(rand.Text())
	if err := errors.Join(os.Mkdir(gone, 0o700), os.WriteFile(filepath.Join(gone, "lock"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(gone) })
	bustest.StartServer(t, bus.ServerConfig{Dir: living})
	memory, _ := stagingOf(t, living)
	bustest.Start(t)
	if _, err := os.Stat(gone); !os.IsNotExist(err) {
		t.Errorf("%s is left over: %v", gone, err)
	}
	if _, err := os.Stat(memory); err != nil {
		t.Errorf("that of a living server is gone: %v", err)
	}
}
