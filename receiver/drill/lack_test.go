package drill

import (
	"slices"
	"strings"
	"testing"

	"drydock/job"
)

func TestWhatTheServerHadAndTheRestoredOneHasNotIsFound(t *testing.T) {
	t.Parallel()
	two := int64(2)
	found := finds{}
	for n, rows := range map[name]int64{{"shop", "a"}: 5, {"shop", "Exact"}: 2, {"shop", "wrong"}: 3, {"shop", "empty"}: 0, {"shop", "broken"}: -1, {"many", "x"}: 1} {
		found.add(n, rows)
	}
	want := &job.Inventory{Schemas: map[string]job.Schema{
		"SHOP": {Count: 7, Tables: map[string]job.Rows{
			"a": {}, "exact": {Exact: &two}, "wrong": {Exact: &two}, "empty": {Filled: true}, "broken": {Exact: &two}, "gone": {}, "b": {},
		}},
		"many": {Count: 2}, "none": {Count: 1},
	}}
	got := found.lacks(want)
	for i, said := range []string{"`SHOP`.`b` is missing", "`SHOP`.`empty` is empty", "`SHOP`.`gone` is missing", "`SHOP`.`wrong` has 3 rows, and 2", "`many` has 1 tables, and the server had 2", "`none` has 0 tables"} {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, said) }) {
			t.Errorf("%d: nothing about %s in %q", i, said, got)
		}
	}
	// A server may tell one case from the other, and have both.
	both := finds{}
	both.add(name{"two", "t"}, 5)
	both.add(name{"two", "T"}, 2)
	if lacks := both.lacks(&job.Inventory{Schemas: map[string]job.Schema{"two": {Count: 2, Tables: map[string]job.Rows{"T": {Exact: &two}, "t": {}}}}}); lacks != nil {
		t.Errorf("two names that differ in case: %q", lacks)
	}
	if lacks := both.lacks(&job.Inventory{Schemas: map[string]job.Schema{"two": {Count: 2}}}); lacks != nil {
		t.Errorf("two names that differ in case, counted: %q", lacks)
	}
	if len(got) != 6 || found.lacks(nil) != nil {
		t.Errorf("%q", got)
	}
}
