package archive

import (
	"os"
	"syscall"
)

func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// interrupt is what restic takes its lock away for.
func interrupt(p *os.Process) error { return p.Signal(syscall.SIGINT) }
