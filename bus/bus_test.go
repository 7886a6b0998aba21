package bus_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
)

func TestMain(m *testing.M) { bustest.Main(m) }

type note struct {
	N int `json:"n"`
}

const subject = "drydock.task.c.optimize"

func TestOfManyWritersOneWins(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			_, err := c.Append(ctx, bus.StreamTasks, subject, bus.NewMessageID(), 0, note{i})
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, bus.ErrConflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 31 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}

func TestLostAcknowledgementIsNotAConflict(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	id := bus.NewMessageID()
	first, err := c.Append(ctx, bus.StreamTasks, subject, id, 0, note{1})
	if err != nil {
		t.Fatal(err)
	}
	// The writer that never heard the acknowledgement writes the same message with the same expectation again.
	again, err := c.Append(ctx, bus.StreamTasks, subject, id, 0, note{1})
	if err != nil || again != first {
		t.Errorf("the retry gave %d, %v; want %d", again, err, first)
	}
	if _, seq, err := bus.Last[note](ctx, c, bus.StreamTasks, subject); err != nil || seq != first {
		t.Errorf("last is %d, %v: the message was doubled", seq, err)
	}
}

func TestLastOfNothingSaysSo(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	if _, seq, err := bus.Last[note](ctx, c, bus.StreamTasks, subject); !errors.Is(err, bus.ErrNotFound) || seq != 0 {
		t.Errorf("got %d, %v", seq, err)
	}
}

