package dump

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	headMax = 64 << 10 // bytes kept of the beginning, where the position stands
	tailMax = 64 << 10 // bytes kept of the end; newer versions write the GTID there
	carry   = 16       // bytes of the last write that a search must see again: longer than what is searched
)

// SQL is an [io.Writer] that reads the text of mysqldump or mariadb-dump. Write never fails and never holds the stream
// up. Not safe for concurrent use. The zero value is ready.
type SQL struct {
	head []byte
	last []byte // the end, up to twice tailMax of it
	full bool   // a table was seen
}

// Write takes in the next part of the dump.
func (s *SQL) Write(b []byte) (int, error) {
	if room := headMax - len(s.head); room > 0 {
		s.head = append(s.head, b[:min(room, len(b))]...)
	}
	if !s.full {
		seam := append(bytes.Clone(s.last[max(0, len(s.last)-carry):]), b[:min(len(b), carry)]...)
		s.full = hasTable(seam) || hasTable(b)
	}
	if part := b[max(0, len(b)-tailMax):]; len(part) > 0 {
		if len(s.last)+len(part) > 2*tailMax {
			keep := s.last[max(0, len(s.last)-max(0, tailMax-len(part))):]
			s.last = append(s.last[:0], keep...)
		}
		s.last = append(s.last, part...)
	}
	return len(b), nil
}

func hasTable(b []byte) bool {
	return bytes.Contains(b, []byte("\nCREATE TABLE ")) || bytes.Contains(b, []byte("\nINSERT "))
}

// lastLine is the tool's end marker, with and without --dump-date.
var lastLine = regexp.MustCompile(`^-- Dump completed(?: on \d{4}-\d\d-\d\d +\d{1,2}:\d\d:\d\d)?$`)

// Close judges the dump after its last byte. Errors: [ErrTruncated], [ErrEmpty].
func (s *SQL) Close() error {
	text, ended := bytes.CutSuffix(s.last, []byte("\n"))
	text = bytes.TrimRight(text, "\r\n")
	line := text[bytes.LastIndexByte(text, '\n')+1:]
	switch {
	case len(s.head) == 0:
		return fmt.Errorf("%w: not a byte came", ErrEmpty)
	case !ended || !lastLine.Match(line):
		return fmt.Errorf("%w: its last line is not %q", ErrTruncated, "-- Dump completed")
	case !s.full:
		return fmt.Errorf("%w: there is no table in it", ErrEmpty)
	}
	return nil
}

// Opaque is always empty: see [Tar.Opaque].
func (s *SQL) Opaque() string { return "" }

var (
	// What comes before the first table or database is the tool's own: names and data of the users only follow.
	firstData = regexp.MustCompile(`(?m)^(?:-- Current Database: |-- Table structure |CREATE |USE |INSERT )`)
	// The tool's own words about the deferred GTID; the rest of the dump's end is its own too.
	deferred = []byte("\n-- The deferred gtid setting for slave corresponding to the ")

	fileAndPos = regexp.MustCompile(`(?m)^(?:-- )?CHANGE (?:MASTER|REPLICATION SOURCE)( '[^']*')? TO (?:(?:MASTER|SOURCE)_HOST='[^']*', (?:MASTER|SOURCE)_PORT=\d+, )?(?:MASTER|SOURCE)_LOG_FILE='([^']*)', (?:MASTER|SOURCE)_LOG_POS=(\d+);`)
	slavePos   = regexp.MustCompile(`(?m)^(?:-- )?SET GLOBAL gtid_slave_pos='([^']*)';`)
	purged     = regexp.MustCompile(`SET @@GLOBAL\.GTID_PURGED=(?:/\*!80000 '\+'\*/ )?'([^']*)'`)
	introduced = regexp.MustCompile(`(?m)^-- (MariaDB dump|MySQL dump) \S+ +(?:Distrib (\S+?),)?`)
)

func (s *SQL) begin() []byte {
	if at := firstData.FindIndex(s.head); at != nil {
		return s.head[:at[0]]
	}
	return s.head
}

// Position is what the dump says about the binary log: with --master-data or --source-data, the server's own; with
// --dump-slave or --dump-replica, its source's.
func (s *SQL) Position() (p Position) {
	begin := s.begin()
	if m := fileAndPos.FindSubmatch(begin); m != nil {
		if pos, err := strconv.ParseInt(string(m[3]), 10, 64); err == nil {
			p.File, p.Pos = string(m[2]), pos
		}
		p.Source = len(m[1]) > 0 // only the connection to a source has a name
	}
	p.Source = p.Source || bytes.Contains(begin, []byte("dump-slave")) || bytes.Contains(begin, []byte("master of this slave")) ||
		bytes.Contains(begin, []byte("source of this replica"))
	texts := [][]byte{begin}
	if at := bytes.LastIndex(s.last, deferred); at >= 0 {
		texts = append(texts, s.last[at:])
	}
	for _, text := range texts {
		for _, re := range []*regexp.Regexp{slavePos, purged} {
			if m := re.FindSubmatch(text); m != nil {
				p.GTID = compact(string(m[1]))
			}
		}
	}
	return p
}

// Tool is the program that wrote the dump, with the version it names, as in "mariadb-dump 10.11.19-MariaDB".
func (s *SQL) Tool() string {
	m := introduced.FindSubmatch(s.begin())
	if m == nil {
		return ""
	}
	name := "mysqldump"
	if string(m[1]) == "MariaDB dump" {
		name = "mariadb-dump"
	}
	return strings.TrimSpace(name + " " + string(m[2]))
}

// compact removes white space: tools break long sets over lines.
func compact(s string) string { return strings.Join(strings.Fields(s), "") }
