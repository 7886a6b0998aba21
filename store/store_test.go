package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var slot = job.Key{Cluster: "prod", Server: job.Server{Host: "10.0.1.5", Port: 3306}, Task: "optimize"}

func due(n int) time.Time { return time.Date(2026, 11, 22, 3, n, 0, 0, time.UTC) }

// newJob is the job of tick number n.
func newJob(n int) job.Job {
	return job.Job{
		State: job.Queued, ID: job.NewID(due(n), "t", slot), Cluster: slot.Cluster, Server: slot.Server, Task: slot.Task,
		Due: due(n), Seen: uint64(n), Mode: job.SQL,
	}
}

func create(t *testing.T, s *store.Jobs, n int) job.Job {
	t.Helper()
	j, err := s.Create(bustest.Context(t), newJob(n), "due")
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func apply(t *testing.T, s *store.Jobs, j job.Job, events ...job.Event) job.Job {
	t.Helper()
	for _, e := range events {
		next, err := s.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: e, Reason: "test"})
		if err != nil {
			t.Fatalf("%s: %v", e, err)
		}
		j = next
	}
	return j
}

func TestASlotNeverHoldsTwoLiveJobs(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	ctx := bustest.Context(t)
	var made, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := store.NewJobs(c, "a", nil).Create(ctx, newJob(i+1), "due")
			switch {
			case err == nil:
				made.Add(1)
			case errors.Is(err, store.ErrLive), errors.Is(err, store.ErrSeen), errors.Is(err, store.ErrBusy):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d jobs were made, %d refused", made.Load(), refused.Load())
	}
}

func TestATickDeliveredAgainStartsNothing(t *testing.T) {
	t.Parallel()
	s := store.NewJobs(bustest.Start(t), "a", nil)
	j := apply(t, s, create(t, s, 1), job.Offer, job.Start, job.Done, job.Pass)
	if _, err := s.Create(bustest.Context(t), newJob(1), "due"); !errors.Is(err, store.ErrSeen) {
		t.Errorf("the tick started a second job: %v", err)
	}
	if err := s.Seen(bustest.Context(t), slot, 7); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(bustest.Context(t), newJob(7), "due"); !errors.Is(err, store.ErrSeen) {
		t.Errorf("a tick that was skipped started a job when it came again: %v", err)
	}
	if again, _ := s.Create(bustest.Context(t), newJob(8), "due"); again.ID == j.ID || again.Seen != 8 {
		t.Errorf("the next tick did not start: %+v", again)
	}
}

func TestWhatArrivesLateFromAnEndedJobChangesNothing(t *testing.T) {
	t.Parallel()
	s := store.NewJobs(bustest.Start(t), "a", nil)
	ctx := bustest.Context(t)
	old := apply(t, s, create(t, s, 1), job.Offer, job.Start, job.Cut)
	if _, err := s.Apply(ctx, store.RefOf(old), store.Change{Event: job.Done}); !errors.Is(err, job.ErrTransition) {
		t.Errorf("done after halted: %v", err)
	}
	create(t, s, 2)
	if _, err := s.Apply(ctx, store.RefOf(old), store.Change{Event: job.Done}); !errors.Is(err, store.ErrStale) {
		t.Errorf("done for the job before: %v", err)
	}
	if now, _, _ := s.Last(ctx, slot); now.State != job.Queued {
		t.Errorf("the new job became %s by the old one's report", now.State)
	}
}

func TestALateReportOfAnEarlierAttemptChangesNothing(t *testing.T) {
	t.Parallel()
	s := store.NewJobs(bustest.Start(t), "a", nil)
	first := apply(t, s, create(t, s, 1), job.Offer, job.Start, job.Cut)
	second := apply(t, s, first, job.Retry)
	apply(t, s, second, job.Offer, job.Start)
	if _, err := s.Apply(bustest.Context(t), store.RefOf(first), store.Change{Event: job.Done}); !errors.Is(err, store.ErrStale) {
		t.Errorf("attempt 1 finished attempt 2: %v", err)
	}
}

func TestRepeatedReportsWriteNothing(t *testing.T) {
	t.Parallel()
	s := store.NewJobs(bustest.Start(t), "a", nil)
	j := apply(t, s, create(t, s, 1), job.Offer, job.Start)
	_, before, _ := s.Last(bustest.Context(t), slot)
	apply(t, s, j, job.Start, job.Note)
	if _, after, _ := s.Last(bustest.Context(t), slot); after != before {
		t.Errorf("the log grew from %d to %d for nothing", before, after)
	}
}

