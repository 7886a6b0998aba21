package local

import (
	"slices"
	"testing"

	"drydock/internal/bustest"
	"drydock/job"
)

// What a real server tells before and after must not make an inventory of a table that was dropped, renamed or made anew.
func TestTablesOfARealServerAreListedBeforeAndAfter(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	runner, _ := r.runner("scheduler@a")
	r.sql(0, "CREATE DATABASE shop", "CREATE TABLE shop.big (i INT PRIMARY KEY) STATS_AUTO_RECALC=0", "INSERT INTO shop.big SELECT seq FROM shop.seq_1_to_5000",
		"ANALYZE TABLE shop.big", "CREATE TABLE shop.plain (i INT) ENGINE=MyISAM", "INSERT INTO shop.plain VALUES (1), (2)",
		"CREATE TABLE shop.hollow LIKE shop.big", "INSERT INTO shop.hollow SELECT * FROM shop.big", "ANALYZE TABLE shop.hollow",
		"CREATE TABLE shop.dropped (i INT)", "CREATE TABLE shop.renamed (i INT)", "CREATE VIEW shop.v AS SELECT 1", "CREATE SEQUENCE shop.s")
	list := func(look bool) []job.Listed {
		t.Helper()
		out, err := runner.List(bustest.Context(t), "lab", r.cluster.Servers[0], look)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := list(false)
	// An estimate goes on to tell of thousands of rows that are gone.
	r.sql(0, "DELETE FROM shop.hollow", "DROP TABLE shop.dropped", "RENAME TABLE shop.renamed TO shop.moved", "CREATE TABLE shop.fresh (i INT)")
	inv := job.Lasting(before, list(true))
	shop := inv.Schemas["shop"]
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range shop.Tables {
			if !yield(name) {
				return
			}
		}
	})
	if !slices.Equal(names, []string{"big", "hollow", "plain"}) || len(inv.Schemas) != 1 {
		t.Fatalf("%+v", inv)
	}
	if !shop.Tables["big"].Filled || shop.Tables["hollow"].Filled || shop.Tables["plain"].Exact == nil || *shop.Tables["plain"].Exact != 2 {
		t.Errorf("%+v", shop)
	}
	if _, err := runner.List(bustest.Context(t), "lab", job.Server{Host: "127.0.0.1", Port: 1}, true); err == nil {
		t.Error("tables of a server that is not there")
	}
}
