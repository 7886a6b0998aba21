package receiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
)

func TestStreamOfRealSocatIsPublishedOnlyByCommit(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.processing("mariabackup")
	data := randomBytes(5<<20 + 17)
	cmd := exec.CommandContext(bustest.Context(t), "socat", "-u", "stdio", fmt.Sprintf("TCP:127.0.0.1:%d", j.Dispatch.Port))
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("socat: %v: %s", err, out)
	}
	j = g.when(j, "the stream is complete", complete)
	if s := j.Stream; s.Bytes != int64(len(data)) || s.Peer != "127.0.0.1" || s.Opened.IsZero() || s.Closed.IsZero() || s.Hash == "" {
		t.Errorf("recorded %+v", s)
	}
	if _, err := g.commit(j); err == nil {
		t.Error("published before the worker said done")
	}
	for _, name := range g.files(job.KindBackup) {
		if name[0] != '.' {
			t.Errorf("%s is visible before the proof", name)
		}
	}
	j = g.event(j, job.Done)
	rep := g.published(j)
	if !bytes.Equal(mustRead(t, rep.Path), data) {
		t.Error("the file differs from what was sent")
	}
	want := filepath.Join(g.dir, "Backups", "prod", "127.0.0.1_3306", "mariabackup-20261122T010001Z-"+j.ID+".xbstream")
	if rep.Path != want || rep.Backup != j.ID {
		t.Errorf("published as %+v, want %s", rep, want)
	}
	g.portFree(j.Dispatch.Port)
}

func TestEndOfStreamWithoutDoneIsNoBackup(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.streamed(g.processing("mariabackup"), []byte("cut short by a killed tool"))
	if len(g.temps(job.KindBackup)) != 1 {
		t.Fatal("nothing is kept for the commit")
	}
	g.event(j, job.Cut) // the lease ran out
	g.noTemp(job.KindBackup)
	if files := g.files(job.KindBackup); len(files) != 0 {
		t.Errorf("left in the folder: %v", files)
	}
	if _, err := g.commit(j); err == nil {
		t.Error("a halted job was published")
	}
}

func TestResetMidStreamHaltsTheJobAndLeavesNothing(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.processing("mariabackup")
	c := g.dial(j)
	if _, err := c.Write(randomBytes(1 << 20)); err != nil {
		t.Fatal(err)
	}
	g.when(j, "the stream is noted as open", opened)
	c.SetLinger(0)
	c.Close()
	j = g.whenState(j, job.Halted)
	if !strings.Contains(j.Reason, "reset by the sender") || j.Stream.Complete || j.Stream.Err == "" {
		t.Errorf("halted with %q and %+v", j.Reason, j.Stream)
	}
	g.noTemp(job.KindBackup)
	g.portFree(j.Dispatch.Port)
}

func TestFullDiskFailsTheSenderAndKeepsTheOldBackup(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	folder := g.pool.cfg.folder(job.KindBackup, "prod", local)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("drydock-test", folder, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mount a small file system (needs root): %v", err)
	}
	t.Cleanup(func() {
		g.stop()
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	data := randomBytes(1 << 20)
	old := g.streamed(g.processing("mariabackup"), data)
	path := g.published(g.event(old, job.Done)).Path
	g.event(old, job.Pass)

	j := g.processing("mariabackup")
	wantFailure(t, g.dial(j))
	j = g.whenState(j, job.Halted)
	if j.Reason != "write backup: no space left on device" {
		t.Errorf("halted with %q", j.Reason)
	}
	g.noTemp(job.KindBackup)
	if !bytes.Equal(mustRead(t, path), data) {
		t.Error("the old backup was touched")
	}
}

func TestStrangerIsTurnedAwayAndTheRightPeerServed(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.processing("mariabackup")
	for range 3 {
		wantTurnedAway(t, j.Dispatch.Port)
	}
	j = g.streamed(j, []byte("from the server itself"))
	if j.Stream.Peer != "127.0.0.1" || j.Stream.Bytes != 22 {
		t.Errorf("recorded %+v", j.Stream)
	}
}

func TestAllowFromLetsAnotherAddressIn(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.AllowFrom = append(c.AllowFrom, prefix("127.0.0.2/32")) })
	j := g.processing("errorlog")
	dialFrom(t, "127.0.0.2", j.Dispatch.Port).Close()
	if j = g.when(j, "the stream is complete", complete); j.Stream.Peer != "127.0.0.2" {
		t.Errorf("peer %s", j.Stream.Peer)
	}
}

func TestSecondConnectionFindsNobody(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.processing("mariabackup")
	first := g.dial(j)
	g.when(j, "the stream is open", opened)
	if c, err := net.DialTimeout("tcp", first.RemoteAddr().String(), soon); err == nil {
		c.Close()
		t.Error("a second connection was accepted for one reservation")
	}
	first.Close()
	g.when(j, "the stream is complete", complete)
}

