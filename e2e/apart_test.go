package e2e

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"drydock/internal/splitrig"
)

// With -split every drydock of these tests is nine processes: three servers of the bus, two schedulers, two gateways, a
// receiver and the alert role. The tests do not change. What stands for "drydock" there is this test binary once more, as
// the keeper of the nine: it takes drydock's arguments and signals and speaks with drydock's log.
var apart = flag.Bool("split", false, "run each drydock split over nine processes")

// keeperVar names, in the environment of a keeper, the file with its rig.
const keeperVar = "DRYDOCK_E2E_RIG"

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
	return keys
}

func (s *site) rigFile() string { return filepath.Join(s.dir, "split", "rig.json") }

// serve is the command that runs drydock, in one process or in nine.
func (s *site) serve(args ...string) *exec.Cmd {
	args = append([]string{"serve", "--config", s.toml}, args...)
	if !*apart {
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

// keeper runs the nine and dies with them.
type keeper struct {
	rig   splitrig.Rig
	args  []string // of serve
	parts map[string]*exec.Cmd

	mu sync.Mutex // one line at a time
	up chan string
	wg sync.WaitGroup // of the readers of their output
}

// keepApart is main of a keeper.
func keepApart(path string, args []string) int {
	k := &keeper{args: args, parts: map[string]*exec.Cmd{}, up: make(chan string, 16)}
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
		if name == "receiver-2" {
			continue // the tests look for files in the folder of one
		}
		if err := k.start(name, ended); err != nil {
			return err
		}
	}
	starting := len(k.parts) - 3 // the servers of the bus do not say "drydock is up"
	var first string             // the line of gateway-1, which knows the address
	for left := starting; ; {
		select {
		case line := <-k.up:
			if strings.Contains(line, `"api":"127.0.0.1:`) {
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

// start runs one of the nine, with the folder and the address that the test expects of the only one.
func (k *keeper) start(name string, ended chan<- error) error {
	env := []string{"DRYDOCK_MONITORING_DATADIR=" + k.rig.Home(name), "DRYDOCK_BIND_ADDRESS=127.0.0.1", "DRYDOCK_MONITORING_ADDRESS=127.0.0.1"}
	switch name {
	case "receiver-1":
		env = append(env[1:], "DRYDOCK_RECEIVER_NAME=test")
	case "gateway-2":
		env = env[:1] // it has the same port as the other
	}
	cmd, err := k.rig.Command(name, k.args[2], env...)
	if err != nil {
		return err
	}
	if !splitrig.IsNATS(name) {
		cmd.Args = append(cmd.Args, k.args[3:]...)
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
