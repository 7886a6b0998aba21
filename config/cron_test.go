package config

import (
	"strings"
	"testing"
)

func TestMalformedCronNamesItsField(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, want string }{
		{"", "has 0 fields"},
		{"* * * *", "has 4 fields; write 5 (minutes first) or 6 (seconds first)"},
		{"0 0 1 * * * 2030", "has 7 fields"},
		{"0 61 1 * * *", `field 2 (minutes) "61": above maximum 59`},
		{"61 1 * * *", `field 1 (minutes) "61": above maximum 59`},
		{"60 0 1 * * *", `field 1 (seconds) "60": above maximum 59`},
		{"0 0 24 * * *", `field 3 (hours) "24": above maximum 23`},
		{"0 0 1 0 * *", `field 4 (day of month) "0": below minimum 1`},
		{"0 0 1 * 13 *", `field 5 (month) "13": above maximum 12`},
		{"0 0 1 * * 7", `field 6 (day of week) "7": above maximum 6 (Sunday is 0)`},
		{"0 0 1 * jan-foo *", `field 5 (month) "jan-foo": "foo" is not a number`},
		{"0 0 1 * anf *", `"anf" is not a number`},
		{"0 */0 1 * * *", `field 2 (minutes) "*/0": step "0" is not a positive number`},
		{"0 1,,2 1 * * *", `field 2 (minutes) "1,,2": empty item`},
		{"0 20-10 1 * * *", `field 2 (minutes) "20-10": range runs backwards`},
		{"0 -5 1 * * *", `field 2 (minutes) "-5"`},
		{"0 1-2-3 1 * * *", `field 2 (minutes) "1-2-3": "2-3" is not a number`},
		{"0 1/2/3 1 * * *", `step "2/3" is not`},
		{"0 0 1 30 2 *", "never fires"},
		{"@daily", `write "0 0 * * *"`},
		{"@every 1h", "write 5 or 6 fields"},
		{"TZ=", "set scheduler-timezone instead"},
		{"CRON_TZ=UTC 0 0 1 * * *", "set scheduler-timezone instead"},
	} {
		_, err := parseCron(c.spec)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.spec, err, c.want)
		}
	}
}

func TestCronCountsItsSeconds(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]int{
		"0 0 */6 * * *": 1, "30 2 * * SUN": 1, "*/1 * * * * *": 60, "* * * * * *": 60, "*/15 * * * * *": 4, "0 0 1 29 feb ?": 1,
		"0 0 0 1 dec,Sep-nov *": 1, "5/20 0 1 * * *": 3,
	} {
		s, err := parseCron(spec)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
		} else if got := firesPerMinute(s); got != want {
			t.Errorf("%q fires %d times a minute, want %d", spec, got, want)
		}
	}
}
