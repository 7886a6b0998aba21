package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestTickStartsOneJobPerTargetServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.give(r.runNow("optimize"))
	r.give(r.runNow("mariabackup"))
	r.give(r.runNow("errorlog", db1))
	got := map[string]bool{}
	for _, j := range r.history() {
		got[j.Task+" "+j.Server.Host] = true
		if j.State != job.Queued || j.Attempt != 1 || j.Mode != job.API || j.Trigger != (job.Trigger{Kind: job.Manual, By: "alice"}) ||
			j.Reason != "asked for by alice" || j.Seen == 0 || j.ID != job.NewID(j.Due, j.Tick, j.Key()) {
			t.Errorf("job is %+v", j)
		}
	}
	want := []string{"optimize 10.0.1.5", "optimize 10.0.1.6", "mariabackup 10.0.1.6", "errorlog 10.0.1.5"}
	if len(got) != len(want) || slices.ContainsFunc(want, func(w string) bool { return !got[w] }) {
		t.Errorf("jobs of %v, want %v", got, want)
	}
}

func TestAJobOfTheWholeClusterHasItsOwnSlot(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	r.give(r.runNow("checksum"))
	all := r.history()
	if len(all) != 1 || all[0].Server != (job.Server{}) || all[0].Mode != job.Local || all[0].State != job.Queued {
		t.Fatalf("%+v", all)
	}
	again := r.runNow("checksum")
	for range 2 { // delivered twice
		r.give(again)
	}
	if got := r.outcomes(); len(got) != 3 || len(r.history()) != 1 {
		t.Errorf("while one is live another tick makes %v, %d jobs", got, len(r.history()))
	}
}

func TestRedeliveredTickStartsNothingTwice(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	r, other := newRig(t, conn, testCluster()), newRig(t, conn, testCluster())
	e := r.runNow("optimize")
	// Killed between the first Create and the second: only one server has its job.
	half := e
	half.Servers = []job.Server{db1}
	r.give(half)
	for range 2 {
		r.give(e)
		other.give(e)
	}
	// Killed before the acknowledgement, and meanwhile the job ended.
	r.apply(r.last(db1, "optimize"), job.Offer, job.Start, job.Error)
	r.give(e)
	if all := r.history(); len(all) != 2 {
		t.Errorf("one tick on two servers has %d jobs", len(all))
	}
	r.want("optimize", job.Halted)
	if got := r.outcomes(); len(got) != 1 {
		t.Errorf("redelivery wrote into the ledger: %v", got)
	}
}

func TestOverlapIsRecordedWithTheReasonAndNeverMadeUpFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	running := r.started("optimize", job.Offer, job.Start)
	second := r.runNow("optimize", db1)
	r.give(second)
	if seen := r.last(db1, "optimize").Seen; seen != second.meta.Seq {
		t.Errorf("the slot has seen %d, want %d", seen, second.meta.Seq)
	}
	r.give(second)

	all := r.entries()
	if len(all) != 3 {
		t.Fatalf("ledger has %v, want two requests and one skip", r.outcomes())
	}
	skipped := all[2]
	if skipped.Outcome != bus.Skipped || !slices.Equal(skipped.Servers, []job.Server{db1}) || !skipped.Due.Equal(second.Due) ||
		!strings.Contains(skipped.Reason, running.ID) || !strings.Contains(skipped.Reason, "still processing since") {
		t.Errorf("skip is %+v", skipped.Tick)
	}
	r.apply(running, job.Done, job.Pass)
	r.give(second)
	if n := len(r.history()); n != 1 {
		t.Errorf("the skipped tick started a job after all: %d jobs", n)
	}
}

// Killed after the entry that records the skip, before the slot was told; when the tick comes again the slot is free.
func TestTickIsNotBothSkippedAndStarted(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	running := r.started("optimize", job.Offer, job.Start)
	second := r.runNow("optimize")
	_, _, _, err := r.ledger.Update(r.ctx, "prod", "optimize", func(bus.Tick) (bus.Tick, bool) {
		return bus.Tick{Outcome: bus.Skipped, ID: bus.SkipID(second.ID, db1), Servers: []job.Server{db1}, Due: second.Due}, true
	})
	if err != nil {
		t.Fatal(err)
	}
	r.apply(running, job.Done, job.Pass)
	r.give(second)
	if j := r.last(db1, "optimize"); j.ID != running.ID || j.Seen != second.meta.Seq {
		t.Errorf("the slot holds %s and has seen %d, want %s and %d", j.ID, j.Seen, running.ID, second.meta.Seq)
	}
	if j := r.last(db2, "optimize"); j.State != job.Queued {
		t.Errorf("the other server's job is %s", j.State)
	}
	if got := r.outcomes(); len(got) != 3 {
		t.Errorf("ledger has %v", got)
	}
}

