package job

import (
	"encoding/json"
)

// Inventory is what the server of a backup held both before and after it, unchanged in its making, and what must therefore be
// in it. Tables that came, went, were renamed or made anew meanwhile are in no inventory, nor are those of the server itself
// and those of engines that not every backup takes.
type Inventory struct {
	Schemas map[string]Schema `json:"schemas"`
}

// Schema is a part of an [Inventory].
type Schema struct {
	Count int `json:"count"` // of its tables
	// Tables are those tables by name; nil where they are too many to be kept.
	Tables map[string]Rows `json:"tables,omitempty"`
}

// Rows is what is known of the rows of a table. The zero value is nothing.
type Rows struct {
	Exact  *int64 `json:"exact,omitempty"`  // so many, before and after
	Filled bool   `json:"filled,omitempty"` // thousands by the server's estimate, before and after, and not none after
}

// Listed is one table as a server tells of it.
type Listed struct {
	Schema  string `json:"s"`
	Name    string `json:"n"`
	Engine  string `json:"e"`
	Made    string `json:"m"`           // CREATE_TIME as the server spells it; empty when it does not know
	Changed string `json:"u,omitempty"` // UPDATE_TIME
	Rows    int64  `json:"r"`           // exact for engines that count them, else an estimate
	Any     bool   `json:"a,omitempty"` // a row was seen in it
}

// manyRows is from which estimate on a table is not empty by mistake of the estimate alone.
const manyRows = 1000

// maxNamed bounds the JSON of the names of an inventory, in bytes: it stands in messages of the bus.
const maxNamed = 64 << 10

// Counts reports whether the server tells exactly how many rows a table has, and when it was written to last. Aria does the one only:
// what it holds in its cache does not change the time of its file.
func (l Listed) Counts() bool { return l.Engine == "MyISAM" }

// Many reports whether the table has so many rows that it cannot be empty.
func (l Listed) Many() bool { return l.Rows >= manyRows }

// Lasting is the inventory of what stands in both lists. It is pure; nil when that is nothing.
func Lasting(before, after []Listed) *Inventory {
	type name struct{ schema, table string }
	was := map[name]Listed{}
	for _, l := range before {
		was[name{l.Schema, l.Name}] = l
	}
	inv := &Inventory{Schemas: map[string]Schema{}}
	for _, l := range after {
		b, ok := was[name{l.Schema, l.Name}]
		if !ok || l.Made == "" || l.Made != b.Made || l.Engine != b.Engine {
			continue
		}
		s, ok := inv.Schemas[l.Schema]
		if !ok {
			s.Tables = map[string]Rows{}
		}
		var rows Rows
		switch {
		case l.Counts() && l.Rows == b.Rows && l.Changed != "" && l.Changed == b.Changed:
			rows.Exact = &l.Rows
		case !l.Counts() && b.Many() && l.Many() && l.Any:
			rows.Filled = true
		}
		s.Count++
		s.Tables[l.Name] = rows
		inv.Schemas[l.Schema] = s
	}
	if len(inv.Schemas) == 0 {
		return nil
	}
	if text, err := json.Marshal(inv); err != nil || len(text) > maxNamed {
		return inv.Brief()
	}
	return inv
}

// Brief is the inventory without the names of tables.
func (i *Inventory) Brief() *Inventory {
	if i == nil {
		return nil
	}
	out := &Inventory{Schemas: map[string]Schema{}}
	for name, s := range i.Schemas {
		out.Schemas[name] = Schema{Count: s.Count}
	}
	return out
}

// Count is how many tables there are in it.
func (i *Inventory) Count() (n int) {
	if i == nil {
		return 0
	}
	for _, s := range i.Schemas {
		n += s.Count
	}
	return n
}
