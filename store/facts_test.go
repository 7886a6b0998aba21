package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/store"
)

// A fleet of any size must leave drydock's machine time for its jobs, and no server may be left alone for long.
func TestServersAreAskedLessOftenWhenThereAreThousands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ticker  time.Duration
		servers int
		want    time.Duration
	}{
		{0, 0, 10 * time.Second}, {2 * time.Second, 1, 10 * time.Second}, {time.Minute, 1, time.Minute}, {2 * time.Second, 3000, 10 * time.Second},
		{2 * time.Second, 6000, 20 * time.Second}, {2 * time.Second, 10_000, 30 * time.Second}, {time.Minute, 60_000, time.Minute},
	} {
		if got := store.AskedEvery(c.ticker, c.servers); got != c.want {
			t.Errorf("%d servers and a ticker of %s: every %s, want %s", c.servers, c.ticker, got, c.want)
		}
	}
}

func TestALongTableDictionaryIsKeptInParts(t *testing.T) {
	t.Parallel()
	d := store.NewDocs(bustest.Start(t))
	ctx := bustest.Context(t)
	if _, ok, err := d.Tables(ctx, "prod", slot.Server); ok || err != nil {
		t.Errorf("a dictionary out of nothing: %v", err)
	}
	all := store.Tables{Taken: time.Now().UTC(), Count: 8000, Tables: map[string]store.Table{}}
	for i := range all.Count {
		all.Tables[fmt.Sprintf("schema_with_a_long_name.table_with_a_long_name_%d", i)] = store.Table{Engine: "InnoDB", Collation: "utf8mb4_general_ci", Columns: "0123456789abcdef", Rows: int64(i)}
	}
	if err := d.PutTables(ctx, "prod", slot.Server, all); err != nil {
		t.Fatal(err)
	}
	got, ok, err := d.Tables(ctx, "prod", slot.Server)
	if err != nil || !ok || len(got.Tables) != all.Count || got.Parts < 2 {
		t.Fatalf("%d tables in %d parts, %v, %v", len(got.Tables), got.Parts, ok, err)
	}
	// A dictionary of which a part is missing must not look like one from which tables were removed.
	if err := d.Put(ctx, "prod", slot.Server, store.DocTables+"-b2", store.Tables{Taken: time.Now().UTC().Add(time.Second)}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := d.Tables(ctx, "prod", slot.Server); ok || err != nil {
		t.Errorf("half a dictionary is taken for a whole one, %v", err)
	}
}

// Cut at any moment, a new dictionary is there or the old one is, whole.
func TestADictionaryCutWhileItIsWrittenLeavesTheOldOne(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	d := store.NewDocs(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // it writes megabytes, and the machine may be busy
	t.Cleanup(cancel)
	kv, err := conn.Bucket(ctx, bus.BucketState)
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{1400, 800} // five parts, three parts
	options := strings.Repeat("x", 2000)
	var last int
	cuts := 0
	for round := range 12 {
		now := store.Tables{Taken: time.Now().UTC(), Count: sizes[round%2], Tables: map[string]store.Table{}}
		for i := range now.Count {
			now.Tables[fmt.Sprintf("a.t%d", i)] = store.Table{Options: options}
		}
		writing, cut := context.WithCancel(ctx)
		writes, after := 0, 1+round/2 // the first two are not cut
		sub, err := conn.NC.Subscribe("$KV."+bus.BucketState+".>", func(*nats.Msg) {
			if writes++; round >= 2 && writes == after {
				cut()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.PutTables(writing, "prod", slot.Server, now); err == nil {
			last = now.Count
		} else {
			cuts++
		}
		cut()
		_ = sub.Unsubscribe()
		got, ok, err := d.Tables(ctx, "prod", slot.Server)
		if err != nil || !ok || len(got.Tables) != last && len(got.Tables) != now.Count {
			t.Fatalf("round %d: %d tables, %v, %v; %d before, %d written", round, len(got.Tables), ok, err, last, now.Count)
		}
		last = len(got.Tables)
	}
	if cuts == 0 {
		t.Error("no write was cut")
	}
	if left, err := kv.Keys(ctx); err != nil || len(left) > 10 {
		t.Errorf("documents %v, %v", left, err)
	}
}
