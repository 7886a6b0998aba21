package scripts

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// bash unrolls a bound of a pattern: {1,4000} took 400 MB and a second of CPU time of a database host, for each row of the jobs
// table.
func TestNoPatternOfTheScriptsHasALargeBound(t *testing.T) {
	t.Parallel()
	const most = 255
	bounds := regexp.MustCompile(`\{[0-9]*,?([0-9]+)\}`)
	for _, name := range []string{"dbjobs", "dbjobs_start"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range bounds.FindAllSubmatch(text, -1) {
			if n, err := strconv.Atoi(string(m[1])); err != nil || n > most {
				t.Errorf("%s has the bound %s", name, m[0])
			}
		}
	}
}
