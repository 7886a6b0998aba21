package paired

import (
	"context"
	"errors"
	"fmt"
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

// CPU is what a running process has used so far, in ticks of 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// After the name, which ends with the last bracket: state, ppid, ... utime and stime are the 12th and 13th.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read /proc: no times")
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, nil
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
