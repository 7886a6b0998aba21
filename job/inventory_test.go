package job

import (
	"fmt"
	"testing"
)

// A backup must not be blamed for a table that came, went or was made anew while it was taken.
func TestOnlyWhatLastedThroughABackupMustBeInIt(t *testing.T) {
	t.Parallel()
	innodb := func(name, made string, rows int64, any bool) Listed {
		return Listed{Schema: "shop", Name: name, Engine: "InnoDB", Made: made, Rows: rows, Any: any}
	}
	counted := func(engine, name, changed string, rows int64) Listed {
		return Listed{Schema: "shop", Name: name, Engine: engine, Made: "1", Changed: changed, Rows: rows, Any: true}
	}
	myisam := func(name, changed string, rows int64) Listed { return counted("MyISAM", name, changed, rows) }
	// Aria does not tell when it was written to: what it has in its cache does not change the time of the file.
	aria := []Listed{counted("Aria", "aria", "7", 12), counted("Aria", "large aria", "7", 1200)}
	before := []Listed{
		innodb("stays", "1", 5000, false), innodb("dropped", "1", 0, false), innodb("renamed", "1", 0, false), innodb("made anew", "1", 0, false),
		innodb("emptied", "1", 5000, false), innodb("few", "1", 3, false), innodb("ageless", "", 3, false),
		myisam("exact", "7", 12), myisam("written", "7", 12), myisam("after a restart", "", 12),
	}
	after := []Listed{
		innodb("stays", "1", 4000, true), innodb("created", "9", 0, false), innodb("new name", "1", 0, false), innodb("made anew", "9", 0, false),
		innodb("emptied", "1", 5000, false), innodb("few", "1", 4, true), innodb("ageless", "", 3, false),
		myisam("exact", "7", 12), myisam("written", "8", 12), myisam("after a restart", "", 12),
	}
	before, after = append(before, aria...), append(after, aria...)
	inv := Lasting(before, after)
	shop := inv.Schemas["shop"]
	want := map[string]string{"stays": "filled", "emptied": "", "few": "", "exact": "12", "written": "", "after a restart": "", "aria": "", "large aria": "filled"}
	if shop.Count != len(want) || len(shop.Tables) != len(want) || inv.Count() != len(want) {
		t.Errorf("%+v", shop)
	}
	for name, known := range want {
		rows, ok := shop.Tables[name]
		got := ""
		if rows.Filled {
			got = "filled"
		}
		if rows.Exact != nil {
			got = fmt.Sprint(*rows.Exact)
		}
		if !ok || got != known {
			t.Errorf("%s: %q, want %q", name, got, known)
		}
	}
	if Lasting(before, nil) != nil || Lasting(nil, after) != nil {
		t.Error("an inventory of nothing")
	}
}

func TestAnInventoryOfThousandsOfTablesFitsIntoAMessage(t *testing.T) {
	t.Parallel()
	var list []Listed
	for i := range 10_000 {
		list = append(list, Listed{Schema: "shop", Name: fmt.Sprintf("table_%06d", i), Engine: "InnoDB", Made: "1"})
	}
	inv := Lasting(list, list)
	if s := inv.Schemas["shop"]; s.Count != 10_000 || s.Tables != nil {
		t.Errorf("%d tables, %d of them named", s.Count, len(s.Tables))
	}
}
