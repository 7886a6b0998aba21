package scheduler

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// receiverStub answers commit requests as a receiver does.
func receiverStub(t *testing.T, r *rig, answer func(bus.CommitRequest, micro.Request)) {
	t.Helper()
	svc, err := micro.AddService(r.conn.NC, micro.Config{Name: "receiver-stub", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := svc.Stop(); err != nil {
			t.Error(err)
		}
	})
	err = svc.AddEndpoint("commit", micro.HandlerFunc(func(m micro.Request) {
		var req bus.CommitRequest
		if err := json.Unmarshal(m.Data(), &req); err != nil {
			t.Error(err)
		}
		answer(req, m)
	}), micro.WithEndpointSubject(bus.ReceiverSubject("r1", bus.VerbCommit)))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.conn.NC.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// finishedBackup is a backup whose worker said done, with every proof.
func finishedBackup(r *rig) job.Job {
	j := r.started("mariabackup", job.Offer, job.Start)
	r.edit(j, func(j *job.Job) {
		j.Dispatch = job.Dispatch{Receiver: "r1", Address: "127.0.0.1", Port: 4000}
		j.Stream = &job.Stream{Opened: time.Now().UTC(), Closed: time.Now().UTC(), Complete: true, Bytes: 10, Algo: "blake3", Hash: "aa"}
		j.Evidence.Completed = true
	})
	return r.apply(j, job.Done)
}

func (r *rig) closeAfter(d time.Duration, task string) {
	r.t.Helper()
	if err := r.close(r.ctx, job.Key{Cluster: "prod", Server: db1, Task: task}, r.advance(d)); err != nil {
		r.t.Fatal(err)
	}
}

func TestProvenBackupIsPublishedBeforeItIsSuccess(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	receiverStub(t, r, func(req bus.CommitRequest, m micro.Request) {
		if j := r.last(db1, "mariabackup"); j.State != job.Finished || j.ID != req.Job.ID {
			t.Errorf("asked to publish %s while the job is %s", req.Job.ID, j.State)
		}
		if req.Job.Stream == nil || req.Job.Stream.Hash != "aa" || len(req.Checks) == 0 {
			t.Errorf("request is %+v", req)
		}
		if err := m.RespondJSON(bus.CommitReply{Path: "/data/b.xbstream", Backup: req.Job.ID}); err != nil {
			t.Error(err)
		}
	})
	j := finishedBackup(r)
	r.closeAfter(0, "mariabackup")
	if done := r.want("mariabackup", job.Success); done.Stream.Path != "/data/b.xbstream" || done.Backup != j.ID || done.Stream.Bytes != 10 {
		t.Errorf("recorded %+v, backup %q", done.Stream, done.Backup)
	}
}

// A cancel between the file's name and the record of it would leave a backup that belongs to a canceled job.
func TestACancelDuringThePublishingComesTooLate(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	receiverStub(t, r, func(req bus.CommitRequest, m micro.Request) {
		if _, err := r.jobs.Apply(r.ctx, store.RefOf(req.Job), store.Change{Event: job.Cancel}); !errors.Is(err, job.ErrTransition) {
			t.Errorf("the cancel gives %v", err)
		}
		if err := m.RespondJSON(bus.CommitReply{Path: "/data/b.xbstream", Backup: req.Job.ID}); err != nil {
			t.Error(err)
		}
	})
	finishedBackup(r)
	r.closeAfter(0, "mariabackup")
	r.want("mariabackup", job.Success)
}

func TestBackupWithoutProofIsNeverPublished(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	var asked atomic.Int32
	receiverStub(t, r, func(_ bus.CommitRequest, m micro.Request) {
		asked.Add(1)
		if err := m.RespondJSON(bus.CommitReply{Path: "/data/b.xbstream"}); err != nil {
			t.Error(err)
		}
	})
	j := finishedBackup(r)
	r.edit(j, func(j *job.Job) { j.Evidence.Completed = false })
	r.closeAfter(time.Minute, "mariabackup")
	r.want("mariabackup", job.Finished)
	r.closeAfter(time.Second, "mariabackup")
	if j := r.want("mariabackup", job.Failed); !strings.Contains(j.Reason, "completed OK!") {
		t.Errorf("failed because %q", j.Reason)
	}
	if asked.Load() > 0 {
		t.Error("the receiver was asked to publish it")
	}
}

func TestEndLineThatComesAfterDoneStillCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	receiverStub(t, r, func(_ bus.CommitRequest, m micro.Request) {
		if err := m.RespondJSON(bus.CommitReply{Path: "/data/b.xbstream"}); err != nil {
			t.Error(err)
		}
	})
	j := finishedBackup(r)
	j = r.edit(j, func(j *job.Job) { j.Evidence.Completed = false })
	r.closeAfter(30*time.Second, "mariabackup")
	r.want("mariabackup", job.Finished)
	r.edit(j, func(j *job.Job) { j.Evidence.Completed = true })
	r.closeAfter(0, "mariabackup")
	r.want("mariabackup", job.Success)
}

