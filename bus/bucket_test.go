package bus_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/internal/bustest"
)

// stacks are those of all goroutines.
func stacks() string {
	all := make([]byte, 16<<20)
	return string(all[:runtime.Stack(all, true)])
}

// The catalogue is read with each backup that ends, and for each page that somebody leaves before it is there. A reading that is cut short
// stops the library with a value in hand that nobody takes: a goroutine, and all that it holds, would stay for as long as the process.
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
	// stuck is until the library has a value in hand that nobody takes.
	stuck := func() {
		bustest.Until(t, 10*time.Second, "more came than is taken", func() bool {
			return regexp.MustCompile(`\[chan send[^\n]*\n[^\n]*WatchFiltered`).MatchString(stacks())
		})
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
		{ctx, 1, func() error { stuck(); return enough }, enough},
		{cut, 1, func() error { stuck(); cancel(); return nil }, context.Canceled},
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
		now := stacks()
		return !strings.Contains(now, "(*js).subscribe") && !strings.Contains(now, "WatchFiltered")
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
