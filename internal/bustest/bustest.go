// Package bustest starts a real embedded bus for one test.
package bustest

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/bus"
)

// Main runs the tests of a package, and fails when they leave a goroutine behind. The client library's last one ends by itself.
func Main(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go.(*Conn).Close.func1"))
}

// Start gives a connection to a fresh embedded server with every stream declared. Both end with the test.
func Start(t testing.TB) *bus.Conn {
	t.Helper()
	_, c := StartServer(t, bus.ServerConfig{})
	return c
}

// StartServer is [Start] with a server the test can look at; empty fields of cfg get test defaults.
func StartServer(t testing.TB, cfg bus.ServerConfig) (*bus.Server, *bus.Conn) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.MaxStore == 0 {
		cfg.MaxStore = 16 << 30
	}
	if cfg.User == "" {
		cfg.User, cfg.Password = "drydock", "test"
	}
	if cfg.Log == nil {
		cfg.Log = Log(t)
	}
	s, err := bus.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := bus.ConnectInProcess(s, t.Name(), cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.NC.Close() })
	if err := c.Declare(Context(t), bus.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// Patience is how many times longer than they say [Context] and [Until] wait. It is set before the tests begin, where what they
// wait for is more than one process on one bus.
var Patience time.Duration = 1

// Run runs services until stop is called or the test ends, and waits for all of them. An error of one fails the test.
func Run(t testing.TB, services ...func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range services {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// Context ends with the test, or after a minute.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Log discards what the code under test logs.
func Log(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// Until waits until ok answers true, and fails the test when it does not within d. Of most of that time what is waited
// for has the processors: the longer a look takes, the fewer there are, down to some in a second.
func Until(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	d *= Patience
	const often, seldom, share = 5 * time.Millisecond, 100 * time.Millisecond, 4
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for {
		began := time.Now()
		if ok() {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s", d, what)
		case <-time.After(min(max(often, share*time.Since(began)), seldom)):
		}
	}
}