func TestExitStatusThatIsNotZeroRefutesDone(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	j := r.started("optimize", job.Offer, job.Done)
	r.edit(j, func(j *job.Job) { j.Evidence.Exit = []int{0, 3} })
	r.closeAfter(0, "optimize")
	if j := r.want("optimize", job.Failed); !strings.Contains(j.Reason, "[0 3]") {
		t.Errorf("failed because %q", j.Reason)
	}
}

func TestReceiverThatCannotPublish(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code   string
		at     job.State // at once
		later  job.State // after ten times the check timeout
		reason string
	}{
		"gone":       {bus.CodeGone, job.Failed, job.Failed, "receiver r1 no longer has the stream"},
		"refused":    {bus.CodeRefused, job.Failed, job.Failed, "refused to publish"},
		"disk full":  {"500", job.Finished, job.Failed, "could not publish the stream: no space left"},
		"not there":  {"", job.Finished, job.Failed, "does not run"},
		"comes back": {"late", job.Finished, job.Success, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, bustest.Start(t), testCluster())
			if c.code != "" && c.code != "late" {
				receiverStub(t, r, func(_ bus.CommitRequest, m micro.Request) {
					if err := m.Error(c.code, "no space left on device", nil); err != nil {
						t.Error(err)
					}
				})
			}
			finishedBackup(r)
			r.closeAfter(0, "mariabackup")
			r.want("mariabackup", c.at)
			r.closeAfter(9*time.Minute, "mariabackup")
			r.want("mariabackup", c.at)
			if c.code == "late" {
				receiverStub(t, r, func(_ bus.CommitRequest, m micro.Request) {
					if err := m.RespondJSON(bus.CommitReply{Path: "/data/b.xbstream"}); err != nil {
						t.Error(err)
					}
				})
			}
			r.closeAfter(2*time.Minute, "mariabackup")
			if j := r.want("mariabackup", c.later); !strings.Contains(j.Reason, c.reason) {
				t.Errorf("because %q, want %q", j.Reason, c.reason)
			}
		})
	}
}

func TestRestartLeavesTimeForWhatIsMissing(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	first := newRig(t, conn, testCluster())
	j := finishedBackup(first)
	first.edit(j, func(j *job.Job) { j.Evidence.Completed = false })
	r := newRigAt(t, conn, first.clock().Add(5*time.Hour), testCluster())
	r.closeAfter(59*time.Second, "mariabackup")
	r.want("mariabackup", job.Finished)
	r.closeAfter(2*time.Second, "mariabackup")
	r.want("mariabackup", job.Failed)
}

