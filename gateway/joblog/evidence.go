package joblog

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"drydock/dump"
)

// Bounds of [Evidence.Errors].
const (
	MaxErrors = 10   // the first ones are kept: later errors mostly follow from them
	MaxError  = 1024 // bytes of one
)

// The values of [Evidence.Ended], as clients write them.
const (
	Finished = "Finished"
	Failed   = "Error"
)

// Evidence is what log lines say about the work of one attempt of a job. Its zero value says nothing.
type Evidence struct {
	Tool          string // mariabackup, xtrabackup, mydumper, ...
	Version       string // of the tool, as it names it
	ServerVersion string // of the database server, as the tool names it

	BinlogFile string // position of the data in the server's own binary log
	BinlogPos  int64
	// GTID is the last change (MariaDB) or the executed set (MySQL), without white space. One that ends in a comma is
	// incomplete: the tool broke it over lines and the rest has not come, or the log was cut.
	GTID string
	// GTIDRest is the continuation of a GTID set that began in an earlier batch. [Merge] uses it up.
	GTIDRest string

	Initiated bool   // "Job <task> initiated."
	Completed bool   // the tool's own end line "completed OK!"
	Ended     string // the script's last word: "", Finished or Failed

	Errors []string // the tool's error lines
}

// metadata reads one line of mydumper's metadata file, which clients push with their log.
func (r *reader) metadata(text string) bool {
	if !r.meta.Line(text) {
		return false
	}
	own := r.meta.Own
	r.ev.BinlogFile, r.ev.BinlogPos, r.ev.GTID = own.File, own.Pos, later(r.ev.GTID, own.GTID)
	return true
}

// Merge returns the evidence of a followed by b: what b says wins, errors add up to the first [MaxErrors] different ones.
// A b in which the job was initiated replaces a, because an earlier attempt's end line must not vouch for this one.
func Merge(a, b Evidence) Evidence {
	if b.Initiated {
		b.GTIDRest = ""
		b.Errors = slices.Clone(b.Errors)
		return b
	}
	m := a
	m.Errors = slices.Clone(a.Errors)
	m.Tool, m.Version, m.ServerVersion = later(a.Tool, b.Tool), later(a.Version, b.Version), later(a.ServerVersion, b.ServerVersion)
	m.Completed = a.Completed || b.Completed
	m.Ended = later(a.Ended, b.Ended)
	m.joinGTID(b.GTIDRest)
	if b.BinlogFile != "" {
		m.BinlogFile, m.BinlogPos, m.GTID = b.BinlogFile, b.BinlogPos, b.GTID // one statement: never mix two
	} else if b.GTID != "" {
		m.GTID = b.GTID
	}
	for _, e := range b.Errors {
		m.addError(e)
	}
	return m
}

func later(a, b string) string {
	if b != "" {
		return b
	}
	return a
}

// joinGTID appends the continuation of an incomplete set. A batch that comes twice adds its part once.
func (e *Evidence) joinGTID(rest string) {
	if strings.HasSuffix(e.GTID, ",") && !strings.HasSuffix(e.GTID, ","+rest) {
		e.GTID += rest
	}
}

func (e *Evidence) addError(text string) {
	if len(text) > MaxError {
		text = text[:MaxError]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1] // the cut may have split a character
		}
	}
	if len(e.Errors) < MaxErrors && !slices.Contains(e.Errors, text) {
		e.Errors = append(e.Errors, text)
	}
}

// reader gathers the evidence of one batch, line by line.
type reader struct {
	task  string
	ev    *Evidence
	begun bool // a line other than the rest of a GTID set was read
	open  bool // the GTID set goes on in the next line
	meta  dump.Metadata
	table string // the table mysqlcheck is speaking about
}

func (r *reader) line(l Line) {
	if r.gtidContinues(l.Text) {
		return
	}
	r.begun = true
	switch {
	case r.jobLine(l.Text):
		return
	case r.position(l.Text), r.metadata(l.Text), r.version(l.Text):
	case strings.Contains(l.Text, "completed OK!") && makesEndLine(r.task) && endLine.MatchString(l.Text):
		r.ev.Completed = true
	}
	if l.Level == Error {
		r.ev.addError(r.about(l.Text))
	}
	switch {
	case !strings.Contains(l.Text, " ") && bareTable.MatchString(l.Text):
		r.table = l.Text
	case r.table != "" && !checkWord.MatchString(l.Text):
		r.table = ""
	}
}

// job lines come from the script itself (wire.md section 4).
var jobLine = regexp.MustCompile(stamp + `(?:\[[A-Z]+\] )?Job (\w+) (initiated|completed|ended with state: (\w+))\b`)

func (r *reader) jobLine(text string) bool {
	if !strings.Contains(text, "Job ") {
		return false
	}
	m := jobLine.FindStringSubmatch(text)
	if m == nil || canonical(m[1]) != canonical(r.task) {
		return false
	}
	switch {
	case m[2] == "initiated":
		*r.ev, r.meta = Evidence{Initiated: true}, dump.Metadata{}
	case m[2] == "completed", m[3] == Finished:
		r.ev.Ended = Finished
	default:
		r.ev.Ended = Failed // "Error", and any word a newer client may use: only Finished is success
	}
	return true
}