func TestAcceptTimeoutCountsOnlyFromTheStartOfTheWork(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.AcceptTimeout = 300 * time.Millisecond })
	j := g.offered(g.queued("errorlog"))
	long := time.NewTimer(2 * g.pool.cfg.AcceptTimeout)
	defer long.Stop()
	<-long.C // a row that waits is the case under test
	if j = g.last(j); j.State != job.Available {
		t.Fatalf("a row nobody took yet made the job %s: %s", j.State, j.Reason)
	}
	g.event(j, job.Start)
	j = g.whenState(j, job.Halted)
	if !strings.HasPrefix(j.Reason, "no stream came within 300ms") {
		t.Errorf("halted with %q", j.Reason)
	}
	g.portFree(j.Dispatch.Port)
}

func TestSenderThatStandsStillIsCut(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.IdleTimeout = 200 * time.Millisecond })
	j := g.processing("mariabackup")
	c := g.dial(j)
	if _, err := c.Write([]byte("some")); err != nil {
		t.Fatal(err)
	}
	j = g.whenState(j, job.Halted)
	if !strings.Contains(j.Reason, "no byte came for 200ms") {
		t.Errorf("halted with %q", j.Reason)
	}
	wantReset(t, c)
	g.noTemp(job.KindBackup)
}

func TestCancelCutsTheStreamAtOnce(t *testing.T) {
	t.Parallel()
	for _, e := range []job.Event{job.Cancel, job.Cut} {
		g := newRig(t, nil)
		j := g.processing("mariabackup")
		c := g.dial(j)
		g.when(j, "the stream is open", opened)
		g.apply(j, changeOf(e, "by the operator"))
		wantFailure(t, c)
		g.noTemp(job.KindBackup)
		g.portFree(j.Dispatch.Port)
		if now := g.last(j); now.Reason != "by the operator" {
			t.Errorf("the reason became %q", now.Reason)
		}
		g.stop()
	}
}

func TestCanceledOfferGivesItsPortBack(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.offered(g.queued("mariabackup"))
	g.event(j, job.Cancel)
	g.portFree(j.Dispatch.Port)
}

func TestEmptyStreamIsALogAndNoBackup(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	log := g.event(g.streamed(g.processing("errorlog"), nil), job.Done)
	rep := g.published(log)
	if len(mustRead(t, rep.Path)) != 0 {
		t.Error("bytes from nowhere")
	}
	backup := g.event(g.streamed(g.processing("mariabackup"), nil), job.Done)
	var se *bus.ServiceError
	if _, err := g.commit(backup); !errors.As(err, &se) || se.Code != bus.CodeRefused {
		t.Errorf("an empty backup was published: %v", err)
	}
}

func TestManyStreamsAtOnceDoNotMix(t *testing.T) {
	t.Parallel()
	const streams = 32
	var servers []job.Server
	for i := range streams {
		servers = append(servers, job.Server{Host: "127.0.0.1", Port: 4000 + i})
	}
	g := newRig(t, func(c *Config) {
		c.Ports = freePorts(t, streams)
		c.Clusters = map[string]Cluster{"prod": {Servers: servers}}
	})
	payload := func(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("server %02d ", i)), 200_000) }
	var wg sync.WaitGroup
	jobs := make([]job.Job, streams)
	for i, s := range servers {
		jobs[i] = g.event(g.offered(g.queuedAt(s, "mariabackup")), job.Start)
		c := g.dial(jobs[i])
		wg.Go(func() {
			defer c.Close()
			if _, err := c.Write(payload(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, j := range jobs {
		j = g.event(g.when(j, "the stream is complete", complete), job.Done)
		if !bytes.Equal(mustRead(t, g.published(j).Path), payload(i)) {
			t.Errorf("server %d has another one's bytes", i)
		}
	}
}

func TestProgressIsASignOfLifeOnlyWhileBytesMove(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.processing("mariabackup")
	sub, err := g.conn.NC.SubscribeSync(bus.AllProgress)
	if err != nil {
		t.Fatal(err)
	}
	c := g.dial(j)
	if _, err := c.Write(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsgWithContext(bustest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.Data); !strings.Contains(got, `"bytes":4096`) || !strings.Contains(got, j.ID) {
		t.Errorf("progress %s", got)
	}
	ctx, cancel := context.WithTimeout(bustest.Context(t), 1500*time.Millisecond)
	defer cancel()
	if m, err := sub.NextMsgWithContext(ctx); err == nil {
		t.Errorf("a stream that stands still showed life: %s", m.Data)
	}
	c.Close()
	g.when(j, "the stream is complete", complete)
}
