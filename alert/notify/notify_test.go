package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/store"
)

// A cluster that goes away opens hundreds of conditions; 500 mails would hide all of them.
func TestABurstIsOneMessageForEachDestination(t *testing.T) {
	t.Parallel()
	r, h, other := newRig(t), newHook(t), newHook(t)
	cfg := r.config("alert@a", Destination{Name: "chat", URL: h.url()}, Destination{Name: "shop", URL: other.url(), Routes: []Route{{bus.SeverityError, []string{"shop"}}}})
	cfg.GroupWait = 10 * time.Second
	d := r.desk(cfg)
	for i := range 250 {
		s := db1
		s.Port = 1000 + i
		r.begin("prod", s, "DOCK0501", bus.SeverityError)
		r.begin("prod", s, "WARN0072", bus.SeverityInfo) // not wanted
	}
	d.look()
	h.want(t, 0, "before they are gathered")
	r.advance(9 * time.Second)
	d.look()
	h.want(t, 0, "while they are gathered")
	r.advance(time.Second)
	d.look()
	h.want(t, 1, "then")
	m := h.sent(t)
	if m.Title != "drydock: 250 new (errors: 250) on prod" || !strings.Contains(m.Message, "and 230 more") || len(m.Message) > mostText+200 {
		t.Errorf("it says %q\n%s", m.Title, m.Message)
	}
	d.look()
	r.advance(time.Hour)
	d.look()
	h.want(t, 1, "later")
	other.want(t, 0, "on the route of another cluster")
	if rec := r.record(); len(rec) != 2 || rec[0].State != bus.TrySending || rec[1].State != bus.TrySent || len(rec[1].Told) != 250 || rec[1].Notification != m.ID {
		t.Errorf("the record has %d entries", len(rec))
	}
}

func TestARestartTellsNothingTwiceAndForgetsNothing(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	cfg := r.config("alert@a", Destination{Name: "chat", URL: h.url()})
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	d := r.desk(cfg).look().look()
	h.want(t, 1, "at first")
	d.stop()
	d = r.desk(cfg).look()
	h.want(t, 1, "after a restart")
	d.stop()
	r.end("prod", db1, "DOCK0501")
	r.begin("prod", db2, "DOCK0501", bus.SeverityError)
	d = r.desk(cfg).look()
	h.want(t, 2, "what happened meanwhile")
	if m := h.sent(t); m.Title != "drydock: 1 new, 1 resolved (errors: 1) on prod" || m.Severity != "error" {
		t.Errorf("it says %q, %s", m.Title, m.Severity)
	}
	d.look()
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	d.look()
	h.want(t, 3, "opened once more")
}

