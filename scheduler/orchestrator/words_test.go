package orchestrator

import (
	"slices"
	"testing"
)

func TestSplitCutsAsAShellDoes(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`systemctl stop mariadb`:          {"systemctl", "stop", "mariadb"},
		`  a 	b  `:                        {"a", "b"},
		`a 'b c' "d e" f\ g`:              {"a", "b c", "d e", "f g"},
		`a '' ""`:                         {"a", "", ""},
		`a "b\"c" 'd\e' "f\g" "h\\" "\$"`: {"a", `b"c`, `d\e`, `f\g`, `h\`, "$"},
		`a x'y'"z"`:                       {"a", "xyz"},
		`echo $HOME * ; rm -rf / | x > y`: {"echo", "$HOME", "*", ";", "rm", "-rf", "/", "|", "x", ">", "y"},
	} {
		if got, err := split(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("split(%q) = %q, %v; want %q", line, got, err, want)
		}
	}
	for _, line := range []string{"", "  ", `a "b`, `a 'b`, `a \`, `'' b`} {
		if got, err := split(line); err == nil {
			t.Errorf("split(%q) = %q without an error", line, got)
		}
	}
}
