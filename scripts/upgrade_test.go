package scripts

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/internal/freeport"
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
			c.offerUpgrade(tc.sent, tc.sum)
			said := c.cycleSays()
			if none := strings.Contains(said, "no new script came"); none != (len(tc.sent) == 0) || strings.Contains(said, "not whole") == (none || tc.taken || tc.sum != "") {
				t.Errorf("it said %s", said)
			}
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

// offerUpgrade makes the manager announce a new script and deliver it when asked.
func (c *client) offerUpgrade(script []byte, sum string) {
	c.t.Helper()
	port := freeport.Pick(c.t)
	c.m.set(func() {
		c.m.receiver, c.m.upgrade, c.m.newer = port, script, true
		c.m.extra = []string{"jobs-upgrade" + sum}
	})
	c.env = append(slices.Clone(c.env), "DRYDOCK_RECEIVER_PORT="+strconv.Itoa(port))
}

// cycleSays runs one cycle and returns what it wrote to standard error.
func (c *client) cycleSays() string {
	c.t.Helper()
	var said bytes.Buffer
	cmd := c.command("--once")
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("%v: %s", err, said.String())
	}
	return said.String()
}

func TestUpgradeComesOverEitherFamily(t *testing.T) {
	t.Parallel()
	newer := bytes.Replace(dbjobs, []byte("VERSION='"), []byte("VERSION='9."), 1)
	for _, host := range []string{"127.0.0.1", "::1"} {
		m := newManager(t, oddPassword, 3306, false)
		c := newClient(t, m)
		knowVariables(t, c, nil)
		path := c.copied()
		m.set(func() { m.from = host })
		c.offerUpgrade(newer, " "+Checksum(newer))
		c.mustCycle()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, newer) {
			t.Errorf("from %s: %d bytes, %v", host, len(got), err)
		}
	}
}

// A firewall before the script's port: nothing else may wait for it, neither in this cycle nor in all that follow.
func TestUpgradeThatNeverComesHoldsUpNothing(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	path := r.copied()
	r.offerUpgrade(nil, "")
	r.m.set(func() { r.m.silent = true })
	cmd, wait := r.start("--loop", "1")
	asked := func() int { return r.m.countCalls("actions/send-jobs-upgrade") }
	listens := func() bool { return r.process("accept-timeout") != 0 }
	eventually(t, r.m, "the upgrade is asked for", func() bool { return asked() == 1 && listens() })
	r.m.offer("errorlog", "L1", 1)
	eventually(t, r.m, "the log arrives", func() bool { return r.m.last("errorlog").State == "done" })
	if !listens() {
		t.Error("the log was sent after the upgrade had been given up")
	}
	fail := func() { // instead of the 30 seconds
		_ = syscall.Kill(r.process("accept-timeout"), syscall.SIGTERM)
	}
	fail()
	memory := filepath.Join(r.folder(), "put-off.upgrade")
	eventually(t, r.m, "the failure is remembered", func() bool { return exists(memory) })
	cycles := r.m.countCalls("jobs-pending")
	eventually(t, r.m, "more cycles", func() bool { return r.m.countCalls("jobs-pending") > cycles+3 })
	if n := asked(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	writeFile(t, memory, strconv.FormatInt(time.Now().Add(-5*time.Hour).Unix(), 10)+"\n")
	eventually(t, r.m, "hours later it is asked for again", func() bool { return asked() == 2 && listens() })
	_ = cmd.Process.Signal(syscall.SIGTERM)
	begun := time.Now()
	wait()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("ended after %v", took)
	}
	lingering(t, r.client)
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind %v", left)
	}
}

func TestCheckThatFailsIsNotRepeatedEveryCycle(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, false)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	m.set(func() {
		m.extra = []string{"jobs-check"}
		m.closed = map[string]bool{"jobs-check": true}
	})
	for range 3 {
		c.mustCycle()
	}
	if n := m.countCalls("actions/receive-jobs-check"); n != 1 {
		t.Errorf("%d checks", n)
	}
}

