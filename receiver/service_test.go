package receiver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestRepeatedOpenAnswersTheSamePort(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.queued("mariabackup")
	first, err := g.open(j)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := g.open(j); err != nil || again != first {
		t.Errorf("asked twice: %+v then %+v, %v", first, again, err)
	}
	j = g.event(g.offer(j, job.Dispatch{Receiver: first.Receiver, Port: first.Port}), job.Start)
	c := g.dial(j)
	g.when(j, "open", opened)
	if again, err := g.open(j); err != nil || again != first {
		t.Errorf("asked while the stream runs: %+v, %v", again, err)
	}
	if _, err := c.Write([]byte("not cut by that")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	g.when(j, "complete", complete)
}

func TestWhatIsNotConfiguredGetsNoPort(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	good := job.Key{Cluster: "prod", Server: local, Task: "mariabackup"}
	id := job.NewID(time.Now(), "t", good)
	for name, req := range map[string]bus.OpenRequest{
		"cluster":   {Key: job.Key{Cluster: "../etc", Server: local, Task: "mariabackup"}, JobID: id, Attempt: 1},
		"server":    {Key: job.Key{Cluster: "prod", Server: job.Server{Host: "127.0.0.1", Port: 1}, Task: "mariabackup"}, JobID: id, Attempt: 1},
		"task":      {Key: job.Key{Cluster: "prod", Server: local, Task: "../../x"}, JobID: id, Attempt: 1},
		"no stream": {Key: job.Key{Cluster: "prod", Server: local, Task: "optimize"}, JobID: id, Attempt: 1},
		"id":        {Key: good, JobID: id[:10] + "/../../../../etc", Attempt: 1},
		"short id":  {Key: good, JobID: "x", Attempt: 1},
		"attempt":   {Key: good, JobID: id, Attempt: 0},
		"check":     {Key: job.Key{Cluster: "prod", Server: job.Server{Host: "10.9.9.9", Port: 1}}, JobID: id, Attempt: 1, Check: true},
	} {
		_, err := bus.Request[bus.OpenReply](bustest.Context(t), g.conn, bus.SubjectReceiverOpen, req)
		var se *bus.ServiceError
		if !errors.As(err, &se) || se.Code != bus.CodeRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
	over := g.event(g.offered(g.queued("errorlog")), job.Cancel)
	if _, err := g.open(over); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a canceled job got a port: %v", err)
	}
}

func TestPortNobodyOffersIsGivenBack(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.stop()
	pool, err := New(g.config(nil), g.conn, g.jobs, g.view, store.NewCatalog(g.conn))
	if err != nil {
		t.Fatal(err)
	}
	pool.watchEvery, pool.offerGrace = 10*time.Millisecond, 300*time.Millisecond
	g.run(pool)

	lost, err := g.open(g.queued("errorlog")) // the claim went to another client, or the gateway died
	if err != nil {
		t.Fatal(err)
	}
	g.portFree(lost.Port)

	j := g.offered(g.queued("mariabackup"))
	wait := time.NewTimer(2 * pool.offerGrace)
	defer wait.Stop()
	<-wait.C // an offer may wait for long
	if len(pool.current()) != 1 {
		t.Fatal("an offered port was given up")
	}
	g.event(j, job.Withdraw)
	g.portFree(j.Dispatch.Port)
}

func TestReleasedClaimCutsTheStreamOfTheFormerClient(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.event(g.offered(g.queued("mariabackup")), job.Claim)
	former := g.dial(j)
	g.when(j, "open", opened)
	j = g.event(j, job.Release)
	rep, err := g.open(j) // needs is asked again
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, former)
	j = g.apply(j, store.Change{Event: job.Claim, Edit: func(j *job.Job) {
		j.Dispatch = job.Dispatch{Receiver: rep.Receiver, Port: rep.Port}
	}})
	c := g.dial(j)
	if _, err := c.Write([]byte("second client")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	j = g.when(j, "complete", complete)
	if j.Stream.Bytes != 13 || j.State != job.Claimed {
		t.Errorf("%s with %+v", j.State, j.Stream)
	}
}

func TestRetriedAttemptHasNothingOfTheOneBefore(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.event(g.streamed(g.processing("mariabackup"), []byte("first try")), job.Error)
	j = g.event(j, job.Retry)
	j = g.event(g.offered(j), job.Start)
	j = g.event(g.streamed(j, []byte("second")), job.Done)
	if got := string(mustRead(t, g.published(j).Path)); got != "second" {
		t.Errorf("published %q", got)
	}
	g.noTemp(job.KindBackup)
}

func TestCloseCutsAndIsGoneAfterwards(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.processing("mariabackup")
	c := g.dial(j)
	g.when(j, "open", opened)
	subject, req := bus.ReceiverSubject("rcv", bus.VerbClose), bus.CloseRequest{JobID: j.ID, Attempt: 1, Reason: "changed my mind"}
	if _, err := bus.Request[struct{}](bustest.Context(t), g.conn, subject, req); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, c)
	if len(g.temps(job.KindBackup)) != 0 {
		t.Error("close left the file")
	}
	var se *bus.ServiceError
	if _, err := bus.Request[struct{}](bustest.Context(t), g.conn, subject, req); !errors.As(err, &se) || se.Code != bus.CodeGone {
		t.Errorf("closed twice: %v", err)
	}
}