func TestErrorsAreRepeatedUntilAcknowledgedOrClosed(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	d := r.desk(r.config("alert@a", Destination{Name: "chat", URL: h.url()}))
	name, id := r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	r.begin("prod", db1, "DOCK0401", bus.SeverityWarn)
	d.look()
	h.want(t, 1, "both")
	r.advance(4*time.Hour - time.Second)
	d.look()
	h.want(t, 1, "too early")
	r.advance(time.Second)
	d.look()
	h.want(t, 2, "the error again")
	if m := h.sent(t); !strings.HasPrefix(m.Title, "drydock: still open error prod 10.0.1.5:3306 DOCK0501: ") || strings.Contains(m.Message, "DOCK0401") {
		t.Errorf("it says %q\n%s", m.Title, m.Message)
	}

	alerts := store.NewAlerts(r.conn, "cli:alice")
	if _, err := alerts.Acknowledge(bustest.Context(t), "prod.nothing", store.Ack{By: "alice"}); !errors.Is(err, store.ErrNoCondition) {
		t.Errorf("what is not open is acknowledged: %v", err)
	}
	if _, err := alerts.Acknowledge(bustest.Context(t), name, store.Ack{By: "alice", Until: time.Now().Add(6 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if o, err := alerts.FindOpen(bustest.Context(t), id); err != nil || o.Ack == nil || o.Ack.By != "alice" {
		t.Errorf("the list says %+v, %v", o, err)
	}
	r.advance(time.Hour)
	d.look()
	h.want(t, 2, "acknowledged")
	r.advance(4 * time.Hour)
	d.look()
	h.want(t, 3, "the acknowledgement has ended")
	if _, err := alerts.Acknowledge(bustest.Context(t), id, store.Ack{By: "alice"}); err != nil {
		t.Fatal(err)
	}
	r.advance(10 * time.Hour)
	d.look()
	h.want(t, 3, "acknowledged for good")
	r.end("prod", db1, "DOCK0501")
	d.look()
	h.want(t, 4, "resolved")
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	d.look()
	h.want(t, 5, "another opening is not acknowledged")
}

func TestAQuietTimeHoldsBackWhatIsStillOpenAtItsEnd(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	zone := time.FixedZone("test", 3*3600)
	r.time = time.Date(2026, 3, 2, 23, 59, 59, 0, zone) // a Monday
	cfg := r.config("alert@a", Destination{Name: "chat", URL: h.url()})
	cfg.Clusters = []Cluster{{Name: "prod", QuietCron: "0 0 0 * * 0-4", QuietFor: time.Hour, Zone: zone}, {Name: "shop"}}
	d := r.desk(cfg)
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	d.look()
	h.want(t, 1, "before midnight")
	r.advance(time.Second)
	r.end("prod", db1, "DOCK0501")
	r.begin("prod", db2, "DOCK0501", bus.SeverityError)
	r.begin("prod", db2, "DOCK0201", bus.SeverityError)
	r.end("prod", db2, "DOCK0201")
	d.look()
	r.advance(time.Hour - time.Second)
	d.look()
	h.want(t, 1, "in the quiet time")
	r.begin("shop", db2, "DOCK0502", bus.SeverityError)
	d.look()
	h.want(t, 2, "another cluster is not quiet")
	d.stop()
	d = r.desk(cfg) // a restart in it changes nothing
	d.look()
	h.want(t, 2, "still quiet")
	r.advance(time.Second)
	d.look()
	h.want(t, 3, "at its end")
	if m := h.sent(t); m.Title != "drydock: 1 new, 1 resolved (errors: 1) on prod" || strings.Contains(m.Message, "DOCK0201") {
		t.Errorf("it says %q\n%s", m.Title, m.Message)
	}
}

// A destination that fails must not stop the others, and somebody must learn of it.
func TestAFailingDestinationIsAConditionThatTheOthersGet(t *testing.T) {
	t.Parallel()
	r, bad, good := newRig(t), newHook(t), newHook(t)
	bad.answer(http.StatusInternalServerError)
	d := r.desk(r.config("alert@a", Destination{Name: "bad", URL: bad.url()}, Destination{Name: "good", URL: good.url()}))
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	d.look().look()
	bad.want(t, 1, "not again at once")
	good.want(t, 1, "the other one")
	first := bad.sent(t).ID
	r.advance(10 * time.Second)
	d.look()
	r.advance(19 * time.Second)
	d.look()
	bad.want(t, 2, "before the pause is over")
	r.advance(time.Second)
	d.look()
	bad.want(t, 3, "the third try")
	if id := bad.sent(t).ID; id != first {
		t.Errorf("the same message is called %s and %s", first, id)
	}
	d.look()
	good.want(t, 2, "the other one gets the condition")
	if m := good.sent(t); !strings.Contains(m.Title, "DOCK0701: notifications to bad fail: ") || !strings.Contains(m.Title, "500") {
		t.Errorf("it says %q", m.Title)
	}
	bad.answer(http.StatusOK)
	r.advance(time.Hour)
	d.look().look()
	good.want(t, 3, "it is resolved")
	bad.want(t, 4, "it was told when it could be")
	if m := good.sent(t); !strings.Contains(m.Title, "resolved error DOCK0701") {
		t.Errorf("it says %q", m.Title)
	}
}

// Of what happened while a destination was down only what still matters is told.
func TestWhatIsOverBeforeItCouldBeToldIsNotTold(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	h.answer(http.StatusBadGateway)
	d := r.desk(r.config("alert@a", Destination{Name: "chat", URL: h.url()}))
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	d.look()
	r.end("prod", db1, "DOCK0501")
	h.answer(http.StatusOK)
	r.advance(time.Hour)
	d.look()
	h.want(t, 1, "only the try that failed")
}

// The window in which a crash can repeat a message is from its arrival to the record of it, and nothing else.
func TestKillsAroundASendNeitherLoseNorRepeatWhatWasRecorded(t *testing.T) {
	t.Parallel()
	for step, want := range map[string]struct {
		messages int
		record   string
	}{
		"intent":   {1, "sending sent"},
		"send":     {1, "sending unknown sending sent"},
		"outcome":  {2, "sending unknown sending sent"}, // it arrived, and nobody knew
		"recorded": {1, "sending sent"},
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			r, h := newRig(t), newHook(t)
			r.begin("prod", db1, "DOCK0501", bus.SeverityError)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s nats://%s %s", victimEnv, step, r.srv.Addr(), h.url()))
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("it was not killed: %v\n%s", err, out)
			}
			d := r.desk(r.config("alert@a", Destination{Name: "chat", URL: h.url()}))
			d.look().look()
			h.want(t, want.messages, "after the restart")
			var states, ids []string
			for _, n := range r.record() {
				states, ids = append(states, string(n.State)), append(ids, n.Notification)
			}
			if got := strings.Join(states, " "); got != want.record {
				t.Errorf("the record says %s, want %s", got, want.record)
			}
			if len(slices.Compact(ids)) != 1 {
				t.Errorf("a receiver cannot know that it is the same: %v", ids)
			}
		})
	}
}

func TestOfSeveralNotifiersOneSendsAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	start := func(actor string) (stop func()) {
		n, err := New(r.config(actor, Destination{Name: "chat", URL: h.url()}), r.conn, store.NewView(r.conn))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := n.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
		t.Cleanup(stop)
		return stop
	}
	stops := []func(){start("alert@a"), start("alert@b"), start("alert@c")}
	for i := range 3 {
		r.begin("prod", db1, fmt.Sprintf("DOCK050%d", i), bus.SeverityError)
		bustest.Until(t, soon, "the message comes", func() bool { return len(h.got()) > i })
		bustest.Until(t, soon, "its outcome is recorded", func() bool { return len(r.record()) == 2*(i+1) })
		leader := r.record()[2*i].Actor
		stops[int(leader[len(leader)-1]-'a')]() // it gives the lease back
	}
	h.want(t, 3, "in all")
}

func TestATestMessageGoesWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	n, err := New(r.config("alert@a", Destination{Name: "chat", URL: h.url(), Unrouted: true}), r.conn, store.NewView(r.conn))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	ask := func(to string) (x bus.Notification, err error) {
		bustest.Until(t, soon, "somebody leads", func() bool {
			x, err = bus.Request[bus.Notification](bustest.Context(t), r.conn, bus.SubjectNotifyTest, bus.NotifyTestRequest{Destination: to, By: "alice"})
			return !errors.Is(err, bus.ErrNobody)
		})
		return x, err
	}
	x, err := ask("chat")
	if err != nil || x.State != bus.TrySent || !x.Test {
		t.Fatalf("%+v, %v", x, err)
	}
	if m := h.sent(t); m.ID != x.Notification || !strings.Contains(m.Message, "asked for by alice") {
		t.Errorf("%+v", m)
	}
	if _, err := ask("nowhere"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("an unknown destination: %v", err)
	}
	h.answer(http.StatusForbidden)
	if x, err = ask("chat"); err != nil || x.State != bus.TryFailed || !strings.Contains(x.Error, "403") {
		t.Errorf("%+v, %v", x, err)
	}
}

