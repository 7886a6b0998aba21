package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
)

// The catalogue is read with each backup that ends, and for each page that somebody leaves before it is there. What a reading that is cut
// short leaves behind would stay for as long as the process.
func TestAReadingOfABucketLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	const values = 600 // more than the library has room for that nobody took
	kv, err := c.Bucket(ctx, bus.BucketState)
	if err != nil {
		t.Fatal(err)
	}
	for i := range values {
		if _, err := kv.Put(ctx, fmt.Sprint("c.h.t.", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	enough, before := errors.New("enough"), c.NC.NumSubscriptions()
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
		err := c.Entries(reading.ctx, bus.BucketState, ">", func(bus.Entry) error {
			if read++; read == reading.upTo && reading.end != nil {
				return reading.end()
			}
			return nil
		})
		if !errors.Is(err, reading.want) || read < reading.upTo {
			t.Errorf("%d of %d read: %v", read, reading.upTo, err)
		}
	}
	bustest.Until(t, 10*time.Second, "nobody listens for the readings any more", func() bool { return c.NC.NumSubscriptions() <= before })
	stream, _ := bus.BucketStream(bus.BucketState)
	s, err := c.JS.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	if left := s.CachedInfo().State.Consumers; left != 0 {
		t.Errorf("%d consumers are left behind", left)
	}
}
