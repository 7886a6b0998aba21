package store

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Drill is one try to restore a backup into a scratch server.
type Drill struct {
	Time    time.Time `json:"time"`              // when it ended
	By      string    `json:"by"`                // who asked for it
	Problem string    `json:"problem,omitempty"` // why the backup does not restore; empty when it does
	Restore float64   `json:"restore_s"`         // seconds until the server had all of it
	Check   float64   `json:"check_s"`           // seconds of looking through its tables
	Version string    `json:"version,omitempty"` // of the scratch server
	Tables  int       `json:"tables"`
	Rows    int64     `json:"rows"`
	// Compared are the tables that were looked for because the server had them before and after the backup; 0: not compared.
	Compared int `json:"compared,omitempty"`
	// Skipped are the tables that were not looked at, because the scratch server does not have their engines.
	Skipped Skipped `json:"skipped,omitzero"`
}

// Skipped counts tables and names the first of them.
type Skipped struct {
	Count int      `json:"count"`
	First []string `json:"first"`
}

// skippedNamed is how many of them have a name in the catalogue.
const skippedNamed = 5

// SkippedOf counts the tables of a list.
func SkippedOf(names []string) Skipped {
	if len(names) == 0 {
		return Skipped{}
	}
	return Skipped{len(names), slices.Clone(names[:min(len(names), skippedNamed)])}
}

// String is for people; empty for none.
func (s Skipped) String() string {
	if s.Count == 0 {
		return ""
	}
	text := fmt.Sprintf("not looked at, for want of their engines: %d tables, %s", s.Count, strings.Join(s.First, ", "))
	if s.Count > len(s.First) {
		text += ", ..."
	}
	return text
}

// drillsKept bounds what is remembered of a backup's drills: the last ones.
const drillsKept = 10

func lastDrills(list []Drill) []Drill { return list[max(0, len(list)-drillsKept):] }

// Restored is the newest drill, if it restored the backup and nothing has been found wrong with it since ([Manifest.Fault]).
func (m Manifest) Restored() (d Drill, ok bool) {
	if len(m.Drills) == 0 {
		return Drill{}, false
	}
	_, bad := m.Fault()
	return m.Drills[len(m.Drills)-1], !bad
}