// What ends must not wait for somebody's next look. A tenth of a second is what the way from done to success may take, or, on a
// machine that is busy with other things, as long as the changes before it took, which are more and as large.
func TestDoneIsSuccessWithinATenthOfASecond(t *testing.T) {
	r := newLiveRig(t, bustest.Start(t), "scheduler@test", testCluster())
	receiverStub(t, r, func(req bus.CommitRequest, m micro.Request) {
		if err := m.RespondJSON(bus.CommitReply{Path: "/data/b.xbstream", Backup: req.Job.ID}); err != nil {
			t.Error(err)
		}
	})
	r.background(r.Run)
	const tries = 10
	for try := 1; ; try++ {
		succeeded := make(chan time.Time, 1)
		sub, err := r.conn.NC.Subscribe(bus.JobSubject("prod", db1.Host, db1.Port, "mariabackup"), func(m *nats.Msg) {
			var ev bus.JobEvent
			if err := json.Unmarshal(m.Data, &ev); err == nil && ev.State == job.Success {
				succeeded <- time.Now()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		done := finishedBackup(r)
		var took time.Duration
		select {
		case at := <-succeeded:
			took = at.Sub(done.Since)
		case <-time.After(time.Minute):
			t.Fatalf("job is %s", r.last(db1, "mariabackup").State)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		before := done.Since.Sub(began)
		t.Logf("done to success: %v, all before: %v", took, before)
		if took <= max(100*time.Millisecond, before) {
			return
		}
		if try == tries {
			t.Fatalf("in none of %d tries it was quick", tries)
		}
	}
}

func TestJobIsClosedInOneHandAtATime(t *testing.T) {
	t.Parallel()
	r := newLiveRig(t, bustest.Start(t), "scheduler@test", testCluster())
	var inside, most, asked atomic.Int32
	release := make(chan struct{})
	receiverStub(t, r, func(req bus.CommitRequest, m micro.Request) {
		most.Store(max(most.Load(), inside.Add(1)))
		asked.Add(1)
		go func() {
			<-release
			inside.Add(-1)
			if err := m.RespondJSON(bus.CommitReply{Path: "/data/b.xbstream"}); err != nil {
				t.Error(err)
			}
		}()
	})
	stop := r.background(r.Run)
	j := finishedBackup(r)
	bustest.Until(t, 10*time.Second, "the request to publish", func() bool { return asked.Load() > 0 })
	for range 5 { // each change wakes the closer
		r.edit(j, func(j *job.Job) { j.Evidence.Result += "." })
	}
	bustest.Until(t, 10*time.Second, "a waiting kick", func() bool {
		r.closing.mu.Lock()
		defer r.closing.mu.Unlock()
		return r.closing.busy[j.Key()]
	})
	close(release)
	bustest.Until(t, 10*time.Second, "success", func() bool { return r.last(db1, "mariabackup").State == job.Success })
	stop()
	if most.Load() != 1 {
		t.Errorf("%d requests at a time", most.Load())
	}
}

func TestSchedulerStopsAndStartsAgain(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	for range 10 {
		r := newLiveRig(t, conn, "scheduler@test", testCluster(Schedule{Task: "optimize", Spec: "* * * * * *", Enabled: true}))
		stop := r.background(r.Run)
		if r.started("errorlog").ID == "" {
			t.Fatal("no job")
		}
		stop()
		r.apply(r.last(db1, "errorlog"), job.Cancel)
	}
}

// The worst bug of this field: a backup that says success and holds a part of the data.
func TestABackupMuchSmallerThanTheLastGoodOnesFails(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.BackupMinRatio = 0.5
	r := newRig(t, bustest.Start(t), c)
	published := make(chan []job.Check, 2)
	receiverStub(t, r, func(req bus.CommitRequest, m micro.Request) {
		published <- req.Checks
		if err := m.RespondJSON(bus.CommitReply{Path: "/data/b.xbstream", Backup: req.Job.ID}); err != nil {
			t.Error(err)
		}
	})
	catalog := store.NewCatalog(r.conn)
	put := func(id, task string, size int64) {
		t.Helper()
		if err := catalog.Put(r.ctx, store.Manifest{ID: id, Cluster: "prod", Server: db1, Task: task, Size: size}); err != nil {
			t.Fatal(err)
		}
	}
	put("01", "mariabackup", 21)
	put("02", "mariabackup", 1000) // an outlier
	put("03", "mariabackup", 22)
	put("04", "mysqldump", 1<<40)
	finishedBackup(r) // of 10 bytes
	r.closeAfter(0, "mariabackup")
	if j := r.want("mariabackup", job.Failed); !j.TooSmall() || !strings.Contains(j.Reason, "median of the last good ones, 22") {
		t.Errorf("failed: %s", j.Reason)
	}
	if len(published) != 0 {
		t.Error("it was published")
	}
	put("00", "mariabackup", 1) // the median is 21 now
	put("05", "mariabackup", 20)
	put("06", "mariabackup", 20)
	finishedBackup(r)
	r.closeAfter(0, "mariabackup")
	r.want("mariabackup", job.Success)
	if checks := <-published; !slices.ContainsFunc(checks, func(c job.Check) bool { return c.Name == "size bounds" && c.Held }) {
		t.Errorf("the manifest would not say it: %+v", checks)
	}
}
