package bus_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"drydock/bus"
	"drydock/internal/bustest"
)

// startOther starts a nats-server that is not drydock's, by its configuration.
func startOther(t *testing.T, text string) (*server.Server, *server.Options) {
	t.Helper()
	opts := &server.Options{NoSigs: true, NoLog: true}
	if err := opts.ProcessConfigString(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("it does not start")
	}
	return srv, opts // with the ports that it chose
}

func connectTo(t *testing.T, url string) *bus.Conn {
	t.Helper()
	c, err := bus.ConnectRemote(bus.Remote{URL: url, User: "drydock", Password: "test"}, t.Name(), bustest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.NC.Close() })
	return c
}

// The processes of another site talk to a leaf node there (docs/install.md). Everything that is compared and swapped at the hub must be so
// through the leaf, groups of writes included, and what is written on one side must be seen on the other.
func TestBehindALeafTheBusIsTheSame(t *testing.T) {
	t.Parallel()
	// Without the domain neither side lets JetStream through to the other.
	const rest = "default_js_domain { D: \"\" }\nlisten: 127.0.0.1:-1\n"
	const users = "users = [{user: drydock, password: test}]"
	hub, opts := startOther(t, fmt.Sprintf(rest+"jetstream { store_dir: %q, max_file: 64GB, sync_interval: always }\naccounts { D { jetstream: enabled, %s } }\nleafnodes { listen: 127.0.0.1:-1 }", t.TempDir(), users))
	leaf, _ := startOther(t, fmt.Sprintf(rest+"accounts { D { %s } }\nleafnodes { remotes = [{url: \"nats-leaf://drydock:test@127.0.0.1:%d\", account: D}] }",
		users, opts.LeafNode.Port))
	here, there := connectTo(t, leaf.ClientURL()), connectTo(t, hub.ClientURL())
	ctx := bustest.Context(t)
	bustest.Until(t, 30*time.Second, "the leaf reaches the hub", func() bool { return here.Ready(ctx) == nil })
	if err := here.Declare(ctx, bus.DefaultLimits()); err != nil {
		t.Fatal(err)
	}

	heard := make(chan note, 1000)
	following, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- bus.Follow(following, there, bus.StreamJobs, bus.AllJobs, bus.From{LastPerSubject: true}, func(_ bus.Meta, n note) error { heard <- n; return nil }, func() {})
	}()
	t.Cleanup(func() { stop(); <-done })
	var wg sync.WaitGroup
	for slot := range 100 {
		wg.Go(func() {
			subject := bus.JobSubject("c", "h", slot, "optimize")
			seq, err := here.Append(ctx, bus.StreamJobs, subject, bus.NewMessageID(), 0, note{slot})
			if err == nil {
				_, err = there.Append(ctx, bus.StreamJobs, subject, bus.NewMessageID(), seq, note{slot})
			}
			if err != nil {
				t.Error(err)
			}
			if _, err := here.Append(ctx, bus.StreamJobs, subject, bus.NewMessageID(), seq, note{-1}); err == nil {
				t.Error("a swap on an old state was let through")
			}
		})
	}
	wg.Wait()
	for range 100 {
		select {
		case n := <-heard:
			if n.N < 0 {
				t.Error("a refused write was heard of")
			}
		case <-ctx.Done():
			t.Fatal("the other side hears nothing")
		}
	}
	kv, err := here.Bucket(ctx, bus.BucketCatalog)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(ctx, "prod.h.1.b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(ctx, "prod.h.1.b", []byte("y")); err == nil {
		t.Error("a key was made twice")
	}
	if kv, err = there.Bucket(ctx, bus.BucketCatalog); err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(ctx, "prod.h.1.b"); err != nil || string(e.Value()) != "x" {
		t.Errorf("%v, %v", e, err)
	}
	told := make(chan note, 1000)
	sub, err := bus.Listen(there, bus.ProgressSubject("c", "h", 1, "optimize"), func(n note) { told <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	bustest.Until(t, 30*time.Second, "what is not stored is heard as well", func() bool {
		if err := here.Publish(bus.ProgressSubject("c", "h", 1, "optimize"), note{1}); err != nil {
			t.Fatal(err)
		}
		return len(told) > 0
	})
}
