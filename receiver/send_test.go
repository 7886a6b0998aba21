package receiver

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

// backup stores content as a backup of local, the way a stream is stored, and catalogues it.
func (g *rig) backup(content []byte, compress, algo string) store.Manifest {
	g.t.Helper()
	id := job.NewID(time.Now(), rand.Text(), job.Key{Cluster: "prod", Server: local, Task: "mariabackup"})
	spec := sink.Spec{Dir: g.pool.cfg.folder(job.KindBackup, "prod", local), Name: id + ".xbstream", Tag: "t", Hash: algo, Compress: compress}
	f, err := sink.Create(spec)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := f.Receive(bustest.Context(g.t), bytes.NewReader(content), nil); err != nil {
		g.t.Fatal(err)
	}
	res, err := f.Finish()
	if err != nil {
		g.t.Fatal(err)
	}
	path, err := sink.Publish(spec)
	if err != nil {
		g.t.Fatal(err)
	}
	m := store.Manifest{
		Type: store.ManifestType, ID: id, Cluster: "prod", Server: local, Task: "mariabackup", Receiver: "rcv", Path: path,
		Compress: compress, Size: res.Received, Stored: res.Stored, Algo: res.Algo, Hash: res.Hash, StoredHash: res.StoredHash,
	}
	if err := store.NewCatalog(g.conn).Put(bustest.Context(g.t), m); err != nil {
		g.t.Fatal(err)
	}
	return m
}

// restoring makes a job that wants the backup and has got as far as state.
func (g *rig) restoring(task string, mode job.Mode, m store.Manifest, events ...job.Event) job.Job {
	g.t.Helper()
	k := job.Key{Cluster: "prod", Server: local, Task: task}
	j, err := g.jobs.Create(bustest.Context(g.t), job.Job{
		State: job.Queued, ID: job.NewID(time.Now(), rand.Text(), k), Cluster: "prod", Server: local, Task: task, Mode: mode,
		Args: map[string]string{job.ArgBackup: m.ID, job.ArgFrom: m.Server.Addr(), job.ArgReceiver: m.Receiver},
	}, "asked for")
	for _, e := range events {
		if err == nil {
			j, err = g.jobs.Apply(bustest.Context(g.t), store.RefOf(j), store.Change{Event: e})
		}
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return j
}

func (g *rig) ask(j job.Job, m store.Manifest, address, nonce string) (bus.SendReply, error) {
	return bus.Request[bus.SendReply](bustest.Context(g.t), g.conn, bus.ReceiverSubject("rcv", bus.VerbSend), bus.SendRequest{
		Key: j.Key(), JobID: j.ID, Attempt: j.Attempt, From: m.Server, Backup: m.ID, Address: address, Nonce: nonce,
	})
}

// untilStream waits until the log says what became of the sending.
func (g *rig) untilStream(j job.Job, ended func(job.Stream) bool) job.Job {
	g.t.Helper()
	var now job.Job
	bustest.Until(g.t, soon, "the stream's end is recorded", func() bool {
		now, _, _ = g.jobs.Last(bustest.Context(g.t), j.Key())
		return now.Stream != nil && ended(*now.Stream)
	})
	return now
}

func isComplete(s job.Stream) bool { return s.Complete }
func hasFailed(s job.Stream) bool  { return s.Err != "" }

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b[:n/2]) // the second half compresses
	return b
}

// accept takes the one connection and reads it to its end.
func accept(t *testing.T, ln net.Listener) (content []byte, err error) {
	t.Helper()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(soon))
	return io.ReadAll(conn)
}

const nonce = "0123456789abcdefABCDEF"

