package config

import (
	"slices"
	"strings"
	"testing"
)

func TestOptionsAreSplitAsByAShell(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                                     nil,
		"  --quick\t--hex-blob ":               {"--quick", "--hex-blob"},
		`--regex '^(?!(mysql|sys)\.)'`:         {"--regex", `^(?!(mysql|sys)\.)`},
		`--where="a = 'x' and b = \"y\" \n $"`: {`--where=a = 'x' and b = "y" \n $`},
		`a\ b '' "" x''y`:                      {"a b", "", "", "xy"},
		"$(reboot) `id` ; rm * > /etc/passwd":  {"$(reboot)", "`id`", ";", "rm", "*", ">", "/etc/passwd"},
	} {
		if got, err := splitOptions(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{`'open`, `"open`, `end\`} {
		if got, err := splitOptions(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestOptionsMayNotHoldWhatDrydockSets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		not  []string
		bad  string // in the error; empty: permitted
	}{
		{"--all-databases --quick --threads=8 -t 8 -t8", notForMydumper, ""},
		{"--triggers --hex-blob --host-cache-size=1 --port-open-timeout=3", notForMysqldump, ""},
		{"--password=sesame", notForMysqldump, "--password"},
		{"--passw=sesame", notForMysqldump, "--password"},
		{"--loose-pass_word=sesame --loose_password=sesame", notForMysqldump, "--password"},
		{"-psesame", notForMysqldump, "-p"},
		{"-vpsesame", notForMysqldump, "one word"},
		{"-p sesame", notForMydumper, "-p"},
		{"--defaults-extra-file=/tmp/x", notForMysqldump, "--defaults-extra-file"},
		{"--compact", notForMysqldump, "--compact"},
		{"--skip-comments", notForMysqldump, "--skip-comments"},
		{"--comments=0", notForMysqldump, "--comments"},
		{"--outputdir /tmp", notForMydumper, "--outputdir"},
		{"--daemon", notForMydumper, "--daemon"},
	} {
		words, err := splitOptions(c.text)
		for _, w := range words {
			if e := permitOption(w, c.not); e != nil {
				err = e
			}
		}
		switch {
		case c.bad == "" && err != nil:
			t.Errorf("%s: %v", c.text, err)
		case c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%s: %v", c.text, err)
		case err != nil && strings.Contains(err.Error(), "sesame"):
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}
