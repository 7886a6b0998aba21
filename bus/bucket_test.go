package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/internal/bustest"
)

// The catalogue is read with each backup that ends and each page that somebody leaves before it is there. What the library keeps for a
// reading, its goroutines and all that they hold, would stay for as long as the process: one for each, and another for each that was
// cut short.
func TestAReadingOfABucketLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	const values = 600 // the library has room for 256 that nobody took
	kv, err := c.Bucket(ctx, bus.BucketState)
	if err != nil {
		t.Fatal(err)
	}
	for i := range values {
		if _, err := kv.Put(ctx, fmt.Sprint("c.h.t.", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	enough := errors.New("enough")
	cut, cancel := context.WithCancel(ctx)
	for _, reading := range []struct {
		ctx  context.Context
		upTo int
		end  func() error
		want error
	}{
		{ctx, values, nil, nil},
		{ctx, 1, func() error { return enough }, enough},
		{cut, 1, func() error { cancel(); return nil }, context.Canceled},
	} {
		read := 0
		err := c.Entries(reading.ctx, bus.BucketState, ">", func(jetstream.KeyValueEntry) error {
			if read++; read == reading.upTo && reading.end != nil {
				return reading.end()
			}
			return nil
		})
		if !errors.Is(err, reading.want) || read < reading.upTo {
			t.Errorf("%d of %d read: %v", read, reading.upTo, err)
		}
	}
	bustest.Until(t, 10*time.Second, "nobody works for the readings any more", func() bool {
		var stacks bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
			t.Fatal(err)
		}
		return !bytes.Contains(stacks.Bytes(), []byte("nats.go.(*js).subscribe")) && !bytes.Contains(stacks.Bytes(), []byte("WatchFiltered"))
	})
	stream, _ := bus.BucketStream(bus.BucketState)
	s, err := c.JS.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	if left := s.CachedInfo().State.Consumers; left != 0 {
		t.Errorf("%d consumers are left behind", left)
	}
}
