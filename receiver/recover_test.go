package receiver

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestPortNobodyCameToIsKeptOverARestart(t *testing.T) {
	t.Parallel()
	for _, events := range [][]job.Event{{}, {job.Claim}, {job.Start}, {job.Wait}, {job.Start, job.Done}} {
		g := newRig(t, nil)
		j := g.event(g.offered(g.queued("mariabackup")), events...)
		g.stop()
		g.start(nil)
		if now := g.last(j); now.State != j.State || now.Dispatch != j.Dispatch {
			t.Errorf("%s became %s: %s", j.State, now.State, now.Reason)
		}
		g.streamed(j, []byte("after the restart"))
		g.stop()
	}
}

func TestPortLostOverARestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		events []job.Event
		want   job.State
	}{
		{nil, job.Queued}, {[]job.Event{job.Claim}, job.Queued},
		{[]job.Event{job.Start}, job.Halted}, {[]job.Event{job.Wait}, job.Halted}, {[]job.Event{job.Start, job.Done}, job.Failed},
	} {
		g := newRig(t, func(cfg *Config) { cfg.Ports = freePorts(t, 1) })
		j := g.event(g.offered(g.queued("mariabackup")), c.events...)
		g.stop()
		g.start(func(cfg *Config) { cfg.Ports = freePorts(t, 1) }) // the pool was changed
		now := g.whenState(j, c.want)
		if !strings.Contains(now.Reason, "no longer in the pool") {
			t.Errorf("reason %q", now.Reason)
		}
		g.stop()

		g = newRig(t, nil)
		j = g.event(g.offered(g.queued("mariabackup")), c.events...)
		g.stop()
		thief, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(j.Dispatch.Port)))
		if err != nil {
			t.Fatal(err)
		}
		g.start(nil)
		if now := g.whenState(j, c.want); !strings.Contains(now.Reason, "address already in use") {
			t.Errorf("reason %q", now.Reason)
		}
		thief.Close()
		g.stop()
	}
}

func TestCompleteStreamIsPublishedAfterARestart(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.streamed(g.processing("mariabackup"), []byte("whole"))
	g.stop()
	g.start(nil)
	j = g.event(j, job.Done)
	if got := string(mustRead(t, g.published(j).Path)); got != "whole" {
		t.Errorf("published %q", got)
	}
}

func TestJobThatEndsAfterARestartLeavesNoFile(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.streamed(g.processing("mariabackup"), []byte("whole"))
	g.stop()
	g.start(nil)
	if len(g.temps(job.KindBackup)) != 1 {
		t.Fatal("the restart threw a complete stream away")
	}
	g.event(j, job.Cut)
	g.noTemp(job.KindBackup)
}

// crashedMidStream is what kill -9 leaves: the opening is recorded, some bytes are in the temporary file.
func crashedMidStream(g *rig, events ...job.Event) job.Job {
	g.t.Helper()
	j := g.event(g.offered(g.queued("mariabackup")), events...)
	g.stop()
	j = g.apply(j, store.Change{Event: job.Note, Edit: func(j *job.Job) { j.Stream = &job.Stream{Opened: j.Created, Peer: "127.0.0.1"} }})
	spec, _, err := g.pool.cfg.place(j.Key(), j.ID, j.Attempt)
	if err != nil {
		g.t.Fatal(err)
	}
	writeFile(g.t, spec.Temp(), []byte("half a ba"))
	return j
}

func TestStreamCutByARestartEndsTheJobAndItsFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		events []job.Event
		want   job.State
	}{
		{nil, job.Halted}, {[]job.Event{job.Claim}, job.Halted}, {[]job.Event{job.Start}, job.Halted}, {[]job.Event{job.Start, job.Done}, job.Failed},
	} {
		g := newRig(t, nil)
		j := crashedMidStream(g, c.events...)
		g.start(nil)
		j = g.whenState(j, c.want)
		if j.Reason != restartReason || j.Stream.Complete || j.Stream.Err == "" {
			t.Errorf("%s with %q, %+v", j.State, j.Reason, j.Stream)
		}
		if temps := g.temps(job.KindBackup); len(temps) != 0 {
			t.Errorf("left: %v", temps)
		}
		g.stop()
	}
}