// A notifier that only lost the bus may still be sending: who takes over must not send the same beside it.
func TestWhoTakesOverWaitsForATryThatMayGoOn(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	to := Destination{Name: "chat", URL: h.url(), Timeout: soon}
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	a, b := r.desk(r.config("alert@a", to)), r.desk(r.config("alert@b", to))
	a.step = func(name string) {
		if name != "send" {
			return
		}
		bustest.Until(t, soon, "the other knows of the try", func() bool { return b.workers["chat"].last().State == bus.TrySending })
		if err := b.workers["chat"].runOnce(bustest.Context(t)); !errors.Is(err, errBusy) {
			t.Errorf("while it goes on: %v", err)
		}
	}
	a.look()
	h.want(t, 1, "of both")
	bustest.Until(t, soon, "the other knows the outcome", func() bool { return b.workers["chat"].last().State == bus.TrySent })
	b.look()
	h.want(t, 1, "after it")

	r.begin("prod", db2, "DOCK0501", bus.SeverityError)
	if err := a.workers["chat"].record(bustest.Context(t), bus.Notification{State: bus.TrySending, Destination: "chat", Told: []bus.Told{}}); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, soon, "the other knows of the try", func() bool { return b.workers["chat"].last().State == bus.TrySending })
	if err := b.workers["chat"].runOnce(bustest.Context(t)); !errors.Is(err, errBusy) {
		t.Errorf("of one that died: %v", err)
	}
	r.advance(soon + killGrace)
	b.look()
	h.want(t, 2, "when it can have no outcome any more")
}

// Who recorded that a message was taken may end before it closes the condition that they fail; nobody would close it then.
func TestTheConditionOfADestinationClosesAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	cfg := r.config("alert@a", Destination{Name: "chat", URL: h.url()})
	d := r.desk(cfg)
	if err := d.setFailing(bustest.Context(t), "chat", true, "test"); err != nil {
		t.Fatal(err)
	}
	if err := d.workers["chat"].record(bustest.Context(t), bus.Notification{State: bus.TrySent, Destination: "chat", Told: []bus.Told{}}); err != nil {
		t.Fatal(err)
	}
	d.stop()
	d = r.desk(cfg).look()
	if c := d.conds[failureOf("chat")]; c.alert.State != bus.AlertClosed {
		t.Errorf("it is %s", c.alert.State)
	}
}

// What nobody needs to be told must not keep from the message what somebody does, nor a weekend that something is over.
func TestDueHasRoomBesideWhatIsAcknowledgedAndMemoryOfALongQuietTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	conds, acks := map[string]condition{}, store.Acks{}
	for i := range mostItems + 1 {
		name := fmt.Sprintf("prod.a%04d.DOCK0501", i)
		conds[name] = condition{bus.Alert{State: bus.AlertOpened, Severity: bus.SeverityError, Cluster: "prod", ID: name}, uint64(i + 1)}
		acks[name] = store.Ack{Edge: name}
	}
	conds["prod.b.DOCK0401"] = condition{bus.Alert{State: bus.AlertOpened, Severity: bus.SeverityWarn, Cluster: "prod", ID: "b"}, 5000}
	conds["prod.b.DOCK0501"] = condition{bus.Alert{State: bus.AlertClosed, Severity: bus.SeverityError, Cluster: "prod", Time: now.Add(-47 * time.Hour)}, 5001}
	quiet, err := newSetup([]Cluster{{Name: "prod", QuietCron: "0 0 1 1 *", QuietFor: 24 * time.Hour, Zone: time.UTC}})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]mark{"prod.b.DOCK0501": {seq: 1}}
	items := unacknowledged(due(Destination{Name: "chat"}, told, conds, 0, quiet, now), acks, now)
	if len(items) != 2 || items[0].name != "prod.b.DOCK0401" || items[1].kind != bus.ToldResolved {
		t.Errorf("%d items are due, want the warning and what is over", len(items))
	}
}