// A manager that answers yes for ever must not make the loop replace itself for ever.
func TestSameScriptIsNoUpgrade(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, false)
	c := newClient(t, m)
	knowVariables(t, c, nil)
	c.copied()
	c.offerUpgrade(dbjobs, "")
	if said := c.cycleSays(); !strings.Contains(said, "is the one that is here") {
		t.Errorf("it said %s", said)
	}
	c.mustCycle()
	if n := m.countCalls("actions/send-jobs-upgrade"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestLoopGoesOnAsTheNewScript(t *testing.T) {
	t.Parallel()
	r := newLogRun(t)
	appendFile(t, r.path, "one\n")
	path := r.copied()
	release := blockingTool(t, r.client)
	r.m.offer("optimize", "SLOW", 1)
	newer := bytes.Replace(dbjobs, []byte("VERSION='"), []byte("VERSION='9."), 1)
	r.offerUpgrade(newer, " "+Checksum(newer))
	cmd, wait := r.start("--loop", "1")
	isNewer := func() bool { return view(r.m, func() string { return r.m.agent }) == "drydock-dbjobs/9."+Version }
	eventually(t, r.m, "the file is replaced", func() bool {
		text, _ := os.ReadFile(path)
		return bytes.Equal(text, newer)
	})
	r.m.set(func() { r.m.extra = nil })

	// Until the running task has ended, the old script serves the others.
	cycles := r.m.countCalls("jobs-pending")
	eventually(t, r.m, "more cycles", func() bool { return r.m.countCalls("jobs-pending") > cycles+2 })
	r.m.offer("errorlog", "L1", 1)
	eventually(t, r.m, "the log arrives", func() bool { return r.m.last("errorlog").State == "done" })
	if end := r.m.last("optimize"); end.State != "processing" || isNewer() {
		t.Errorf("optimize was reported %q, the newer script runs: %v", end.State, isNewer())
	}
	writeFile(t, release, "")
	eventually(t, r.m, "the new script runs", isNewer)
	if end := r.m.last("optimize"); end.State != "done" {
		t.Errorf("optimize ended as %+v", end)
	}

	// It has everything it needs: the same process, the arguments, the password, and that nowhere to be seen.
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	if err != nil || !bytes.HasSuffix(line, []byte("\x00"+path+"\x00--loop\x001\x00")) || bytes.Contains(line, []byte(oddPassword)) {
		t.Errorf("the new script runs as %q, %v", line, err)
	}
	appendFile(t, r.path, "two\n")
	r.m.set(func() { r.m.results["L1"] = "success" })
	r.m.offer("errorlog", "L2", 1)
	eventually(t, r.m, "the new script sends the log", func() bool {
		end := r.m.last("errorlog")
		return end.State == "done" && end.Identity.Job == "L2"
	})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if code := wait(); code != 0 {
		t.Errorf("ended with status %d", code)
	}
	lingering(t, r.client)
	if left, _ := filepath.Glob(filepath.Join(r.folder(), "work", "*")); len(left) > 0 {
		t.Errorf("left behind %v", left)
	}
}

// A copy that is still being written, or was cut, must not end the loop.
func TestLoopDoesNotGoOnAsHalfAScript(t *testing.T) {
	t.Parallel()
	m := newManager(t, oddPassword, 3306, false)
	m.set(func() { m.newer = true })
	c := newClient(t, m)
	knowVariables(t, c, nil)
	path := c.copied()
	newer := string(bytes.Replace(dbjobs, []byte("VERSION='"), []byte("VERSION='9."), 1))
	cmd, wait := c.start("--loop", "1")
	eventually(t, m, "it runs", func() bool { return m.countCalls("jobs-pending") > 0 })
	for _, text := range []string{newer[:20000], strings.Replace(newer, "\nmain() {", "\nmain() {{ if", 1)} {
		writeFile(t, path, text)
		cycles := m.countCalls("jobs-pending")
		eventually(t, m, "more cycles", func() bool { return m.countCalls("jobs-pending") > cycles+2 })
	}
	if agent := view(m, func() string { return m.agent }); agent != "drydock-dbjobs/"+Version {
		t.Errorf("%s runs", agent)
	}
	writeFile(t, path, newer)
	eventually(t, m, "the whole one runs", func() bool { return view(m, func() string { return m.agent }) == "drydock-dbjobs/9."+Version })
	_ = cmd.Process.Signal(syscall.SIGTERM)
	wait()
	lingering(t, c)
}