func TestSweepKeepsWhatIsPublishedAndWhatIsForeign(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	old := g.streamed(g.processing("mariabackup"), []byte("old"))
	path := g.published(g.event(old, job.Done)).Path
	g.event(old, job.Pass)
	g.stop()
	stale := filepath.Join(filepath.Dir(path), ".mariabackup-x.xbstream.01AAAAAAAAAAAAAAAAAAAAAAAA-01.part")
	staleLog := filepath.Join(g.dir, "prod", "127.0.0.1_3306", ".log_error.log.01AAAAAAAAAAAAAAAAAAAAAAAA-01.part")
	foreign := filepath.Join(filepath.Dir(path), "notes.txt")
	for _, f := range []string{stale, staleLog, foreign} {
		writeFile(t, f, []byte("x"))
	}
	g.start(nil)
	for _, f := range []string{stale, staleLog} {
		if _, err := os.Stat(f); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", f, err)
		}
	}
	for _, f := range []string{path, path + ".manifest.json", foreign} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

func TestSecondReceiverOnTheSameFolderIsRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	other, err := New(g.config(nil), g.conn, g.jobs, store.NewView(g.conn), store.NewCatalog(g.conn))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(bustest.Context(t)); !errors.Is(err, ErrConfig) {
		t.Errorf("a second receiver would sweep the first one's files: %v", err)
	}
}

func TestShutdownLetsAStreamEndAndRecordsTheCutOfAnother(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.DrainTimeout = 500 * time.Millisecond })
	ends, hangs := g.processing("errorlog"), g.processing("mariabackup")
	waits := g.offered(g.queued("slowquery"))
	c, h := g.dial(ends), g.dial(hangs)
	g.when(ends, "open", opened)
	g.when(hangs, "open", opened)
	stopped := make(chan struct{})
	go func() {
		g.stop()
		close(stopped)
	}()
	<-g.pool.closed
	if _, err := g.open(g.queued("auditlog")); err == nil {
		t.Error("a port was reserved while stopping")
	}
	if _, err := c.Write([]byte("the rest")); err != nil {
		t.Error(err)
	}
	c.Close()
	wantFailure(t, h)
	<-stopped
	if j := g.last(ends); !complete(j) || j.Stream.Bytes != 8 || j.State != job.Processing {
		t.Errorf("the stream that ended in time: %s %+v", j.State, j.Stream)
	}
	if j := g.last(hangs); j.State != job.Halted || j.Reason != errStopping.Error() {
		t.Errorf("the stream that was cut: %s %q", j.State, j.Reason)
	}
	if j := g.last(waits); j.State != job.Available || j.Dispatch.Port == 0 {
		t.Errorf("the offer nobody took: %s %+v", j.State, j.Dispatch)
	}
}

func TestFinishedStreamIsRecordedWhenTheBusComesBack(t *testing.T) {
	t.Parallel()
	cfg := bus.ServerConfig{Dir: t.TempDir(), Listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePorts(t, 1)[0])), User: "drydock", Password: "test"}
	cfg.MaxStore, cfg.Log = 16<<30, bustest.Log(t)
	server, err := bus.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.ConnectRemote(bus.Remote{URL: "nats://" + cfg.Listen, User: cfg.User, Password: cfg.Password}, "receiver", bustest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.NC.Close)
	if err := conn.Declare(bustest.Context(t), bus.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, conn: conn, dir: t.TempDir(), stop: func() {}}
	g.follow(conn)
	g.start(nil)
	j := g.processing("mariabackup")
	c := g.dial(j)
	g.when(j, "open", opened)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, soon, "the bus is away", func() bool { return !conn.NC.IsConnected() })
	if _, err := c.Write([]byte("received while the bus was away")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	g.portFree(j.Dispatch.Port)
	bustest.StartServer(t, cfg)
	bustest.Until(t, 2*soon, "the bus is back", func() bool { return conn.NC.IsConnected() })
	j = g.when(j, "the stream is recorded", complete)
	if j.Stream.Bytes != 31 {
		t.Errorf("recorded %+v", j.Stream)
	}
}