// makesEndLine tells whether the task runs a tool that ends with "completed OK!": mariabackup and xtrabackup, also inside
// reseed and flashback, whose task names end the same way.
func makesEndLine(task string) bool {
	task = canonical(task)
	return strings.HasSuffix(task, "mariabackup") || strings.HasSuffix(task, "xtrabackup")
}

// canonical corrects the task name that one deployed client misspells (wire.md section 3).
func canonical(task string) string { return strings.Replace(task, "mariadbackup", "mariabackup", 1) }

// endLine is the tool's own last line and nothing that only contains it: a table may be called `completed OK!`. In order:
// mariabackup and xtrabackup up to 8.0.27, the same with a program name (innobackupex), xtrabackup from 8.0.28.
var endLine = regexp.MustCompile(`^(?:\[\d\d\] )?(?:\d{4}-\d\d-\d\d|\d{6}) +\d{1,2}:\d\d:\d\d +(?:(?:innobackupex|mariabackup|xtrabackup): )?completed OK!\s*$` +
	`|^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* \d+ \[Note\] (?:\[MY-\d+\] )?\[Xtrabackup\] completed OK!\s*$`)

// ownPosition is the position line of a backup; a replica's backup also prints its source's, which is about another server.
var (
	ownPosition = regexp.MustCompile(`(?:^|binlog position: )filename '([^']*)', position '?(\d+)'?(?:, GTID of the last change '([^']*)('?))?`)
	onlyGTID    = regexp.MustCompile(`binlog position: GTID of the last change '([^']*)('?)`)
)

func (r *reader) position(text string) bool {
	if !strings.Contains(text, "position") || strings.Contains(text, "slave binlog position") {
		return false
	}
	if m := ownPosition.FindStringSubmatch(text); m != nil {
		pos, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			return false
		}
		r.ev.BinlogFile, r.ev.BinlogPos = m[1], pos
		r.gtid(m[3], strings.Contains(text, "GTID of the last change '") && m[4] == "")
		return true
	}
	if m := onlyGTID.FindStringSubmatch(text); m != nil {
		r.gtid(m[1], m[2] == "")
		return true
	}
	return false
}

// gtid begins a set. One whose closing quote is missing and that does not stop at a comma was cut in the middle of an
// element (xtrabackup before 8.0.35-32 cuts its lines at 8 KiB): half an element would be a wrong position.
func (r *reader) gtid(text string, open bool) {
	text, r.open = compact(text), open
	if open && !strings.HasSuffix(text, ",") {
		text, r.open = text[:strings.LastIndexByte(text, ',')+1], false
	}
	r.ev.GTID = text
}

// gtidPart is one more line of a MySQL set: uuid[:tag]:interval..., the last one with the closing quote.
var gtidPart = regexp.MustCompile(`^\s*((?:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}:[0-9A-Za-z_:, -]+?)(?:,\s*|'|$))('?)\s*$`)

func (r *reader) gtidContinues(text string) bool {
	if r.begun && !r.open || !gtidPart.MatchString(text) {
		r.open = false
		return false
	}
	part := strings.TrimSuffix(compact(text), "'")
	if r.open {
		r.ev.GTID += part
	} else {
		r.ev.GTIDRest += part
	}
	r.open = r.open && strings.HasSuffix(part, ",")
	r.begun = r.begun || !strings.HasSuffix(part, ",")
	return true
}

// compact removes white space: tools break long sets over lines.
func compact(s string) string { return strings.Join(strings.Fields(s), "") }

// The tools' own introductions.
var versions = []*regexp.Regexp{
	regexp.MustCompile(`^(mariabackup|mariadb-backup) based on MariaDB server (\S+)`),
	regexp.MustCompile(`(xtrabackup) version (\S+) based on`),
	regexp.MustCompile(`^(mydumper) v?(\d\S*?),? built against`),
	regexp.MustCompile(`(?i)(mydumper) backup version: (\S+)`),
	regexp.MustCompile(`^-- (MariaDB dump|MySQL dump) (\S+)`),
}

var dumpTools = map[string]string{"MariaDB dump": "mariadb-dump", "MySQL dump": "mysqldump"}

func (r *reader) version(text string) bool {
	if _, v, ok := strings.Cut(text, "Using server version "); ok {
		r.ev.ServerVersion = strings.TrimSpace(v)
		return true
	}
	if !strings.Contains(text, " based on ") && !strings.Contains(text, "built against") && !strings.Contains(text, "version: ") && !strings.HasPrefix(text, "-- M") {
		return false
	}
	for _, re := range versions {
		if m := re.FindStringSubmatch(text); m != nil {
			r.ev.Tool, r.ev.Version = later(strings.ToLower(m[1]), dumpTools[m[1]]), m[2]
			return true
		}
	}
	return false
}

// bareTable is a line of mysqlcheck with nothing but a table's name: what is wrong with it follows in the next lines.
var bareTable = regexp.MustCompile(`^[^\s.:]+\.[^\s:]+$`)

var checkWord = regexp.MustCompile(`^(?:note|Note|info|status|warning|Warning|Error|error) +: `)

// about puts the table's name before an error of mysqlcheck, which would be of no use without it.
func (r *reader) about(text string) string {
	if r.table != "" && checkWord.MatchString(text) {
		return r.table + ": " + text
	}
	return text
}
