package job

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// ArgSkip is the argument of the rolling operations with the servers that have no turn: HOST:PORT, comma separated.
const ArgSkip = "skip"

// ArgSnapshot is the argument of zfssnapback: the snapshot to go back to, without its data set; the newest when missing.
const ArgSnapshot = "snapshot"

var snapshotName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.:-]{0,199}$`)

// CheckArgs looks whether a task knows the arguments it is to be run with.
func CheckArgs(t Task, args map[string]string) error {
	for name, value := range args {
		switch {
		case t.Narrow && name == ArgServer:
			if _, err := ParseServer(value); err != nil {
				return err
			}
		case t.TakesBackup() && name == ArgBackup:
			if _, err := TimeOfID(value); err != nil {
				return fmt.Errorf("%q is no id of a backup: %w", value, err)
			}
		case t.Kind == KindRolling && name == ArgSkip:
			if _, err := ServersOf(value); err != nil {
				return err
			}
		case t.Name != "zfssnapback" || name != ArgSnapshot:
			return fmt.Errorf("task %s has no argument %s", t.Name, name)
		case !snapshotName.MatchString(value):
			return fmt.Errorf("%q is no name of a snapshot; write what stands behind the @", value)
		}
	}
	return nil
}

// ServersOf reads servers as [ParseServer] does, comma separated, port 3306 where none is given. Errors: [ErrServer].
func ServersOf(list string) (out []Server, err error) {
	for _, text := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		s, err := ParseServer(text)
		if err != nil {
			return nil, err
		}
		if s.Port == 0 {
			s.Port = 3306
		}
		out = append(out, s)
	}
	return out, nil
}

// ArgLine is how arguments come to the script: NAME=VALUE, sorted, with a blank between them. Values are coded as in a
// URL's query, so that a line has no other blanks and no quotes. Empty when there are none.
func ArgLine(args map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(args)) {
		out = append(out, name+"="+strings.ReplaceAll(url.QueryEscape(args[name]), "+", "%20"))
	}
	return strings.Join(out, " ")
}
