package job

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// ArgSnapshot is the argument of zfssnapback: the snapshot to go back to, without its data set; the newest when missing.
const ArgSnapshot = "snapshot"

var snapshotName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.:-]{0,199}$`)

// CheckArgs looks whether a task knows the arguments it is to be run with.
func CheckArgs(t Task, args map[string]string) error {
	for name, value := range args {
		switch {
		case t.Name != "zfssnapback" || name != ArgSnapshot:
			return fmt.Errorf("task %s has no argument %s", t.Name, name)
		case !snapshotName.MatchString(value):
			return fmt.Errorf("%q is no name of a snapshot; write what stands behind the @", value)
		}
	}
	return nil
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
