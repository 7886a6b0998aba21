package receiver

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"lukechampine.com/blake3"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

func TestManifestDescribesWhatARealToolUnpacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ compress, suffix, tool string }{{"none", "", "cat"}, {"gzip", ".gz", "gzip"}, {"zstd", ".zst", "zstd"}} {
		g := newRig(t, func(cfg *Config) {
			cfg.Clusters = map[string]Cluster{"prod": {Servers: []job.Server{local}, Compress: c.compress}}
		})
		data := append(bytes.Repeat([]byte("compressible "), 100_000), randomBytes(100_000)...)
		j := g.streamed(g.processing("mariabackup"), data)
		j = g.apply(j, store.Change{Event: job.Done, Edit: func(j *job.Job) {
			j.Evidence = job.Evidence{Completed: true, Tool: "mariadb-backup 10.11.6", BinlogFile: "bin.000004", BinlogPos: 42, GTID: "0-1-7"}
		}})
		rep := g.published(j)
		if !strings.HasSuffix(rep.Path, ".xbstream"+c.suffix) {
			t.Errorf("%s: published as %s", c.compress, rep.Path)
		}
		var m store.Manifest
		if err := json.Unmarshal(mustRead(t, rep.Path+".manifest.json"), &m); err != nil {
			t.Fatal(err)
		}
		args := []string{"-dc", rep.Path}
		if c.tool == "cat" {
			args = args[1:]
		}
		plain, err := exec.CommandContext(bustest.Context(t), c.tool, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", c.tool, err)
		}
		stored := mustRead(t, rep.Path)
		if m.Hash != blake3Of(plain) || m.StoredHash != blake3Of(stored) || m.Size != int64(len(plain)) || m.Stored != int64(len(stored)) {
			t.Errorf("%s: the manifest says %+v", c.compress, m)
		}
		if !bytes.Equal(plain, data) {
			t.Errorf("%s: the content differs", c.compress)
		}
		if m.ID != j.ID || m.Compress != c.compress || m.BinlogFile != "bin.000004" || m.GTID != "0-1-7" || m.Started.IsZero() || len(m.Checks) != 1 {
			t.Errorf("%s: the manifest says %+v", c.compress, m)
		}
		info, err := os.Stat(rep.Path + ".manifest.json")
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("manifest has mode %v, %v", info.Mode(), err)
		}
		list, err := store.NewCatalog(g.conn).List(bustest.Context(t), "prod", local)
		if err != nil || len(list) != 1 || list[0].Hash != m.Hash {
			t.Errorf("catalogue: %+v, %v", list, err)
		}
		g.stop()
	}
}

// A backup must be readable by its key's owner without drydock, also when the keys in force have changed since it came.
func TestEncryptedBackupIsReadByTheRealTool(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newRig(t, func(cfg *Config) {
		cfg.Clusters = map[string]Cluster{"prod": {Servers: []job.Server{local}, Compress: "zstd", Recipients: []age.Recipient{id.Recipient()}}}
	})
	data := append(bytes.Repeat([]byte("secret "), 100_000), randomBytes(100_000)...)
	j := g.event(g.streamed(g.processing("mariabackup"), data), job.Done)
	g.stop()
	g.start(func(cfg *Config) { cfg.Clusters = map[string]Cluster{"prod": {Servers: []job.Server{local}}} })
	rep := g.published(j)
	if !strings.HasSuffix(rep.Path, ".xbstream.zst.age") {
		t.Errorf("published as %s", rep.Path)
	}
	var m store.Manifest
	if err := json.Unmarshal(mustRead(t, rep.Path+".manifest.json"), &m); err != nil || !m.Encrypted || m.Compress != "zstd" || m.Hash != blake3Of(data) || m.StoredHash != blake3Of(mustRead(t, rep.Path)) {
		t.Errorf("the manifest says %+v, %v", m, err)
	}
	plain, err := exec.CommandContext(bustest.Context(t), "sh", "-c", `age -d -i "$1" "$2" | zstd -dc`, "sh", keyFile, rep.Path).Output()
	if err != nil || !bytes.Equal(plain, data) {
		t.Errorf("%d bytes came back of %d, %v", len(plain), len(data), err)
	}
}