// checking opens a Check reservation.
func checking(g *rig, id string) job.Job {
	g.t.Helper()
	k := job.Key{Cluster: "prod", Server: local, Task: "jobs-check"}
	rep, err := bus.Request[bus.OpenReply](bustest.Context(g.t), g.conn, bus.SubjectReceiverOpen,
		bus.OpenRequest{Key: k, JobID: id, Attempt: 1, Check: true})
	if err != nil {
		g.t.Fatal(err)
	}
	return job.Job{ID: id, Attempt: 1, Dispatch: job.Dispatch{Port: rep.Port}}
}

func checked(g *rig, j job.Job) (bus.CheckReply, error) {
	return bus.Request[bus.CheckReply](bustest.Context(g.t), g.conn, bus.ReceiverSubject("rcv", bus.VerbCheck),
		bus.OpenRequest{JobID: j.ID, Attempt: 1, Check: true})
}

func TestCheckHashesAScriptAndStoresNothing(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	script := []byte("#!/bin/bash\n# EOF\n")
	sum := sha256.Sum256(script)
	j := checking(g, "c1")
	wantTurnedAway(t, j.Dispatch.Port)
	asked := make(chan error, 1) // one send by the goroutine below
	go func() {
		got, err := checked(g, j)
		if err == nil && (got.SHA256 != hex.EncodeToString(sum[:]) || got.Bytes != int64(len(script))) {
			err = errors.New("wrong answer: " + got.SHA256)
		}
		asked <- err
	}()
	c := g.dial(j)
	if _, err := c.Write(script); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if _, err := checked(g, j); err != nil {
		t.Errorf("asked after the stream: %v", err)
	}
	g.portFree(j.Dispatch.Port)
	if f := append(g.files(job.KindLog), g.files(job.KindBackup)...); len(f) != 0 {
		t.Errorf("stored %v", f)
	}
}

func TestCheckIsBounded(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.stop()
	pool, err := New(g.config(nil), g.conn, g.jobs, g.view, store.NewCatalog(g.conn))
	if err != nil {
		t.Fatal(err)
	}
	pool.checkTime = 500 * time.Millisecond
	g.run(pool)
	long := checking(g, "long")
	wantFailure(t, g.dial(long))
	if _, err := checked(g, long); err == nil || !strings.Contains(err.Error(), "4 MiB") {
		t.Errorf("an endless script: %v", err)
	}
	nobody, silent := checking(g, "nobody"), checking(g, "silent")
	c := g.dial(silent)
	for _, j := range []job.Job{nobody, silent} {
		var se *bus.ServiceError
		if _, err := checked(g, j); !errors.As(err, &se) || se.Code != bus.CodeGone {
			t.Errorf("%s: %v", j.ID, err)
		}
		g.portFree(j.Dispatch.Port)
	}
	wantReset(t, c)
}

func TestServiceShowsItsPool(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Version = "1.2.3" })
	m, err := g.conn.NC.RequestWithContext(bustest.Context(t), "$SRV.INFO."+bus.ReceiverService, nil)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Version != "1.2.3" || info.Metadata["receiver"] != "rcv" || info.Metadata["ports"] != "any" || info.Metadata["address"] != "127.0.0.1" {
		t.Errorf("%+v", info)
	}
}

func TestAttemptThatWasFollowedByAnotherLosesItsPort(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.stop()
	p, err := New(g.config(nil), g.conn, g.jobs, g.view, store.NewCatalog(g.conn)) // does not run: it looks once, late
	if err != nil {
		t.Fatal(err)
	}
	j := g.queued("mariabackup")
	rep, err := p.open(bustest.Context(t), bus.OpenRequest{Key: j.Key(), JobID: j.ID, Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := p.current()[0]
	g.offer(j, job.Dispatch{Receiver: "rcv", Port: rep.Port})
	r.look(time.Now())
	if r.ctx.Err() != nil {
		t.Error("the offered port was given up")
	}
	g.event(j, job.Cut, job.Retry)
	r.look(time.Now())
	<-r.done
	if err := p.drain(nil); err != nil {
		t.Error(err)
	}
}

func TestLeftoverOfTheSameAttemptIsNotInTheWay(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.processing("mariabackup")
	spec, _, err := g.pool.cfg.place(j.Key(), j.ID, j.Attempt)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, spec.Temp(), []byte("of a former client"))
	j = g.event(g.streamed(j, []byte("whole")), job.Done)
	if got := string(mustRead(t, g.published(j).Path)); got != "whole" {
		t.Errorf("published %q", got)
	}
}
