package joblog

import (
	"strconv"
	"strings"
)

// metadata reads one line of mydumper's metadata file, in both formats (wire.md section 5):
//
//	SHOW MASTER STATUS:            [master] or [source]
//	<tab>Log: mysql-bin.000001     File = mysql-bin.000001
//	<tab>Pos: 106                  Position = 106
//	<tab>GTID:0-1-42               Executed_Gtid_Set = 0-1-42
//
// Both have sections about other servers, with the same names in them, so a value counts only below a heading that names
// the server's own position.
func (r *reader) metadata(text string) bool {
	t := strings.TrimSpace(text)
	if s, ok := section(t); ok {
		r.section = s
		return false
	}
	if r.section != "own" {
		return false
	}
	key, v, ok := strings.Cut(t, "=")
	if !ok {
		key, v, ok = strings.Cut(t, ":")
	}
	if !ok {
		return false
	}
	v = strings.Trim(strings.TrimSpace(v), `"'`)
	switch strings.ToLower(strings.TrimSpace(key)) {
	case "log", "file", "source_log_file":
		r.ev.BinlogFile = v
	case "pos", "position", "source_log_pos":
		r.ev.BinlogPos, _ = strconv.ParseInt(v, 10, 64)
	case "gtid", "executed_gtid_set":
		if v != "(null)" {
			r.ev.GTID = compact(v)
		}
	default:
		return false
	}
	return true
}

// section returns whose values follow a heading of the metadata file.
func section(t string) (string, bool) {
	switch {
	case t == "SHOW MASTER STATUS:", t == "SHOW BINARY LOG STATUS:", strings.EqualFold(t, "[master]"), strings.EqualFold(t, "[source]"):
		return "own", true
	case strings.HasPrefix(t, "SHOW ") && strings.HasSuffix(t, " STATUS:"), len(t) > 2 && t[0] == '[' && t[len(t)-1] == ']':
		return "other", true
	case strings.HasPrefix(t, "Finished dump at"), strings.HasPrefix(t, "# Finished dump at"):
		return "", true
	}
	return "", false
}
