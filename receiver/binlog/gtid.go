package binlog

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// GTID names a transaction of MariaDB, as in 0-1-42.
type GTID struct {
	Domain, Server uint32
	Seq            uint64
}

// String implements fmt.Stringer.
func (g GTID) String() string { return fmt.Sprintf("%d-%d-%d", g.Domain, g.Server, g.Seq) }

// ParseGTID reads one GTID of MariaDB.
func ParseGTID(text string) (GTID, error) {
	parts := strings.Split(strings.TrimSpace(text), "-")
	if len(parts) == 3 {
		d, err1 := strconv.ParseUint(parts[0], 10, 32)
		s, err2 := strconv.ParseUint(parts[1], 10, 32)
		n, err3 := strconv.ParseUint(parts[2], 10, 64)
		if err1 == nil && err2 == nil && err3 == nil {
			return GTID{uint32(d), uint32(s), n}, nil
		}
	}
	return GTID{}, fmt.Errorf("%q is no GTID of MariaDB: want DOMAIN-SERVER-NUMBER, as in 0-1-42", text)
}

// State is the last transaction of each domain: a point in a history.
type State map[uint32]GTID

// ParseState reads a list as in 0-1-42,1-1-7; empty is the beginning of all history. Of a domain that is listed twice the last
// one counts.
func ParseState(text string) (State, error) {
	s := State{}
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		g, err := ParseGTID(part)
		if err != nil {
			return nil, err
		}
		s[g.Domain] = g
	}
	return s, nil
}

// stateOf is that of a segment, which drydock wrote: what cannot be read is the beginning.
func stateOf(text string) State {
	s, err := ParseState(text)
	if err != nil {
		return State{}
	}
	return s
}

// String is the list that [ParseState] reads, by domain.
func (s State) String() string {
	list := make([]GTID, 0, len(s))
	for _, g := range s {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b GTID) int { return cmp.Compare(a.Domain, b.Domain) })
	words := make([]string, len(list))
	for i, g := range list {
		words[i] = g.String()
	}
	return strings.Join(words, ",")
}

// Covers reports whether s is at o or later in every domain.
func (s State) Covers(o State) bool {
	for d, g := range o {
		if mine, ok := s[d]; !ok || mine.Seq < g.Seq {
			return false
		}
	}
	return true
}

// leadsTo is Covers for the domains that s knows, of which o must have one: a server may have others for itself.
func (s State) leadsTo(o State) bool {
	known := len(o) == 0
	for d, g := range o {
		if mine, ok := s[d]; ok {
			if known = true; mine.Seq < g.Seq {
				return false
			}
		}
	}
	return known
}
