package binlog

import (
	"fmt"
	"testing"

	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
)

func TestArchiveAndReplay(t *testing.T) {
	a, b := mariadbdtest.Pair(t, mariadbd.Options{Password: password, Extra: []string{"max_binlog_size=64K"}})
	g := newRig(t, a, b)
	g.primary(a)
	r := g.start("one")
	run(t, a, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB")
	var mid string
	for i := range 300 {
		run(t, a, fmt.Sprintf("INSERT INTO shop.t VALUES (%d, REPEAT('x', 1000))", i))
		if i == 149 {
			mid = one(t, a, "SELECT @@gtid_binlog_pos")
			r.kill()
			r = g.start("one")
		}
	}
	g.archived(a)
	r.stop()
	for _, s := range g.segments() {
		t.Log(s.ID(), s.Prev, s.Start, s.End, s.Before, s.After, s.Stored, s.Size, s.Open, s.Gap)
	}
	s, to := g.target()
	p := g.replay(Base{Server: serverOf(a), File: "binlog.000001", Pos: 4}, Until{GTID: mid}, to)
	t.Log(p.Transactions, p.GTID, p.Last, p.Bytes)
	t.Log(one(t, s, "SELECT COUNT(*) FROM shop.t"))
}
