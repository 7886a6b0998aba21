package store_test

import (
	"fmt"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/store"
)

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
	part := store.Tables{Taken: time.Now().UTC().Add(time.Second)}
	if err := d.Put(ctx, "prod", slot.Server, store.DocTables+"-2", part); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := d.Tables(ctx, "prod", slot.Server); ok || err != nil {
		t.Errorf("half a dictionary is taken for a whole one, %v", err)
	}
}
