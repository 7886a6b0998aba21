package joblog

import (
	"regexp"
	"strings"
)

// The levels, as in the route jobs-log-level and in the subjects of DRYDOCK_LOGS.
const (
	Debug = "DEBUG"
	Info  = "INFO"
	Warn  = "WARN"
	Error = "ERROR"
)

var rank = map[string]int{Debug: 0, Info: 1, Warn: 2, Error: 3}

// words maps every spelling that the tools and clients use, in lower case, to a level.
var words = map[string]string{
	"debug": Debug, "trace": Debug, "dbg": Debug,
	"info": Info, "note": Info, "notice": Info, "message": Info, "system": Info, "information": Info,
	"warn": Warn, "warning": Warn,
	"error": Error, "err": Error, "critical": Error, "crit": Error, "fatal": Error, "fatal error": Error, "alert": Error,
}

// Normal returns one of the four levels for any spelling, [Info] for an unknown or empty one.
func Normal(level string) string {
	if l, ok := words[strings.ToLower(strings.TrimSpace(level))]; ok {
		return l
	}
	return Info
}

// Enabled tells whether a line of level is wanted when min is the least level to keep: DEBUG < INFO < WARN < ERROR.
// Any spelling will do for either, and an unknown level counts as INFO.
func Enabled(min, level string) bool { return rank[Normal(level)] >= rank[Normal(min)] }

// stamp is what may stand before a line's own words: a bell (mariabackup rings it before an error), a thread number in
// brackets, a date in one of the three ways, a connection or thread id.
const stamp = `^\x07*(?:\[\d+\] )?(?:(?:\d{4}[-/]\d\d[-/]\d\d[T ] *|\d{6} +)\d{1,2}:\d\d:\d\d\S* +)?(?:\d+ )?`

// The ways a line tells its own level.
var (
	// [ERROR] ..., 2026-11-22 22:24:40 14 [Warning] ..., ...Z 0 [ERROR] [MY-011825] [Xtrabackup] ...
	bracketed = regexp.MustCompile(stamp + `\[([A-Za-z]+)\]`)
	// ERROR: ..., mariabackup: Error ..., [00] FATAL ERROR: ..., error    : Corrupt, ERROR 2002 (HY000): ...
	named = regexp.MustCompile(stamp + `(?:[A-Za-z_./-]+(?:\[\d+\])?: )?((?i:fatal error|error|warning|warn|critical|fatal|debug|info|note))(?: *:| \d+(?: \(|: )| (?:writing|reading|while|on) )`)
	// ** (mydumper:123): CRITICAL **: ..., ** Message: ...
	glib = regexp.MustCompile(`\*\* (?:\([^)]*\): )?([A-Za-z]+)(?: \*\*|:)`)
	// 2026/11/22 10:00:00 socat[1234] E connect(5, ...): Connection refused
	socat = regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d socat\[\d+\] ([DINWEF]) `)
	// failures that carry no level at all, and the script's own word
	bare = regexp.MustCompile(stamp + `(?:[A-Za-z_./-]+: (?:line \d+: )?)?(?:Failed to |Got error: |\S+: command not found$|Table '\S+' doesn't exist)|^status +: Operation failed|^Job \w+ ended with state: Error`)
)

var socatLevels = map[string]string{"D": Debug, "I": Info, "N": Info, "W": Warn, "E": Error, "F": Error}

// levelOf returns the level of one line within a batch of the given level.
func levelOf(line, batch string) string {
	own := ownLevel(line)
	if own == "" || own == Info && batch == Debug {
		return batch // a [Note] among lines that the client calls DEBUG stays as quiet as they are
	}
	return own
}

// ownLevel returns the level that the line itself names, "" for none.
func ownLevel(line string) string {
	if !mayNameLevel(line) {
		return ""
	}
	for _, re := range []*regexp.Regexp{bracketed, named, glib} {
		if m := re.FindStringSubmatch(line); m != nil {
			if l, ok := words[strings.ToLower(m[1])]; ok {
				return l
			}
		}
	}
	if m := socat.FindStringSubmatch(line); m != nil {
		return socatLevels[m[1]]
	}
	if bare.MatchString(line) {
		return Error
	}
	return ""
}

// mayNameLevel spares most lines (files copied, one per table) the expressions above: each of those needs one of these.
func mayNameLevel(line string) bool {
	head := line[:min(len(line), 160)]
	for _, s := range []string{"rror", "RROR", "arn", "ARN", "ote]", "OTE", "ote ", "nfo", "INFO", "DEBUG", "ebug", "ystem]", "** ", "socat[",
		"ailed", "not found", "exist", "atal", "FATAL", "RITICAL", "ritical"} {
		if strings.Contains(head, s) {
			return true
		}
	}
	return false
}
