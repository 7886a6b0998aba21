package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/internal/splitrig"
	"drydock/job"
	"drydock/store"
)

// With -split every drydock of these tests is ten processes: three servers of the bus, two schedulers, two gateways, two
// receivers and the alert role. The tests do not change. What stands for "drydock" there is this test binary once more, as
// the keeper of the ten: it takes drydock's arguments and signals and speaks with drydock's log.
var apart = flag.Bool("split", false, "run each drydock split over ten processes")

// keeperVar names, in the environment of a keeper, the file with its rig.
const keeperVar = "DRYDOCK_E2E_RIG"

// slower is how much longer than one process ten of them may take on the same machine.
const slower = 4

// patience is how long to wait for what one drydock does within d.
func patience(d time.Duration) time.Duration {
	if *apart {
		return slower * d
	}
	return d
}

// splitKeys prepares a site to be split and returns what its configuration says of the bus.
func (s *site) splitKeys() string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "split")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	rig, err := splitrig.New("..", dir)
	if err != nil {
		s.t.Fatal(err)
	}
	rig.Drydock, rig.NATS = binary, natsServer
	text, err := json.Marshal(rig)
	if err == nil {
		err = os.WriteFile(s.rigFile(), text, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	keys, err := rig.BusKeys()
	if err != nil {
		s.t.Fatal(err)
	}
	s.rig = rig
	return keys
}

// homes are the data folders of drydock: its only one, or one for each of the processes that it is split into.
func (s *site) homes() (dirs []string) {
	if s.rig == nil {
		return []string{filepath.Join(s.dir, "data")}
	}
	for _, name := range s.rig.Names() {
		if !splitrig.IsNATS(name) {
			dirs = append(dirs, s.home(name))
		}
	}
	return dirs
}

// home is the data folder of one of the processes. The first receiver has the one that the configuration names.
func (s *site) home(name string) string {
	if name == "receiver-1" {
		return filepath.Join(s.dir, "data")
	}
	return s.rig.Home(name)
}

// receivers are the data folders of all that take streams.
func (s *site) receivers() []string {
	if s.rig == nil {
		return s.homes()
	}
	return []string{s.home("receiver-1"), s.home("receiver-2")}
}

// glob lists what drydock keeps under a path below its data folder, in whichever.
func (s *site) glob(pattern ...string) (files []string) {
	s.t.Helper()
	for _, dir := range s.homes() {
		found, err := filepath.Glob(filepath.Join(append([]string{dir}, pattern...)...))
		if err != nil {
			s.t.Fatal(err)
		}
		files = append(files, found...)
	}
	return files
}

// besides has the commands that read files run on the host of the receiver with this one.
func (s *site) besides(file string) {
	s.t.Helper()
	for _, dir := range s.receivers() {
		if strings.HasPrefix(file, dir+"/") {
			s.here = dir
			return
		}
	}
	s.t.Fatalf("%s is in none of %v", file, s.receivers())
}

// environ is that of a command on the host of the receiver which the test looks at.
func (s *site) environ(more ...string) []string {
	env := os.Environ()
	if s.rig != nil {
		env = append(env, "DRYDOCK_MONITORING_DATADIR="+s.here)
	}
	return append(env, more...)
}

func (s *site) rigFile() string { return filepath.Join(s.dir, "split", "rig.json") }

// serve is the command that runs drydock, in one process or in ten.
func (s *site) serve(args ...string) *exec.Cmd {
	args = append([]string{"serve", "--config", s.toml}, args...)
	if s.rig == nil {
		return exec.Command(binary, args...)
	}
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), keeperVar+"="+s.rigFile())
	return cmd
}

// cyclesMissed is how many cycles of a script may come before the gateway that it asks has heard of a job: the test has seen it
// offered on the bus, by another gateway, and begins the cycle at once.
const cyclesMissed = 3

// missed says whether the job that was last seen to be offered still is.
func (s *site) missed() bool {
	s.t.Helper()
	if s.offered.ID == "" {
		return false
	}
	j, _, err := store.NewJobs(s.bus(), "test", nil).Last(bustest.Context(s.t), s.offered.Key())
	return err == nil && j.ID == s.offered.ID && j.State == job.Available
}

// sinceUp is drydock's log since it is up: of ten processes a scheduler may open sessions before a gateway answers them.
func (s *site) sinceUp() string {
	log := s.proc.log.text()
	if s.rig != nil {
		_, log, _ = strings.Cut(log, `"msg":"drydock is up"`)
	}
	return log
}

// killed waits until none of these processes is left: the kernel ends those of a keeper after it.
func killed(t *testing.T, pids []int) {
	t.Helper()
	bustest.Until(t, time.Minute, "the processes of a killed drydock are gone", func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool {
			state, _ := procStat(pid)
			return state != "" && state != "Z"
		})
	})
}

