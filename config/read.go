package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// pos is where a value was written.
type pos struct {
	env    string // variable name; file and line are empty then
	file   string
	fileNo int // order of reading, for sorting
	line   int
}

func (p pos) String() string {
	switch {
	case p.env != "":
		return p.env
	case p.line == 0:
		return p.file
	}
	return p.file + ":" + strconv.Itoa(p.line)
}

// value is what stands behind a key: one item, or the items of a list. Numbers and booleans are kept as text, because
// the environment knows nothing else and the table's types decide anyway.
type value struct {
	pos   pos
	items []string
	list  bool
}

func (v value) text() string { return strings.Join(v.items, ",") }

// split returns the items of a list, written as a TOML array or separated by commas, trimmed, without empty ones.
func (v value) split() []string {
	items := v.items
	if !v.list {
		items = strings.Split(v.text(), ",")
	}
	var out []string
	for _, item := range items {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// section is [Default] or one cluster, merged over all files.
type section struct {
	name   string
	pos    pos // first header
	values map[string]value
}

// read merges one file into the loader's sections. It reports false when the file is not TOML: what follows from
// half a file would only confuse.
func (l *loader) read(file string, data []byte) bool {
	l.files++
	at := pos{file: file, fileNo: l.files}
	seen := map[string]int{} // section -> line, within this file
	var p unstable.Parser
	p.Reset(bytes.TrimPrefix(bytes.Clone(data), []byte("\ufeff")))
	cur, skip := (*section)(nil), false
	for p.NextExpression() {
		e := p.Expression()
		names, line := keyParts(&p, e)
		at.line = line
		switch e.Kind {
		case unstable.KeyValue:
			if !skip {
				l.readPair(cur, at, names, e.Value())
			}
		case unstable.Table:
			cur, skip = l.readHeader(at, names, seen), false
			skip = cur == nil
		case unstable.ArrayTable:
			l.problem(at, "", "[[%s]] is a list of sections; write [%s]", clip(strings.Join(names, ".")), clip(strings.Join(names, ".")))
			skip = true
		}
	}
	if err := p.Error(); err != nil {
		at.line = errorLine(&p, data, err)
		l.problem(at, "", "is not TOML: %s; correct the line", syntaxText(err))
		return false
	}
	return true
}

// keyParts returns the parts of a dotted key and the line it stands on.
func keyParts(p *unstable.Parser, e *unstable.Node) (names []string, line int) {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if line == 0 {
			line = p.Shape(n.Raw).Start.Line
		}
		names = append(names, string(n.Data))
	}
	return names, line
}

// errorLine finds the line of a syntax error; an error at the end of the input has no place of its own.
func errorLine(p *unstable.Parser, data []byte, err error) int {
	var perr *unstable.ParserError
	if !errors.As(err, &perr) || len(perr.Highlight) == 0 {
		return bytes.Count(data, []byte("\n")) + 1
	}
	return p.Shape(p.Range(perr.Highlight)).Start.Line
}

// syntaxText is the parser's message without the text it points at, which may be a password.
func syntaxText(err error) string {
	var perr *unstable.ParserError
	if errors.As(err, &perr) {
		return perr.Message
	}
	return err.Error()
}

// readHeader opens a section; nil when its name is refused.
func (l *loader) readHeader(at pos, names []string, seen map[string]int) *section {
	name := strings.Join(names, ".")
	if len(names) > 1 {
		l.problem(at, "", "section [%s] has a dot; a cluster's name holds letters, digits, - and _ only", clip(name))
		return nil
	}
	if line, twice := seen[name]; twice {
		l.problem(at, "", "section [%s] stands there twice, first on line %d; join them", clip(name), line)
		return nil
	}
	seen[name] = at.line
	if name == "Default" || l.anyCase && strings.EqualFold(name, "default") {
		return l.def
	}
	if s, ok := l.byName[name]; ok {
		return s
	}
	if err := checkClusterName(name); err != nil {
		l.problem(at, "", "section [%s]: %v", clip(name), err)
		return nil
	}
	for _, s := range l.clusters {
		if strings.EqualFold(s.name, name) {
			l.problem(at, "", "section [%s] differs from [%s] (%s) by case only; rename one", name, s.name, s.pos)
			return nil
		}
	}
	s := &section{name: name, pos: at, values: map[string]value{}}
	l.clusters, l.byName[name] = append(l.clusters, s), s
	return s
}

// checkClusterName refuses what cannot be a folder below monitoring-datadir and a token of a subject.
func checkClusterName(name string) error {
	if strings.EqualFold(name, "default") {
		return errors.New("is neither [Default] nor a cluster; write [Default]")
	}
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return !nameRune(r) }) {
		return errors.New("is not a cluster name; use 1 to 64 letters, digits, - and _")
	}
	if name[0] == '-' || name[0] == '_' {
		return errors.New("is not a cluster name; begin with a letter or a digit")
	}
	// The folders of the clusters lie beside these.
	for _, taken := range []string{"Backups", "nats", "tls", "work", "archive", "restic-cache", "drills"} {
		if strings.EqualFold(name, taken) {
			return fmt.Errorf("would share the folder %q below monitoring-datadir; choose another name", taken)
		}
	}
	return nil
}

// readPair keeps one key of the file under its section.
func (l *loader) readPair(cur *section, at pos, names []string, n *unstable.Node) {
	name := strings.Join(names, ".")
	if len(names) > 1 {
		l.problem(at, clip(name), "has a dot; keys of drydock have none")
		return
	}
	if cur == nil {
		l.problem(at, clip(name), "stands before the first section; move it under [Default] or a cluster")
		return
	}
	v, err := readValue(n)
	if err != nil {
		l.problem(at, clip(name), "%v", err)
		return
	}
	v.pos = at
	if old, twice := cur.values[name]; twice {
		if old.pos.fileNo == at.fileNo {
			l.problem(at, clip(name), "stands there twice, first on line %d; remove one", old.pos.line)
			return
		}
		l.warn(at, clip(name), "replaces the value of %s", old.pos)
	}
	cur.values[name] = v
}

// readValue reads a string, number, boolean, or a list of them. Its errors never quote the value.
func readValue(n *unstable.Node) (value, error) {
	if n.Kind != unstable.Array {
		s, err := readScalar(n)
		return value{items: []string{s}}, err
	}
	v := value{list: true}
	for it := n.Children(); it.Next(); {
		if it.Node().Kind == unstable.Comment {
			continue
		}
		s, err := readScalar(it.Node())
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, s)
	}
	return v, nil
}

func readScalar(n *unstable.Node) (string, error) {
	text := string(n.Data)
	switch n.Kind {
	case unstable.String, unstable.Bool:
		return text, nil
	case unstable.Integer:
		i, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return "", errors.New("holds a number out of range; write a smaller one")
		}
		return strconv.FormatInt(i, 10), nil
	}
	return "", errors.New("has a value of the wrong kind; write a string, a whole number, true or false, or a list of them")
}