// What a destination took must get into the record although the bus refuses it at first and the lease goes meanwhile: who
// leads then would send it again.
func TestAnOutcomeOutlivesTheLease(t *testing.T) {
	t.Parallel()
	r, h := newRig(t), newHook(t)
	to := Destination{Name: "chat", URL: h.url(), Timeout: soon}
	a, b := r.desk(r.config("alert@a", to)), r.desk(r.config("alert@b", to))
	ctx := bustest.Context(t)
	takes := func(largest int32) {
		s, err := r.conn.JS.Stream(ctx, bus.StreamNotifications)
		if err == nil {
			cfg := s.CachedInfo().Config
			cfg.MaxMsgSize = largest
			_, err = r.conn.JS.UpdateStream(ctx, cfg)
		}
		if err != nil {
			t.Error(err)
		}
	}
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	bustest.Until(t, soon, "it is known", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.conds) == 1 })
	a.step = func(name string) {
		if name == "outcome" {
			takes(1)
		}
	}
	w := a.workers["chat"]
	if err := w.runOnce(ctx); err == nil || errors.Is(err, bus.ErrConflict) {
		t.Fatalf("the outcome that was refused: %v", err)
	}
	h.want(t, 1, "before the lease goes")
	if last := r.record()[len(r.record())-1]; last.State != bus.TrySending {
		t.Fatalf("the record ends with %s", last.State)
	}
	if _, err := b.leases.Take(ctx, "", 0, leaseName); err != nil {
		t.Fatal(err)
	}
	takes(-1)
	if err := a.leadOnce(ctx, []*worker{w}); !errors.Is(err, store.ErrHeld) {
		t.Fatalf("without the lease: %v", err)
	}
	last := r.record()[len(r.record())-1]
	if last.State != bus.TrySent || last.Actor != "alert@a" {
		t.Errorf("the record ends with %s of %s", last.State, last.Actor)
	}
	bustest.Until(t, soon, "the other knows the outcome", func() bool { return b.workers["chat"].last().State == bus.TrySent })
	b.look()
	h.want(t, 1, "of who leads then")
}

// On the night in which the clock goes forward a quiet time at 02:30 must begin all the same, and on the one in which it
// goes back not twice: as the schedules do that it is meant for.
func TestQuietTimesBeginAsSchedulesDoWhenTheClockIsChanged(t *testing.T) {
	t.Parallel()
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSetup([]Cluster{{Name: "prod", QuietCron: "0 30 2 * * *", QuietFor: 20 * time.Minute, Zone: paris}})
	if err != nil {
		t.Fatal(err)
	}
	for at, quiet := range map[string]bool{
		"2026-03-29T00:59:59Z": false, // 01:59:59, the last second before 03:00
		"2026-03-29T01:00:00Z": true,
		"2026-03-29T01:19:59Z": true,
		"2026-03-29T01:20:00Z": false,
		"2026-03-30T00:30:00Z": true,
		"2026-10-25T00:30:00Z": true, // 02:30, for the first time
		"2026-10-25T00:50:00Z": false,
		"2026-10-25T01:30:00Z": false, // and for the second
		"2026-10-26T01:30:00Z": true,
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if s.at("prod", when) != quiet {
			t.Errorf("at %s: quiet is %v, want %v", at, !quiet, quiet)
		}
	}
	for _, c := range []Cluster{
		{Name: "prod", QuietCron: "0 61 2 * * *", QuietFor: time.Hour, Zone: paris}, {Name: "prod", QuietCron: "0 0 2 * * *", Zone: paris}, {Name: "prod", QuietCron: "0 0 2 * * *", QuietFor: time.Hour},
	} {
		if _, err := newSetup([]Cluster{c}); err == nil || !strings.Contains(err.Error(), "quiet times of cluster prod") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