func TestTickForWhatIsNotConfiguredIsSkippedNotRetriedForEver(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	stranger := job.Server{Host: "stranger", Port: 3306}
	for _, c := range []struct {
		cluster, task string
		servers       []job.Server
		reason        string
		jobs          int
	}{
		{"dev", "optimize", nil, `no cluster "dev"`, 0},
		{"prod", "vacuum", nil, `no task "vacuum"`, 0},
		{"prod", "mysqldump", nil, "was not asked yet", 0},
		{"prod", "optimize", []job.Server{db1, stranger}, "no server stranger:3306", 1},
	} {
		if _, err := r.ledger.RunNow(r.ctx, c.cluster, c.task, c.servers, "alice"); err != nil {
			t.Fatal(err)
		}
		all := r.entries()
		e := all[len(all)-1]
		e.Time = r.now()
		if err := r.fanout(r.ctx, e.meta, e.Tick); err == nil {
			t.Errorf("%s/%s: not left to another scheduler, which may know it", c.cluster, c.task)
		}
		for range 2 { // nobody knew it
			e.Time = r.now().Add(-2 * fanoutPatience)
			if err := r.fanout(r.ctx, e.meta, e.Tick); err != nil {
				t.Fatal(err)
			}
		}
		after := r.entries()
		if len(after) != len(all)+1 {
			t.Errorf("%s/%s: %d entries were added, want one", c.cluster, c.task, len(after)-len(all))
			continue
		}
		if skipped := after[len(all)]; skipped.Outcome != bus.Skipped || !strings.Contains(skipped.Reason, c.reason) {
			t.Errorf("%s/%s: %+v", c.cluster, c.task, skipped.Tick)
		}
		if n := len(r.history()); n != c.jobs {
			t.Errorf("%s/%s: %d jobs, want %d", c.cluster, c.task, n, c.jobs)
		}
	}
}

// The bus may lose what it knows of a consumer; then the whole ledger comes again.
func TestLedgerOfLastYearStartsNothingOnANewServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	old := r.runNow("optimize", db1)
	r.give(old)
	r.apply(r.last(db1, "optimize"), job.Offer, job.Done, job.Pass)
	r.advance(2 * time.Hour)
	old.Servers = nil // db2 was added meanwhile
	for range 2 {
		if err := r.fanout(r.ctx, old.meta, old.Tick); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.history()); n != 1 {
		t.Errorf("a tick of two hours ago started %d jobs", n-1)
	}
	all := r.entries()
	if len(all) != 2 || all[1].Outcome != bus.Skipped || !slices.Equal(all[1].Servers, []job.Server{db2}) ||
		!strings.Contains(all[1].Reason, "scheduler-max-lateness = 1h") {
		t.Errorf("ledger has %+v", all)
	}
}

// errKilled stands for a process that died before it acknowledged.
var errKilled = errors.New("killed")

