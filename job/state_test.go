package job

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// golden spells the transition table a second time, by state, so that a slip in the one in state.go shows.
var golden = map[State]string{
	Queued:     "offer>available cancel>canceled expire>expired skip>skipped note>queued",
	Available:  "offer>available withdraw>queued claim>claimed start>processing wait>waiting done>finished error>halted cut>halted cancel>canceled expire>expired note>available",
	Claimed:    "withdraw>queued release>available start>processing wait>waiting done>finished error>halted cut>halted cancel>canceled note>claimed",
	Processing: "start>processing wait>waiting done>finished error>halted cut>halted cancel>canceled note>processing",
	Waiting:    "start>processing wait>waiting done>finished error>halted cut>halted cancel>canceled note>waiting",
	Finished:   "start>finished done>finished error>failed cut>failed pass>success refute>failed cancel>canceled note>finished",
	Success:    "done>success pass>success note>success",
	Halted:     "error>halted cut>halted retry>queued note>halted",
	Failed:     "error>failed refute>failed retry>queued note>failed",
	Canceled:   "cancel>canceled note>canceled",
	Expired:    "expire>expired retry>queued note>expired",
	Skipped:    "skip>skipped note>skipped",
}

func TestEveryPairOfStateAndEventIsDecided(t *testing.T) {
	t.Parallel()
	for _, s := range States {
		got := ""
		for _, e := range Events {
			to, err := Next(s, e)
			if err == nil {
				got += string(e) + ">" + string(to) + " "
			} else if !errors.Is(err, ErrTransition) || to != s {
				t.Errorf("Next(%s, %s) = %s, %v: a refused event must keep the state and wrap ErrTransition", s, e, to, err)
			}
		}
		if !slices.Equal(words(got), words(golden[s])) {
			t.Errorf("from %s:\n got %s\nwant %s", s, got, golden[s])
		}
	}
	if _, err := Next("nonsense", Note); err == nil {
		t.Error("an unknown state took an event")
	}
}

func TestNothingLeavesATerminalStateButARetry(t *testing.T) {
	t.Parallel()
	for _, s := range States {
		if s.Live() {
			continue
		}
		for _, e := range Events {
			if to, err := Next(s, e); err == nil && to != s && e != Retry {
				t.Errorf("%s leaves the terminal state %s for %s", e, s, to)
			}
		}
	}
}

func TestRowCodesFollowTheProtocol(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code int
		done bool
		want Event
		ok   bool
	}{
		{0, false, "", false}, {1, false, Start, true}, {2, false, Wait, true}, {3, true, Done, true},
		{3, false, Done, true}, {4, true, Done, true},
		{5, false, Error, true}, // wire.md section 4: terminal, not still running
		{5, true, Error, true}, {6, false, Error, true}, {1, true, Done, true},
	} {
		if e, ok := EventOfRow(c.code, c.done); e != c.want || ok != c.ok {
			t.Errorf("EventOfRow(%d, %v) = %q, %v; want %q, %v", c.code, c.done, e, ok, c.want, c.ok)
		}
	}
	codes := map[State]int{Available: 0, Claimed: 0, Processing: 1, Waiting: 2, Finished: 3, Success: 4, Halted: 5, Failed: 6}
	for s, want := range codes {
		if got, ok := s.SQLCode(); !ok || got != want {
			t.Errorf("%s has code %d, %v; want %d", s, got, ok, want)
		}
	}
	if _, ok := Queued.SQLCode(); ok {
		t.Error("a queued job has no row")
	}
}

func TestTaskNamesFitTheTable(t *testing.T) {
	t.Parallel()
	for _, task := range Tasks() {
		if len(task.Name) > MaxName {
			t.Errorf("task %q is longer than VARCHAR(%d)", task.Name, MaxName)
		}
		if task.Kind == KindLog && task.LogFile == "" {
			t.Errorf("log task %q has no file", task.Name)
		}
	}
	if got, err := LogName("flashbackmariadbackup"); err != nil || got != "flashbackmariabackup" {
		t.Errorf("the misspelt alias resolves to %q, %v", got, err)
	}
	if _, err := LogName("../main"); !errors.Is(err, ErrUnknownTask) {
		t.Errorf("a made-up log name gives %v", err)
	}
}

