package paired

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is one side's program while it runs. It dies with the thread that started it: a benchmark locks its main
// goroutine to its thread and starts processes there alone.
type Process struct {
	cmd  *exec.Cmd
	tail strings.Builder // of its standard error
	done chan struct{}   // closed by the waiter
	err  error           // of the end, once done is closed
}

// Start starts cmd, whose standard error is kept for errors.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = &p.tail
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the process and says the CPU time that it and its children took.
func (p *Process) Wait(ctx context.Context) (Cost, error) {
	select {
	case <-p.done:
		if p.err != nil {
			return Cost{}, fmt.Errorf("%s: %w: %s", filepath.Base(p.cmd.Path), p.err, strings.TrimSpace(p.tail.String()))
		}
	case <-ctx.Done():
		p.Kill()
		return Cost{}, ctx.Err()
	}
	s := p.cmd.ProcessState // by wait4(2): the children it has waited for included
	return Cost{CPU: s.UserTime() + s.SystemTime()}, nil
}

// Stop asks the process to end and waits for that.
func (p *Process) Stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_, err := p.Wait(ctx)
	return err
}

// Kill ends the process and its children at once. It does nothing after the end.
func (p *Process) Kill() {
	select {
	case <-p.done: // the number may be another process's by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// CPU is what a running process has used so far, in all its threads that have not ended.
func (p *Process) CPU() (total time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return 0, errors.Join(errors.New("read /proc: no threads"), err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		used, err := strconv.ParseInt(strings.SplitN(string(text), " ", 2)[0], 10, 64) // nanoseconds
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		total += time.Duration(used)
	}
	return total, nil
}

// Memory is what a running process has in memory, in bytes.
func (p *Process) Memory() (int64, error) { return memory(strconv.Itoa(p.cmd.Process.Pid), "VmRSS:") }

// Peak is the most that this process ever had in memory, in bytes. What wait4(2) says of a child is not that: it begins
// with what its parent had.
func Peak() (int64, error) { return memory("self", "VmHWM:") }

func memory(pid, field string) (int64, error) {
	text, err := lookUp("/proc/"+pid+"/status", field)
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
	return kib << 10, err
}

// FreePort is a TCP port of an address of this machine that nobody uses now.
func FreePort(host string) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