func TestTickComesAgainFromTheBusWhenItsSchedulerDied(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	e := r.runNow("optimize")
	deliveries := make(chan uint64, 10) // two are expected
	r.background(func(ctx context.Context) error {
		return bus.Work(ctx, r.conn, bus.StreamTasks, bus.DurableFanout, bus.AllTasks, func(ctx context.Context, m bus.Meta, tick bus.Tick) error {
			err := r.fanout(ctx, m, tick)
			deliveries <- m.Delivered
			if m.Delivered == 1 {
				return errKilled // after the jobs were made
			}
			return err
		})
	})
	for want := uint64(1); want <= 2; want++ {
		select {
		case got := <-deliveries:
			if got != want {
				t.Errorf("delivery %d, want %d", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the tick did not come again")
		}
	}
	if n := len(r.history()); n != 2 {
		t.Errorf("tick %s has %d jobs, want one per server", e.ID, n)
	}
}

// It runs beside no other test of the package: those would be what it measures.
func TestTickOfAThousandServersFitsTheBusesPatience(t *testing.T) {
	c := testCluster()
	c.Servers, c.BackupServers = nil, nil
	for i := range 1000 {
		c.Servers = append(c.Servers, job.Server{Host: fmt.Sprintf("db%d", i), Port: 3306})
	}
	r := newRig(t, bustest.Start(t), c)
	e := r.runNow("optimize")
	began := time.Now()
	r.give(e)
	if n := len(r.view.Select(func(j job.Job) bool { return j.State == job.Queued && j.Tick == e.ID })); n != 1000 {
		t.Errorf("%d jobs", n)
	}
	if took := time.Since(began); took > fanoutTimeout/2 {
		t.Errorf("took %v", took)
	}
	if _, err := r.jobs.List(r.ctx, store.Filter{}); err != nil {
		t.Error(err)
	}
}

// To start the jobs of thousands of servers takes minutes. Who holds the cluster meanwhile must not see more of them begin, and each server
// must have an answer: a job, or why not.
func TestAHoldStopsATickThatIsBeingStarted(t *testing.T) {
	t.Parallel()
	const left = 20
	c := testCluster()
	c.Servers, c.BackupServers, c.WholeBackups = nil, nil, []string{"mariabackup"}
	for i := range fanoutWidth + left {
		c.Servers = append(c.Servers, job.Server{Host: fmt.Sprintf("db%d", i), Port: 3306})
	}
	r := newRig(t, bustest.Start(t), c)
	var once sync.Once
	held := make(chan struct{}) // closed when the cluster is on hold
	r.lister = func(context.Context, string, job.Server, bool) ([]job.Listed, error) {
		once.Do(func() {
			r.hold("prod", "a fire")
			r.advance(2 * closuresFor)
			close(held)
		})
		<-held
		return nil, nil
	}
	e := r.runNow("mariabackup")
	r.give(e)
	started := r.view.Select(func(j job.Job) bool { return j.Tick == e.ID })
	skipped := map[job.Server]bool{}
	for _, x := range r.entries() {
		if x.Outcome == bus.Skipped && x.Gate == job.GateHold && len(x.Servers) == 1 {
			skipped[x.Servers[0]] = true
		}
	}
	// Those that are being started when the hold comes are at most as many as are started at a time.
	if len(started) == 0 || len(started) > fanoutWidth || len(started)+len(skipped) != len(c.Servers) {
		t.Errorf("%d jobs and %d servers with a reason, of %d", len(started), len(skipped), len(c.Servers))
	}
	for _, j := range started {
		if skipped[j.Server] {
			t.Errorf("%s is both started and skipped", j.Server)
		}
	}
}

// A try that failed brings the tick back after the next one has run. The ledger says fired, so somebody must say why not.
func TestOvertakenTickIsRecordedAsSkipped(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster())
	first, second := r.runNow("optimize", db1), r.runNow("optimize", db1)
	r.give(second)
	r.apply(r.last(db1, "optimize"), job.Offer, job.Done, job.Pass)
	r.give(first)
	r.give(first)
	all := r.entries()
	last := all[len(all)-1]
	if len(all) != 3 || last.Outcome != bus.Skipped || !strings.Contains(last.Reason, "later tick") {
		t.Errorf("%d entries, the last one %+v", len(all), last.Tick)
	}
	r.give(second)
	if got := r.entries(); len(got) != 3 {
		t.Errorf("the tick that ran is recorded as skipped: %+v", got[3].Tick)
	}
}

func TestWhatDrydockDoesItselfIsNotSentToTheScript(t *testing.T) {
	t.Parallel()
	c := testCluster()
	c.ExecRemote = []string{"mysqldump"}
	r := newRig(t, bustest.Start(t), c)
	for task, want := range map[string]job.Mode{"optimize": job.Local, "analyze": job.Local, "errorlog": job.API} {
		r.give(r.runNow(task, db1))
		if j := r.last(db1, task); j.Mode != want {
			t.Errorf("%s has mode %s, want %s", task, j.Mode, want)
		}
	}
}

func TestWorkOnTheWholeClusterIsOneJobOfNoServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Start(t), testCluster(hourly("archiveprune")))
	e := r.runNow("archiveprune")
	for range 2 {
		r.give(e)
	}
	j := r.last(job.Server{}, "archiveprune")
	if all := r.history(); len(all) != 1 || j.State != job.Queued || j.Mode != job.ByReceiver || j.Mode.Script() {
		t.Errorf("%d jobs; the job is %+v", len(all), j)
	}
	r.sweepAfter(30 * time.Minute)
	if j = r.last(job.Server{}, "archiveprune"); j.State != job.Queued {
		t.Errorf("the job is %s (%s): its server is nobody's", j.State, j.Reason)
	}
	c := testCluster()
	if c.has("archiveprune", db1) || c.has("optimize", job.Server{}) { // one server is not the whole cluster
		t.Error("a task is started where it has no place")
	}
	r.give(r.runNow("archive", db1))
	if j = r.last(db1, "archive"); j.Mode != job.ByReceiver {
		t.Errorf("an archive has the mode %s", j.Mode)
	}
}
