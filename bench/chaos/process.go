package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one program that the storm may kill. It runs in a process group of its own and dies with this program.
type process struct {
	cmd  *exec.Cmd
	up   chan struct{} // closed by the reader at the line that says that it is up
	done chan struct{} // closed by the keeper when it was reaped and its output read

	mu   sync.Mutex
	tail []string // the last lines of its standard error
}

const tailLines = 60

// start runs cmd; upLine is what a line of its standard error contains once it is up.
func start(cmd *exec.Cmd, upLine string) (*process, error) {
	p := &process{cmd: cmd, up: make(chan struct{}), done: make(chan struct{})}
	out, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error) // one send by the keeper
	read := make(chan struct{}) // closed when the output was read
	go func() {
		runtime.LockOSThread() // the death signal comes when the thread ends, so it has to last as long as the process
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		// The process alone is waited for: what it started may outlive it and hold the pipe.
		_, _ = cmd.Process.Wait()
		select {
		case <-read:
		case <-time.After(time.Second):
		}
		_ = out.Close()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(read)
		p.read(out, upLine)
	}()
	return p, nil
}

func (p *process) read(r io.Reader, upLine string) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		p.mu.Lock()
		p.tail = append(p.tail, sc.Text())
		p.tail = p.tail[max(0, len(p.tail)-tailLines):]
		p.mu.Unlock()
		if upLine != "" && strings.Contains(sc.Text(), upLine) {
			close(p.up)
			upLine = ""
		}
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill is kill -9 of the process alone, not of what it started.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// stop asks the process to end, and kills its group when it does not within the bound.
func (p *process) stop(bound time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(bound):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("stop %s: it did not end within %s", p.cmd.Path, bound)
	}
}

// relative is a process of a run, known by the marker in the environment that it inherited.
type relative struct {
	pid  int
	line string // its arguments
}

// program is the name of its program.
func (r relative) program() string { return filepath.Base(strings.Fields(r.line)[0]) }

// relatives lists the processes whose environment has marker ("NAME=value"), zombies left out.
func relatives(marker string) (out []relative) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, append([]byte(marker), 0)) {
			continue
		}
		dir := filepath.Dir(path)
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || len(line) == 0 {
			continue
		}
		out = append(out, relative{pid, strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))})
	}
	return out
}