func blake3Of(b []byte) string {
	sum := blake3.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestCommitCanBeRepeatedAfterACrashAtAnyStep(t *testing.T) {
	t.Parallel()
	steps := map[string]func(*testing.T, *rig, job.Job, sink.Spec){
		"nothing done": func(*testing.T, *rig, job.Job, sink.Spec) {},
		"renamed": func(t *testing.T, _ *rig, _ job.Job, spec sink.Spec) {
			if _, err := sink.Publish(spec); err != nil {
				t.Fatal(err)
			}
		},
		"manifest half written": func(t *testing.T, _ *rig, _ job.Job, spec sink.Spec) {
			if _, err := sink.Publish(spec); err != nil {
				t.Fatal(err)
			}
			writeFile(t, spec.Dir+"/."+spec.Name+".zst.manifest.json.tmp", []byte(`{"type":`))
		},
		"all but the catalogue": func(t *testing.T, g *rig, j job.Job, spec sink.Spec) {
			g.published(j)
			kv, err := g.conn.Bucket(bustest.Context(t), bus.BucketCatalog)
			if err != nil {
				t.Fatal(err)
			}
			if err := kv.Purge(bustest.Context(t), bus.CatalogKey("prod", local.Host, local.Port, j.ID)); err != nil {
				t.Fatal(err)
			}
		},
		"everything": func(_ *testing.T, g *rig, j job.Job, _ sink.Spec) { g.published(j) },
	}
	for name, crash := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t, func(cfg *Config) {
				cfg.Clusters = map[string]Cluster{"prod": {Servers: []job.Server{local}, Compress: "zstd"}}
			})
			data := bytes.Repeat([]byte("backup"), 10_000)
			j := g.event(g.streamed(g.processing("mariabackup"), data), job.Done)
			spec, _, err := g.pool.cfg.place(j.Key(), j.ID, 1)
			if err != nil {
				t.Fatal(err)
			}
			crash(t, g, j, spec)
			g.stop()
			// compress-backups changes with the restart: what is stored already keeps its name.
			g.start(nil)
			rep := g.published(j)
			if rep.Path != spec.Final() || rep.Backup != j.ID {
				t.Errorf("published as %+v, want %s", rep, spec.Final())
			}
			var m store.Manifest
			if err := json.Unmarshal(mustRead(t, rep.Path+".manifest.json"), &m); err != nil || m.Compress != "zstd" {
				t.Errorf("manifest %+v, %v", m, err)
			}
			list, err := store.NewCatalog(g.conn).List(bustest.Context(t), "prod", local)
			if err != nil || len(list) != 1 {
				t.Errorf("catalogue: %+v, %v", list, err)
			}
			if len(g.temps(job.KindBackup)) != 0 {
				t.Errorf("left behind: %v", g.files(job.KindBackup))
			}
		})
	}
}

func TestLogsAreAppendedOnceEach(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(cfg *Config) {
		cfg.Clusters = map[string]Cluster{"prod": {Servers: []job.Server{local}, Compress: "zstd"}}
	})
	j := g.event(g.streamed(g.processing("errorlog"), []byte("line 1\n")), job.Done)
	rep := g.published(j)
	g.published(j) // the answer was lost
	g.event(j, job.Pass)
	g.succeed(g.streamed(g.processing("errorlog"), []byte("line 2\n")))
	if want := g.dir + "/prod/127.0.0.1_3306/log_error.log"; rep.Path != want || rep.Backup != "" {
		t.Errorf("published as %+v, want %s", rep, want)
	}
	if got := string(mustRead(t, rep.Path)); got != "line 1\nline 2\n" {
		t.Errorf("log is %q", got)
	}
}

func TestWhatIsNotWhatWasReceivedIsNotPublished(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*testing.T, string)
		code  string
	}{
		"shortened": {func(t *testing.T, path string) {
			if err := os.Truncate(path, 3); err != nil {
				t.Fatal(err)
			}
		}, bus.CodeRefused},
		"removed": {func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, bus.CodeGone},
	} {
		for _, task := range []string{"mariabackup", "slowquery"} {
			g := newRig(t, nil)
			j := g.event(g.streamed(g.processing(task), []byte("precious")), job.Done)
			spec, _, err := g.pool.cfg.place(j.Key(), j.ID, 1)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, spec.Temp())
			var se *bus.ServiceError
			if _, err := g.commit(j); !errors.As(err, &se) || se.Code != c.code {
				t.Errorf("%s, %s: %v, want %s", name, task, err, c.code)
			}
			// A manifest that stands alone would bring a backup into a rebuilt catalogue that does not exist.
			entries, err := os.ReadDir(spec.Dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if strings.Contains(e.Name(), "manifest") {
					t.Errorf("%s, %s: %s is left", name, task, e.Name())
				}
			}
			g.stop()
		}
	}
}

func TestPublishedFileThatShrankIsNotConfirmed(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.event(g.streamed(g.processing("mariabackup"), []byte("precious")), job.Done)
	if err := os.Truncate(g.published(j).Path, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := g.commit(j); err == nil {
		t.Error("the repetition vouched for a file that is not the stream")
	}
}

func TestRetryIsPublishedBesideWhatTheAttemptBeforeLeft(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.event(g.streamed(g.processing("mariabackup"), []byte("first")), job.Done)
	first := g.published(j).Path
	j = g.event(j, job.Cut, job.Retry) // the success could not be recorded
	j = g.event(g.streamed(g.event(g.offered(j), job.Start), []byte("second")), job.Done)
	if second := g.published(j).Path; string(mustRead(t, second)) != "second" || string(mustRead(t, first)) != "first" {
		t.Errorf("%s and %s", first, second)
	}
}

func TestCanceledJobIsNotPublishedByALateCommit(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	j := g.event(g.streamed(g.processing("mariabackup"), []byte("x")), job.Done)
	g.event(j, job.Cancel)
	var se *bus.ServiceError
	if _, err := g.commit(j); !errors.As(err, &se) || se.Code != bus.CodeRefused {
		t.Errorf("commit of a canceled job: %v", err)
	}
	g.noTemp(job.KindBackup)
}

func TestStartOfAnEarlierAttemptIsNotThisOnes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC)
	j := job.Job{State: job.Queued}
	for i, e := range []job.Event{job.Offer, job.Start, job.Cut, job.Retry, job.Offer, job.Start, job.Done} {
		var err error
		if j, _, err = j.Advance(e, "", "", at.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if got := j.Started(); !got.Equal(at.Add(5 * time.Hour)) {
		t.Errorf("began at %s", got)
	}
}