func TestConcurrentFactsAreAllKept(t *testing.T) {
	t.Parallel()
	s := store.NewJobs(bustest.Start(t), "a", nil)
	j := apply(t, s, create(t, s, 1), job.Offer, job.Start)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := s.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Note, Edit: func(j *job.Job) {
				j.Evidence.Errors = append(j.Evidence.Errors, "x")
			}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if now, _, _ := s.Last(bustest.Context(t), slot); len(now.Evidence.Errors) != 4 {
		t.Errorf("%d of 4 facts survived", len(now.Evidence.Errors))
	}
}

// running starts v and ends it with the test.
func running(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestViewKnowsItsOwnChangesAtOnceAndOthersSoon(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	mine := store.NewView(c)
	running(t, mine.Run)
	<-mine.Ready()
	s := store.NewJobs(c, "a", mine)
	j := create(t, s, 1)
	if got, ok := mine.Get(slot); !ok || got.ID != j.ID {
		t.Error("the view does not show what this process just wrote")
	}
	apply(t, store.NewJobs(c, "b", nil), j, job.Offer)
	bustest.Until(t, 5*time.Second, "the other's change shows", func() bool {
		got, _ := mine.Get(slot)
		return got.State == job.Available
	})
}

// A change is made on what the view shows, without asking the log. While the view is behind, it must neither be refused for what is past
// nor be lost.
func TestAChangeOnAViewThatIsBehindIsMadeOnTheLog(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	old := store.NewView(c)
	reading, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- old.Run(reading) }()
	<-old.Ready()
	mine, others := store.NewJobs(c, "a", old), store.NewJobs(c, "b", nil)
	j := create(t, mine, 1)
	stop() // from now on the view shows what is written here only
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	apply(t, others, j, job.Offer)
	if now, err := mine.Apply(ctx, store.RefOf(j), store.Change{Event: job.Claim}); err != nil || now.State != job.Claimed {
		t.Errorf("claim of a job that is offered: %s, %v", now.State, err)
	}
	apply(t, others, j, job.Start)
	if now, err := mine.Apply(ctx, store.RefOf(j), store.Change{Event: job.Release, From: job.Claimed}); !errors.Is(err, job.ErrTransition) || now.State != job.Processing {
		t.Errorf("release of a job that was claimed: %s, %v", now.State, err)
	}
	apply(t, others, j, job.Cancel)
	if _, err := mine.Create(ctx, newJob(2), "due"); err != nil {
		t.Errorf("a job after one that has ended: %v", err)
	}
	last, seq, err := mine.Last(ctx, slot)
	if err != nil || last.Seen != 2 || seq != 6 {
		t.Errorf("the log holds tick %d at %d, %v", last.Seen, seq, err)
	}
}

func TestTheViewKnowsJobsByState(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	v := store.NewView(c)
	running(t, v.Run)
	<-v.Ready()
	s := store.NewJobs(c, "a", v)
	check := func(want ...job.State) {
		t.Helper()
		for _, state := range job.States {
			got := v.Among([]job.State{state}, nil)
			n := 0
			if slices.Contains(want, state) {
				n = 1
			}
			if len(got) != n || n == 1 && got[0].State != state || v.Any([]job.State{state}) != (n == 1) {
				t.Errorf("%s: %d jobs, want %d", state, len(got), n)
			}
		}
	}
	check()
	j := create(t, s, 1)
	check(job.Queued)
	apply(t, s, j, job.Offer, job.Claim)
	check(job.Claimed)
	apply(t, s, j, job.Cancel)
	check(job.Canceled)
	create(t, s, 2)
	check(job.Queued)
	if got := v.Among([]job.State{job.Queued}, func(j *job.Job) bool { return j.Seen != 2 }); len(got) != 0 {
		t.Errorf("kept %d", len(got))
	}
}

