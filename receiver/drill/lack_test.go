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
	if len(got) != 6 || found.lacks(nil) != nil {
		t.Errorf("%q", got)
	}
}