func TestABackupIsSentAsTheToolMadeIt(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	bytesOf := content(3<<20 + 17)
	sum := sha256.Sum256(bytesOf)
	for _, compress := range []string{sink.None, sink.Gzip, sink.Zstd} {
		for _, algo := range []string{sink.BLAKE3, sink.SHA256} {
			m := g.backup(bytesOf, compress, algo)
			j := g.restoring("reseedlogical", job.Local, m, job.Offer, job.Start)
			ln := listen(t)
			rep, err := g.ask(j, m, ln.Addr().String(), nonce)
			if err != nil || rep.Size != int64(len(bytesOf)) || rep.Hash != m.Hash {
				t.Fatalf("%s, %s: %+v, %v", compress, algo, rep, err)
			}
			got, err := accept(t, ln)
			if err != nil {
				t.Fatal(err)
			}
			rest, ok := bytes.CutPrefix(got, []byte(bus.SendPreamble(nonce)))
			if !ok || !bytes.Equal(rest, bytesOf) {
				t.Fatalf("%s, %s: %d bytes came, beginning %q", compress, algo, len(got), got[:min(len(got), 40)])
			}
			now := g.untilStream(j, isComplete)
			if s := now.Stream; s.Bytes != int64(len(bytesOf)) || s.Algo != sink.SHA256 || s.Hash != hex.EncodeToString(sum[:]) || s.Err != "" {
				t.Errorf("%s, %s: recorded %+v", compress, algo, s)
			}
			if _, err := g.jobs.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Done}); err != nil {
				t.Fatal(err)
			}
			if _, err := g.jobs.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Pass}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestADamagedFileEndsInAReset: the listener must not take what came for a backup.
func TestADamagedFileEndsInAReset(t *testing.T) {
	t.Parallel()
	for _, compress := range []string{sink.None, sink.Gzip, sink.Zstd} {
		g := newRig(t, nil)
		m := g.backup(content(2<<20), compress, sink.BLAKE3)
		f, err := os.OpenFile(m.Path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xaa, 0x55, 0xaa, 0x55, 0x11}, m.Stored/3); err != nil {
			t.Fatal(err)
		}
		f.Close()
		j := g.restoring("reseedlogical", job.Local, m, job.Offer, job.Start)
		ln := listen(t)
		if _, err := g.ask(j, m, ln.Addr().String(), nonce); err != nil {
			t.Fatal(err)
		}
		if got, err := accept(t, ln); err == nil {
			t.Errorf("%s: %d bytes of a damaged file ended in order", compress, len(got))
		}
		now := g.untilStream(j, hasFailed)
		if !strings.Contains(now.Stream.Err, m.ID) || now.Stream.Complete || now.State != job.Processing {
			t.Errorf("%s: recorded %+v, job %s", compress, now.Stream, now.State)
		}
		g.stop()
	}
}

func TestWhatCannotBeSentIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	m := g.backup(content(1000), sink.None, sink.BLAKE3)
	j := g.restoring("reseedlogical", job.Local, m, job.Offer, job.Start)
	code := func(err error) string {
		var se *bus.ServiceError
		errors.As(err, &se)
		if se == nil {
			return ""
		}
		return se.Code
	}
	other := m
	other.ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	if _, err := g.ask(j, other, "127.0.0.1:1", nonce); code(err) != bus.CodeGone {
		t.Errorf("unknown backup: %v", err)
	}
	if _, err := g.ask(j, m, "127.0.0.1:1", "short"); code(err) != bus.CodeRefused {
		t.Errorf("short nonce: %v", err)
	}
	late := j
	late.Attempt = 2
	if _, err := g.ask(late, m, "127.0.0.1:1", nonce); code(err) != bus.CodeRefused {
		t.Errorf("attempt that is not the live one: %v", err)
	}
	outside := m
	outside.ID, outside.Path = "01ARZ3NDEKTSV4RRFFQ69G5FAW", filepath.Join(g.dir, "secret")
	if err := os.WriteFile(outside.Path, make([]byte, m.Stored), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.NewCatalog(g.conn).Put(bustest.Context(t), outside); err != nil {
		t.Fatal(err)
	}
	if _, err := g.ask(j, outside, "127.0.0.1:1", nonce); code(err) != bus.CodeRefused {
		t.Errorf("a path outside the server's folder: %v", err)
	}
	if err := os.Truncate(m.Path, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := g.ask(j, m, "127.0.0.1:1", nonce); code(err) != bus.CodeGone {
		t.Errorf("a file that was cut: %v", err)
	}
}

// TestTheEndOfAJobResetsItsStream: nobody who was canceled goes on to unpack.
func TestTheEndOfAJobResetsItsStream(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	m := g.backup(content(64<<20), sink.Zstd, sink.BLAKE3)
	j := g.restoring("reseedlogical", job.Local, m, job.Offer, job.Start)
	ln := listen(t)
	if _, err := g.ask(j, m, ln.Addr().String(), nonce); err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(soon))
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || line != bus.SendPreamble(nonce) {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := g.jobs.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Cancel}); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err == nil {
		t.Errorf("the stream of a canceled job ended in order after %d bytes", n)
	}
}

