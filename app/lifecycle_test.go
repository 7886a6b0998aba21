package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestPartsStopInReverseAndOneAfterTheOther(t *testing.T) {
	t.Parallel()
	l := newLifecycle(quiet)
	var order []string // written by one part at a time, which is what is tested
	for _, name := range []string{"bus", "receiver", "gateway"} {
		l.onStop(name, func() error {
			order = append(order, name)
			return nil
		})
	}
	if err := l.stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "gateway receiver bus" {
		t.Errorf("stopped in the order %s: intake must end before what is behind it", got)
	}
	if err := l.stop(context.Background()); err != nil {
		t.Errorf("a second stop: %v", err)
	}
}

func TestAPartThatEndsByItselfEndsTheProcessAndIsNamed(t *testing.T) {
	t.Parallel()
	l := newLifecycle(quiet)
	boom := errors.New("boom")
	l.start("scheduler", func(context.Context) error { return boom })
	if err := l.wait(context.Background()); !errors.Is(err, boom) || !strings.Contains(err.Error(), "scheduler") {
		t.Errorf("wait gives %v", err)
	}
	_ = l.stop(context.Background())
}

// A gateway that fails before it serves must end the start: nobody else would ever say that it is up.
func TestAPartThatEndsByItselfEndsTheWaitForIt(t *testing.T) {
	t.Parallel()
	l := newLifecycle(quiet)
	boom := errors.New("boom")
	l.start("gateway", func(context.Context) error { return boom })
	if err := l.await(context.Background(), make(chan struct{})); !errors.Is(err, boom) || !strings.Contains(err.Error(), "gateway") {
		t.Errorf("await gives %v", err)
	}
	_ = l.stop(context.Background())
}

func TestASecondSignalCutsAStopThatHangs(t *testing.T) {
	t.Parallel()
	l := newLifecycle(quiet)
	release := make(chan struct{})
	defer close(release)
	l.onStop("stuck", func() error { <-release; return nil })
	cut, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.stop(cut); err == nil || !strings.Contains(err.Error(), "stuck") {
		t.Errorf("stop gives %v", err)
	}
}
