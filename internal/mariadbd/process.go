package mariadbd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is one running mariadbd and the goroutine that waits for it.
type process struct {
	os   *os.Process
	done chan struct{} // closed by the keeper once the process has been reaped
	err  error         // what Wait said; read only after done is closed
}

// spawn starts the command in a process group of its own, so that a Ctrl-C in
// the terminal reaches drydock alone and the servers stop in drydock's order.
// Output that comes before the error log is open goes to the file outPath.
//
// The kernel kills the child when the parent *thread* dies (PR_SET_PDEATHSIG),
// not the parent process, and the Go runtime ends threads at will. The keeper
// goroutine therefore holds its thread from fork to reaping: the thread can
// only die with the whole program, which is the moment the signal is meant
// for. It costs one parked thread per server. The signal is lost on a change
// of user, hence no --user other than the one we are.
func spawn(path string, args []string, outPath string) (*process, error) {
	out, err := os.OpenFile(outPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open output file: %w", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	p := &process{done: make(chan struct{})}
	started := make(chan error) // keeper sends once; spawn receives once
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = out.Close() // the child has its own copy
		p.os = cmd.Process
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return p, nil
}

// signal sends sig; a process that is gone already is no error.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.os.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal mariadbd: %w", err)
	}
	return nil
}

// kill ends the process without a chance to clean up and waits until it is reaped.
func (p *process) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// running tells whether the process has not been reaped yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}