// TestAWaitingScriptGetsItsBackup, plain and without being asked for: that is what deployed clients expect.
func TestAWaitingScriptGetsItsBackup(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	g := newRig(t, func(c *Config) {
		cl := c.Clusters["prod"]
		cl.ReceiverPorts = []int{ln.Addr().(*net.TCPAddr).Port}
		c.Clusters = map[string]Cluster{"prod": cl}
	})
	bytesOf := content(1 << 20)
	m := g.backup(bytesOf, sink.Gzip, sink.BLAKE3)
	j := g.restoring("reseedmariabackup", job.API, m, job.Offer, job.Claim, job.Start, job.Wait)
	got, err := accept(t, ln)
	if err != nil || !bytes.Equal(got, bytesOf) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	now := g.untilStream(j, isComplete)
	if now.State != job.Waiting {
		t.Errorf("the job is %s", now.State)
	}
}

func TestAWaitingScriptThatCannotBeServedIsTold(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.AcceptTimeout = 300 * time.Millisecond })
	m := g.backup(content(1<<10), sink.None, sink.BLAKE3)
	g.pool.cfg.Clusters["prod"] = Cluster{Servers: []job.Server{local}, ReceiverPorts: []int{closedPort(t)}}
	j := g.restoring("reseedmariabackup", job.API, m, job.Offer, job.Claim, job.Start, job.Wait)
	now := g.untilStream(j, hasFailed)
	if now.State != job.Halted || !strings.Contains(now.Reason, "nobody listened") {
		t.Errorf("%s: %s", now.State, now.Reason)
	}
	if err := os.Remove(m.Path); err != nil {
		t.Fatal(err)
	}
	j = g.restoring("flashbackmariabackup", job.API, m, job.Offer, job.Claim, job.Start, job.Wait)
	bustest.Until(t, soon, "the job of a backup that is gone ends", func() bool {
		now, _, _ = g.jobs.Last(bustest.Context(t), j.Key())
		return now.State == job.Halted && strings.Contains(now.Reason, "is gone")
	})
}

func closedPort(t *testing.T) int {
	ln := listen(t)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// TestARestartCutsWhatWasBeingSent: the next process does not know how far it came.
func TestARestartCutsWhatWasBeingSent(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	set := func(c *Config) {
		c.Clusters = map[string]Cluster{"prod": {Servers: []job.Server{local}, ReceiverPorts: []int{ln.Addr().(*net.TCPAddr).Port}}}
	}
	g := newRig(t, set)
	m := g.backup(content(1<<10), sink.None, sink.BLAKE3)
	g.stop()
	j := g.restoring("reseedmariabackup", job.API, m, job.Offer, job.Claim, job.Start, job.Wait)
	if _, err := g.jobs.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Note, Edit: func(j *job.Job) {
		j.Stream = &job.Stream{Opened: time.Now().UTC()}
	}}); err != nil {
		t.Fatal(err)
	}
	g.start(set)
	if now := g.untilStream(j, hasFailed); now.State != job.Halted || now.Reason != restartReason {
		t.Errorf("%s: %s", now.State, now.Reason)
	}
}
