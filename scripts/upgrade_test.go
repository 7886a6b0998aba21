package scripts

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// copied makes the client run a copy of the script, which may be replaced.
func (c *client) copied() string {
	c.t.Helper()
	c.script = filepath.Join(c.t.TempDir(), "dbjobs copy")
	writeFile(c.t, c.script, string(dbjobs))
	if err := os.Chmod(c.script, 0o750); err != nil {
		c.t.Fatal(err)
	}
	return c.script
}

func TestScriptIsStreamedForTheCheck(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, false)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	m.set(func() { m.extra = []string{"jobs-check"} })
	c.mustCycle()
	eventually(t, m, "the script arrives", func() bool { return m.stream("jobs-check") == string(dbjobs) })
}

func TestUpgradeIsRefusedUnlessWhole(t *testing.T) {
	t.Parallel()
	newer := bytes.Replace(dbjobs, []byte("VERSION='"), []byte("VERSION='9."), 1)
	other := bytes.Replace(dbjobs, []byte("VERSION='"), []byte("VERSION='8."), 1)
	for name, tc := range map[string]struct {
		sent  []byte
		sum   string
		taken bool
	}{
		"whole":              {sent: newer, taken: true},
		"announced":          {sent: newer, sum: " " + Checksum(newer), taken: true},
		"not the announced":  {sent: other, sum: " " + Checksum(newer)},
		"without its end":    {sent: newer[:len(newer)-len("# EOF\n")]},
		"end not a line":     {sent: append(slices.Clone(newer[:len(newer)-len("# EOF\n")]), "x # EOF\n"...)},
		"end with more":      {sent: append(slices.Clone(newer), "true\n"...)},
		"end not terminated": {sent: newer[:len(newer)-1]},
		"does not parse":     {sent: []byte("#!/bin/bash\nif\n# EOF\n")},
		"nothing":            {},
		"cut in the middle":  {sent: newer[:5000]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newManager(t, oddPassword, 3306, false)
			c := newClient(t, m)
			knowVariables(t, c, nil)
			path := c.copied()
			m.set(func() { m.receiver = freePort(t) })
			m.set(func() { m.upgrade = tc.sent })
			m.set(func() { m.extra = []string{"jobs-upgrade" + tc.sum} })
			c.env = append(c.env, "DRYDOCK_RECEIVER_PORT="+strconv.Itoa(m.receiver))
			c.mustCycle()
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := dbjobs
			if tc.taken {
				want = tc.sent
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the script now has %d bytes, want %d", len(got), len(want))
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o750 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
				t.Errorf("left behind %v", left)
			}
		})
	}
}
