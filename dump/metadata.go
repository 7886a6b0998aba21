package dump

import (
	"regexp"
	"strconv"
	"strings"
)

// Metadata reads mydumper's metadata file line by line, in both formats (wire.md section 5):
//
//	SHOW MASTER STATUS:            [master] or [source]
//	<tab>Log: mysql-bin.000001     File = mysql-bin.000001
//	<tab>Pos: 106                  Position = 106
//	<tab>GTID:0-1-42               Executed_Gtid_Set = 0-1-42
//
// Both have sections about other servers, with the same names in them, so a value counts only below a heading that names
// whose position it is. The zero value is ready.
type Metadata struct {
	Own      Position // in the server's own binary log
	Source   Position // in that of the first server it replicates from
	Finished bool     // the tool wrote that it finished

	old     bool            // its format is that of versions that number files one by one
	section string          // "own", "source", "table", "other", or "" outside
	table   string          // of the section, as in its file names
	empty   map[string]bool // tables that the tool says have no rows
	sources int
}

var (
	finishedLine = regexp.MustCompile(`^(?:# )?Finished dump at: \d{4}-\d\d-\d\d +\d{1,2}:\d\d:\d\d`)
	tableSection = regexp.MustCompile("^\\[`(.+)`\\.`(.+)`\\]$")
)

// Line takes in one line. own tells that it belonged to the server's own position.
func (m *Metadata) Line(text string) (own bool) {
	t := strings.TrimSpace(text)
	m.old = m.old || strings.HasPrefix(t, "Started dump at:") // newer ones write a comment
	if m.heading(t) {
		return false
	}
	key, v, ok := strings.Cut(t, "=")
	if !ok {
		key, v, ok = strings.Cut(t, ":")
	}
	if !ok {
		return false
	}
	key, v = strings.ToLower(strings.TrimSpace(key)), strings.Trim(strings.TrimSpace(v), `"'`)
	switch m.section {
	case "own":
		return m.Own.set(key, v)
	case "source":
		if m.sources == 1 {
			m.Source.set(key, v)
		}
	case "table":
		if key == "rows" && v == "0" {
			m.empty[m.table] = true
		}
	}
	return false
}

func (p *Position) set(key, v string) bool {
	switch key {
	case "log", "file", "source_log_file", "relay_master_log_file", "relay_source_log_file":
		p.File = v
	case "pos", "position", "source_log_pos", "exec_master_log_pos", "exec_source_log_pos":
		p.Pos, _ = strconv.ParseInt(v, 10, 64) // what is no number is no position
	case "gtid", "executed_gtid_set":
		if v != "(null)" {
			p.GTID = compact(v)
		}
	default:
		return false
	}
	return true
}

// heading takes a line that says whose values follow.
func (m *Metadata) heading(t string) bool {
	section, lower := "", strings.ToLower(t)
	switch {
	case t == "SHOW MASTER STATUS:", t == "SHOW BINARY LOG STATUS:", lower == "[master]", lower == "[source]":
		section = "own"
	case t == "SHOW SLAVE STATUS:", t == "SHOW REPLICA STATUS:", strings.HasPrefix(lower, "[replication"):
		section = "source"
		m.sources++
	case tableSection.MatchString(t):
		section = "table"
		name := tableSection.FindStringSubmatch(t)
		m.table = name[1] + "." + name[2]
		if m.empty == nil {
			m.empty = map[string]bool{}
		}
	case strings.HasPrefix(t, "SHOW ") && strings.HasSuffix(t, " STATUS:"), len(t) > 2 && t[0] == '[' && t[len(t)-1] == ']':
		section = "other"
	case strings.HasPrefix(t, "Finished dump at"), strings.HasPrefix(t, "# Finished dump at"):
		m.Finished = m.Finished || finishedLine.MatchString(t)
	case m.section == "source" && strings.HasPrefix(t, "Connection name:"): // one heading for all channels
		if m.Source.File != "" {
			m.sources++
		}
		return true
	default:
		return false
	}
	m.section = section
	return true
}

// Position is the server's own, or that of its source: when the server keeps no binary log itself, or one that lacks
// what it replicated (log_slave_updates is OFF, or the log is younger than the data), and so does not tell how far they are.
func (m *Metadata) Position() Position {
	if m.Source.File == "" || m.Own.File != "" && !lacks(m.Own.GTID, m.Source.GTID) {
		return m.Own
	}
	p := m.Source
	p.Source = true
	return p
}

// lacks reports whether a GTID position of MariaDB, DOMAIN-SERVER-SEQUENCE separated by commas, is before another one in
// any domain. Sets of MySQL, which count the replicated ones in any case, are not compared.
func lacks(gtid, other string) bool {
	at := sequences(gtid)
	for domain, n := range sequences(other) {
		if at[domain] < n {
			return true
		}
	}
	return false
}

func sequences(gtid string) map[string]uint64 {
	out := map[string]uint64{}
	for g := range strings.SplitSeq(gtid, ",") {
		if parts := strings.Split(g, "-"); len(parts) == 3 {
			n, _ := strconv.ParseUint(parts[2], 10, 64) // 0 is before all
			out[parts[0]] = max(out[parts[0]], n)
		}
	}
	return out
}
