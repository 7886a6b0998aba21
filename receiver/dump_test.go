package receiver

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

const (
	textDump = "-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for x\n-- CHANGE MASTER TO MASTER_LOG_FILE='bin.7', MASTER_LOG_POS=42;\n" +
		"\nCREATE TABLE `a` (i int);\n\n-- Dump completed on 2026-11-25 22:49:30\n"
	metadata = "SHOW MASTER STATUS:\n\tLog: bin.7\n\tPos: 42\n\tGTID:0-1-4\n\nFinished dump at: 2026-11-25 22:49:30\n"
)

func folderDump(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"shop.a-schema.sql", "x;"}, {"shop.a.sql", ""}, {"metadata", metadata}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1])), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDumpIsCheckedAndItsPositionIsInTheManifest(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	for task, data := range map[string][]byte{"mysqldump": []byte(textDump), "mydumper": folderDump(t)} {
		j := g.streamed(g.processing(task), data)
		if j.Stream.Format != job.FormatGood || j.Stream.Broken {
			t.Fatalf("%s: %+v", task, j.Stream)
		}
		// The log of a script may come now, and begins the evidence anew.
		j = g.apply(j, store.Change{Event: job.Note, Edit: func(j *job.Job) { j.Evidence = job.Evidence{Tool: "of the log"} }})
		j = g.event(j, job.Done)
		rep, err := bus.Request[bus.CommitReply](bustest.Context(t), g.conn, bus.ReceiverSubject("rcv", bus.VerbCommit), bus.CommitRequest{Job: j})
		if err != nil {
			t.Fatal(err)
		}
		suffix := map[string]string{"mysqldump": ".sql", "mydumper": ".tar"}[task]
		if filepath.Ext(rep.Path) != suffix {
			t.Errorf("%s is published as %s", task, rep.Path)
		}
		all, err := store.NewCatalog(g.conn).List(bustest.Context(t), "prod", local)
		if err != nil || len(all) == 0 {
			t.Fatal(all, err)
		}
		g.event(j, job.Pass)
		for _, m := range all {
			if m.Task == task && (m.BinlogFile != "bin.7" || m.BinlogPos != 42 || m.BinlogOf != job.BinlogOwn || m.Tool == "of the log") {
				t.Errorf("%+v", m)
			}
		}
	}
	for task, data := range map[string][]byte{"mysqldump": []byte(textDump[:len(textDump)-40]), "mydumper": folderDump(t)[:600]} {
		if j := g.streamed(g.processing(task), data); !j.Stream.Broken {
			t.Errorf("%s: a part of it is %+v", task, j.Stream)
		}
	}
}

func TestDrydockItselfMaySendOnlyWhereItSaidSo(t *testing.T) {
	t.Parallel()
	elsewhere := job.Server{Host: "192.0.2.7", Port: 3306}
	g := newRig(t, func(c *Config) { c.Clusters["prod"] = Cluster{Servers: []job.Server{elsewhere}} })
	if _, err := bus.Request[bus.OpenReply](bustest.Context(t), g.conn, bus.SubjectReceiverOpen,
		bus.OpenRequest{Key: job.Key{Cluster: "prod", Server: elsewhere, Task: "mysqldump"}, JobID: "x", Attempt: 1, From: []string{"nonsense"}}); err == nil {
		t.Error("an address that is none was taken")
	}
	for _, from := range [][]string{{"127.0.0.1", "10.9.8.7"}, nil, {"10.9.8.7"}} {
		j := g.queuedAt(elsewhere, "mysqldump")
		rep, err := bus.Request[bus.OpenReply](bustest.Context(t), g.conn, bus.SubjectReceiverOpen,
			bus.OpenRequest{Key: j.Key(), JobID: j.ID, Attempt: j.Attempt, From: from})
		if err != nil {
			t.Fatal(err)
		}
		j = g.event(g.offer(j, job.Dispatch{Receiver: rep.Receiver, Address: rep.Address, Port: rep.Port}), job.Start)
		c, err := tryDial(t, "127.0.0.1", j.Dispatch.Port)
		if err == nil {
			_, _ = c.Write([]byte(textDump))
			_ = c.CloseWrite()
			_, err = c.Read(make([]byte, 1)) // the end, or a reset, which may come before connect returns
			_ = c.Close()
		}
		if welcome := len(from) == 2; welcome != errors.Is(err, io.EOF) {
			t.Errorf("from %v: %v", from, err)
		} else if welcome {
			g.when(j, "the stream is whole", complete)
		}
		g.event(j, job.Cancel)
	}
}
