package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What the options of a tool may not say: drydock says it, or counts on it.
var (
	notForClients = []string{
		"-p", "--password", "-a", "--ask-password", "--login-path", "--defaults-file", "--defaults-extra-file", "--defaults-group-suffix",
		"--no-defaults", "--print-defaults", "-h", "--host", "-P", "--port", "-u", "--user", "-S", "--socket", "--protocol",
		"-V", "--version", "-?", "--help",
	}
	// Without comments there is no end marker, and a file is nothing that can be streamed. In mysqldump -a is harmless, but
	// so old that nobody will miss it.
	notForMysqldump = append([]string{"-r", "--result-file", "-T", "--tab", "--compact", "--skip-comments", "-X", "--xml"}, notForClients...)
	notForMydumper  = append([]string{
		"-o", "--outputdir", "-L", "--logfile", "-D", "--daemon", "-I", "--snapshot-interval", "--stream", "-m", "--no-schemas",
	}, notForClients...)
	// Into another schema, or into the binary log, would be no reseed.
	notForMyloader = append([]string{"-d", "--directory", "-B", "--database", "-s", "--source-db", "-e", "--enable-binlog"}, notForClients...)
)

// options adds the options of a tool, of which those in not are refused.
func (t *table) options(name string, p *[]string, def string, not []string, doc string) {
	*p, _ = splitOptions(def) // a test reads every default
	t.plain(Key{Name: name, Values: "options", Default: def, Doc: doc}, func(s string) error {
		out, err := splitOptions(s)
		if err != nil {
			return err
		}
		for _, o := range out {
			if err := permitOption(o, not); err != nil {
				return err
			}
		}
		*p = out
		return noControl(s)
	})
}

// permitOption refuses an option that is in not, and any way to write it that the tools understand too. Its error does
// not repeat a value: it may be a password.
func permitOption(o string, not []string) error {
	if len(o) < 2 || o[0] != '-' {
		return nil
	}
	if o[1] != '-' {
		if rest := o[2:]; strings.Trim(rest, "0123456789") != "" {
			return fmt.Errorf("has short options in one word, beginning with %s; write each by itself, or the long form", o[:2])
		}
		if slices.Contains(not, o[:2]) {
			return fmt.Errorf("may not hold %s: drydock sets that itself, or counts on it", o[:2])
		}
		return nil
	}
	name, value, _ := strings.Cut(o, "=")
	name = strings.ReplaceAll(name, "_", "-") // as the tools do
	for _, prefix := range []string{"--loose-", "--maximum-"} {
		if strings.HasPrefix(name, prefix) {
			name = "--" + strings.TrimPrefix(name, prefix)
		}
	}
	for _, n := range not {
		// Any beginning of a name will do for the tools, as long as it is the only one.
		if name == n || len(name) >= len("--pas") && strings.HasPrefix(n, name) {
			return fmt.Errorf("may not hold %s: drydock sets that itself, or counts on it", n)
		}
	}
	if name == "--comments" && slices.Contains([]string{"0", "off", "false"}, strings.ToLower(value)) {
		return errors.New("may not switch --comments off: the end marker of the dump is one")
	}
	return nil
}

// splitOptions cuts a text into words as a shell would: blanks part them, single quotes keep everything, double quotes
// everything but a backslash before one of $`"\ , and outside of them a backslash keeps the next character. Nothing is
// replaced or run.
func splitOptions(s string) (out []string, err error) {
	var word strings.Builder
	begun := false
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == '\'':
			if c == quote {
				quote = 0
				continue
			}
			word.WriteByte(c)
		case c == '\\' && (quote == 0 || i+1 < len(s) && strings.IndexByte("$`\"\\", s[i+1]) >= 0):
			if i+1 == len(s) {
				return nil, errors.New("ends in a backslash")
			}
			i++
			begun = true
			word.WriteByte(s[i])
		case quote == '"' && c == '"':
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, begun = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			begun = true
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("has a quotation mark %c without its other half", quote)
	}
	if begun {
		out = append(out, word.String())
	}
	return out, nil
}