func TestIDsSortByTimeAndDoNotChangeOnRedelivery(t *testing.T) {
	t.Parallel()
	key := Key{"prod", Server{"10.0.1.5", 3306}, "optimize"}
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	a, again, later := NewID(at, "t1", key), NewID(at, "t1", key), NewID(at.Add(time.Millisecond), "t0", key)
	if a != again {
		t.Error("the same tick gave two ids")
	}
	if a >= later {
		t.Errorf("%s does not sort before %s", a, later)
	}
	other := key
	other.Server.Port++
	if NewID(at, "t1", other) == a {
		t.Error("two servers share an id")
	}
	if got, err := TimeOfID(a); err != nil || !got.Equal(at) {
		t.Errorf("TimeOfID = %v, %v", got, err)
	}
	if _, err := TimeOfID("../../etc/passwd-aaaaaaaaaa"); err == nil {
		t.Error("a path passed as an id")
	}
}

func TestNothingEndsAJobWhoseStreamIsBeingPublished(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	j := Job{State: Finished, Attempt: 1, Proven: now}
	for _, e := range []Event{Cancel, Error, Cut} {
		if next, _, err := j.Advance(e, "late", "x", now); !errors.Is(err, ErrTransition) {
			t.Errorf("%s makes it %s: a published backup would belong to a job that did not succeed", e, next.State)
		}
	}
	for e, want := range map[Event]State{Pass: Success, Refute: Failed, Done: Finished} {
		if next, _, err := j.Advance(e, "", "x", now); err != nil || next.State != want {
			t.Errorf("%s gives %s, %v", e, next.State, err)
		}
	}
}

func TestAnOfferTakenBackForgetsWhatItsTakerSent(t *testing.T) {
	t.Parallel()
	for from, e := range map[State]Event{Available: Withdraw, Claimed: Release} {
		j := Job{State: from, Attempt: 1, Dispatch: Dispatch{Port: 1}, Stream: &Stream{Complete: true}, Evidence: Evidence{Completed: true}}
		if next, _, err := j.Advance(e, "", "x", time.Now()); err != nil || next.Stream != nil || next.Evidence.Completed || next.Dispatch.Port != 0 {
			t.Errorf("%s: %+v, %v", e, next, err)
		}
	}
}

func TestAJobBehindAGateIsNotOfferedWhateverADispatcherBelieves(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	j := Job{State: Queued, Attempt: 1, Gate: GateHold, NotBefore: now}
	if next, _, err := j.Advance(Offer, "", "x", now); !errors.Is(err, ErrTransition) {
		t.Errorf("it was offered: %+v", next)
	}
	for e, want := range map[Event]State{Cancel: Canceled, Expire: Expired, Skip: Skipped} {
		if next, _, err := j.Advance(e, "", "x", now); err != nil || next.State != want || next.Gate != "" || !next.NotBefore.IsZero() {
			t.Errorf("%s gives %+v, %v", e, next, err)
		}
	}
	j.Gate = ""
	if next, _, err := j.Advance(Offer, "", "x", now); err != nil || next.State != Available {
		t.Errorf("behind an open gate: %+v, %v", next, err)
	}
}

func TestServersAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Server{
		"db1": {"db1", 0}, "DB1:3307": {"db1", 3307}, "10.0.0.1:1": {"10.0.0.1", 1},
		"::1": {"::1", 0}, "[::1]": {"::1", 0}, "[fe80::1]:3306": {"fe80::1", 3306},
	} {
		if got, err := ParseServer(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", ":3306", "db1:3306abc", "db1:0", "db1:65536", "db1:", "[::1]:x", "a/b"} {
		if got, err := ParseServer(text); !errors.Is(err, ErrServer) {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

func TestRetryStartsCleanAndCountsAttempts(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	j := Job{State: Halted, Attempt: 1, Dispatch: Dispatch{Port: 4000}, Stream: &Stream{Bytes: 5}, Evidence: Evidence{Completed: true}}
	j, changed, err := j.Advance(Retry, "again", "sweeper", now)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	if j.Attempt != 2 || j.State != Queued || j.Stream != nil || j.Evidence.Completed || j.Dispatch.Port != 0 {
		t.Errorf("the evidence of attempt 1 would vouch for attempt 2: %+v", j)
	}
	j.Steps = append([]Step{{State: Processing, Event: Start, Time: now.Add(-time.Hour)}}, j.Steps...)
	if !j.Started().IsZero() {
		t.Error("attempt 2 seems to run since attempt 1 began")
	}
}

func words(s string) []string {
	out := strings.Fields(s)
	slices.Sort(out)
	return out
}
