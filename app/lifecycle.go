package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// stopTimeout bounds how long one part may take to end; parts that drain have their own, shorter, bounds.
const stopTimeout = 2 * time.Minute

// part is one running piece of the process.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed by the part's goroutine after err is set
	err    error
}

// lifecycle starts parts in order and stops them in the reverse order, one after the other, so that intake ends before
// the work behind it. Not safe for concurrent use, but for failed.
type lifecycle struct {
	log    *slog.Logger
	parts  []*part
	failed chan *part // a part that ended by itself; one send at most per part, so its length suffices
}

func newLifecycle(log *slog.Logger) *lifecycle {
	const manyParts = 32
	return &lifecycle{log: log, failed: make(chan *part, manyParts)}
}

// start runs f until stop, or until it ends by itself, which ends the process.
func (l *lifecycle) start(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	l.parts = append(l.parts, p)
	go func() {
		defer close(p.done)
		p.err = f(ctx)
		if ctx.Err() == nil {
			l.failed <- p
		}
	}()
}

// onStop registers what is only there to be closed.
func (l *lifecycle) onStop(name string, f func() error) {
	l.start(name, func(ctx context.Context) error {
		<-ctx.Done()
		return f()
	})
}

// wait blocks until ctx ends (nil) or a part ends by itself (its error).
func (l *lifecycle) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case p := <-l.failed:
		<-p.done
		if p.err == nil {
			return fmt.Errorf("%s ended by itself", p.name)
		}
		return fmt.Errorf("run %s: %w", p.name, p.err)
	}
}

// stop ends every part, last started first. cut, when it ends, gives up waiting.
func (l *lifecycle) stop(cut context.Context) error {
	var errs []error
	for i := len(l.parts) - 1; i >= 0; i-- {
		p := l.parts[i]
		began := time.Now()
		p.cancel()
		timeout := time.NewTimer(stopTimeout)
		select {
		case <-p.done:
			if p.err != nil && !errors.Is(p.err, context.Canceled) {
				errs = append(errs, fmt.Errorf("stop %s: %w", p.name, p.err))
			}
		case <-timeout.C:
			errs = append(errs, fmt.Errorf("stop %s: still running after %s", p.name, stopTimeout))
		case <-cut.Done():
			errs = append(errs, fmt.Errorf("stop %s: cut short", p.name))
		}
		timeout.Stop()
		l.log.Debug("stopped", "part", p.name, "elapsed", time.Since(began).Round(time.Millisecond))
	}
	l.parts = nil
	return errors.Join(errs...)
}

// together runs all of them until ctx ends or one fails, and waits for every one.
func together(ctx context.Context, runs ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(runs))
	var wg sync.WaitGroup
	for i, run := range runs {
		wg.Go(func() {
			defer cancel()
			errs[i] = run(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
