package joblog

import (
	"regexp"
	"strings"
)

// Line is one log line, without its line end.
type Line struct {
	Level string `json:"level"` // DEBUG, INFO, WARN or ERROR
	Text  string `json:"text"`  // as the client sent it
}

// Batch is what one write-log body held.
type Batch struct {
	Lines    []Line
	Evidence Evidence
}

// Parse reads the text of one write-log body of a task. Each line has the level it names itself, else the batch's level,
// else INFO. It never fails: a line that means nothing to it is a line without evidence.
func Parse(task, level, text string) Batch {
	var b Batch
	level = Normal(level)
	r := reader{task: task, ev: &b.Evidence}
	for _, s := range lines(text) {
		l := Line{Level: levelOf(s, level), Text: s}
		b.Lines = append(b.Lines, l)
		r.line(l)
	}
	if b.Evidence.BinlogPos == 0 {
		b.Evidence.BinlogFile = "" // a metadata file cut between the two lines: a file alone is no position
	}
	return b
}

// lines cuts text at its newlines. A newline at the very end closes the last line and does not begin another.
func lines(text string) []string {
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return nil
	}
	sep := "\n"
	if doubleEscaped(text) {
		text, sep = strings.TrimSuffix(text, `\n`), `\n`
	}
	all := strings.Split(text, sep)
	for i, s := range all {
		all[i] = strings.TrimSuffix(s, "\r")
	}
	return all
}

// lineStart is how the lines of the tools and of the script begin.
var lineStart = regexp.MustCompile(`\\n(?:\[\d\d\] |\d{4}[-/]\d\d[-/]\d\d[T ]|\d{6} |\[[A-Z]+\] |\*\* |Job \w+ (?:initiated|ended|completed)|(?:mariabackup|xtrabackup): )`)

// doubleEscaped tells whether a client escaped its separators together with the lines, so that they came as a backslash
// and an n. A \n that is part of a line (an SQL string, a path) must stay, so only one before the start of a tool's line,
// in a text without any real newline, is taken for that.
func doubleEscaped(text string) bool {
	return !strings.Contains(text, "\n") && strings.Contains(text, `\n`) && lineStart.MatchString(text)
}