// childrenOf are the processes that a process has started.
func childrenOf(parent int) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if _, by := procStat(pid); by == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// procStat is the state of a process and which one started it; empty when it is gone.
func procStat(pid int) (state string, parent int) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(f[1])
	return f[0], parent
}

// keeper runs the ten and dies with them.
type keeper struct {
	rig   splitrig.Rig
	args  []string // of serve
	roles []string // those that run; empty: all
	parts map[string]*exec.Cmd

	mu sync.Mutex // one line at a time
	up chan string
	wg sync.WaitGroup // of the readers of their output
}

// keepApart is main of a keeper.
func keepApart(path string, args []string) int {
	k := &keeper{args: args[:3], parts: map[string]*exec.Cmd{}, up: make(chan string, 16)} // serve --config FILE
	if len(args) > 3 {
		k.roles = strings.Split(args[4], ",") // --roles LIST
	}
	if err := k.run(path); err != nil {
		fmt.Fprintf(os.Stderr, "keeper: %v\n", err)
		return 1
	}
	return 0
}

func (k *keeper) run(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &k.rig); err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	names := k.rig.Names()
	ended := make(chan error, len(names))
	for _, name := range names {
		if !k.wanted(name) {
			continue
		}
		if err := k.start(name, ended); err != nil {
			return err
		}
	}
	starting := len(k.parts) - 3 // the servers of the bus do not say "drydock is up"
	var first string             // the line of gateway-1, which knows the address, if it runs
	for left := starting; ; {
		select {
		case line := <-k.up:
			if first == "" || strings.Contains(line, `"api":"127.0.0.1:`) {
				first = line
			}
			if left--; left == 0 {
				k.say(first)
			}
		case err := <-ended:
			return err
		case sig := <-signals:
			k.signal(sig.(syscall.Signal))
			if sig != syscall.SIGHUP {
				return k.stop(ended, starting)
			}
		}
	}
}

// wanted says whether a process has one of the roles that run.
func (k *keeper) wanted(name string) bool {
	role, _, _ := strings.Cut(name, "-") // gateway-1
	return splitrig.IsNATS(name) || len(k.roles) == 0 || slices.Contains(k.roles, role)
}

// start runs one of the ten, with the folder and the address that the test expects of the only one. The first gateway and the first
// receiver are on one host, and have its name and its address.
func (k *keeper) start(name string, ended chan<- error) error {
	env := []string{"DRYDOCK_MONITORING_DATADIR=" + k.rig.Home(name), "DRYDOCK_BIND_ADDRESS=127.0.0.1", "DRYDOCK_MONITORING_ADDRESS=127.0.0.1"}
	switch name {
	case "receiver-1":
		env = append(env[1:], "DRYDOCK_RECEIVER_NAME=test")
	case "gateway-1":
		env = append(env, "DRYDOCK_RECEIVER_NAME=test")
	case "receiver-2", "gateway-2":
		env = env[:1] // on a host of their own, with the same ports
	}
	cmd, err := k.rig.Command(name, k.args[2], env...)
	if err != nil {
		return err
	}
	if splitrig.IsNATS(name) {
		urgent(cmd)
	}
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	k.parts[name] = cmd
	read := make(chan struct{})
	k.wg.Go(func() {
		defer close(read)
		k.read(stderr)
	})
	go func() {
		<-read
		if err := cmd.Wait(); err != nil {
			ended <- fmt.Errorf("%s: %w", name, err)
			return
		}
		ended <- nil
	}()
	return nil
}

// urgent gives a process the processor whenever it wants it, where the tests may do so (as root). Servers of the bus want it seldom, but one
// that waits for seconds, which it would never do on a machine of its own, is taken for dead by the others, and no test gets further.
func urgent(cmd *exec.Cmd) {
	nice, err := exec.LookPath("nice")
	if err != nil {
		return
	}
	cmd.Args = append([]string{"nice", "-n", "-10", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = nice
}

func (k *keeper) read(r io.Reader) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if strings.Contains(sc.Text(), `"msg":"drydock is up"`) {
			k.up <- sc.Text()
			continue
		}
		k.say(sc.Text())
	}
}

func (k *keeper) say(line string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fmt.Fprintln(os.Stderr, line)
}

func (k *keeper) signal(sig syscall.Signal) {
	for name, cmd := range k.parts {
		if !splitrig.IsNATS(name) {
			_ = cmd.Process.Signal(sig)
		}
	}
}

// stop waits for drydock's processes, then ends the servers of the bus.
func (k *keeper) stop(ended <-chan error, n int) error {
	for range n {
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
		case <-time.After(50 * time.Second):
			return fmt.Errorf("not all of drydock's processes stop")
		}
	}
	for name, cmd := range k.parts {
		if splitrig.IsNATS(name) {
			_ = cmd.Process.Kill()
		}
	}
	k.wg.Wait()
	return nil
}