func TestFollowGivesTheLastPerSubjectThenWhatComes(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	put := func(task string, n int) {
		t.Helper()
		s := bus.TaskSubject("c", task)
		_, last, _ := bus.Last[note](ctx, c, bus.StreamTasks, s)
		if _, err := c.Append(ctx, bus.StreamTasks, s, bus.NewMessageID(), last, note{n}); err != nil {
			t.Fatal(err)
		}
	}
	put("a", 1)
	put("a", 2)
	put("b", 3)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got, caught, done := make(chan int, 10), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- bus.Follow(ctx, c, bus.StreamTasks, bus.AllTasks, bus.From{LastPerSubject: true},
			func(_ bus.Meta, n note) error { got <- n.N; return nil }, func() { close(caught) })
	}()
	<-caught
	put("a", 4)
	for _, want := range []int{2, 3, 4} {
		if n := <-got; n != want {
			t.Errorf("got %d, want %d", n, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A process need not decode what it wrote itself: with thousands of servers that was a tenth of its work.
func TestAFollowerGetsWhatItsProcessWrote(t *testing.T) {
	t.Parallel()
	type written struct {
		N      int `json:"n"`
		Unsaid int `json:"-"`
	}
	c, ctx := bustest.Start(t), bustest.Context(t)
	subject := bus.JobSubject("c", "h", 1, "optimize")
	if _, err := c.Append(ctx, bus.StreamJobs, subject, bus.NewMessageID(), 0, written{1, 2}); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	err := bus.Follow(ctx, c, bus.StreamJobs, bus.AllJobs, bus.From{}, func(_ bus.Meta, v written) error {
		if v != (written{1, 2}) {
			t.Errorf("the follower gets %+v", v)
		}
		return enough
	}, nil)
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

func TestFollowOfAnEmptyStreamCatchesUpAtOnce(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	if err := bus.Read(ctx, c, bus.StreamJobs, bus.AllJobs, bus.From{}, func(bus.Meta, note) error { return nil }); err != nil || ctx.Err() != nil {
		t.Error(err, ctx.Err())
	}
}

func TestReadThatIsCutShortSaysSo(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	for i := range 3 {
		if _, err := c.Append(bustest.Context(t), bus.StreamTasks, bus.TaskSubject("c", fmt.Sprint("t", i)), bus.NewMessageID(), 0, bus.Tick{}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(bustest.Context(t))
	err := bus.Read(ctx, c, bus.StreamTasks, bus.AllTasks, bus.From{}, func(bus.Meta, bus.Tick) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a part of the stream passes for all of it: %v", err)
	}
}

// Messages come in batches of which each says how many follow. When those are deleted before they are sent, no message says that it is
// the last: a start that waits for one would wait for ever.
func TestReadEndsWhenItsLastMessagesAreDeleted(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	s, err := c.JS.CreateStream(ctx, jetstream.StreamConfig{Name: "DELETABLE", Subjects: []string{"deletable"}})
	if err != nil {
		t.Fatal(err)
	}
	const batch = 500 // what is asked for at once
	for i := range batch + 1 {
		if _, err := c.Append(ctx, "DELETABLE", "deletable", bus.NewMessageID(), uint64(i), bus.Tick{}); err != nil {
			t.Fatal(err)
		}
	}
	read := 0
	err = bus.Read(ctx, c, "DELETABLE", "deletable", bus.From{}, func(bus.Meta, bus.Tick) error {
		if read++; read == 1 {
			return s.DeleteMsg(ctx, batch+1)
		}
		return nil
	})
	if err != nil || read != batch {
		t.Errorf("%d of %d read: %v", read, batch, err)
	}
}

// A server of a cluster that ends takes the consumers with it that it kept, and who is connected to another one hears nothing of it: a
// reader that waits for the rest would wait for ever.
func TestReadEndsWhenItsConsumerIsLost(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	const batch, all = 500, 501 // what is asked for at once, and what there is
	for i := range all {
		if err := c.Record(ctx, bus.StreamAudit, bus.AuditSubject("c", "v"), bus.NewMessageID(), note{i}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.JS.Stream(ctx, bus.StreamAudit)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	err = bus.Read(ctx, c, bus.StreamAudit, bus.AllAudit, bus.From{}, func(_ bus.Meta, n note) error {
		if n.N != read {
			t.Errorf("%d comes after %d", n.N, read)
		}
		if read++; read != 1 {
			return nil
		}
		for info := range s.ListConsumers(ctx).Info() {
			if idle := info.Config.InactiveThreshold; idle > time.Minute {
				t.Errorf("the server would keep it for %s after its reader is killed", idle)
			}
			if err := s.DeleteConsumer(ctx, info.Name); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	if err != nil || read != all {
		t.Errorf("%d of %d read: %v", read, all, err)
	}
}

// A server holds a thousand consumers of a stream. Readers that leave theirs behind end every follower within minutes, and for minutes.
func TestReadersLeaveNoConsumerBehind(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	if _, err := c.Append(ctx, bus.StreamTasks, subject, bus.NewMessageID(), 0, bus.Tick{}); err != nil {
		t.Fatal(err)
	}
	take := func(bus.Meta, bus.Tick) error { return nil }
	stopped := func(bus.Meta, bus.Tick) error { return bus.ErrStop }
	for _, handle := range []func(bus.Meta, bus.Tick) error{take, stopped} {
		if err := bus.Read(ctx, c, bus.StreamTasks, bus.AllTasks, bus.From{}, handle); err != nil {
			t.Fatal(err)
		}
	}
	cut, cancel := context.WithCancel(ctx)
	if err := bus.Follow(cut, c, bus.StreamTasks, bus.AllTasks, bus.From{}, take, cancel); err != nil {
		t.Fatal(err)
	}
	s, err := c.JS.Stream(ctx, bus.StreamTasks)
	if err != nil {
		t.Fatal(err)
	}
	if left := s.CachedInfo().State.Consumers; left != 0 {
		t.Errorf("%d consumers are left behind", left)
	}
}

func TestWorkBringsAFailedMessageBackAndSetsGarbageAside(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var tries atomic.Int32
	seen, done := make(chan int, 10), make(chan error, 1)
	go func() {
		done <- bus.Work(ctx, c, bus.StreamTasks, "test", bus.AllTasks, func(_ context.Context, m bus.Meta, n note) error {
			if n.N == 1 && tries.Add(1) == 1 {
				return errors.New("first try fails")
			}
			seen <- n.N
			return nil
		})
	}()
	if _, err := c.JS.Publish(ctx, subject, []byte("not json")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.JS.Publish(ctx, subject, []byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	if n := <-seen; n != 1 {
		t.Errorf("got %d", n)
	}
	bustest.Until(t, 10*time.Second, "the garbage is a dead letter", func() bool {
		s, err := c.JS.Stream(ctx, bus.StreamDeadletters)
		if err != nil {
			return false
		}
		info, err := s.Info(ctx)
		return err == nil && info.State.Msgs == 1
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// loggedNotes counts the notes on the stream of log lines.
func loggedNotes(t *testing.T, c *bus.Conn) map[int]int {
	t.Helper()
	got := map[int]int{}
	err := bus.Read(bustest.Context(t), c, bus.StreamLogs, bus.AllLogs, bus.From{}, func(_ bus.Meta, n note) error { got[n.N]++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestConcurrentLogWritesAreAllOnDisk(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	b := bus.NewBatcher(c, bus.StreamLogs)
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- b.Run(run) }()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := b.Put(ctx, bus.LogSubject("c", "h", 1, "optimize", "INFO"), fmt.Sprint("id", i), note{i}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	got := loggedNotes(t, c)
	if len(got) != 200 {
		t.Errorf("%d of 200 acknowledged writes are there", len(got))
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if err := b.Put(short, "drydock.log.c.h.1.t.INFO", "x", note{}); !errors.Is(err, bus.ErrStopped) {
		t.Errorf("a stopped writer answers %v", err)
	}
}

func TestARepeatedLogWriteInAGroupIsThereOnceAndTheOthersToo(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	b := bus.NewBatcher(c, bus.StreamLogs)
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	subject := bus.LogSubject("c", "h", 1, "optimize", "INFO")
	if _, err := c.JS.Publish(ctx, subject, []byte(`{"n":0}`), jetstream.WithMsgID("id0")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 64 { // they stand in line before the writer runs, and so form one group
		wg.Go(func() {
			if err := b.Put(ctx, subject, fmt.Sprint("id", i), note{i}); err != nil {
				t.Error(err)
			}
		})
	}
	go func() { done <- b.Run(run) }()
	wg.Wait()
	cancel()
	<-done
	got := loggedNotes(t, c)
	if len(got) != 64 || got[0] != 1 {
		t.Errorf("%d of 64 are there, the repeated one %d times", len(got), got[0])
	}
}

// A group shares its sync, not its fate: one message that the bus refuses must not take the others with it. Nor may a
// caller that comes alone wait for a crowd that has gone.
func TestOneRefusedLogWriteInAGroupFailsAlone(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	b := bus.NewBatcher(c, bus.StreamLogs)
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	subject := bus.LogSubject("c", "h", 1, "optimize", "INFO")
	errs := make([]error, 64)
	var wg sync.WaitGroup
	for i := range errs { // they stand in line before the writer runs, and so form one group
		wg.Go(func() {
			var v any = note{i}
			if i == 40 {
				v = strings.Repeat("x", 2<<20) // more than a message may hold
			}
			errs[i] = b.Put(ctx, subject, fmt.Sprint("id", i), v)
		})
	}
	go func() { done <- b.Run(run) }()
	wg.Wait()
	for i, err := range errs {
		if (err != nil) != (i == 40) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if err := b.Put(ctx, subject, "alone", note{64}); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
	got := loggedNotes(t, c)
	if len(got) != 64 || got[40] != 0 || got[64] != 1 {
		t.Errorf("%d of 64 are there: %v", len(got), got)
	}
}

func TestSecondProcessOnOneStoreIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bustest.StartServer(t, bus.ServerConfig{Dir: dir})
	if _, err := bus.StartServer(bus.ServerConfig{Dir: dir, User: "u", Password: "p", MaxStore: 1 << 30, Log: bustest.Log(t)}); !errors.Is(err, bus.ErrStoreLocked) {
		t.Errorf("two servers on one store: %v", err)
	}
}

func TestStoreOfAClusteredServerIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mode"), []byte("clustered\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.StartServer(bus.ServerConfig{Dir: dir, User: "u", Password: "p", MaxStore: 1 << 30, Log: bustest.Log(t)}); !errors.Is(err, bus.ErrStoreForeign) {
		t.Errorf("got %v", err)
	}
}

func TestBusyPortIsAnErrorAndNotAnExit(t *testing.T) {
	t.Parallel()
	s, _ := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0"})
	_, err := bus.StartServer(bus.ServerConfig{Dir: t.TempDir(), Listen: s.Addr(), User: "u", Password: "p", MaxStore: 1 << 30, Log: bustest.Log(t)})
	if err == nil {
		t.Fatal("two servers on one port")
	}
}

// A server that stands still (stopped, swapped out, behind a network that swallows) closes no connection. Whoever waits for
// it to do so stands still as well, for minutes.
func TestServerThatStandsStillIsLeftForAnother(t *testing.T) {
	t.Parallel()
	s, _ := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0"})
	var still atomic.Bool
	proxy := swallowing(t, s.Addr(), &still)
	c, err := bus.ConnectRemote(bus.Remote{URL: "nats://" + proxy, User: "drydock", Password: "test"}, "t", bustest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.NC.Close()
	if err := c.Ready(bustest.Context(t)); err != nil {
		t.Fatal(err)
	}
	still.Store(true)
	bustest.Until(t, time.Minute, "the connection is given up", func() bool { return !c.NC.IsConnected() })
}

// A process that starts while its servers still get to know each other must wait for them; one whose login or space is wrong
// must end, as nobody would look at a process that waits for ever.
func TestOnlyWhatWaitingDoesNotCureEndsAStart(t *testing.T) {
	t.Parallel()
	refused := func(code int, number jetstream.ErrorCode) error {
		return fmt.Errorf("declare: %w", &jetstream.APIError{Code: code, ErrorCode: number})
	}
	for _, c := range []struct {
		what string
		err  error
		want bool
	}{
		{"no suitable peers yet", refused(400, 10005), false},
		{"no leader", refused(503, 10008), false},
		{"copies without a cluster", refused(500, 10074), true},
		{"no space for what is reserved", refused(500, 10047), true},
		{"another configuration of a stream", refused(400, 10058), true},
		{"an old server", fmt.Errorf("declare: %w", bus.ErrOldServer), true},
		{"a wrong password", fmt.Errorf("connect: %w", nats.ErrAuthorization), true},
		{"nobody there", nats.ErrNoServers, false},
	} {
		if got := bus.Permanent(c.err); got != c.want {
			t.Errorf("%s: permanent is %t", c.what, got)
		}
		if got := bus.Electing(c.err); got != (c.what == "no leader") { // what a command waits for, too
			t.Errorf("%s: electing is %t", c.what, got)
		}
	}
}

// swallowing hands bytes on between its address and another until still, and closes nothing then.
func swallowing(t *testing.T, to string, still *atomic.Bool) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	context.AfterFunc(t.Context(), func() { l.Close() })
	hand := func(to, from net.Conn) {
		context.AfterFunc(t.Context(), func() { from.Close() })
		b := make([]byte, 1<<16)
		for {
			n, err := from.Read(b)
			if err != nil {
				to.Close()
				return
			}
			if !still.Load() {
				_, _ = to.Write(b[:n])
			}
		}
	}
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				return
			}
			wg.Go(func() { hand(out, in) })
			wg.Go(func() { hand(in, out) })
		}
	})
	return l.Addr().String()
}

func TestStateSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := bus.ServerConfig{Dir: dir, User: "u", Password: "p", MaxStore: 16 << 30, Log: bustest.Log(t)}
	ctx := bustest.Context(t)
	for i := range 2 {
		s, err := bus.StartServer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c, err := bus.ConnectInProcess(s, "t", cfg.Log)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Declare(ctx, bus.DefaultLimits()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Append(ctx, bus.StreamTasks, subject, bus.NewMessageID(), uint64(i), note{i}); err != nil {
			t.Errorf("run %d: %v", i, err)
		}
		if err := errors.Join(c.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestPasswordIsMadeOnceAndPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nats")
	a, err := bus.Password(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Password(dir, "")
	if err != nil || a != b || len(a) < 40 {
		t.Errorf("%q, %q, %v", a, b, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "password")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "password"), nil, 0o600); err != nil { // a first start that was cut
		t.Fatal(err)
	}
	if e, err := bus.Password(dir, ""); err != nil || len(e) < 40 {
		t.Errorf("the bus would run with the password %q, %v", e, err)
	}
	if c, _ := bus.Password(dir, "mine"); c != "mine" {
		t.Error("the configured password is not used")
	}
}

// What keeps two heavy jobs from one server is read like this: an answer that is not whole would let both go.
func TestTheLastOfEachSubjectIsReadAtOnce(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	var subjects []string
	want := map[int]bool{}
	for i := range 20 {
		subjects = append(subjects, bus.JobSubject("c", "h", i, "optimize"))
		for n := range i % 3 { // none of every third
			if err := c.Record(ctx, bus.StreamJobs, subjects[i], bus.NewMessageID(), note{100*n + i}); err != nil {
				t.Fatal(err)
			}
			want[100*n+i] = true
			delete(want, 100*(n-1)+i)
		}
	}
	got, err := bus.LastOfEach[note](ctx, c, bus.StreamJobs, subjects)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range got {
		if !want[n.N] {
			t.Errorf("got %d", n.N)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d messages, want %d", len(got), len(want))
	}
	if none, err := bus.LastOfEach[note](ctx, c, bus.StreamJobs, subjects[:1]); err != nil || len(none) != 0 {
		t.Errorf("of a subject without any: %v, %v", none, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if got, err := bus.LastOfEach[note](ended, c, bus.StreamJobs, subjects); err == nil && len(got) != len(want) {
		t.Errorf("%d messages of %d, and no error", len(got), len(want))
	}
}

// The server sends what it can read, and then says that it could not read the rest, with the status that it has for nothing at all.
func TestAnAnswerThatIsNotWholeIsNone(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	for name, end := range map[string]nats.Header{
		"unreadable": {"Status": {"404"}, "Description": {"Message Not Found"}},
		"too long":   {"Status": {"204"}, "Nats-Num-Pending": {"1"}},
	} {
		sub, err := c.NC.Subscribe("$JS.API.DIRECT.GET.HALF", func(m *nats.Msg) {
			_ = m.RespondMsg(&nats.Msg{Data: []byte(`{"N":1}`), Header: nats.Header{"Nats-Sequence": {"1"}}})
			_ = m.RespondMsg(&nats.Msg{Header: end})
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := bus.LastOfEach[note](ctx, c, "HALF", []string{"a", "b"}); err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		_ = sub.Unsubscribe()
	}
}

// The schedules of a large fleet name each of its servers again and again: far more than the bus takes in one message. Without an
// answer nobody would know when what is due, and no heartbeat would be sent.
func TestALongAnswerComesWhole(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	var servers []job.Server
	for i := range 10_000 {
		servers = append(servers, job.Server{Host: fmt.Sprintf("db-%d.example.com", i), Port: 3306})
	}
	long := bus.NextReply{Schedules: make([]bus.ScheduleInfo, 16)}
	for i := range long.Schedules {
		long.Schedules[i].Servers = servers
	}
	noise := make([]byte, 2<<20)
	rand.Read(noise)
	svc, err := micro.AddService(c.NC, micro.Config{Name: "test", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	for name, rep := range map[string]any{"short": bus.NextReply{}, "long": long, "hopeless": bus.Tick{Reason: hex.EncodeToString(noise)}} {
		answer := func(r micro.Request) {
			if err := bus.Respond(r, rep); (err == nil) == (name == "hopeless") {
				t.Errorf("%s: answered with %v", name, err)
			}
		}
		if err := svc.AddEndpoint(name, micro.HandlerFunc(answer)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := bus.Request[bus.NextReply](ctx, c, "long", struct{}{})
	if err != nil || len(got.Schedules) != 16 || !slices.Equal(got.Schedules[15].Servers, servers) {
		t.Errorf("of a long answer %d schedules came: %v", len(got.Schedules), err)
	}
	if _, err := bus.Request[bus.NextReply](ctx, c, "short", struct{}{}); err != nil {
		t.Error(err)
	}
	var refused *bus.ServiceError
	if _, err := bus.Request[bus.Tick](ctx, c, "hopeless", struct{}{}); !errors.As(err, &refused) {
		t.Errorf("who waits for what is too large even when packed hears %v", err)
	}
}

// A stream with copies does not answer questions about the past, since a copy may lag: without an answer nothing could be explained on a
// cluster of three.
func TestTheLastMessageBeforeATimeIsFoundInAStreamWithCopies(t *testing.T) {
	t.Parallel()
	srv, own := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0"})
	ctx := bustest.Context(t)
	remote, err := bus.ConnectRemote(bus.Remote{URL: "nats://" + srv.Addr(), User: "drydock", Password: "test"}, "t", bustest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.NC.Close)
	times := []time.Time{time.Now()}
	seq := uint64(0)
	for n := 1; n <= 2; n++ {
		if seq, err = own.Append(ctx, bus.StreamTasks, subject, bus.NewMessageID(), seq, note{n}); err != nil {
			t.Fatal(err)
		}
		if err := own.Record(ctx, bus.StreamTasks, subject+"er", bus.NewMessageID(), note{100}); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Now())
	}
	look := func(c *bus.Conn) {
		t.Helper()
		for n, at := range times {
			got, m, err := bus.LastBefore[note](ctx, c, bus.StreamTasks, subject, at)
			if got.N != n || (n == 0) != errors.Is(err, bus.ErrNotFound) || n > 0 && (err != nil || m.Time.After(at)) {
				t.Errorf("before %d there is %d, %v", n, got.N, err)
			}
		}
	}
	look(own)
	s, err := own.JS.Stream(ctx, bus.StreamTasks)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.AllowDirect = false // as of one with copies
	if _, err := own.JS.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	look(remote)
}
