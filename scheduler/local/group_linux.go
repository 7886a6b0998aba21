package local

import "syscall"

// processGroup gives a tool a group of its own, to be ended with all it starts, and has the kernel end it with drydock.
func processGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
