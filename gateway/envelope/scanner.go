package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// errSyntax never leaves the package: callers of it see ErrSealed.
var errSyntax = errors.New("read object: not JSON")

// scanner reads one JSON object as shell clients build it. encoding/json cannot: it refuses raw control characters and
// unknown escapes inside strings, which is what log lines are full of. Everything outside strings is as strict as there.
// It also reads a 4 KiB log batch in a fraction of the time (perf.md: JSON is 80 % of the cost of an envelope).
type scanner struct {
	src   []byte
	pos   int
	loose bool // a \" that can only be a backslash and the end of its string is read as that
}

// object gives each member to member, in order, and refuses anything after the closing brace.
func (s *scanner) object(member func(key string, v value) error) error {
	if !s.accept('{') {
		return errSyntax
	}
	for first := true; !s.accept('}'); first = false {
		if !first && !s.accept(',') {
			return errSyntax
		}
		s.space()
		key, err := s.value()
		if err != nil || !key.quoted() || !s.accept(':') {
			return errSyntax
		}
		s.space()
		v, err := s.value()
		if err != nil {
			return err
		}
		if err := member(key.text(), v); err != nil {
			return err
		}
	}
	s.space()
	if s.pos != len(s.src) {
		return errSyntax
	}
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.src) && strings.IndexByte(" \t\r\n", s.src[s.pos]) >= 0 {
		s.pos++
	}
}

// accept skips white space and takes b if it comes next.
func (s *scanner) accept(b byte) bool {
	s.space()
	if s.pos < len(s.src) && s.src[s.pos] == b {
		s.pos++
		return true
	}
	return false
}

// value takes the next value. A string is checked by its quotes only; anything else must be JSON once repaired.
func (s *scanner) value() (value, error) {
	start := s.pos
	if s.pos < len(s.src) && s.src[s.pos] == '"' {
		err := s.skipString()
		return value(s.src[start:s.pos]), err
	}
	for depth := 0; s.pos < len(s.src); s.pos++ {
		switch s.src[s.pos] {
		case '"':
			if err := s.skipString(); err != nil {
				return nil, err
			}
			s.pos--
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if c := s.src[s.pos]; depth < 0 || depth == 0 && (c == ',' || c == '}' || c == ']') {
			if depth == 0 && c != ',' {
				s.pos++ // the value's own closing bracket
			}
			break
		}
	}
	v := value(bytes.TrimRight(s.src[start:s.pos], " \t\r\n"))
	if v.raw() == nil {
		return nil, errSyntax
	}
	return v, nil
}

// skipString moves from an opening quote to just after the closing one.
func (s *scanner) skipString() error {
	for i := s.pos + 1; i < len(s.src); i++ {
		switch s.src[i] {
		case '"':
			s.pos = i + 1
			return nil
		case '\\':
			if n := escape(s.src[i:]); n > 0 && !(s.loose && s.src[i+1] == '"' && closes(s.src[i+2:])) {
				i += n - 1
			}
		}
	}
	return errSyntax
}

// escape returns the length of the JSON escape at the start of b, 0 when the backslash there is only a backslash.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	if strings.IndexByte(`"\/bfnrt`, b[1]) >= 0 {
		return 2
	}
	if _, ok := codeUnit(b); ok {
		return 6
	}
	return 0
}

// codeUnit reads \uXXXX at the start of b.
func codeUnit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}

// closes tells whether what follows a quote can only follow the end of a string: the object's end or the next member.
func closes(after []byte) bool {
	after = bytes.TrimLeft(after, " \t\r\n")
	if rest, ok := bytes.CutPrefix(after, []byte("}")); ok {
		return len(bytes.TrimLeft(rest, " \t\r\n")) == 0
	}
	rest, ok := bytes.CutPrefix(after, []byte(","))
	if !ok {
		return false
	}
	rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"`))
	name := bytes.IndexByte(rest, '"')
	return ok && name > 0 && bytes.IndexByte(rest[:name], '\\') < 0 &&
		bytes.HasPrefix(bytes.TrimLeft(rest[name+1:], " \t\r\n"), []byte(":"))
}

// value is the text of one JSON value, still as the client wrote it. Its methods give the zero value for another type.
type value []byte

func (v value) quoted() bool { return len(v) >= 2 && v[0] == '"' }

// plain is a scalar without its quotes: hand-built JSON quotes numbers now and then.
func (v value) plain() string { return strings.Trim(string(v), `"`) }

func (v value) number() int64 {
	n, err := strconv.ParseInt(v.plain(), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (v value) numbers() []int {
	var n []int
	if json.Unmarshal(v, &n) != nil {
		return nil
	}
	return n
}

// raw is the value as valid JSON, nil when it cannot be made so.
func (v value) raw() json.RawMessage {
	fixed := repair(v)
	if !json.Valid(fixed) {
		return nil
	}
	return fixed
}

// text is the content of a string: escapes read, unknown ones kept as they stand, invalid UTF-8 as U+FFFD.
func (v value) text() string {
	if !v.quoted() {
		return ""
	}
	in := v[1 : len(v)-1]
	if bytes.IndexByte(in, '\\') < 0 {
		return valid(string(in))
	}
	out := make([]byte, 0, len(in))
	for len(in) > 0 {
		i := bytes.IndexByte(in, '\\')
		if i < 0 {
			break
		}
		out = append(out, in[:i]...)
		in = in[i:]
		var n int
		out, n = unescape(out, in)
		in = in[n:]
	}
	return valid(string(append(out, in...)))
}

// valid replaces each byte that is not part of UTF-8 by U+FFFD, one for one, as encoding/json does.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// unescape appends what the backslash at the start of in stands for, and returns how many bytes it took.
func unescape(out, in []byte) ([]byte, int) {
	switch n := escape(in); n {
	case 2:
		c := in[1]
		if i := strings.IndexByte("bfnrt", c); i >= 0 {
			c = "\b\f\n\r\t"[i]
		}
		return append(out, c), n
	case 6:
		r, _ := codeUnit(in)
		if low, ok := codeUnit(in[n:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			return utf8.AppendRune(out, utf16.DecodeRune(r, low)), 2 * n
		}
		return utf8.AppendRune(out, r), n // half a pair becomes U+FFFD
	default:
		return append(out, '\\'), 1
	}
}

// repair makes the strings inside a value valid JSON: control characters as \u00XX, a lone backslash doubled. Bytes that
// are not UTF-8 are U+FFFD. It returns v itself when there is nothing to repair.
func repair(v []byte) []byte {
	if json.Valid(v) && utf8.Valid(v) {
		return v
	}
	out := make([]byte, 0, len(v)+16)
	inside := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '"':
			inside = !inside
			out = append(out, c)
		case inside && c == '\\':
			n := escape(v[i:])
			if n == 0 {
				out = append(out, '\\', '\\')
				continue
			}
			out = append(out, v[i:i+n]...)
			i += n - 1
		case inside && c < ' ':
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return []byte(valid(string(out)))
}
