package drill

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"drydock/job"
)

// name is that of a table.
type name struct{ schema, table string }

// String is the name as SQL has it.
func (n name) String() string { return ident(n.schema) + "." + ident(n.table) }

// finds are the restored tables with their rows, negative when they could not be counted.
type finds map[string]map[string]int64

func (f finds) add(n name, rows int64) {
	if f[n.schema] == nil {
		f[n.schema] = map[string]int64{}
	}
	f[n.schema][n.table] = rows
}

// look is what has a name: as it is written, or else in other letters, as the origin may not have told one case from the other.
func look[V any](in map[string]V, name string) (v V, ok bool) {
	if v, ok = in[name]; ok {
		return v, true
	}
	for other, v := range in {
		if strings.EqualFold(other, name) {
			return v, true
		}
	}
	return v, false
}

// lacks is what an inventory has and the restored server has not, sorted. It is pure.
func (f finds) lacks(want *job.Inventory) (out []string) {
	if want == nil {
		return nil
	}
	for _, schema := range slices.Sorted(maps.Keys(want.Schemas)) {
		w := want.Schemas[schema]
		has, _ := look(f, schema)
		if len(w.Tables) == 0 && len(has) < w.Count {
			out = append(out, fmt.Sprintf("schema %s has %d tables, and the server had %d before and after the backup", ident(schema), len(has), w.Count))
		}
		for _, table := range slices.Sorted(maps.Keys(w.Tables)) {
			n := name{schema, table}
			rows, there := look(has, table)
			switch known := w.Tables[table]; {
			case !there:
				out = append(out, n.String()+" is missing, and the server had it before and after the backup")
			case known.Exact != nil && rows >= 0 && rows != *known.Exact:
				out = append(out, fmt.Sprintf("%s has %d rows, and %d on the server before and after the backup", n, rows, *known.Exact))
			case known.Filled && rows == 0:
				out = append(out, n.String()+" is empty, and the server had thousands of rows in it before and after the backup")
			}
		}
	}
	return out
}