func state(t *testing.T, c *bus.Conn) (ts store.TaskState) {
	t.Helper()
	_, err := store.NewDocs(c).Get(bustest.Context(t), slot.Cluster, slot.Server, slot.Task, &ts)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func TestHistoryIsThereAfterARestartAndAfterTheBucketIsDeleted(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	s := store.NewJobs(c, "a", nil)
	running(t, store.NewProjector(c, bustest.Log(t)).Run)
	running(t, store.NewProjector(c, bustest.Log(t)).Run) // a second scheduler projects too
	for n := range 3 {
		apply(t, s, create(t, s, n+1), job.Offer, job.Start, job.Error)
	}
	apply(t, s, create(t, s, 4), job.Offer)
	whole := func() bool {
		ts := state(t, c)
		return ts.State == job.Available && len(ts.Recent) == 3 && ts.Recent[0].State == job.Halted && ts.Recent[0].ID > ts.Recent[1].ID
	}
	bustest.Until(t, 5*time.Second, "the bucket shows four jobs", whole)
	if _, err := store.Replay(bustest.Context(t), c, bustest.Log(t)); err != nil {
		t.Fatal(err)
	}
	if !whole() {
		t.Errorf("after a replay: %+v", state(t, c))
	}
	apply(t, s, liveJob(t, s), job.Start)
	bustest.Until(t, 5*time.Second, "running projectors go on after a replay", func() bool { return state(t, c).State == job.Processing })
}

// liveJob is the live job of the slot.
func liveJob(t *testing.T, s *store.Jobs) job.Job {
	t.Helper()
	j, _, err := s.Last(bustest.Context(t), slot)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestOldJobsAreFoundByIdAndFilter(t *testing.T) {
	t.Parallel()
	s := store.NewJobs(bustest.Start(t), "a", nil)
	ctx := bustest.Context(t)
	now := time.Now().UTC()
	var ids []string
	for n := range 3 {
		j := newJob(n + 1)
		j.Due = now.Add(time.Duration(n) * time.Second)
		j.ID = job.NewID(j.Due, "t", slot)
		if _, err := s.Create(ctx, j, "due"); err != nil {
			t.Fatal(err)
		}
		apply(t, s, j, job.Offer, job.Start, job.Error)
		ids = append(ids, j.ID)
	}
	if j, err := s.Find(ctx, ids[0]); err != nil || j.State != job.Halted || j.ID != ids[0] {
		t.Errorf("the first job is %+v, %v", j, err)
	}
	if _, err := s.Find(ctx, job.NewID(now, "other", slot)); !errors.Is(err, store.ErrNone) {
		t.Errorf("an unknown id gives %v", err)
	}
	all, err := s.List(ctx, store.Filter{Cluster: "prod", Server: slot.Server, Limit: 2})
	if err != nil || len(all) != 2 || all[0].ID != ids[2] {
		t.Errorf("%d jobs, %v", len(all), err)
	}
	if none, _ := s.List(ctx, store.Filter{Task: "mariabackup"}); len(none) != 0 {
		t.Error("another task's jobs are listed")
	}
}

func TestLedgerCarriesTheCursorThroughManualRuns(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	l := store.NewLedger(c, "a")
	ctx := bustest.Context(t)
	cursor := due(0)
	_, _, _, err := l.Update(ctx, "prod", "optimize", func(bus.Tick) (bus.Tick, bool) {
		return bus.Tick{Outcome: bus.Armed, Cursor: cursor, Spec: "0 0 3 * * 0", Zone: "UTC"}, true
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.RunNow(ctx, "prod", "optimize", nil, "dba"); err != nil {
		t.Fatal(err)
	}
	ticks, err := l.List(ctx, store.TickFilter{Cluster: "prod"})
	if err != nil || len(ticks) != 2 {
		t.Fatal(ticks, err)
	}
	if got := ticks[0]; !got.Cursor.Equal(cursor) || got.Spec != "0 0 3 * * 0" || got.Trigger.By != "dba" {
		t.Errorf("a manual run made the schedule forget where it was: %+v", got)
	}
}

func TestGatewaysShareOneSigningKey(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			k, err := store.SigningKey(bustest.Context(t), c)
			if err != nil {
				t.Error(err)
			}
			keys[i] = k
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != 32 || string(k) != string(keys[0]) {
			t.Fatal("gateways have different keys")
		}
	}
}

func TestCatalogListsNewestFirst(t *testing.T) {
	t.Parallel()
	cat := store.NewCatalog(bustest.Start(t))
	ctx := bustest.Context(t)
	for _, id := range []string{"01A", "01B"} {
		for range 2 { // recording it again changes nothing
			if err := cat.Put(ctx, store.Manifest{Type: store.ManifestType, ID: id, Cluster: "prod", Server: slot.Server}); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := cat.List(ctx, "prod", slot.Server)
	if err != nil || len(got) != 2 || got[0].ID != "01B" {
		t.Errorf("%+v, %v", got, err)
	}
	if other, _ := cat.List(ctx, "test", job.Server{}); len(other) != 0 {
		t.Error("another cluster's backups are listed")
	}
}

func TestAJobDueEarlierThanTheOneBeforeItIsFoundAsItIs(t *testing.T) {
	t.Parallel()
	s := store.NewJobs(bustest.Start(t), "a", nil)
	ctx := bustest.Context(t)
	now := time.Now().UTC()
	var jobs []job.Job
	for n, at := range []time.Time{now.Add(20 * time.Second), now, now.Add(time.Minute)} { // by hand, caught up, the next
		j := newJob(n + 1)
		j.Due, j.ID = at, job.NewID(at, "t", slot)
		if _, err := s.Create(ctx, j, "due"); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, apply(t, s, j, job.Offer, job.Start, job.Done, job.Pass))
	}
	for _, want := range jobs {
		if j, err := s.Find(ctx, want.ID); err != nil || j.State != job.Success {
			t.Errorf("%s is found as %s, %v", want.ID, j.State, err)
		}
	}
}

func TestAChangeThatIsNotWrittenIsNotReturned(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	s := store.NewJobs(c, "a", nil)
	j := create(t, s, 1)
	ctx, cancel := context.WithCancel(bustest.Context(t))
	got, err := s.Apply(ctx, store.RefOf(j), store.Change{Event: job.Offer, Edit: func(*job.Job) { cancel() }})
	if err == nil || got.State != job.Queued {
		t.Errorf("the caller is told that the job is %s, with error %v", got.State, err)
	}
}

func TestAnEventMeantForAnotherStateLeavesTheJobAlone(t *testing.T) {
	t.Parallel()
	s := store.NewJobs(bustest.Start(t), "a", nil)
	j := apply(t, s, create(t, s, 1), job.Offer, job.Claim)
	got, err := s.Apply(bustest.Context(t), store.RefOf(j), store.Change{Event: job.Withdraw, From: job.Available})
	if !errors.Is(err, job.ErrTransition) || got.State != job.Claimed {
		t.Errorf("a job that a script has claimed was called back: %s, %v", got.State, err)
	}
}

func TestCommitRepeatedDoesNotForgetTheArchive(t *testing.T) {
	t.Parallel()
	cat := store.NewCatalog(bustest.Start(t))
	ctx := bustest.Context(t)
	m := store.Manifest{ID: "B1", Cluster: "prod", Server: job.Server{Host: "10.0.1.5", Port: 3306}}
	add := func(snapshot string) error {
		return cat.SetArchives(ctx, m, func(was []store.Archive) []store.Archive {
			return append(slices.Clone(was), store.Archive{Snapshot: snapshot})
		})
	}
	if err := add("early"); err != nil { // of a backup that left the catalogue: nothing comes of it
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return cat.Put(ctx, m) },
		func() error { return add("s1") },
		func() error { return cat.Put(ctx, m) }, // the commit again
		func() error { return add("s2") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := cat.List(ctx, "prod", m.Server)
	if err != nil || len(list) != 1 || len(list[0].Archives) != 2 {
		t.Fatalf("catalogue: %+v, %v", list, err)
	}
	if a, ok := list[0].Archived(); !ok || a.Snapshot != "s2" {
		t.Errorf("archived as %+v", a)
	}
	list[0].Archives[1].Gone = time.Now()
	if a, _ := list[0].Archived(); a.Snapshot != "s1" {
		t.Errorf("with the newest gone, archived as %+v", a)
	}
}

// The API hands out the tasks of a server in the order in which scripts run them, and each as it is now.
func TestTheViewListsTheJobsOfAServerInTheOrderOfTasks(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	v := store.NewView(c)
	running(t, v.Run)
	<-v.Ready()
	s := store.NewJobs(c, "a", v)
	var want []string
	for _, task := range job.Tasks() {
		want = append(want, task.Name)
	}
	for round := range 2 {
		for _, task := range slices.Backward(want) {
			j := newJob(round + 1)
			j.Task = task
			j.ID = job.NewID(j.Due, bus.NewMessageID(), j.Key())
			j, err := s.Create(bustest.Context(t), j, "due")
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				apply(t, s, j, job.Cancel)
			}
		}
	}
	var got []string
	for _, j := range v.OfServer(slot.Cluster, slot.Server, nil) {
		if got = append(got, j.Task); j.State != job.Queued {
			t.Errorf("%s is %s", j.Task, j.State)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	other := slot.Server
	other.Port++
	if n := len(v.OfServer(slot.Cluster, other, nil)); n != 0 {
		t.Errorf("another server has %d", n)
	}
	if some := v.OfServer(slot.Cluster, slot.Server, func(j *job.Job) bool { return j.Task == slot.Task }); len(some) != 1 || some[0].Task != slot.Task {
		t.Errorf("of one task: %v", some)
	}
}
